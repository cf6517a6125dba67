"""Where results go: a file an image, a shard a unit, or an archive that is packed of files; with a row for each."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeGuard, TypeVar

from flows.inputs.keys import Names, normalized
from flows.inputs.selection import is_absent
from flows.interface.console import Advance, log, progress
from flows.interface.text import counted
from flows.transform.pipeline import Transform
from storage.archives.source import Folder, Source
from storage.archives.writer import Packing
from storage.images import formats
from storage.receipts.commits import Commits
from storage.receipts.receipts import Receipts
from storage.receipts.units import Row, Unit, failed, is_transient
from storage.shards.write import Sample, write_shard
from storage.stores.folding import Pair, pair_folded
from storage.stores.location import Entry, Location, StorageError, UnavailableError

MAX_NAME = 80
"""Of a sample in a shard: with its ending it fits into a tar's header."""
T = TypeVar("T")


class Maker(Protocol):
    """What makes the results of samples, and names them."""

    @property
    def names(self) -> Names: ...

    def made(self, samples: Iterable[Entry], keep: Callable[[Sample | Row], T]) -> Iterator[T]:
        """What `keep`, called from several threads, returns for the result of each sample, in any order."""


def is_of_shards(source: Source) -> TypeGuard[Folder]:
    """Whether images come from WebDataset shards."""
    return isinstance(source, Folder) and source.has_shards


def to_files(maker: Maker, to: Location, _: Unit, samples: Sequence[Entry], advance: Advance) -> list[Row]:
    """A file an image; a row for each, in the order of the samples."""

    absent = {entry.key for entry in samples if is_absent(entry)}
    with Commits(to) as commits:

        def keep(made: Sample | Row) -> Row:
            row = made if isinstance(made, dict) and made["key"] in absent else _kept(maker, commits, made)
            advance(1, row["status"] == "failed")
            return row

        rows = {row["key"]: row for row in maker.made(samples, keep)}
        return [_settled(commits, rows[entry.key]) for entry in samples]


def _kept(maker: Maker, commits: Commits, made: Sample | Row) -> Row:
    """The row of a result that is on its way to its place, or of its failure.

    A failed sample leaves no result, not even that of an earlier run, unless it is tried again.
    """
    try:
        if isinstance(made, Sample):
            started = time.perf_counter()
            commits.write(made.row["output"], made.data)
            made.row["write_seconds"] += time.perf_counter() - started
            return _complete(made)
        if not is_transient(made):
            commits.remove(maker.names.of(made["key"]))
        return made
    except UnavailableError:
        raise
    except StorageError as error:  # of this name only, such as one that is no name
        return _not_kept(made.row, error) if isinstance(made, Sample) else made


def _settled(commits: Commits, row: Row) -> Row:
    """The row of a result that is in its place, or of its failure."""
    if row["status"] != "ok":
        return row
    try:
        commits.settle(row["output"])
        return row
    except UnavailableError:
        raise
    except StorageError as error:  # of this name only, such as a folder in its place
        return _not_kept(row, error)


def _not_kept(row: Row, error: StorageError) -> Row:
    return failed(Entry(row["key"], row["source_bytes"], ""), error)


def _complete(made: Sample) -> Row:
    """The row of a result with its sum and the time it took."""
    row = made.row
    row["sha256"] = hashlib.sha256(made.data).hexdigest()
    row["seconds"] = sum(row[column] for column in ("read_seconds", "compute_seconds", "write_seconds"))
    return row


def to_shard(transform: Transform, to: Location, unit: Unit, samples: Sequence[Entry], advance: Advance) -> list[Row]:
    """One shard of all samples of a unit, in their order, and a row for each."""
    source = transform.source
    facts = source.facts(unit.name) if is_of_shards(source) and not is_absent(samples[0]) else {}

    def facts_of(row: Row) -> Mapping[str, object]:
        known = facts.get(formats.stem(row["key"].removeprefix(f"{unit.name}/")), {})
        return {**known, "width": row["width"], "height": row["height"]}

    names = _names_in_shard(transform.names, unit.name, samples)
    return shard_of(transform, to, unit, samples, advance, names, facts_of)


def shard_of(
    maker: Maker,
    to: Location,
    unit: Unit,
    samples: Sequence[Entry],
    advance: Advance,
    names: Mapping[str, str],
    facts_of: Callable[[Row], Mapping[str, object]],
) -> list[Row]:
    """One shard of all samples of a unit, in their order, and a row for each.

    names: of the samples in the shard, by their keys. facts_of: what the JSON of a result says besides its row.
    """

    def complete(made: Sample | Row) -> tuple[str, Sample | Row]:
        advance(1, not isinstance(made, Sample) and made["status"] == "failed")
        if not isinstance(made, Sample):
            return made["key"], made
        row = _complete(made)
        return row["key"], replace(made, facts=facts_of(row))

    made = _in_order(maker.made(samples, complete), [entry.key for entry in samples])
    return write_shard(to, f"{unit.name}.tar", made, names)


def _in_order(found: Iterable[tuple[str, T]], keys: Iterable[str]) -> Iterator[T]:
    """What is found for the keys, in their order."""
    found = iter(found)
    early: dict[str, T] = {}
    for key in keys:
        while key not in early:
            early.update([next(found)])
        yield early.pop(key)


def _names_in_shard(names: Names, shard: str, samples: Sequence[Entry]) -> dict[str, str]:
    """The names that samples have in their shard: those of its source where this is a shard, else numbers."""
    outputs = {entry.key: names.of(entry.key) for entry in samples}
    if all(output.startswith(f"{shard}/") and output.isascii() for output in outputs.values()):
        found = {key: formats.stem(output.removeprefix(f"{shard}/")) for key, output in outputs.items()}
        if len({*found.values()}) == len(found) and max(map(len, found.values())) <= MAX_NAME:
            return found
    return {key: f"{number:09d}" for number, key in enumerate(outputs)}


def check_folded(to: Location, alike: Sequence[Pair]) -> None:
    """StorageError where two results would be one file, as the disk takes their names for one."""
    if (pair := pair_folded(to, alike)) is not None:
        one, other = map(_spelled, pair, reversed(pair))
        raise StorageError(
            f"{to}: takes {one} and {other} for one name, so that one result would replace the other; rename one of "
            "the sources, leave it out by --exclude, or choose another target"
        )


def log_names_alike(packing: Packing, alike: Sequence[Pair]) -> None:
    """Tell of members that some systems would unpack as one file."""
    one, other = map(_spelled, alike[0], reversed(alike[0]))
    log(
        f"{packing}: {counted(len(alike), 'name')} like another but for letter case or Unicode form, such as {one} "
        f"and {other}: systems whose disks take these for one unpack only one of them"
    )


def _spelled(name: str, other: str) -> str:
    """A name, with the codes of its characters where it looks like the other one on a screen."""
    return ascii(name) if normalized(name) == normalized(other) else name


def pack(packing: Packing, receipts: Receipts, units: Sequence[Unit], names: Names, *, keeps_others: bool) -> None:
    """Make the archive of all results, those of earlier runs included whose sources could not be read this time.

    keeps_others: members that the plan does not name stay in it, as a choice of images leaves what it is not about.
    """
    members = packing.sizes().keys()
    there = {*members, *(entry.key for entry in packing.staging.list())}
    planned = (names.of(sample.key) for unit in units for sample in unit.samples)
    others = sorted(members - set(planned)) if keeps_others else []

    def outputs() -> Iterator[str]:
        for row in receipts.rows(units):
            if row["status"] == "ok" or row["output"] in there:
                yield row["output"]
        yield from others

    with progress(f"pack {packing}", sum(len(unit.samples) for unit in units), "images") as advance:
        packing.pack(outputs(), advance)
