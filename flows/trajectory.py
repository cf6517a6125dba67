"""`dtls trajectory`: the chain that a model walks from its input to the result, as one figure and one table."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from dtls.choices import Precision
from dtls.degradations.recorded import at_strength
from dtls.errors import SamplingError, SizeError
from dtls.inference.sampling import Sampling
from flows.generation.fitting import as_usage
from flows.generation.seeds import checked_start, is_noise
from flows.inputs.compatibility import check_degraded, check_misfits
from flows.inputs.masks import Masks
from flows.inputs.methods import checkpoint_folder, load_checkpointed
from flows.inputs.options import SourceOptions
from flows.inputs.sources import check_within
from flows.interface.errors import UsageError
from flows.interface.options import DEVICE, PRECISION, RESULTS, RUNNING, WHAT, Address, Options, Panels
from storage.archives.source import open_source
from storage.images import decode as codec
from storage.receipts.lease import hold
from storage.stores.location import Location

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dtls.inference.generation import Generator
    from dtls.inference.trained import Trained
    from dtls.models.base import Model
    from flows.evaluation.walks import Walk
    from reports.figures.gallery import GalleryItem

FIGURE, TABLE = "trajectory.png", "chain.parquet"


class TrajectoryOptions(Options):
    """Which images, which sampler, and where the figure and the table go."""

    panels: ClassVar[Panels] = {
        WHAT: "source out images masks any_protocol",
        RESULTS: "columns",
        RUNNING: "device precision",
    }

    source: Address = Field(
        description="folder or URL of LR images, or of the degraded images that a model restores; of a generative "
        "model gaussian or exponential:0.5 for noise, or a folder of images, to which noise is added up to --strength"
    )
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
        1.0,
        gt=0,
        le=1,
        description="of models that restore: how much of the degradation the images have, like 0.5; of generative "
        "ones: how much of the noise is added to images",
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

    @field_validator("source")
    @classmethod
    def _is_a_start(cls, source: str) -> str:
        return checked_start(source)

    @property
    def starts_from_noise(self) -> bool:
        """Whether a generative model is to begin with noise."""
        return is_noise(self.source)


def trajectory(options: TrajectoryOptions) -> str:
    """Show the chain that a model walks to its result, and measure each of its states."""
    from dtls.checkpoints.checkpoint import kind_of
    from reports.figures.contact_sheet import contact_sheet_png
    from reports.tables.chain import chain_parquet

    out = Location.of(options.out)
    if not options.starts_from_noise:
        check_within(out, options.source)
    with as_usage(), checkpoint_folder(options.checkpoint) as folder:
        generates = kind_of(folder).generates
    items, rows = [], []
    for walk in _generated(options) if generates else _restored(options):
        items.append(_drawn(walk, options.columns))
        rows += [shot.row for shot in walk.shots]
    figure = contact_sheet_png(items)
    with hold(out, "trajectory"):
        out.write(TABLE, chain_parquet(rows))
        out.write(FIGURE, figure)
    return out.address(FIGURE)


def _restored(options: TrajectoryOptions) -> "Iterator[Walk]":
    """From LR or degraded images to results."""
    from flows.evaluation.walks import walks_of_images

    if options.starts_from_noise:
        raise UsageError(f"{options.checkpoint}: makes no images of noise; {options.source} is not for it")
    source = open_source(options.source)
    with as_usage():
        method = _loaded(options)
    masks = Masks.at(options.masks, SourceOptions()) if options.masks is not None else None
    return walks_of_images(method, source, options.images, options.scale, masks)


def _generated(options: TrajectoryOptions) -> "Iterator[Walk]":
    """From noise, or from noised images, to samples."""
    from flows.evaluation.walks import walks_of_noise, walks_of_noised
    from flows.generation.origins import FromSeeds

    with as_usage():
        generator = _generator(options)
    if options.starts_from_noise:
        return walks_of_noise(generator, FromSeeds.of(options.source), options.seed, options.images)
    return walks_of_noised(generator, open_source(options.source), options.images, options.strength, options.seed)


def _generator(options: TrajectoryOptions) -> "Generator":
    """The generative model; refused, before any work, where it does not suit the options."""
    from dtls.devices import best_device
    from dtls.inference.generation import load_generator
    from flows.generation.origins import FromImages

    for name in ("scale", "masks", "any_protocol"):
        if getattr(options, name):
            raise SamplingError(f"{options.checkpoint}: makes images of noise; leave --{name.replace('_', '-')} out")
    with checkpoint_folder(options.checkpoint) as folder:
        device = best_device(options.device)
        generator = load_generator(folder, device, options.precision, options.sampler, options.sampling_steps)
    _check_walks(options, generator.model)
    if not options.starts_from_noise:
        FromImages(options.strength).check(generator)
    elif options.strength != 1:
        raise SamplingError(f"--strength goes with a folder of images, not with {options.source}")
    return generator


def _check_walks(options: TrajectoryOptions, model: "Model") -> None:
    """SamplingError for a model without a chain."""
    if not model.walks:
        raise SamplingError(
            f"{options.checkpoint}: {model.name} makes its results in one step, so that there is no chain to show"
        )


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
    _check_walks(options, method.model)
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


def _drawn(walk: "Walk", columns: int) -> "GalleryItem":
    """A row of the figure: what the chain began with, and as many steps as there are columns."""
    from reports.figures.gallery import GalleryImage, GalleryItem

    shown = [*walk.shots]
    if len(shown) > 1 and np.array_equal(shown[-1].pixels, shown[-2].pixels):  # most end with what they predict at 1
        del shown[-2]
    chosen = {round(i * (len(shown) - 1) / (columns - 1)) for i in range(columns)}
    images = [
        GalleryImage(f"t = {shot.t:g}" if shot.t else "result", _png(shot.pixels))
        for place, shot in enumerate(shown)
        if place in chosen
    ]
    given = [] if walk.given is None else [GalleryImage("input", _png(walk.given), role="lr")]
    return GalleryItem(walk.key, [*given, *images])


def _png(pixels: "NDArray[np.uint8]") -> bytes:
    """An image of one channel, or three, as a PNG file in RGB."""
    return codec.encode_png(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
