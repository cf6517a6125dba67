"""What the options of all flows share: bounds and descriptions that show as a form, as `--help`, and as refusals."""

import os
import shlex
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from storage.stores.location import check_secrets

CORES = os.cpu_count() or 1

PLAIN = (
    r"^(?![^/]*:[^/]*@)(?!.*//[^/]*@)"
    r"(?!.*[?&;#][^=]*([sS]ig|[tT]oken|[sS]ecret|[pP]ass|[kK]ey|[cC]redential|[aA]uth|[sS]ession)[^=]*=)"
)
"""What addresses match: Prefect's server refuses others before it stores them, but for rare spellings of secrets."""
Address = Annotated[str, Field(min_length=1, json_schema_extra={"pattern": PLAIN})]


class Options(BaseModel):
    """Base of every flow's options: unknown names are refused, and nothing changes after the check.

    panel: the heading in `--help` of the options that a class adds.
    """

    panel: ClassVar[str] = "Options"

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _has_no_secrets(cls, value: object) -> object:
        """StorageError, as pydantic's own errors show what was given."""
        for text in _texts(value):
            check_secrets(text)
        return value


def _texts(value: object) -> Iterator[str]:
    """The texts in a value of an option."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from chain.from_iterable(map(_texts, value.values()))
    elif isinstance(value, list | tuple):
        yield from chain.from_iterable(map(_texts, value))


class BatchOptions(Options):
    """Options of the flows that work in units."""

    panel = "How the run works"

    workers: int = Field(CORES, ge=1, le=256, description="threads that read, decode and write, a unit")
    in_flight: int = Field(2, ge=1, le=64, description="units worked on at the same time, by one machine")
    runner: Literal["threads", "processes", "dask"] = Field(
        "threads",
        description="where units run: in threads, in processes, one a GPU, or on the workers of a Dask --scheduler",
    )
    scheduler: str | None = Field(
        None,
        pattern=r"^(tcp|tls)://[^\s@]+$",
        description="address of a Dask scheduler, tcp://HOST:8786; by default the environment's DTLS_SCHEDULER, "
        "which alone counts in a deployment's run",
    )
    sync: bool = Field(
        True,
        description="have results on the disk before they count as done; --no-sync, for scratch, leaves that to the "
        "system: faster, and files may be empty when the machine goes down",
    )
    image_timeout: float = Field(
        1800.0,
        ge=0,
        description="seconds that reading, decoding, computing or encoding an image may take, each; an image that "
        "takes longer is a failed one (0: any time)",
    )
    retry_failed: bool = Field(False, description="do the samples that failed in earlier runs again")
    max_failed: float = Field(0.1, ge=0, le=1, description="share of failed samples above which the run has failed")

    @model_validator(mode="after")
    def _a_scheduler_is_for_dask(self) -> Self:
        if self.runner != "dask" and self.scheduler is not None:
            raise ValueError("--scheduler ADDRESS is for --runner dask")
        return self


class MakingOptions(BatchOptions):
    """Options of the flows whose results take long to make."""

    panel = BatchOptions.panel

    overwrite: bool = Field(
        False, description="replace results in the target that were made with other options; without it the run stops"
    )


def command_line(name: str, options: Options) -> str:
    """The command that says what departs from the defaults."""
    words = ["dtls", name]
    for field, value in options.model_dump(exclude_defaults=True).items():
        flag = f"--{field.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, list):
            words += [word for one in value for word in (flag, str(one))]
        else:
            words += [flag, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return shlex.join(words)
