"""Degradations and tasks by name: a spec like `blur:2` says what an image suffered, a task like `deblur:2` undoes it.

Names, values and titles need nothing imported; what makes an operator is imported when one is asked for. A sum like
`blur:2+noise:0.1` is one degradation after the other, and so is that of their tasks.
"""

import math
import re
from collections.abc import Container
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

from dtls.errors import DegradationError

if TYPE_CHECKING:
    from dtls.degradations.operator import Operator

MAX_LENGTH, MAX_PARTS = 100, 4
"""Of a spec or task: characters, and degradations in a sum."""
NUMBER = re.compile(r"([0-9]{1,12}(\.[0-9]{0,12})?|\.[0-9]{1,12})(e-[0-9]{1,2})?(/[1-9][0-9]{0,11})?")
"""A value: 2, 0.5, .5, 1e-3 or 25/255."""


@dataclass(frozen=True)
class Value:
    """The number after a name's colon: what it means, where it may lie, and an example of it.

    is_factor: at a part s of the strength it is the power s of itself, not s times itself. of: what it is written as
    a fraction of, where that says it in whole numbers.
    """

    meaning: str
    low: float
    high: float
    example: str
    is_factor: bool = False
    of: int | None = None

    def at(self, whole: float, strength: float) -> float:
        """The value of what a degradation of value `whole` is at a part of its strength."""
        return float(whole**strength) if self.is_factor else whole * strength

    def strength(self, part: float, whole: float) -> float:
        """The inverse of `at`: the strength at which the value is `part`; above 1 if that is more."""
        return math.log(part) / math.log(whole) if self.is_factor else part / whole

    def typed(self, number: float) -> str:
        """The number as somebody would type it: 25/255, not 0.0980392."""
        if self.of is not None and f"{(count := round(number * self.of)) / self.of:g}" == f"{number:g}":
            return f"{count}/{self.of}"
        return f"{number:g}"


@dataclass(frozen=True)
class Family:
    """A degradation: its name in specs, that of the task to undo it, the task in words, and `module:maker`."""

    spec: str
    task: str
    title: str
    made_by: str
    value: Value | None = None

    def read(self, name: str, text: str | None) -> float | None:
        """The number that `text` stands for; DegradationError where it is missing, wrong, or not asked for."""
        if self.value is None:
            if text is not None:
                raise DegradationError(f"{name} takes no value, so {name}:{text} is not known; write {name}")
            return None
        number = float("nan") if text is None or not NUMBER.fullmatch(text) else _number(text)
        if not self.value.low <= number <= self.value.high:
            given = name if text is None else f"{name}:{text}"
            value = self.value
            raise DegradationError(
                f"{name} needs {value.meaning}, {value.low:g} to {value.high:g}, like {name}:{value.example}, "
                f"not {given}"
            )
        return float(f"{number:g}")  # what a spec holds is all that there is


SCALE = Value("a scale", 1.01, 64, "4")
FAMILIES: tuple[Family, ...] = (
    Family("antialias", "sr", "super-resolution ×{0:g}", "dtls.degradations.path:antialias", SCALE),
    Family("reference", "sr", "super-resolution ×{0:g}", "dtls.degradations.path:reference", SCALE),
    Family("realworld", "sr", "super-resolution ×{0:g}", "dtls.degradations.realworld:RealWorld", SCALE),
    Family("grey", "colourise", "colourisation", "dtls.degradations.grayscale:Grey"),
    Family("mask", "inpaint", "inpainting", "dtls.degradations.mask:Mask"),
    Family(
        "blur",
        "deblur",
        "deblurring, σ = {0:g} pixels",
        "dtls.degradations.blur:Blur",
        Value("σ in pixels", 0.1, 100, "2"),
    ),
    Family(
        "dark",
        "lowlight",
        "low light, {0:g} of the light",
        "dtls.degradations.low_light:LowLight",
        Value("a share of the light", 0.01, 0.99, "0.25", is_factor=True),
    ),
    Family(
        "noise",
        "denoise",
        "denoising, σ = {0:.3g}",
        "dtls.degradations.noise:Noise",
        Value("σ on the scale of [0, 1]", 0.001, 1, "25/255", of=255),
    ),
)
"""All degradations, in the order in which help and errors list them; of several with one task, its own is first."""


@dataclass(frozen=True)
class Part:
    """One degradation of a spec: its family, and its value if the family has one."""

    family: Family
    value: float | None = None

    @property
    def spec(self) -> str:
        return _written(self.family.spec, self.value)

    @property
    def task(self) -> str:
        return _written(self.family.task, self.value)

    @property
    def typed(self) -> str:
        """The task as somebody would type it."""
        if self.family.value is None or self.value is None:
            return self.family.task
        return f"{self.family.task}:{self.family.value.typed(self.value)}"

    @property
    def title(self) -> str:
        return self.family.title.format(self.value)


def specs() -> tuple[str, ...]:
    """How every degradation is written, with an example of its value."""
    return tuple(_written(family.spec, _example(family)) for family in FAMILIES)


def tasks() -> tuple[str, ...]:
    """How every task is written, with an example of its value."""
    return tuple(dict.fromkeys(_written(family.task, _example(family)) for family in FAMILIES))


def parts_of_spec(spec: str) -> tuple[Part, ...]:
    """The degradations that a spec names; DegradationError, with what was probably meant, where it is not known."""
    return _parts(spec, "degradation", {family.spec: family for family in FAMILIES}, _tasks())


def parts_of_task(task: str, *, without: str = "") -> tuple[Part, ...]:
    """The degradations that a task undoes; DegradationError where it is not known.

    without: a task that is not named among those that there are.
    """
    known = {name: family for name, family in _tasks().items() if name != without}
    return _parts(task, "task", known, {family.spec: family for family in FAMILIES})


def spec_of_task(task: str) -> str:
    """The degradation that a task undoes: `deblur:2` undoes `blur:2`."""
    return "+".join(part.spec for part in parts_of_task(task))


def task_of_spec(spec: str) -> str:
    """The task that undoes a degradation, as somebody would type it: `denoise:25/255` undoes `noise:0.0980392`."""
    return "+".join(part.typed for part in parts_of_spec(spec))


def as_part_of(spec: str, whole: str) -> float | None:
    """The strength, 0 to 1, at which the degradation `whole` is `spec`; None where there is none."""
    parts, wholes = parts_of_spec(spec), parts_of_spec(whole)
    if [part.family for part in parts] != [part.family for part in wholes] or len(parts) > 1:
        return None
    (part,), (own,) = parts, wholes
    if part.value is None or own.value is None or part.family.value is None:
        return 1.0
    strength = part.family.value.strength(part.value, own.value)
    return strength if strength <= 1 else None


def title_of_spec(spec: str) -> str:
    """The task that undoes a degradation, in words."""
    return " and ".join(part.title for part in parts_of_spec(spec))


def operator_of(spec: str, steps: int | None = None) -> "Operator":
    """The operator that a spec names, with T = `steps`, or 28; DegradationError where it is not known."""
    made = tuple(_made(part, steps) for part in parts_of_spec(spec))
    if len(made) == 1:
        return made[0]
    from dtls.degradations.compose import Sum

    return Sum(made)


def _made(part: Part, steps: int | None) -> "Operator":
    module, _, name = part.family.made_by.partition(":")
    given = [] if part.value is None else [part.value]
    made: Operator = getattr(import_module(module), name)(*given, **({} if steps is None else {"steps": steps}))
    return made


def _parts(text: str, kind: str, known: dict[str, Family], others: dict[str, Family]) -> tuple[Part, ...]:
    """The parts of `text`, a spec or task, by the families of that `kind`; `others` are those of the other one."""
    pieces = text.split("+")
    if len(text) > MAX_LENGTH or len(pieces) > MAX_PARTS:
        raise DegradationError(f"a {kind} has at most {MAX_LENGTH} characters and {MAX_PARTS} parts")
    return tuple(_part(piece, kind, known, others) for piece in pieces)


def _part(text: str, kind: str, known: dict[str, Family], others: dict[str, Family]) -> Part:
    name, colon, value = text.partition(":")
    family = known.get(name)
    if family is None:
        raise DegradationError(f"no {kind} is called {name!r}{_meant(name, kind, known, others)}")
    return Part(family, family.read(name, value if colon else None))


def _meant(name: str, kind: str, known: Container[str], others: dict[str, Family]) -> str:
    """What somebody probably meant who wrote an unknown name, or all that there is."""
    if name in others:
        family = others[name]
        return f": the {kind} of {name!r} is {family.task if kind == 'task' else family.spec!r}"
    there = [text for text in (tasks() if kind == "task" else specs()) if _name(text) in known]
    if near := get_close_matches(name, map(_name, there), 1):
        return f"; did you mean {near[0]!r}?"
    return f"; there are {', '.join(there)}"


def _name(text: str) -> str:
    return text.partition(":")[0]


def _tasks() -> dict[str, Family]:
    """The families by the names of their tasks, the first of each."""
    return {family.task: family for family in reversed(FAMILIES)}


def _number(text: str) -> float:
    """The number that a text like those of NUMBER stands for."""
    number, _, divisor = text.partition("/")
    return float(number) / float(divisor or 1)


def _example(family: Family) -> str | None:
    return family.value.example if family.value is not None else None


def _written(name: str, value: float | str | None) -> str:
    """A name and its value, as specs and tasks hold them."""
    if value is None:
        return name
    return f"{name}:{value}" if isinstance(value, str) else f"{name}:{value:g}"
