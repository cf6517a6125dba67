"""`dtls/restore`: degraded images become what they were, at their own size, under the same names.

Unit: about 256 images, or a shard. Proof: its receipt, written after the images; see flows/transform/run.py.
"""

from dataclasses import replace
from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from dtls.checkpoints.bundled import bundled_for_task, restoring
from dtls.choices import SamplerName
from dtls.degradations.registry import operator_of
from dtls.errors import CheckpointError
from dtls.registry import FILLINGS, INVERSES
from flows.engine.flow import flow
from flows.inputs.compatibility import check_degraded, check_restores
from flows.inputs.methods import BUNDLED_PREFIX, SPANDREL, MethodSpec, file_of_weights
from flows.inputs.tasks import TaskOptions, check_alone
from flows.interface.console import log
from flows.interface.options import WHAT, Address, Panels
from flows.transform.options import MethodOptions
from flows.transform.placement import device_here, precision_of
from flows.transform.sizes import Unchanged

EXACT = "grey"
"""The degradation whose observation says exactly, for each pixel, in which plane of colours it was."""
SIMPLE = {
    **dict.fromkeys(FILLINGS, "which fills smoothly: right for scratches and small spots"),
    **dict.fromkeys(INVERSES, "which solves the equations: right for images without noise and JPEG blocks"),
}
"""Methods without weights, which are taken where a task has no model, and what is said of them."""
OF_NETWORKS = ("precision", "tile", "project")
OF_MODELS = ("ensemble", "sampler", "seed", "compile", "strength")


class RestoreOptions(TaskOptions, MethodOptions):
    """What to restore, from what, how, and what the results are like."""

    panels: ClassVar[Panels] = {
        WHAT: "masks",
    }

    masks: Address | None = Field(
        None,
        description="of inpaint: a mask for all images, or a folder, archive or URL with one for each, of its name; "
        "what is white in them is filled; by default, what is transparent is",
    )
    method: str | None = Field(
        None,
        description=f"spandrel:FILE; without a model {', '.join(FILLINGS)}, which fills smoothly, for inpaint, and "
        f"{', '.join(INVERSES)}, by the equations of deblur and lowlight, for images that were degraded exactly so",
    )
    checkpoint: Address | None = Field(
        None,
        description="folder or URL of a model that was trained for the task, or a bundled model of restoration; "
        "without a method, the bundled model of the task, or else membrane or inverse, where one fits",
    )
    sampler: SamplerName | None = Field(
        None,
        description="which sampler computes the result of a trained model, like current, the paper's step by step; "
        "by default two-call, its result in two network evaluations, or one-call for noise",
    )
    project: bool | None = Field(
        None,
        description="move each result to the nearest image that its source can have come from; on by default in "
        "colourise, where it keeps the brightness of each pixel",
    )

    @field_validator("method")
    @classmethod
    def _is_a_method(cls, method: str | None) -> str | None:
        if method is None or method.lower() in FILLINGS or method.lower() in INVERSES:
            return method and method.lower()
        if (file := file_of_weights(method)) is not None:
            return file
        raise ValueError(
            f"no method that restores is called {method!r}; there are {', '.join((*FILLINGS, *INVERSES))} and "
            f"{SPANDREL}FILE, and models that are trained, by --checkpoint"
        )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        method = self.undoing
        if self.method is not None and self.checkpoint is not None:
            raise ValueError(f"the method {self.method} has no checkpoint; leave one of the two out")
        if self.method in FILLINGS and self.task != "inpaint":
            raise ValueError(f"the method {self.method} fills holes: it is for --task inpaint, not {self.task}")
        if method in INVERSES and not operator_of(self.spec).inverts:
            raise ValueError(
                f"the method {method} is for tasks whose images hold all that there was, such as deblur:2 and "
                f"lowlight:0.25, not for {self.task}"
            )
        check_alone(self.spec)
        if self.project is not None and self.has_holes:
            raise ValueError("inpaint keeps what is known of an image in any case; leave --project out")
        self._check_options_of_others(OF_MODELS, "a trained model", fits=method is None)
        knows = method is None or method in INVERSES
        self._check_options_of_others(("any_protocol",), f"a trained model or {', '.join(INVERSES)}", fits=knows)
        is_network = method is None or self.is_spandrel
        self._check_options_of_others(OF_NETWORKS, "a trained model or spandrel:FILE", fits=is_network)
        if self.project and self.strength < 1:
            raise ValueError("--project is for a degradation at its full --strength; leave one of the two out")
        self._check_options_of_others(("project_passes",), "--project", fits=self.is_projected)
        if method is None and self.checkpoint is None:
            try:
                bundled_for_task(self.task)
            except CheckpointError as error:
                raise ValueError(str(error)) from error
        return self

    @property
    def undoing(self) -> str | None:
        """The method; where neither that nor a model is named, and none is bundled, one of `SIMPLE` that fits."""
        if self.method is not None or self.checkpoint is not None or restoring(self.task) is not None:
            return self.method
        fitting = FILLINGS if self.has_holes else INVERSES if operator_of(self.spec).inverts else {}
        return next(iter(fitting), None)

    @property
    def is_projected(self) -> bool:
        """Whether results are projected; where nothing is said, if the source holds a part of them exactly."""
        is_exact = self.spec == EXACT and self.strength == 1 and self.undoing is None
        return self.project if self.project is not None else is_exact


@flow("restore {options.source}")
def restore(options: RestoreOptions) -> str:
    """Restore every image of a folder, an archive, or shards."""
    from flows.transform.run import transform
    from flows.transform.spec import ImageTransform, Results

    checkpoint, chosen = options.checkpoint, options.undoing
    if options.method is None and chosen is not None:
        log(f"by {chosen}, {SIMPLE[chosen]}")
    if chosen is None and checkpoint is None:
        model = bundled_for_task(options.task)
        log(f"with {model.name}, trained on {model.subject}")
        checkpoint = BUNDLED_PREFIX + model.name
    sampling = replace(
        options.sampling(projected=options.is_projected),
        precision=precision_of(options),
        strength=options.strength,
        noise=options.noise,
        made_by=options.spec if options.is_projected or chosen in INVERSES else None,
        passes=options.project_passes,
    )
    load = MethodSpec.of(chosen, checkpoint, options.device, sampling)
    method = replace(load, device=device_here(options, dry_run=options.dry_run))()
    check_restores(method, options.task)
    if not options.any_protocol:
        check_degraded(method, options.source, options.protocol, projected=options.is_projected)
    results = Results.of(options)
    recipe = ImageTransform("restore", load, Unchanged(), results, options.batch_size, options.masks_address)
    return transform(recipe, options.source, options.target, options, method, options.unit_size)
