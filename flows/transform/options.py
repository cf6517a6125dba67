"""Options of the flows that make images by a method: which images, how the method computes, what results are like."""

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from dtls.choices import SMALLEST, TILE, DiffusionSampler, Precision, SamplerName
from dtls.inference.sampling import Sampling
from flows.inputs.methods import SPANDREL
from flows.inputs.selection import SelectionOptions, Target
from flows.interface.options import DEVICE, PRECISION, RESULTS, RUNNING, WHAT, Address, Panels
from storage.images.formats import Format


class MethodOptions(SelectionOptions):
    """Images, the method that makes others of them, and what these are like."""

    panels: ClassVar[Panels] = {
        WHAT: "source target any_protocol",
        RESULTS: "format quality suffix samples_per_shard provenance",
        RUNNING: "batch_size unit_size device precision compile tile",
    }

    source: Address = Field(description="folder, image, zip, tar or URL of the images, or of shards")
    target: Target = Field(description="folder, zip, tar, tar.gz or URL for the results")
    method: str | None = None
    checkpoint: Address | None = None
    format: Format = Field(
        "png",
        description="file format of the results; same is that of each source, where it keeps pixels as they are",
    )
    quality: int = Field(95, ge=1, le=100, description="quality of JPEG and WebP results, like 95")
    suffix: str = Field(
        "", max_length=100, description="text behind the name of each result: with _new, a.png becomes a_new.png"
    )
    samples_per_shard: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="write WebDataset shards into the target, of about this many images each, like 1000",
    )
    provenance: bool = Field(
        True, description="record in each result's EXIF what made it: method, checkpoint, version, day"
    )
    project_passes: int | None = Field(
        None,
        ge=1,
        le=16,
        description="with --project: how often results are projected and cut to the range of pixels, like 4; by "
        "default 1 for checkpoints that upscale, and 4 for other methods",
    )
    ensemble: bool = Field(
        False, description="take the mean with the result of the mirrored image: better, and takes twice as long"
    )
    any_protocol: bool = Field(
        False, description="take images that were made by another degradation than the checkpoint was trained for"
    )
    sampler: Literal[SamplerName, DiffusionSampler] | None = Field(
        None,
        description="which sampler computes the result, of models that have several; by default the model's own: "
        "two-call for dtls, the paper's result in two network evaluations, and ddim for sr3",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed of the noise that some models start from, like 1")
    batch_size: int = Field(16, ge=1, le=1024, description="images of one size that are computed together")
    unit_size: int = Field(256, ge=1, le=100_000, description="about how many images one task processes")
    device: str = Field("auto", description=DEVICE)
    precision: Precision = Field("auto", description=PRECISION)
    compile: bool = Field(
        False, description="compile the network: takes minutes for each image size, and is faster then"
    )
    tile: int = Field(
        TILE,
        ge=SMALLEST,
        description="longest side, in pixels, of a result that is computed in one piece; larger ones in tiles",
    )

    @field_validator("suffix")
    @classmethod
    def _is_part_of_a_name(cls, suffix: str) -> str:
        if set(suffix) & set("/\\") or not suffix.isprintable():
            raise ValueError("a suffix is part of a name, without slashes or control characters")
        return suffix

    def _check_options_of_others(self, names: tuple[str, ...], owner: str, *, fits: bool) -> None:
        for name in names if not fits else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"--{name.replace('_', '-')} goes with {owner}")

    @property
    def is_spandrel(self) -> bool:
        """Whether the method is a file of weights that spandrel knows."""
        return self.method is not None and self.method.startswith(SPANDREL)

    def sampling(self, *, projected: bool) -> Sampling:
        """How the checkpoint is used."""
        return Sampling(
            sampler=self.sampler,
            seed=self.seed,
            projected=projected,
            ensemble=self.ensemble,
            precision=self.precision,
            compiled=self.compile,
            tile=self.tile,
        )
