"""`dtls/generate`: a model makes images of seeds, as a dataset: files or shards, and a manifest.

Unit: 256 samples, or a shard. Proof: its receipt, written after the images; see flows/generation/run.py.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from dtls.choices import Precision
from dtls.inference.sampling import Sampling
from dtls.registry import INTERPOLATIONS
from flows.engine.flow import flow
from flows.engine.options import MakingOptions
from flows.generation.seeds import DIGITS, GAUSSIAN, MAX_COUNT, checked_start, is_noise, key_of
from flows.inputs.methods import MethodSpec, file_of_weights
from flows.inputs.selection import Target
from flows.inputs.sources import SourceSpec, absolute, check_within
from flows.interface.options import DEVICE, PRECISION, RESULTS, RUNNING, WHAT, Address, Panels
from flows.transform.placement import device_here, precision_of
from storage.archives.source import open_source
from storage.archives.writer import is_archive
from storage.images.encode import Encoding

if TYPE_CHECKING:
    from flows.generation.making import Generation
    from flows.generation.origins import Origin
    from flows.generation.spec import GenerationSpec
    from storage.archives.source import Source


class GenerateOptions(MakingOptions):
    """Which model makes images of what, how many, and what they are like."""

    panels: ClassVar[Panels] = {
        WHAT: "model target count start strength invert mix mix_steps mix_in",
        RESULTS: "format quality samples_per_shard provenance",
        RUNNING: "unit_size device precision",
    }

    model: Address = Field(
        description="folder or URL of a generative model, as dtls train --method lr-flow or ddpm makes it",
    )
    target: Target = Field(description="folder, zip, tar, tar.gz or URL for the images")
    count: int | None = Field(
        None,
        ge=1,
        le=MAX_COUNT,
        description="how many images the target is to hold, like 1000, the default; more can be added later. With "
        "--start FOLDER by default one for each of its images",
    )
    start: Address = Field(
        GAUSSIAN,
        description="what images begin with: gaussian noise, exponential:0.5 for noise of this rate, or a folder or "
        "URL of images, to which noise is added up to --strength",
    )
    strength: float | None = Field(
        None,
        gt=0,
        le=1,
        description="with --start FOLDER: how much of the noise is added, like 0.5; 1 leaves almost nothing of an "
        "image",
    )
    invert: Address | None = Field(
        None,
        description="folder or URL of images: find z for each, and make the image of that z again; for models that "
        "have a way back",
    )
    mix: Address | None = Field(
        None,
        description="make the images between two: numbers of samples or files of images, like 3,17 or a.png,b.png",
    )
    mix_steps: int = Field(5, ge=2, le=256, description="with --mix: how many images, both ends included, like 5")
    mix_in: Literal["z", "pixels"] = Field(
        "z", description="with --mix: what the steps are of, z or pixels before they are enlarged"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed of the set, like 1; each image has one of its own by it")
    truncate: float = Field(
        1.0, gt=0, le=10, description="what z is multiplied by, like 0.7: below 1 images vary less"
    )
    sampler: str | None = Field(
        None, description="which sampler makes the images, like ddpm; by default the model's own"
    )
    sampling_steps: int | None = Field(
        None, ge=1, description="steps of samplers that have a choice of them, like 50 for ddim"
    )
    upscale: Address | None = Field(
        None,
        description=f"what enlarges the images: a bundled model such as faces-x8, folder or URL of a trained model, "
        f"{', '.join(INTERPOLATIONS)} or spandrel:FILE",
    )
    size: int | None = Field(
        None,
        ge=8,
        le=8192,
        description="with --upscale: side of the images in pixels, like 128; by default the upscaler's own scale",
    )
    format: Literal["png", "jpeg", "webp", "tiff"] = Field("png", description="file format of the images")
    quality: int = Field(95, ge=1, le=100, description="quality of JPEG and WebP images, like 95")
    samples_per_shard: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="write WebDataset shards, for dtls train, of this many images each, like 1000",
    )
    provenance: bool = Field(
        True, description="record in each image's EXIF that it is synthetic, what made it, and its seed"
    )
    unit_size: int = Field(256, ge=1, le=100_000, description="how many images one task makes, like 256")
    device: str = Field("auto", description=DEVICE)
    precision: Precision = Field("auto", description=PRECISION)

    @field_validator("start")
    @classmethod
    def _is_a_start(cls, start: str) -> str:
        return checked_start(start)

    @field_validator("mix")
    @classmethod
    def _is_of_two(cls, mix: str | None) -> str | None:
        if mix is None:
            return None
        ends = [end.strip() for end in mix.split(",")]
        if len(ends) != 2 or not all(ends):
            raise ValueError("a mix is of two: numbers of samples or files of images, such as 3,17")
        if any(end.isdecimal() and int(end) >= MAX_COUNT for end in ends):
            raise ValueError(f"the number of a sample has at most {DIGITS} digits")
        return ",".join(key_of(int(end)) if end.isdecimal() else end for end in ends)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.strength is not None) != self.starts_from_images:
            raise ValueError("--strength goes with --start FOLDER, and that needs it, e.g. --strength 0.5")
        if self.starts_from_images:
            self._check_left_out(("truncate",), "--start FOLDER draws no z")
        if self.invert is not None:
            self._check_left_out(
                ("count", "start", "mix", "truncate", "samples_per_shard"),
                "--invert makes an image for each it finds",
            )
        if self.mix is not None:
            self._check_left_out(("count", "samples_per_shard"), "--mix makes --mix-steps images")
            if self.starts_from_images:
                raise ValueError("--mix begins with two samples or images; leave --start FOLDER out")
            if is_archive(self.target):
                raise ValueError("--mix makes a sheet beside its images; name a folder")
        else:
            self._check_left_out(("mix_steps", "mix_in"), "there is no --mix")
        if self.samples_per_shard is not None and is_archive(self.target):
            raise ValueError("shards go into a folder, not into an archive; name a folder")
        if self.size is not None and self.upscale is None:
            raise ValueError("--size goes with --upscale MODEL")
        return self

    def _check_left_out(self, names: tuple[str, ...], why: str) -> None:
        for name in names:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{why}; leave --{name.replace('_', '-')} out")

    @property
    def starts_from_images(self) -> bool:
        """Whether images begin with images."""
        return not is_noise(self.start)

    @property
    def images(self) -> str | None:
        """The address of the images that samples start from, if they do."""
        return self.invert if self.invert is not None else self.start if self.starts_from_images else None


@flow("generate {options.target}")
def generate(options: GenerateOptions) -> str:
    """Make images of seeds with a generative model."""
    from flows.generation.fitting import as_usage
    from flows.generation.plan import Plan
    from flows.generation.run import run
    from flows.generation.sheet import sheet_of
    from storage.stores.location import Location

    source = None
    with as_usage():
        if options.images is not None:
            check_within(Location.of(options.target), options.images)
            source = open_source(options.images)
        spec, generation = _loaded(options, _spec(options, source), source)
    made_with, packing = spec.made_with(generation), spec.results.packing(options.target)
    if options.mix is not None:
        plan = Plan.of_mix(spec, made_with, _ends(options.mix), options.mix_steps)
        outputs = [plan.names.of(sample.key) for unit in plan.units for sample in unit.samples]
        return run(spec, generation, plan, None, options, sheet_of(spec.folder, outputs))
    if options.invert is not None and source is not None:
        plan = Plan.of_images(spec, made_with, packing, options.unit_size, source, options.invert)
    else:
        plan = Plan.of_numbers(
            spec, made_with, packing, options.count, options.unit_size, source, overwrite=options.overwrite
        )
    return run(spec, generation, plan, packing, options)


def _spec(options: GenerateOptions, source: "Source | None") -> "GenerationSpec":
    from flows.generation.loading import GeneratorSpec
    from flows.generation.spec import GenerationSpec
    from flows.transform.spec import Results

    precision = precision_of(options)
    results = Results(
        Encoding(options.format, options.quality),
        provenance=options.provenance,
        samples_per_shard=options.samples_per_shard,
    )
    return GenerationSpec(
        GeneratorSpec.of(options.model, options.device, precision, options.sampler, options.sampling_steps),
        _upscaler(options, precision),
        options.size,
        _origin(options),
        SourceSpec.of(options.images, source) if options.images is not None and source is not None else None,
        options.seed,
        results,
        absolute(options.target),
        options.workers,
    )


def _loaded(
    options: GenerateOptions, spec: "GenerationSpec", source: "Source | None"
) -> "tuple[GenerationSpec, Generation]":
    """The spec with the size of its images, and what makes them in this process; a refusal where it does not fit."""
    from flows.generation.fitting import enlarged_size
    from flows.generation.making import Enlarging

    device = device_here(options, dry_run=False)
    generator = replace(spec.load, device=device)()
    spec.origin.check(generator)
    enlarging = None
    if spec.upscaler is not None:
        method = replace(spec.upscaler, device=device)()
        enlarging = Enlarging(method, enlarged_size(generator, method, options.size))
        spec = replace(spec, size=enlarging.size)
    return spec, spec.generation(generator, enlarging, source)


def _upscaler(options: GenerateOptions, precision: Precision) -> MethodSpec | None:
    name = options.upscale
    if name is None:
        return None
    method = name.lower() if name.lower() in INTERPOLATIONS else file_of_weights(name)
    checkpoint = name if method is None else None
    return MethodSpec.of(method, checkpoint, options.device, Sampling(precision=precision))


def _origin(options: GenerateOptions) -> "Origin":
    from flows.generation.origins import FromImages, FromSeeds, Inverted, Mixed

    if options.invert is not None:
        return Inverted()
    if options.strength is not None:
        return FromImages(options.strength)
    draw = FromSeeds.of(options.start, options.truncate)
    if options.mix is None:
        return draw
    return Mixed.of(_ends(options.mix), options.mix_steps, options.mix_in == "z", options.seed, draw)


def _ends(mix: str) -> tuple[str, str]:
    """The ends of a mix, addresses as they mean the same from any folder."""
    first, last = (end if end.isdecimal() else absolute(end) for end in mix.split(","))
    return first, last
