"""The options of `dtls/train`: the model, its data, and how to train it."""

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_type_hints

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from dtls.choices import Precision, Prediction
from dtls.degradations.base import LRProtocol
from dtls.degradations.registry import operator_of, parts_of_task, spec_of_task, tasks
from dtls.degradations.scale import downscale_size
from dtls.errors import SizeError
from dtls.registry import CLASSIFIERS, GENERATORS, MODELS, model_class
from flows.inputs.tasks import check_alone
from flows.interface.options import DEVICE, PRECISION, RESULTS, RUNNING, WHAT, Address, Options, Panels

if TYPE_CHECKING:
    from dtls.training.recipe import Recipe

OF_REDUCING = ("lr_size", "stride", "protocol")
OF_DTLS = ("preset", "dim", "dim_mults", "patch", "stride", "residual", "predicts", "inputs", "first_timestep")


def _numbers(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _endings(value: object) -> object:
    """Extensions as WebDataset names them, `jpg;jpeg;png`, or with commas."""
    return re.split(r"[;,\s]+", value.strip(" ,;")) if isinstance(value, str) else value


def _pairs(value: object) -> object:
    """The mapping that several NAME=VALUE stand for."""
    if not isinstance(value, list):
        return value
    pairs = [str(part).partition("=") for part in value]
    if bad := [name for name, sign, _ in pairs if not sign]:
        raise ValueError(f"{bad[0]}: write NAME=VALUE")
    return {name: given for name, _, given in pairs}


Extension = Annotated[str, AfterValidator(lambda ending: ending.lower().lstrip(".")), Field(min_length=1)]


class TrainOptions(Options):
    """What to train, on what, and how; what is not said is the preset's."""

    panels: ClassVar[Panels] = {
        WHAT: "source target shards follow_links image_ext max_failed",
        RESULTS: "save_every keep",
        RUNNING: "sync resume workers device processes machines machine rendezvous accumulate precision compile "
        "cache cache_gb cache_days",
    }

    source: Address = Field(description="folder or URL of the shards")
    target: Address = Field(description="folder or URL for the model")
    shards: list[str] = Field(
        default_factory=list,
        description="only shards whose keys match this pattern, like 'train-*'; without it, all that are not named "
        "as validation or test",
    )
    follow_links: bool = Field(
        False,
        description="take shards that links in a folder lead to outside of it, too; else they are logged and skipped",
    )
    image_ext: Annotated[tuple[Extension, ...], BeforeValidator(_endings)] = Field(
        (),
        description="extensions of the images to train on, like jpg,png: of a sample that has several, the first; "
        "without it, the first of jpg, jpeg, png, webp, …, and seg.png only where there is no other",
    )
    sync: bool = Field(
        True,
        description="have each training state on the disk before the one before it goes; --no-sync, for scratch, "
        "leaves that to the system, and files may be empty when the machine goes down",
    )
    max_failed: float = Field(
        0.1, ge=0, le=1, description="share of images that cannot be used above which training stops"
    )
    method: str = Field(
        "dtls",
        description=f"what to train: {', '.join(MODELS)}; or, to make new images by dtls generate, "
        f"{', '.join(GENERATORS)}; or {', '.join(CLASSIFIERS)}, of images in folders of their classes",
    )
    task: str | None = Field(
        None,
        description=f"what to undo: {', '.join(tasks())}, or several but inpaint and sr, like "
        "lowlight:0.25+denoise:0.05; by default super-resolution to --size from --lr-size",
    )
    preset: Literal["16-128", "32-512", "16-128-plus"] | None = Field(
        None, description="model and recipe of dtls: the paper's two, or the first one improved; 16-128 by default"
    )
    network: Annotated[dict[str, str], BeforeValidator(_pairs)] = Field(
        default_factory=dict, description="choices of another method's network, like blocks=8; may be repeated"
    )
    start: Address | None = Field(
        None, description="folder or URL of a model whose weights training starts with; the network is that one's"
    )
    steps: int | None = Field(None, ge=1, description="training steps, e.g. 20000; 50000, or the method's choice")
    batch_size: int | None = Field(None, ge=1, le=65_536, description="images a step; 32, or the method's choice")
    dim: int | None = Field(None, ge=4, le=1024, description="width of the first level")
    dim_mults: Annotated[tuple[int, ...] | None, BeforeValidator(_numbers)] = Field(
        None, description="widths of the levels as multiples of dim, like 1,2,4"
    )
    patch: int | None = Field(
        None, ge=1, le=64, description="side of what the network sees as one pixel: 4 is far faster than 1"
    )
    size: int | None = Field(
        None,
        ge=8,
        le=4096,
        description="side in pixels of the HR images, which are crops; or, of models that make new images, and of "
        "classifier, of what they learn: "
        "images are reduced until their shorter side has it, then cropped; e.g. 32",
    )
    lr_size: int | None = Field(None, ge=1, le=4096, description="side of the LR images")
    stride: int | None = Field(None, ge=1, le=4096, description="pixels between timesteps")
    protocol: LRProtocol | None = Field(
        None,
        description="reference: bilinear as the DTLS authors do it; antialias: Pillow's bicubic; realworld: blur, "
        "resizing, noise and JPEG in any order",
    )
    residual: bool | None = Field(
        None,
        description="predict what to add to the enlarged or degraded image, not the image; the preset's by default",
    )
    predicts: Prediction | None = Field(None, description="predict the image, or the previous step x_(t-1)")
    loss: Literal["l1", "mse"] | None = Field(None, description="the paper's L1, or the mean squared error")
    inputs: Literal["degraded", "sampled"] | None = Field(
        None, description="learn from degraded images, or from what the two-call sampler shows the network"
    )
    first_timestep: Literal[0, 1] | None = Field(None, description="timesteps are drawn from this one on")
    flip: bool | None = Field(
        None, description="mirror every second image, at random, as is the default; --no-flip for digits and letters"
    )
    perceptual: float | None = Field(None, ge=0, le=100, description="weight of LPIPS beside the loss")
    adversarial: float | None = Field(
        None, ge=0, le=100, description="weight of the loss against a critic that learns beside the model, as in GANs"
    )
    learning_rate: float | None = Field(None, gt=0, le=1, description="AdamW's learning rate")
    schedule: Literal["constant", "cosine"] | None = Field(None, description="constant, or falling to 0")
    warmup: int | None = Field(
        None,
        ge=0,
        description="steps over which the learning rate rises; the preset's, of a cosine at most a twentieth",
    )
    clip: float | None = Field(None, gt=0, description="largest norm of the gradient")
    seed: int = Field(0, ge=0, lt=2**31, description="of weights, crops and timesteps")
    save_every: int = Field(1000, ge=1, description="steps between checkpoints")
    keep: int = Field(2, ge=1, le=1000, description="training states kept, the newest")
    resume: bool = Field(
        False, description="resume from the target's newest training state, if there is one; with the same options"
    )
    workers: int | None = Field(None, ge=0, le=256, description="processes that decode; by default 0 on a CPU")
    device: str = Field("auto", description=DEVICE)
    processes: int = Field(1, ge=1, le=64, description="processes that share each batch, one a GPU (torchrun)")
    machines: int = Field(1, ge=1, le=4096, description="machines that share each batch; each runs this command")
    machine: int = Field(0, ge=0, description="which of the machines this is, from 0; machine 0 saves")
    rendezvous: str | None = Field(
        None, pattern=r"^\S+:\d+$", description="HOST:PORT of machine 0, where the others find it"
    )
    accumulate: int = Field(1, ge=1, le=4096, description="parts a batch is computed in, to save memory")
    precision: Precision = Field("auto", description=PRECISION)
    compile: bool = Field(False, description="compile the network: minutes at the start, faster steps")
    cache: str | None = Field(None, description="folder for shards fetched from a URL; by default ~/.cache/dtls")
    cache_gb: float = Field(200, ge=0, description="GB that the cache may hold, but for the shards in use")
    cache_days: float = Field(30, ge=0, description="days after which a shard in the cache goes that nobody used")

    def model(self, start: Any = None) -> Any:
        """The configuration of the model to train, or of the one to start from in other sizes.

        SizeError where its sizes do not fit.
        """
        from dtls.models.dtls import steps_between
        from dtls.training.presets import preset_of

        base = start or preset_of(self.method, self.preset).model
        if model_class(self.method).preset is None:
            return self._other(base)
        size, stride = self.size or base.size, self.stride or base.stride
        given = self.model_dump(include={"dim", "residual", "patch", "predicts", "protocol"}, exclude_none=True)
        given |= {"multipliers": self.dim_mults or base.multipliers, "size": size}
        degradation = base.degradation if self.task is None else self.family
        if degradation is not None:
            self._check_nothing_is_reduced(degradation)
            return replace(base, degradation=degradation, **given).validate()
        lr_size = self._lr_size(size) or size * base.lr_size // base.size
        steps = steps_between(lr_size, size, stride)
        return replace(base, stride=stride, steps=steps, degradation=None, **given).validate()

    def _check_nothing_is_reduced(self, degradation: str) -> None:
        """SizeError for an option of super-resolution, where a model is to undo another degradation."""
        if given := [name for name in OF_REDUCING if getattr(self, name) is not None]:
            raise SizeError(
                f"--{given[0].replace('_', '-')} is for super-resolution, and the model that training starts with "
                f"undoes {degradation}; --task sr:4 trains it for that"
            )

    @property
    def family(self) -> str | None:
        """The degradation, other than resizing, that the task undoes, if there is one."""
        return None if self.task is None or self._scale() is not None else spec_of_task(self.task)

    def _scale(self) -> float | None:
        """The scale of the task, if that is super-resolution and nothing else."""
        first, *others = parts_of_task(self.task) if self.task is not None else (None,)
        return first.value if first is not None and first.family.task == "sr" and not others else None

    def _lr_size(self, size: int) -> int | None:
        """The side of the LR images that is asked for, itself or by the task's scale; SizeError for no whole one."""
        if (scale := self._scale()) is None:
            return self.lr_size
        return downscale_size((size, size), scale)[0]

    def _other(self, base: Any) -> Any:
        """The configuration of a model of another method."""
        chosen: dict[str, Any] = self.model_dump(include={"size", "lr_size", "protocol"}, exclude_none=True)
        if not model_class(self.method).restores:
            return replace(base, **chosen, **_network(type(base), self.network)).validate()
        if lr_size := self._lr_size(self.size or base.size):
            chosen["lr_size"] = lr_size
        elif self.size:
            chosen["lr_size"] = max(1, self.size * base.lr_size // base.size)
        return replace(base, **chosen, **_network(type(base), self.network)).validate()

    def recipe(self) -> "Recipe":
        """How to train it."""
        from dtls.training.presets import preset_of
        from dtls.training.recipe import Recipe

        names = {field.name for field in fields(Recipe)}
        recipe = replace(
            preset_of(self.method, self.preset).recipe, **self.model_dump(include=names, exclude_none=True)
        )
        if self.warmup is not None or recipe.schedule != "cosine":
            return recipe
        return replace(recipe, warmup=min(recipe.warmup, recipe.steps // 20))

    @field_validator("method")
    @classmethod
    def _is_known(cls, method: str) -> str:
        model_class(method)
        return method

    @model_validator(mode="after")
    def _is_of_the_task(self) -> Self:
        if self.task is None:
            return self
        if not model_class(self.method).restores:
            raise ValueError(f"--task does not go with the method {self.method}, which restores no images")
        spec = spec_of_task(self.task)
        operator = operator_of(spec)
        check_alone(spec)
        if self._scale() is not None:
            foreign: tuple[str, ...] = ("lr_size",)
        elif operator.scale != 1:
            raise ValueError(f"a model learns super-resolution alone, or tasks without it, not {self.task}")
        elif model_class(self.method).takes_families:
            foreign = OF_REDUCING
        else:
            raise ValueError(f"the method {self.method} learns super-resolution; {self.task} goes with dtls and cold")
        if given := [name for name in foreign if getattr(self, name) is not None]:
            raise ValueError(f"--{given[0].replace('_', '-')} does not go with the task {self.task}")
        if self.recipe().inputs == "sampled" and self._scale() is None and not operator.is_linear:
            raise ValueError(
                f"--inputs sampled goes with linear degradations, not with {spec}; say --inputs degraded"
            )
        return self

    @model_validator(mode="after")
    def _is_of_the_method(self) -> Self:
        from dtls.training.recipe import check_recipe

        kind = model_class(self.method)
        foreign: tuple[str, ...] = ("network",) if kind.preset is not None else OF_DTLS
        if not kind.restores:
            foreign += OF_REDUCING
        fixed = ("dim", "dim_mults", "patch", "residual", "predicts", "network") if self.start else ()
        given = [name for name in (*foreign, *fixed) if getattr(self, name) not in (None, {})]
        if given:
            owner = "the model that training starts with" if self.start else f"the method {self.method}"
            raise ValueError(f"--{given[0].replace('_', '-')} does not go with {owner}")
        if kind.preset is None:
            _network(kind.config_type, self.network)
        if self.loss is not None and not kind.compares:
            raise ValueError(f"--loss does not go with the method {self.method}, which has its own")
        check_recipe(kind, self.recipe())
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        from dtls.training.presets import preset_of
        from reports.metrics.lpips import MIN_SIDE

        preset, recipe = preset_of(self.method, self.preset), self.recipe()
        batch_size = self.batch_size or preset.batch_size
        if batch_size % (self.processes * self.machines):
            raise ValueError(
                f"a batch of {batch_size} cannot be shared by {self.processes * self.machines} processes"
            )
        if (self.machines > 1) != (self.rendezvous is not None):
            raise ValueError("--machines and --rendezvous HOST:PORT go together")
        if self.machine >= self.machines:
            raise ValueError(f"of {self.machines} machines the last is --machine {self.machines - 1}")
        if self.processes > 1 and ":" in self.device:
            raise ValueError(f"{self.processes} processes take the first devices of their kind, not {self.device}")
        if recipe.inputs == "sampled" and self.predicts == "previous":
            raise ValueError(
                "--inputs sampled goes with --predicts x0: the two-call sampler needs a prediction of x0"
            )
        if recipe.inputs == "sampled" and batch_size < 2:
            raise ValueError("inputs sampled needs a batch of at least 2: every second image is a predicted one")
        if recipe.perceptual and (self.size or preset.model.size) < MIN_SIDE:
            raise ValueError(f"perceptual needs a size of at least {MIN_SIDE}")
        return self


def _network(kind: type[Any], given: Mapping[str, str]) -> dict[str, Any]:
    """What is said of a configuration's own fields, each of its type; ValueError names those there are."""
    hints, elsewhere = get_type_hints(kind), ("size", "lr_size", "protocol", "classes")
    own = {field.name: hints[field.name] for field in fields(kind) if field.name not in elsewhere}
    read = {}
    for name, value in given.items():
        if name not in own:
            raise ValueError(f"--network has no {name}; there are {', '.join(own) or 'no choices'}")
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(own[name])
            read[name] = adapter.validate_python(value)
        except ValidationError as error:
            raise ValueError(f"--network {name}={value}: {error.errors()[0]['msg']}") from error
    return read
