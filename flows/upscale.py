"""`dtls/upscale`: images become larger ones, under the same names, with what they carry.

Unit: about 256 images, or a shard. Proof: its receipt, written after the images; see flows/transform/run.py.
"""

from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from dtls.checkpoints.bundled import UPSCALING, bundled_for
from dtls.degradations.base import Protocol
from dtls.registry import INTERPOLATIONS, MODELS
from flows.engine.flow import flow
from flows.inputs.compatibility import check_enlarges, check_misfits, downscaling_of
from flows.inputs.methods import BUNDLED_PREFIX, SPANDREL, MethodSpec, file_of_weights
from flows.interface.console import log
from flows.interface.options import RESULTS, Address, Panels
from flows.transform.options import MethodOptions
from flows.transform.placement import device_here, precision_of
from flows.transform.sizes import Enlarged, Larger

if TYPE_CHECKING:
    from dtls.inference.method import Method

DEFAULT_SCALE = 4.0
OF_NETWORKS = ("precision", "tile")
OF_PROJECTION = ("project_passes", "protocol")
OF_MODELS = ("ensemble", "sampler", "sampling_steps", "seed", "any_protocol", "compile")


class UpscaleOptions(MethodOptions):
    """What to upscale, how, how far, and what the results are like."""

    panels: ClassVar[Panels] = {RESULTS: "larger"}

    method: str | None = Field(
        None,
        description=f"{', '.join(INTERPOLATIONS)} or spandrel:FILE; by default the checkpoint's own: "
        f"{', '.join(MODELS)}",
    )
    checkpoint: Address | None = Field(
        None,
        description=f"folder or URL of a trained model, or a bundled model: {', '.join(UPSCALING)}; without a "
        "method, the one of these that fits the scale",
    )
    scale: float | None = Field(
        None,
        gt=1,
        le=64,
        description=f"how many times larger; {DEFAULT_SCALE:g} without a size, or the model's own scale if less",
    )
    size: int | None = Field(None, ge=8, le=65_536, description="instead of a scale: the longer side of the results")
    larger: Larger = Field(
        "fail",
        description="what becomes of images that are larger than --size already: fail, skip, or copy, which takes "
        "them as they are, with --format same byte by byte",
    )
    project: bool = Field(
        False, description="move each result to the nearest image that reduces to its source; for clean sources"
    )
    sampling_steps: int | None = Field(
        None, ge=1, description="steps of samplers that have a choice of them, like 50 for ddim"
    )
    protocol: Protocol | None = Field(
        None,
        description="with --project: the downscaling that made the source, where its manifest does not say it and "
        "the method was not trained for one",
    )

    @field_validator("method")
    @classmethod
    def _is_known(cls, method: str | None) -> str | None:
        if method is None:
            return None
        if (file := file_of_weights(method)) is not None:
            return file
        known = (*INTERPOLATIONS, *MODELS)
        if method.lower() in known:
            return method.lower()
        near = get_close_matches(method.lower(), (*known, f"{SPANDREL}FILE"), 1)
        guess = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"no method is called {method!r}{guess}; there are {', '.join(known)} and {SPANDREL}FILE")

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


@flow("upscale {options.source}")
def upscale(options: UpscaleOptions) -> str:
    """Upscale every image of a folder, an archive, or shards."""
    from flows.transform.run import transform
    from flows.transform.spec import ImageTransform, Results

    checkpoint, has_size = options.checkpoint, options.scale is not None or options.size is not None
    if options.method is None and checkpoint is None:
        checkpoint = _bundled(options.scale if has_size else DEFAULT_SCALE)
    load = MethodSpec.of(
        options.method,
        checkpoint,
        options.device,
        replace(
            options.sampling(projected=options.project),
            steps=options.sampling_steps,
            precision=precision_of(options),
            **_projection(options),
        ),
    )
    method = replace(load, device=device_here(options, dry_run=options.dry_run))()
    check_enlarges(method)
    scale = options.scale if has_size else default_scale(method)
    check_misfits(method, options.source, scale, any_protocol=options.any_protocol, requested=options.protocol)
    size_of = Enlarged(scale, options.size, options.larger)
    recipe = ImageTransform("upscale", load, size_of, Results.of(options), options.batch_size)
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
    others = [m for m in UPSCALING.values() if m is not model and (scale is None or scale <= m.scale)]
    less = [f"; for {m.subject}, ×{m.scale} is the most" for m in UPSCALING.values() if m.scale < (scale or 0)]
    also = "".join(f"; there is also --checkpoint {m.name} for {m.subject}" for m in others)
    log(f"with {model.name}, trained on {model.subject}{also}{''.join(less)}")
    return BUNDLED_PREFIX + model.name
