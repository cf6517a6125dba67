"""`dtls/upscale`: a folder of pictures becomes a folder of larger ones, under the same names.

Unit: about 256 pictures. Proof: its receipt under `TARGET/.dtls/receipts`, written after the pictures.
"""

import tempfile
from pathlib import Path
from typing import Literal, Self

from prefect import flow
from pydantic import Field, model_validator

from dtls.checkpoint import CONFIG, WEIGHTS, CheckpointError
from dtls.degradation import SizeError
from dtls.devices import best_device
from dtls.methods import DomainTransfer, Method, load_method
from flows.options import Address, BatchOptions
from flows.pictures import SizeOf, transform
from flows.sources import protocols
from storage.locations import Location, StorageError


class UpscaleOptions(BatchOptions):
    """What to upscale, how, and how far."""

    source: Address = Field(description="folder or URL of the pictures")
    target: Address = Field(description="folder or URL for the results")
    method: Literal["nearest", "bilinear", "bicubic", "dtls"] = Field(
        "dtls", description="what makes the SR pictures; dtls wants a checkpoint"
    )
    checkpoint: Address | None = Field(None, description="folder or URL of a trained model")
    scale: float | None = Field(None, gt=1, le=64, description="how many times larger")
    size: int | None = Field(None, ge=8, le=65_536, description="instead of a scale: the longer side of the results")
    project: bool = Field(
        False, description="move each result to the nearest picture that reduces to its source; for clean sources"
    )
    any_protocol: bool = Field(
        False, description="take pictures that were made by another downscaling than the checkpoint was trained for"
    )
    batch_size: int = Field(16, ge=1, le=1024, description="pictures of one size that go through the model together")
    unit_size: int = Field(256, ge=1, le=100_000, description="about how many pictures make one unit")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, …")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.scale is None and self.size is None:
            raise ValueError("say how far: scale or size")
        if self.scale is not None and self.size is not None:
            raise ValueError("say scale or size, not both")
        if self.method == "dtls" and self.checkpoint is None:
            raise ValueError("the method dtls needs a checkpoint")
        if self.method != "dtls" and self.checkpoint is not None:
            raise ValueError(f"the method {self.method} has no checkpoint; leave it out, or choose the method dtls")
        if self.project and self.method != "dtls":
            raise ValueError("project goes with the method dtls")
        return self


@flow(name="dtls", flow_run_name="upscale {options.source}")
def upscale(options: UpscaleOptions) -> str:
    """Upscale every picture of a folder."""
    method = _method(options)
    if isinstance(method, DomainTransfer):
        _check(method, options)
    summary = transform(
        title="upscale",
        source=options.source,
        target=options.target,
        method=method,
        size_of=_size_of(options),
        size_options={"scale": options.scale, "size": options.size},
        batch_size=options.batch_size,
        unit_size=options.unit_size,
        options=options,
    )
    return str(summary)


def _check(method: DomainTransfer, options: UpscaleOptions) -> None:
    """Refuse, before any work, a scale or pictures that the model was not trained for."""
    if options.scale is not None:
        method.model.degradation.timestep(options.scale)
    trained, made = method.model.config.protocol, protocols(Location.of(options.source))
    if made - {trained} and not options.any_protocol:
        raise CheckpointError(
            f"{options.checkpoint} is made for {trained}, and the pictures in {options.source} are made by "
            f"{', '.join(sorted(made))}; any_protocol takes them all the same"
        )


def _method(options: UpscaleOptions) -> Method:
    device = best_device(options.device)
    if options.checkpoint is None:
        return load_method(options.method)
    where = Location.of(options.checkpoint)
    if where.local is not None:
        return load_method(options.method, where.local, device, projected=options.project)
    with tempfile.TemporaryDirectory(prefix="dtls-") as folder:
        try:
            for name in (CONFIG, WEIGHTS):
                where.download(name, Path(folder) / name)
        except StorageError as error:
            raise CheckpointError(str(error)) from error
        return load_method(options.method, Path(folder), device, projected=options.project)


def _size_of(options: UpscaleOptions) -> SizeOf:
    scale, size = options.scale, options.size

    def result(picture: tuple[int, int]) -> tuple[int, int]:
        height, width = picture
        ratio = scale if scale is not None else (size or 0) / max(picture)
        if ratio < 1:
            raise SizeError(f"{width}×{height} is larger than the size {size} already")
        return round(height * ratio), round(width * ratio)

    return result
