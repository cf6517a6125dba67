"""Which images are learned and which are tested: two sources, or one of which a part is held out."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from flows.inputs.contents import contents_of
from flows.inputs.sources import check_within
from flows.interface.text import counted
from storage.archives.source import Source, open_source
from storage.images import formats
from storage.shards.ffhq import by_hash
from storage.stores.entry import is_named_only
from storage.stores.location import Entry, Location, StorageError

HELD_OUT = 0.2
"""The share of a source that is held out for testing, by a hash of each image's name, where there is no test set."""


@dataclass(frozen=True)
class Data:
    """The images to learn from and those to test on; without a test set, a fifth of the former is held out."""

    source: str
    test: str | None

    @property
    def name(self) -> str:
        """What models depend on."""
        return self.source if self.test is not None else f"{self.source}, {1 - HELD_OUT:.0%} of it"

    @property
    def tested(self) -> str:
        """The address of the images to test on."""
        return self.source if self.test is None else self.test

    @property
    def sharding(self) -> dict[str, Any]:
        """The options of sharding that hold images out: their shards are named so that no training takes them."""
        return {} if self.test is not None else {"split": "hash", "validation_share": HELD_OUT}

    def check(self, out: Location) -> None:
        """StorageError, before any work, for folders inside each other."""
        for address in filter(None, (self.source, self.test)):
            check_within(out, address)
        if self.test is None:
            return
        source, test = Location.of(self.source), Location.of(self.test)
        if source.within(test) or test.within(source):
            raise StorageError(
                f"{test}: a model is not tested on what it learned from, {source}; split them, or leave the test set "
                "out, so that a part of the source is held out"
            )

    def check_learned(self) -> None:
        """StorageError where test images are learned: what is among both, byte by byte."""
        learned, tested = self._learned(), self._tested()
        if both := _in_both(learned, tested):
            raise StorageError(
                f"{self.tested}: {counted(len(both), 'image')} of {self.source}, too, such as {both[0]}: a model is "
                "not tested on what it learned from; take them out of one of the two"
            )

    def held_out(self) -> list[str]:
        """The keys of the images that are held out; StorageError where the source is too small for any."""
        keys = [entry.key for entry in contents_of(open_source(self.source)).images if _is_held_out(entry.key)]
        if not keys:
            raise StorageError(f"{self.source}: too few images to hold some out; give a test set")
        return keys

    def _learned(self) -> tuple[Source, list[Entry]]:
        source = open_source(self.source)
        entries = (entry for entry in source.list() if not is_named_only(entry))
        return source, [entry for entry in entries if self.test is not None or not _is_held_out(entry.key)]

    def _tested(self) -> tuple[Source, list[Entry]]:
        source = open_source(self.tested)
        images = (entry for entry in source.list() if formats.is_image(entry.key) and not is_named_only(entry))
        return source, [entry for entry in images if self.test is not None or _is_held_out(entry.key)]


def _is_held_out(key: str) -> bool:
    return by_hash(key, HELD_OUT) == "validation"


def _in_both(learned: tuple[Source, Iterable[Entry]], tested: tuple[Source, Sequence[Entry]]) -> list[str]:
    """The images of the second source that the first one has, too, whatever they are called there."""
    (first, known), (second, images) = learned, tested
    by_size = defaultdict(list)
    for entry in known:
        by_size[entry.size].append(entry)
    both = []
    for entry in images:
        if duplicates := by_size.get(entry.size):
            content = second.fetch(entry)
            if any(first.fetch(twin) == content for twin in duplicates):
                both.append(entry.key)
    return both
