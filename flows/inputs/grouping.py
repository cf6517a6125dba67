"""Things of one kind wait for each other, to be worked on in batches; but not for long, and not too many."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
PATIENCE = 8


@dataclass
class _Group(Generic[T]):
    """Items of one kind, how many of all kinds came before the first of them, and what they weigh."""

    since: int
    items: list[T] = field(default_factory=list)
    weight: int = 0


def in_batches(
    items: Iterable[T],
    kind: Callable[[T], Hashable],
    full: Callable[[T], int],
    weight: Callable[[T], int],
    most: int,
) -> Iterator[list[T]]:
    """Lists of items of one kind, as many as `full` says of one of them; what has no kind goes alone, at once.

    The oldest list goes before it is full when all that waits weighs more than `most`, or when `PATIENCE` times as
    many items as it would hold have come since its first.
    """
    groups: dict[Hashable, _Group[T]] = {}
    load = 0
    for count, item in enumerate(items):
        own = kind(item)
        if own is None:
            yield [item]
            continue
        group = groups.setdefault(own, _Group(count))
        group.items.append(item)
        group.weight += weight(item)
        load += weight(item)
        if len(group.items) >= full(item):
            load -= groups.pop(own).weight
            yield group.items
        while groups:
            name, oldest = next(iter(groups.items()))
            if load <= most and count - oldest.since <= PATIENCE * full(oldest.items[0]):
                break
            load -= groups.pop(name).weight
            yield oldest.items
    for group in groups.values():
        yield group.items
