"""`dtls/upscale`: images become larger ones, under the same names, with what they carry.

Unit: about 256 images, or a shard. Proof: its receipt, written after the images; see flows/transform/run.py.
"""

from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from dtls.checkpoints.bundled import BUNDLED, bundled_for
from dtls.choices import SMALLEST, TILE, Precision
from dtls.degradations.base import Protocol
from dtls.inference.sampling import Sampling
from dtls.registry import INTERPOLATIONS, MODELS
from flows.engine.flow import flow
from flows.inputs.compatibility import check_enlarges, check_misfits, downscaling_of
from flows.inputs.methods import BUNDLED_PREFIX, SPANDREL, MethodSpec
from flows.inputs.selection import SelectionOptions, Target
from flows.interface.console import log
from flows.interface.options import RESULTS, RUNNING, WHAT, Address, Panels
from flows.transform.placement import device_here, precision_of
from flows.transform.sizes import Enlarged, Larger
from storage.images.formats import Format

if TYPE_CHECKING:
    from dtls.inference.method import Method

DEFAULT_SCALE = 4.0
OF_NETWORKS = ("precision", "tile")
OF_PROJECTION = ("project_passes", "protocol")
OF_MODELS = ("ensemble", "sampler", "sampling_steps", "seed", "any_protocol", "compile")


class UpscaleOptions(SelectionOptions):
    """What to upscale, how, how far, and what the results are like."""

    panels: ClassVar[Panels] = {
        WHAT: "source target any_protocol",
        RESULTS: "format quality suffix samples_per_shard provenance",
        RUNNING: "batch_size unit_size device precision compile tile",
    }

    source: Address = Field(description="folder, image, zip, tar or URL of the images, or of shards")
    target: Target = Field(description="folder, zip, tar, tar.gz or URL for the results")
    method: str | None = Field(
        None,
        description=f"{', '.join(INTERPOLATIONS)} or spandrel:FILE; by default the checkpoint's own: "
        f"{', '.join(MODELS)}",
    )
    checkpoint: Address | None = Field(
        None,
        description=f"folder or URL of a trained model, or a bundled model: {', '.join(BUNDLED)}; without a "
        "method, the one of these that fits the scale",
    )
    scale: float | None = Field(
        None,
        gt=1,
        le=64,
        description=f"how many times larger; {DEFAULT_SCALE:g} without a size, or the model's own scale if less",
    )
    size: int | None = Field(None, ge=8, le=65_536, description="instead of a scale: the longer side of the results")
    format: Format = Field("png", description="of the results; same: as the source, where that keeps pixels whole")
    quality: int = Field(95, ge=1, le=100, description="of JPEG and WebP")
    suffix: str = Field("", max_length=100, description="put behind each result's name: with _x4, a.png is a_x4.png")
    larger: Larger = Field(
        "fail",
        description="what becomes of images that are larger than --size already: fail, skip, or copy, which takes "
        "them as they are, with --format same byte by byte",
    )
    samples_per_shard: int | None = Field(
        None, ge=1, le=1_000_000, description="write WebDataset shards of about so many images into the target"
    )
    provenance: bool = Field(
        True, description="record in each result's EXIF what made it: method, checkpoint, version, day"
    )
    project: bool = Field(
        False, description="move each result to the nearest image that reduces to its source; for clean sources"
    )
    project_passes: int | None = Field(
        None,
        ge=1,
        le=16,
        description="with --project: how often results are projected and cut to the range of pixels, like 4; by "
        "default 1 for checkpoints and 4 for other methods",
    )
    protocol: Protocol | None = Field(
        None,
        description="with --project: the downscaling that made the source, where its manifest does not say it and "
        "the method was not trained for one",
    )
    ensemble: bool = Field(False, description="mean with the mirrored image's result: better, in twice the time")
    any_protocol: bool = Field(
        False, description="take images that were made by another downscaling than the checkpoint was trained for"
    )
    sampler: str | None = Field(
        None,
        description="of models that have several, by default the model's choice: two-call for dtls, the paper's "
        "image in two passes; ddim for sr3",
    )
    sampling_steps: int | None = Field(None, ge=1, description="of samplers that have a choice, like 50 of ddim")
    seed: int = Field(0, ge=0, lt=2**31, description="of the noise that some models start from")
    batch_size: int = Field(16, ge=1, le=1024, description="images of one size that go through the model together")
    unit_size: int = Field(256, ge=1, le=100_000, description="about how many images make one unit")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, …")
    precision: Precision = Field("auto", description="bf16 or fp32; auto is bf16 on GPUs that have it")
    compile: bool = Field(False, description="compile the network: minutes for each image size, then faster")
    tile: int = Field(TILE, ge=SMALLEST, description="longest side of a result that is made in one piece")

    @field_validator("method")
    @classmethod
    def _is_known(cls, method: str | None) -> str | None:
        if method is None:
            return None
        name, colon, file = method.partition(":")
        if name.lower() + colon == SPANDREL and file:
            return SPANDREL + file
        known = (*INTERPOLATIONS, *MODELS)
        if method.lower() in known:
            return method.lower()
        near = get_close_matches(method.lower(), (*known, f"{SPANDREL}FILE"), 1)
        guess = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"no method is called {method!r}{guess}; there are {', '.join(known)} and {SPANDREL}FILE")

    @field_validator("suffix")
    @classmethod
    def _is_part_of_a_name(cls, suffix: str) -> str:
        if set(suffix) & set("/\\") or not suffix.isprintable():
            raise ValueError("a suffix is part of a name, without slashes or control characters")
        return suffix

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.scale is not None and self.size is not None:
            raise ValueError("--scale and --size exclude each other: give one of them")
        if self.larger != "fail" and self.size is None:
            raise ValueError("--larger goes with --size: with --scale every image becomes larger")
        needs_training = self.method is None or self.method in MODELS
        if self.method is not None and needs_training and self.checkpoint is None:
            raise ValueError(
                f"the method {self.method} needs a checkpoint: --checkpoint MODEL, as `dtls train` makes it; "
                "or leave the method out for a bundled model"
            )
        if self.checkpoint is not None and not needs_training:
            raise ValueError(f"the method {self.method} has no checkpoint; leave one of the two out")
        self._check_options_of_others(OF_MODELS, "a trained model", fits=needs_training)
        self._check_options_of_others(OF_PROJECTION, "--project", fits=self.project)
        is_network = needs_training or self.is_spandrel
        self._check_options_of_others(OF_NETWORKS, "a trained model or spandrel:FILE", fits=is_network)
        return self

    def _check_options_of_others(self, names: tuple[str, ...], owner: str, *, fits: bool) -> None:
        for name in names if not fits else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name.replace('_', '-')} goes with {owner}")

    @property
    def is_spandrel(self) -> bool:
        return self.method is not None and self.method.startswith(SPANDREL)

    def sampling(self) -> Sampling:
        """How the checkpoint is used."""
        return Sampling(
            sampler=self.sampler,
            steps=self.sampling_steps,
            seed=self.seed,
            projected=self.project,
            ensemble=self.ensemble,
            precision=self.precision,
            compiled=self.compile,
            tile=self.tile,
        )


@flow("upscale {options.source}")
def upscale(options: UpscaleOptions) -> str:
    """Upscale every image of a folder, an archive, or shards."""
    from flows.transform.run import transform
    from flows.transform.spec import ImageTransform, Results
    from storage.images.encode import Encoding

    checkpoint, has_size = options.checkpoint, options.scale is not None or options.size is not None
    if options.method is None and checkpoint is None:
        checkpoint = _bundled(options.scale if has_size else DEFAULT_SCALE)
    load = MethodSpec.of(
        options.method,
        checkpoint,
        options.device,
        replace(options.sampling(), precision=precision_of(options), **_projection(options)),
    )
    method = replace(load, device=device_here(options))()
    check_enlarges(method)
    scale = options.scale if has_size else default_scale(method)
    check_misfits(method, options.source, scale, any_protocol=options.any_protocol, requested=options.protocol)
    results = Results(
        Encoding(options.format, options.quality), options.suffix, options.provenance, options.samples_per_shard
    )
    recipe = ImageTransform(
        "upscale", load, Enlarged(scale, options.size, options.larger), results, options.batch_size
    )
    return transform(recipe, options.source, options.target, options, method, options.unit_size)


def _projection(options: UpscaleOptions) -> dict[str, Any]:
    """What of a method's use projecting needs."""
    if not options.project:
        return {}
    return {"made_by": downscaling_of(options.source, options.protocol), "passes": options.project_passes}


def default_scale(method: "Method") -> float:
    """The scale where neither that nor a size is given: 4, or a model's own where it has one or makes no 4."""
    scale = method.scale or min(DEFAULT_SCALE, method.max_scale or DEFAULT_SCALE)
    whose = "the default" if method.scale is None and scale == DEFAULT_SCALE else "the model's own"
    log(f"with the scale {scale:g}, {whose}; --scale or --size changes that")
    return scale


def _bundled(scale: float | None) -> str:
    """The name of the bundled model that fits a scale, which is logged."""
    model = bundled_for(scale)
    others = [m for m in BUNDLED.values() if m is not model and (scale is None or scale <= m.scale)]
    less = [f"; for {m.subject}, ×{m.scale} is the most" for m in BUNDLED.values() if m.scale < (scale or 0)]
    also = "".join(f"; there is also --checkpoint {m.name} for {m.subject}" for m in others)
    log(f"with {model.name}, trained on {model.subject}{also}{''.join(less)}")
    return BUNDLED_PREFIX + model.name
