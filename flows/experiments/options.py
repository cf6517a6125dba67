"""What `dtls/benchmark` and `dtls/reproduce` can be told."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from dtls.choices import Precision
from dtls.degradations.base import LRProtocol, Protocol
from dtls.degradations.recorded import reduces
from dtls.degradations.registry import operator_of, parts_of_task, spec_of_task
from flows.experiments.benchmark_methods import BENCHMARK_METHODS, chosen
from flows.experiments.paper_tables import PAPER_TABLES
from flows.experiments.studies import STUDIES
from flows.inputs.tasks import check_alone, restorations
from flows.interface.options import DEVICE, PRECISION, RESULTS, RUNNING, WHAT, Address, Options, Panels
from reports.metrics.choices import FeatureName

OF_TABLES = ("protocol", "dim", "steps", "batch_size", "ratings")
"""Options of tables of methods that not every study has."""


def _listed(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class BenchmarkOptions(Options):
    """What to train and test, on what data, and for how long each method is trained."""

    panels: ClassVar[Panels] = {
        WHAT: "source test",
        RESULTS: "out sets",
        RUNNING: "device precision workers",
    }

    source: Address = Field(description="folder or URL of the images to train on")
    test: Address | None = Field(
        None,
        description="folder or URL of the images to test on, none of them in source; by default a fifth of source "
        "is held out, by a hash of the names",
    )
    out: Address = Field(description="folder or URL for shards, models, images, reports and the table")
    task: str | None = Field(
        None,
        description=f"what methods undo: {', '.join(restorations())}; by default super-resolution to size from each "
        "of lr-sizes",
    )
    methods: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        (),
        description="methods to train and compare, like edsr,dtls; by default all that are for the task but the slow "
        f"ones of {', '.join(BENCHMARK_METHODS)}",
    )
    minutes: float = Field(
        8, gt=0, le=100_000, description="minutes on the device that each method is trained for, like 8"
    )
    size: int = Field(128, ge=32, le=1024, description="side of the HR images in pixels, like 128")
    lr_sizes: Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_listed)] = Field(
        (16, 32),
        min_length=1,
        description="sides of the LR images in pixels, like 16,32; all methods train for the first, and networks "
        "of one fixed scale once more for each other",
    )
    protocol: LRProtocol = Field(
        "antialias", description="degradation that makes the LR images for training and testing"
    )
    sets: bool = Field(False, description="measure KID and FID as well; needs the extra fid and hundreds of images")
    device: str = Field("auto", description=DEVICE)
    precision: Precision = Field(
        "auto", description="precision in training: bf16 or fp32; auto is bf16 on GPUs that support it"
    )
    workers: int | None = Field(
        None, ge=1, le=256, description="threads that read, decode and write, like 8; by default one for each core"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed of the initial weights, crops and timesteps")

    @field_validator("task")
    @classmethod
    def _is_restoration(cls, task: str | None) -> str | None:
        if task is not None and reduces(spec_of_task(task)):
            raise ValueError(f"{task} changes the size of images; leave --task out and use --size and --lr-sizes")
        if task is not None:
            operator_of(spec_of_task(task))
            check_alone(spec_of_task(task))
        return task if task is None else "+".join(part.task for part in parts_of_task(task))

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in ("lr_sizes", "protocol") if self.task is not None else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"--{name.replace('_', '-')} is for super-resolution, not for --task {self.task}")
        if self.methods:
            chosen(self.methods, self.task, self.protocol)
        return self


class ReproduceOptions(Options):
    """Which table, on what data, and how large; by default the paper's sizes and steps."""

    panels: ClassVar[Panels] = {
        WHAT: "table source test ratings features",
        RESULTS: "out",
        RUNNING: "device precision workers",
    }

    table: Literal[
        "1",
        "2",
        "3",
        "4",
        "B1",
        "4.1",
        "4.2",
        "4.3",
        "5.1",
        "5.2",
        "5.4",
        "5.5",
        "5.7",
        "5.8",
        "5.9",
        "5.10",
        "5.11",
        "5.12",
        "5.13",
        "cold",
        "faint",
        "kl",
        "plus",
        "prediction",
        "prior",
        "stride",
    ] = Field(
        description="tables 1 to 4 and B1 of the paper, its faint inputs and its ablations of prediction and stride; "
        "tables 5.1 and 5.2 and figures 4.1 to 4.3, 5.4, 5.5 and 5.7 to 5.13 of a thesis; the tasks of Cold "
        "Diffusion, cold; how fast images become noise, kl; LR images of noise, prior; or our own, plus"
    )
    source: Address = Field(description="folder or URL of the images to train on")
    test: Address | None = Field(
        None,
        description="folder or URL of the images to test on, none of them in source; by default a fifth of source "
        "is held out, by a hash of the names",
    )
    out: Address = Field(description="folder or URL for shards, models, images, reports and the table")
    protocol: Protocol | None = Field(
        None, description="degradation that makes the LR images for training and testing; by default the table's"
    )
    size: int | None = Field(
        None,
        ge=32,
        le=1024,
        description="side of the HR images in pixels, like 64; by default the paper's; other sizes shrink with it",
    )
    dim: int | None = Field(
        None, ge=4, le=1024, description="width of the network's first level, like 32; by default the paper's"
    )
    steps: int | None = Field(None, ge=1, description="number of training steps, like 2000; by default the paper's")
    batch_size: int | None = Field(None, ge=1, le=65_536, description="images in each training step, like 32")
    device: str = Field("auto", description=DEVICE)
    precision: Precision = Field("auto", description=PRECISION)
    workers: int | None = Field(
        None, ge=1, le=256, description="threads that read, decode and write, like 8; by default one for each core"
    )
    ratings: list[Address] = Field(
        default_factory=list,
        description="for table 5.2: files that people exported from its rating page; repeat it for each",
    )
    features: FeatureName = Field(
        "inception",
        description="for 5.4, 5.5 and prior: features that generated images are compared by: inception, as in "
        "published numbers, which needs the extra fid; lpips; or pixels",
    )

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        own = STUDIES[self.table].options if self.table in STUDIES else OF_TABLES
        for name in {*OF_TABLES, "features"} - {*own}:
            if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True):
                raise ValueError(f"--{name.replace('_', '-')} means nothing to table {self.table}; leave it out")
        return self

    @model_validator(mode="after")
    def _people_rate_what_is_rated(self) -> Self:
        if self.ratings and not PAPER_TABLES[self.table].rated:
            raise ValueError(f"table {self.table} is not of ratings; leave them out, or make table 5.2")
        return self

    @model_validator(mode="after")
    def _protocol_is_free(self) -> Self:
        if self.protocol is not None and not PAPER_TABLES[self.table].has_protocol:
            raise ValueError(f"table {self.table} says itself how its images are degraded; leave --protocol out")
        return self
