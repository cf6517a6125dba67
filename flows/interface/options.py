"""What the options of all flows share: bounds and descriptions that show as a form, as `--help`, and as refusals."""

import os
import shlex
from collections.abc import Iterator, Mapping
from inspect import get_annotations
from itertools import chain
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, field_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from storage.stores.location import check_secrets

CORES = os.cpu_count() or 1

PLAIN = (
    r"^(?![^/]*:[^/]*@)(?!.*//[^/]*@)"
    r"(?!.*[?&;#][^=]*([sS]ig|[tT]oken|[sS]ecret|[pP]ass|[kK]ey|[cC]redential|[aA]uth|[sS]ession)[^=]*=)"
)
"""What addresses match: Prefect's server refuses others before it stores them, but for rare spellings of secrets."""
Address = Annotated[str, Field(min_length=1, json_schema_extra={"pattern": PLAIN})]


WHAT, HOW, RESULTS, RUNNING = "What", "How", "Results", "Running"
"""The headings of options in `--help`, in this order: which images, what is done with them, what comes of it, and
where and how the run works."""
DEVICE = "where networks run: auto (a GPU if there is one), cpu, cuda, or one GPU like cuda:1"
PRECISION = "bf16 or fp32; auto is bf16 on GPUs that support it"
"""Descriptions of options that many flows have."""
Panels = Mapping[str, str]
"""Names of options, between spaces, by their heading."""


class Options(BaseModel):
    """Base of every flow's options: unknown names are refused, and nothing changes after the check.

    panel: the heading in `--help` of the options that a class adds. panels: those of its options that have another.
    """

    panel: ClassVar[str] = HOW
    panels: ClassVar[Panels] = {}

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def in_order(cls) -> list[str]:
        """The names of all options: those without a default, then those of this class, then those of each base."""
        owned = (name for base in cls.__mro__ for name in get_annotations(base) if name in cls.model_fields)
        return sorted(dict.fromkeys(owned), key=lambda name: not cls.model_fields[name].is_required())

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema of the form, in the order of `in_order`."""
        found = handler(schema)
        properties = handler.resolve_ref_schema(found)["properties"]
        ordered = {name: properties.pop(name) for name in cls.in_order() if name in properties}
        properties.update(ordered)
        return found

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


def command_line(name: str, options: Options) -> str:
    """The command with the options that depart from the defaults."""
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
