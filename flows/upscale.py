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
from dtls.devices import Precision, best_device
from dtls.domain_transfer import DomainTransfer, Sampling
from dtls.methods import Method, load_method
from dtls.sampler import SamplerName
from dtls.tiling import SMALLEST, TILE
from flows.options import Address, BatchOptions
from flows.pictures import SizeOf, transform
from flows.sources import protocols
from storage.locations import Location, StorageError


class UpscaleOptions(BatchOptions):
    """What to upscale, how, and how far."""

    source: Address = Field(description="folder, zip, tar or URL of the pictures")
    target: Address = Field(description="folder or URL for the results")
    method: Literal["nearest", "bilinear", "bicubic", "dtls"] = Field(
        "dtls", description="what makes the SR pictures; dtls wants a checkpoint"
    )
    checkpoint: Address | None = Field(None, description="folder or URL of a trained model")
    scale: float | None = Field(None, gt=1, le=64, description="how many times larger")
    size: int | None = Field(None, ge=8, le=65_536, description="instead of a scale: the longer side of the results")
    sampler: SamplerName | None = Field(
        None, description="by default two-call, the paper's picture in two passes; the others are for comparison"
    )
    ensemble: bool = Field(False, description="mean with the mirrored picture's result: better, in twice the time")
    project: bool = Field(
        False, description="move each result to the nearest picture that reduces to its source; for clean sources"
    )
    any_protocol: bool = Field(
        False, description="take pictures that were made by another downscaling than the checkpoint was trained for"
    )
    batch_size: int = Field(16, ge=1, le=1024, description="pictures of one size that go through the model together")
    unit_size: int = Field(256, ge=1, le=100_000, description="about how many pictures make one unit")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, …")
    precision: Precision = Field("auto", description="bf16 or fp32; auto is bf16 on GPUs that have it")
    compile: bool = Field(False, description="compile the network: minutes for each picture size, then faster")
    tile: int = Field(TILE, ge=SMALLEST, description="longest side of a result that is made in one piece")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.scale is None and self.size is None:
            raise ValueError("say how far: --scale or --size")
        if self.scale is not None and self.size is not None:
            raise ValueError("say --scale or --size, not both")
        if self.method == "dtls" and self.checkpoint is None:
            raise ValueError("the method dtls needs a checkpoint")
        if self.method != "dtls" and self.checkpoint is not None:
            raise ValueError(f"the method {self.method} has no checkpoint; leave it out, or choose the method dtls")
        for name in ("project", "ensemble", "sampler", "any_protocol", "precision", "compile", "tile"):
            if getattr(self, name) != type(self).model_fields[name].default and self.method != "dtls":
                raise ValueError(f"{name.replace('_', '-')} goes with the method dtls")
        return self

    def sampling(self) -> Sampling:
        """How the checkpoint is used."""
        return Sampling(
            sampler=self.sampler,
            projected=self.project,
            ensemble=self.ensemble,
            precision=self.precision,
            compiled=self.compile,
            tile=self.tile,
        )


@flow(name="dtls", flow_run_name="upscale {options.source}")
def upscale(options: UpscaleOptions) -> str:
    """Upscale every picture of a folder."""
    method = _method(options)
    if isinstance(method, DomainTransfer):
        refuse_misfits(method, options.source, options.scale, any_protocol=options.any_protocol)
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


def refuse_misfits(method: DomainTransfer, source: str, scale: float | None, *, any_protocol: bool) -> None:
    """Refuse, before any work, a scale or pictures that the model was not trained for."""
    if scale is not None:
        method.model.degradation.timestep(scale)
    trained, made = method.model.config.protocol, protocols(source)
    if made - {trained} and not any_protocol:
        raise CheckpointError(
            f"the checkpoint is made for {trained}, and the pictures in {source} are made by "
            f"{', '.join(sorted(made))}; --any-protocol takes them all the same"
        )


def _method(options: UpscaleOptions) -> Method:
    if options.checkpoint is None:
        return load_method(options.method)
    return load_checkpointed(options.checkpoint, best_device(options.device), options.sampling())


def load_checkpointed(address: str, device: str, how: Sampling) -> DomainTransfer:
    """The method of the checkpoint at `address`, a folder or a URL."""
    where = Location.of(address)
    if where.local is not None:
        return DomainTransfer(where.local, device, how)
    with tempfile.TemporaryDirectory(prefix="dtls-") as folder:
        try:
            for name in (CONFIG, WEIGHTS):
                where.download(name, Path(folder) / name)
        except StorageError as error:
            raise CheckpointError(str(error)) from error
        return DomainTransfer(Path(folder), device, how)


def _size_of(options: UpscaleOptions) -> SizeOf:
    scale, size = options.scale, options.size

    def result(picture: tuple[int, int]) -> tuple[int, int]:
        height, width = picture
        ratio = scale if scale is not None else (size or 0) / max(picture)
        if ratio < 1:
            raise SizeError(f"{width}×{height} is larger than the size {size} already")
        return round(height * ratio), round(width * ratio)

    return result
