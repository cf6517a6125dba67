"""Degradations as manifests and reports name them. Names alone: nothing is imported for them.

A name is that of a protocol, such as `antialias`, whose scale the sizes of images say; or a spec, such as `blur:2` or
`grey`, of a degradation at an image's own size, and `dark:0.25*0.5` for a part of its strength.
"""

from typing import get_args

from dtls.degradations.base import LRProtocol
from dtls.degradations.registry import parts_of_spec, spec_of_task, title_of_spec
from dtls.errors import DegradationError

TIMES = "*"
"""Before the strength."""


def reduces(name: str) -> bool:
    """Whether a degradation makes images smaller."""
    return any(part.partition(":")[0] in get_args(LRProtocol) for part in name.split("+"))


def at_strength(spec: str, strength: float) -> str:
    """The name of a degradation at a part t / T of its strength; at 1, its spec."""
    return spec if strength == 1 else f"{spec}{TIMES}{strength:g}"


def split(name: str) -> tuple[str, float]:
    """The spec and the strength, t / T; DegradationError for a strength that is none."""
    spec, times, text = name.partition(TIMES)
    try:
        strength = float(text) if times else 1.0
    except ValueError:
        strength = 0.0
    if not 0 < strength <= 1:
        raise DegradationError(f"{name}: a strength is above 0 and at most 1, like {spec}{TIMES}0.5")
    return spec, strength


def canonical(name: str) -> str:
    """The one way to write a degradation: `antialias` for `antialias:4`, `blur:2` for `blur:2.0`.

    DegradationError where it is not known, or makes images smaller and does something else, too.
    """
    if name in get_args(LRProtocol):
        return name
    spec, strength = split(name)
    parts = parts_of_spec(spec)
    if reduces(spec):
        if len(parts) > 1 or strength != 1:
            raise DegradationError(f"{name}: a degradation that makes images smaller stands alone, like antialias")
        return parts[0].family.spec
    return at_strength("+".join(part.spec for part in parts), strength)


def alike(one: str, other: str) -> bool:
    """Whether two names are of one degradation: `noise:0.06` is `noise:0.1*0.6`, to four digits."""
    return _at_full(one) == _at_full(other)


def _at_full(name: str) -> str:
    """A degradation at full strength that is the one of this name, to four digits, where there is such a one."""
    spec, strength = split(canonical(name))
    parts = parts_of_spec(spec) if spec not in get_args(LRProtocol) else ()
    if len(parts) != 1 or (value := parts[0].family.value) is None or parts[0].value is None:
        return at_strength(spec, strength)
    return f"{parts[0].family.spec}:{value.at(parts[0].value, strength):.4g}"


def from_task(text: str) -> str:
    """A degradation that keeps the size of images, by the task that undoes it; other texts as they are."""
    task, times, strength = text.partition(TIMES)
    try:
        spec = spec_of_task(task)
    except DegradationError:
        return text
    return text if reduces(spec) else spec + times + strength


def task_in_words(name: str) -> str | None:
    """What undoing a degradation at an image's own size is called, such as `colourisation`; None for other names."""
    spec, times, strength = name.partition(TIMES)
    if reduces(spec):
        return None
    try:
        title = title_of_spec(spec)
    except DegradationError:
        return None
    return f"{title}, at the strength {strength}" if times else title
