"""What makes the shards of a run, so written down that any process can do it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from flows.engine.job import Work
from flows.inputs.contents import reason_of_refusal
from flows.inputs.sources import SourceSpec
from flows.interface.console import Advance
from storage.archives.source import Source
from storage.receipts.units import Row, Unit, failed
from storage.shards.ffhq import Origin, check_large, read_metadata
from storage.shards.write import Sharding, shard_index
from storage.stores.location import Entry, Location

METADATA = "ffhq-dataset-v2.json"
REFUSED = "refused"
"""The name of the unit that makes no shard, but the rows of what cannot be read."""


class Found(NamedTuple):
    """Where FFHQ's metadata is: the address of its folder, and the file there."""

    place: str
    entry: Entry


@dataclass(frozen=True)
class ShardSpec:
    """The source, the target, and what shards are like; see `Sharding`."""

    source: SourceSpec
    target: str
    metadata: Found | None
    size: int | None
    checked: bool
    samples_per_shard: int
    workers: int

    def __call__(self, _: int) -> Work:
        """What makes a shard in this process."""
        return self.work(self.source.open(), cache(self.origins))

    def into(self, folder: str) -> "ShardSpec":
        """The same, its shards in another folder."""
        return replace(self, target=folder)

    def work(self, source: Source, origins: Callable[[], Mapping[int, Origin]]) -> Work:
        """What makes a shard of a source that is open."""
        sharding = Sharding(source, Location.of(self.target), self.size, self.checked, self.workers, origins)

        def work(unit: Unit, _: Sequence[Entry], advance: Advance) -> list[Row]:
            if unit.name == REFUSED:
                advance(len(unit.samples), len(unit.samples))
                return [failed(entry, reason_of_refusal(entry)) for entry in unit.samples]
            return sharding.write(unit, shard_index(unit.name) * self.samples_per_shard, advance)

        return work

    def origins(self) -> Mapping[int, Origin]:
        """Who made FFHQ's images, by their numbers, as far as that is known."""
        if self.metadata is None:
            return {}
        place, key = Location.of(self.metadata.place), self.metadata.entry.key
        check_large(place.address(key), self.metadata.entry.size)
        with place.as_file(key) as path, path.open("rb") as file:
            return read_metadata(file, place.address(key))
