"""`dtls trajectory`: the predictions a sampler makes on its way from LR to SR, as one figure."""

import io
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from dtls.choices import Precision, SamplerName
from dtls.inference.sampling import Sampling
from flows.inputs.compatibility import check_misfits
from flows.inputs.contents import list_images
from flows.inputs.methods import load_checkpointed
from flows.inputs.sources import check_within
from flows.interface.options import DEVICE, PRECISION, RESULTS, RUNNING, WHAT, Address, Options, Panels
from storage.archives.source import open_source
from storage.images import decode as codec
from storage.images.formats import ImageError
from storage.receipts.lease import hold
from storage.stores.location import Location, StorageError

if TYPE_CHECKING:
    from torch import Tensor


class TrajectoryOptions(Options):
    """Which images, which sampler, and where the figure goes."""

    panels: ClassVar[Panels] = {
        WHAT: "source out images any_protocol",
        RESULTS: "columns",
        RUNNING: "device precision",
    }

    source: Address = Field(description="folder or URL of LR images")
    out: Address = Field(description="folder or URL for trajectory.png")
    checkpoint: Address = Field(description="folder or URL of a trained model")
    scale: float = Field(gt=1, le=64, description="how many times larger the results are, like 8")
    sampler: SamplerName | None = Field(
        None,
        description="which sampler to show: by default current, the paper's, or previous for a model that "
        "predicts that",
    )
    images: int = Field(
        4, ge=1, le=64, description="rows of the figure, one for each of the first images of the source"
    )
    columns: int = Field(
        8, ge=2, le=64, description="columns of the figure: steps evenly spaced from the first to the result"
    )
    any_protocol: bool = Field(
        False, description="take images that were made by another downscaling than the checkpoint was trained for"
    )
    device: str = Field("auto", description=DEVICE)
    precision: Precision = Field("auto", description=PRECISION)

    @model_validator(mode="after")
    def _is_a_figure(self) -> Self:
        if self.out.lower().endswith(".png"):
            raise ValueError("out is a folder; the figure in it is trajectory.png")
        return self


def trajectory(options: TrajectoryOptions) -> str:
    """Show what a sampler makes on its way from LR to SR."""
    from dtls.devices import best_device
    from dtls.inference.pixels import to_unit
    from reports.figures.contact_sheet import contact_sheet
    from reports.figures.gallery import GalleryImage, GalleryItem

    source, out = open_source(options.source), Location.of(options.out)
    check_within(out, options.source)
    sampling = Sampling(sampler=options.sampler, precision=options.precision)
    method = load_checkpointed(options.checkpoint, best_device(options.device), sampling, "dtls")
    if options.sampler is None and "current" in method.model.samplers:
        method.sample, _ = method.model.sampler("current", None)
    check_misfits(method, options.source, options.scale, any_protocol=options.any_protocol)
    items = []
    for entry in list_images(source)[: options.images]:
        try:
            pixels = codec.decode(source.fetch(entry))
        except ImageError as error:
            raise StorageError(f"{source}/{entry.key}: {error}") from error
        lr = to_unit(np.array(pixels)[None])
        size = (round(lr.shape[-2] * options.scale), round(lr.shape[-1] * options.scale))
        steps = method.trajectory(lr, size)
        if steps[-1].images.equal(steps[-2].images):  # most samplers end with their prediction at t = 1
            del steps[-2]
        chosen = {round(i * (len(steps) - 1) / (options.columns - 1)) for i in range(options.columns)}
        shown = [
            GalleryImage(f"t = {step.t}" if step.t else "SR", _png(step.images))
            for i, step in enumerate(steps)
            if i in chosen
        ]
        items.append(GalleryItem(entry.key, [GalleryImage("LR", codec.encode_png(pixels), role="lr"), *shown]))
    buffer = io.BytesIO()
    contact_sheet(items).save(buffer, "PNG", optimize=True)
    with hold(out, "trajectory"):
        out.write("trajectory.png", buffer.getvalue())
    return out.address("trajectory.png")


def _png(x: "Tensor") -> bytes:
    from dtls.inference.pixels import to_pixels

    return codec.encode_png(to_pixels(x.clone(), np.uint8)[0])
