"""`dtls trajectory`: the chain that a model walks from its input to the result, as one figure and one table."""

from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from dtls.choices import Precision
from dtls.degradations.recorded import at_strength
from dtls.errors import SamplingError, SizeError
from dtls.inference.sampling import Sampling
from flows.inputs.compatibility import check_degraded, check_misfits
from flows.inputs.contents import list_images
from flows.inputs.masks import Masks
from flows.inputs.methods import load_checkpointed
from flows.inputs.options import SourceOptions
from flows.inputs.sources import check_within
from flows.interface.options import DEVICE, PRECISION, RESULTS, RUNNING, WHAT, Address, Options, Panels
from storage.archives.source import Source, open_source
from storage.images import decode as codec
from storage.images.formats import ImageError
from storage.receipts.lease import hold
from storage.stores.location import Entry, Location, StorageError

if TYPE_CHECKING:
    from torch import Tensor

    from dtls.inference.trained import Step, Trained
    from reports.figures.gallery import GalleryItem

FIGURE, TABLE = "trajectory.png", "chain.parquet"


class TrajectoryOptions(Options):
    """Which images, which sampler, and where the figure and the table go."""

    panels: ClassVar[Panels] = {
        WHAT: "source out images masks any_protocol",
        RESULTS: "columns",
        RUNNING: "device precision",
    }

    source: Address = Field(description="folder or URL of LR images, or of the degraded images that a model restores")
    out: Address = Field(description="folder or URL for trajectory.png and chain.parquet")
    checkpoint: Address = Field(
        description="folder or URL of a trained model whose sampler takes several timesteps, like faces-x8"
    )
    scale: float | None = Field(
        None,
        gt=1,
        le=64,
        description="how many times larger the results are, like 8; by default as many as the model was trained for",
    )
    strength: float = Field(
        1.0, gt=0, le=1, description="of models that restore: how much of the degradation the images have, like 0.5"
    )
    masks: Address | None = Field(
        None,
        description="of models that fill holes: a mask for all images, or a folder, archive or URL with one for "
        "each, of its name; by default, what is transparent is filled",
    )
    sampler: str | None = Field(
        None,
        description="which sampler to show, like cold or ddpm; by default that of every timestep: current, the "
        "paper's, for dtls; else the model's own",
    )
    sampling_steps: int | None = Field(
        None, ge=1, description="steps of samplers that have a choice of them, like 50 for ddim"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed of the noise that some models start from, like 1")
    images: int = Field(
        4, ge=1, le=64, description="rows of the figure, one for each of the first images of the source"
    )
    columns: int = Field(
        8, ge=2, le=64, description="columns of the figure: steps evenly spaced from the first to the result"
    )
    any_protocol: bool = Field(
        False, description="take images that were degraded otherwise than those the checkpoint was trained for"
    )
    device: str = Field("auto", description=DEVICE)
    precision: Precision = Field("auto", description=PRECISION)

    @model_validator(mode="after")
    def _is_a_figure(self) -> Self:
        if self.out.lower().endswith(".png"):
            raise ValueError(f"out is a folder; the figure in it is {FIGURE}")
        return self


def trajectory(options: TrajectoryOptions) -> str:
    """Show the chain that a model walks from its input to the result, and measure each of its states."""
    from reports.figures.contact_sheet import contact_sheet_png
    from reports.tables.chain import chain_parquet, chain_row

    source, out = open_source(options.source), Location.of(options.out)
    check_within(out, options.source)
    method = _loaded(options)
    masks = Masks.at(options.masks, SourceOptions()) if options.masks is not None else None
    items, rows = [], []
    for entry in list_images(source)[: options.images]:
        try:
            shown, steps = _walked(method, source, entry, masks, options)
        except ImageError as error:
            raise StorageError(f"{source}/{entry.key}: {error}") from error
        items.append(_drawn(entry.key, shown, steps, options.columns))
        rows += [chain_row(entry.key, step.t, step.x.float().cpu().numpy()) for step in steps]
    figure = contact_sheet_png(items)
    with hold(out, "trajectory"):
        out.write(TABLE, chain_parquet(rows))
        out.write(FIGURE, figure)
    return out.address(FIGURE)


def _loaded(options: TrajectoryOptions) -> "Trained":
    """The model with the sampler to show; refused, before any work, where it does not suit the options."""
    from dtls.devices import best_device

    sampling = Sampling(
        sampler=options.sampler,
        steps=options.sampling_steps,
        seed=options.seed,
        precision=options.precision,
        strength=options.strength,
    )
    method = load_checkpointed(options.checkpoint, best_device(options.device), sampling)
    if not method.model.walks:
        raise SamplingError(
            f"{options.checkpoint}: {method.name} makes its results in one step, so that there is no chain to show"
        )
    if options.sampler is None and method.model.shows is not None:
        method.sample, _ = method.model.sampler(method.model.shows, None)
    if options.masks is not None and not method.needs_mask:
        raise SamplingError(f"{options.checkpoint}: {method.name} fills no holes; leave --masks out")
    if not method.takes_same_size:
        check_misfits(method, options.source, options.scale, any_protocol=options.any_protocol)
    elif options.scale is not None:
        raise SizeError(f"{options.checkpoint}: restores images at their own size; leave --scale out")
    elif not options.any_protocol:
        degraded = at_strength(method.degradation, options.strength)
        check_degraded(method, options.source, degraded, projected=False)
    return method


def _walked(
    method: "Trained", source: Source, entry: Entry, masks: Masks | None, options: TrajectoryOptions
) -> tuple["Tensor", list["Step"]]:
    """An image as it is shown, (1, C, h, w) in [0, 1], and the steps from it to the result; or ImageError."""
    import torch

    from dtls.inference.pixels import to_unit
    from flows.transform.holes import MaskReader, as_taken
    from storage.images.photo import open_photo

    read = MaskReader(masks.source).fetch(masks.of(entry.key)) if masks is not None else None
    photograph, hole = as_taken(open_photo(source.fetch(entry)), method, read)
    x = to_unit(np.array(photograph.pixels)[None])
    mask = torch.from_numpy(hole).float()[None, None] if hole is not None else None
    height, width = x.shape[-2:]
    if not method.takes_same_size:
        x = x.expand(-1, 3, -1, -1)
        scale = options.scale or method.max_scale
        height, width = round(height * scale), round(width * scale)
    steps = method.trajectory(x, (height, width), mask)
    return (x if mask is None else torch.where(mask > 0, 1.0, x)), steps


def _drawn(key: str, given: "Tensor", steps: list["Step"], columns: int) -> "GalleryItem":
    """A row of the figure: the input, and as many steps as there are columns."""
    from reports.figures.gallery import GalleryImage, GalleryItem

    shown = [*steps]
    if len(shown) > 1 and shown[-1].images.equal(shown[-2].images):  # most samplers end with what they predict at 1
        del shown[-2]
    chosen = {round(i * (len(shown) - 1) / (columns - 1)) for i in range(columns)}
    images = [
        GalleryImage(f"t = {step.t:g}" if step.t else "result", _png(step.images))
        for place, step in enumerate(shown)
        if place in chosen
    ]
    return GalleryItem(key, [GalleryImage("input", _png(given), role="lr"), *images])


def _png(x: "Tensor") -> bytes:
    from dtls.inference.pixels import to_pixels

    pixels = to_pixels(x.expand(-1, 3, -1, -1).clone(), np.uint8)[0]
    return codec.encode_png(pixels)
