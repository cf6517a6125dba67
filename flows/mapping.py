"""From a source to a target, picture by picture: what is planned, where results go, and the run over them.

A target is a folder, with a file a picture; an archive, which is packed whole when all its pictures are made; or a
folder of WebDataset shards. Unit: about 256 pictures, or a shard. Proof: its receipt, written after the pictures.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from itertools import groupby
from typing import Any, TypeGuard, TypeVar

import torch

from dtls.methods import Interpolation, Method
from flows import fanout
from flows.console import Advance, progress
from flows.estimate import tell_plan
from flows.memory import pixels_at_once
from flows.naming import Names
from flows.pictures import SizeOf, Transform
from flows.selection import MISSING, SelectionOptions, select
from flows.sources import identity, list_pictures, refuse_within
from storage import images
from storage.archives import Folder, Source, open_source
from storage.encoding import Encoding
from storage.locations import Entry, Location, StorageError, UnavailableError
from storage.packing import Packing, is_archive
from storage.receipts import Receipts
from storage.schemas import PICTURES
from storage.shards import Sample, write_shard
from storage.units import Row, Unit, cut_by_key, failed, is_passing

SHARD = re.compile(r"shard-[0-9a-f]{16}\.tar")
LONGEST_NAME = 80
"""Of a sample in a shard: with its ending it fits into a tar's header."""
T = TypeVar("T")


@dataclass(frozen=True)
class Results:
    """What results are like: how they are written and named, whether they say what made them, and if in shards."""

    encoding: Encoding = field(default_factory=Encoding)
    suffix: str = ""
    provenance: bool = False
    samples_per_shard: int | None = None


def transform(
    title: str,
    source: str,
    target: str,
    method: Method,
    size_of: SizeOf,
    size_options: dict[str, float | int | None],
    options: SelectionOptions,
    results: Results | None = None,
    batch_size: int = 16,
    unit_size: int = 256,
) -> str:
    """Apply `method` to the chosen pictures of `source`; results lie at `target` under the same names."""
    results = results or Results()
    where = open_source(source)
    packing = _packing(target, results)
    to = packing.staging if packing else Location.of(target)
    refuse_within(Location.of(target), source)
    made_with = {
        **method.identity,
        **size_options,
        **results.encoding.identity,
        "suffix": results.suffix,
        "provenance": results.provenance,
    }
    in_shards = results.samples_per_shard is not None
    receipts = Receipts(
        to,
        title,
        PICTURES,
        source=identity(source),
        outputs=SHARD if in_shards else None,
        elsewhere=packing.sizes if packing is not None else dict,
    )
    listed = list_pictures(where, selects=True)
    pictures, missing = _chosen(listed, options, receipts, made_with)
    keys = [entry.key for entry in listed]
    names = Names(results.encoding.suffix, results.suffix).among(
        keys if pictures is listed else sorted({*keys, *(entry.key for entry in pictures)})
    )
    mapping = Transform(
        source=where,
        method=method,
        size_of=size_of,
        names=names,
        check_name=_check_of(packing, to, in_shards),
        encoding=results.encoding,
        stamp=_stamp(method) if results.provenance else None,
        batch_size=batch_size,
        workers=options.workers,
        pixels_at_once=pixels_at_once(options.in_flight),
    )
    units = [
        Unit.of(title, name, chunk, made_with, names.exceptions)
        for name, chunk in (
            *_cut(where, pictures, results.samples_per_shard, unit_size),
            *_named("missing", cut_by_key(missing, unit_size)),
        )
    ]
    job = fanout.Job(
        title=f"{title} {where}",
        units=units,
        work=partial(_to_shard if in_shards else _to_files, mapping, to),
        receipts=receipts,
        divisible=not in_shards,
        finish=partial(_pack, packing, receipts, units, names) if packing is not None else lambda: None,
        output=None if in_shards else names.of,
        target=str(packing) if packing is not None else None,
    )
    with _one_thread_each(method):
        if options.dry_run:
            return tell_plan(job, mapping, options)
        return str(fanout.run(job, options))


def _packing(target: str, results: Results) -> Packing | None:
    if not is_archive(target):
        return None
    if results.samples_per_shard is not None:
        raise StorageError(f"{target}: shards go into a folder, not into an archive; name a folder")
    return Packing(target)


def _check_of(packing: Packing | None, to: Location, in_shards: bool) -> Callable[[str], object]:
    """What raises a StorageError for a name that no result can have; in shards they have names of their own."""
    if in_shards:
        return lambda _: None
    return to.path if packing is None else packing.check_name


def _chosen(
    pictures: list[Entry], options: SelectionOptions, receipts: Receipts, made_with: dict[str, Any]
) -> tuple[list[Entry], list[Entry]]:
    """What the run is about, and the keys that were asked for and are not there.

    A choice adds to what was made before: that stays what it is, even where its source is another by now.
    """
    if options.takes_all:
        return pictures, []
    chosen, missing = select(pictures, options)
    plan = {entry.key: entry for entry in chosen}
    taken, listed = {*plan, *(entry.key for entry in missing)}, set(pictures)
    for entry, fits in receipts.made(made_with):
        if entry.key in taken or entry.etag == MISSING:
            continue
        if not fits:
            raise StorageError(
                f"{receipts.target}: holds results that were made otherwise, such as that of {entry.key}, and a "
                "choice of pictures only adds to what is there; choose another target, or take all pictures"
            )
        if entry.key not in plan or entry in listed:
            plan[entry.key] = entry
    return sorted(plan.values()), missing


def _cut(
    source: Source, pictures: Sequence[Entry], samples_per_shard: int | None, unit_size: int
) -> Iterator[tuple[str, tuple[Entry, ...]]]:
    """The names and samples of the units; the shards of a source stay what they are."""
    if samples_per_shard is None:
        yield from _named("unit", cut_by_key(pictures, unit_size))
    elif _is_of_shards(source):
        for shard, entries in groupby(pictures, lambda entry: source.shard_of(entry.key)):
            yield shard, tuple(entries)
    else:
        yield from _named("shard", cut_by_key(pictures, samples_per_shard))  # as SHARD has it


def _named(kind: str, chunks: Iterable[tuple[Entry, ...]]) -> Iterator[tuple[str, tuple[Entry, ...]]]:
    for chunk in chunks:
        yield f"{kind}-{hashlib.sha256(chunk[0].key.encode()).hexdigest()[:16]}", chunk


def _is_of_shards(source: Source) -> TypeGuard[Folder]:
    return isinstance(source, Folder) and source.has_shards


def _stamp(method: Method) -> str:
    """What made a result, for those who find it later; its day is SOURCE_DATE_EPOCH's, where that is set."""
    checkpoint = method.identity.get("checkpoint")
    parts = [
        f"dtls {version('dtls')}",
        f"method {method.name}",
        *([f"checkpoint sha256:{checkpoint}"] if checkpoint else []),
        time.strftime("%Y-%m-%d", time.gmtime(_now())),
    ]
    return "; ".join(parts)


def _now() -> float:
    told = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        return float(int(told)) if told else time.time()
    except ValueError as error:
        raise StorageError(f"SOURCE_DATE_EPOCH={told}: not a whole number of seconds; unset it") from error


@contextmanager
def _one_thread_each(method: Method) -> Iterator[None]:
    """Interpolations run in as many threads as pictures are read in: each then needs none of torch's own."""
    threads = torch.get_num_threads()
    if isinstance(method, Interpolation):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _to_files(mapping: Transform, to: Location, _: Unit, samples: Sequence[Entry], advance: Advance) -> list[Row]:
    """A file a picture; a row for each, in the order of the samples."""

    def keep(made: Sample | Row) -> Row:
        row = _kept(mapping, to, made)
        advance(1, row["status"] != "ok")
        return row

    rows = {row["key"]: row for row in mapping.made(samples, keep)}
    return [rows[entry.key] for entry in samples]


def _kept(mapping: Transform, to: Location, made: Sample | Row) -> Row:
    """The row of a result that is in its place, or of its failure.

    A failed sample leaves no result, not even that of an earlier run, unless it is tried again.
    """
    try:
        if isinstance(made, Sample):
            started = time.perf_counter()
            to.write(made.row["output"], made.data)
            made.row["write_seconds"] += time.perf_counter() - started
            return _complete(made)
        if not is_passing(made):
            to.delete(mapping.names.of(made["key"]))
        return made
    except UnavailableError:
        raise
    except StorageError as error:  # of this name only, such as a folder in its place, or one that is no name
        if isinstance(made, Sample):
            return failed(Entry(made.row["key"], made.row["source_bytes"], ""), error)
        return made


def _complete(made: Sample) -> Row:
    """The row of a result with its sum and the time it took."""
    row = made.row
    row["sha256"] = hashlib.sha256(made.data).hexdigest()
    row["seconds"] = sum(row[column] for column in ("read_seconds", "compute_seconds", "write_seconds"))
    return row


def _to_shard(mapping: Transform, to: Location, unit: Unit, samples: Sequence[Entry], advance: Advance) -> list[Row]:
    """One shard of all samples of a unit, in their order, and a row for each."""
    is_shard = _is_of_shards(mapping.source) and samples[0].etag != MISSING
    facts = mapping.source.facts(unit.name) if is_shard else {}  # type: ignore[attr-defined]

    def complete(made: Sample | Row) -> tuple[str, Sample | Row]:
        advance(1, not isinstance(made, Sample))
        if not isinstance(made, Sample):
            return made["key"], made
        row = _complete(made)
        told = facts.get(images.stem(row["key"].removeprefix(f"{unit.name}/")), {})
        return row["key"], replace(made, facts={**told, "width": row["width"], "height": row["height"]})

    made = _in_order(mapping.made(samples, complete), [entry.key for entry in samples])
    return write_shard(to, f"{unit.name}.tar", made, _names_in_shard(mapping.names, unit.name, samples))


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
        found = {key: images.stem(output.removeprefix(f"{shard}/")) for key, output in outputs.items()}
        if max(map(len, found.values())) <= LONGEST_NAME:
            return found
    return {key: f"{number:09d}" for number, key in enumerate(outputs)}


def _pack(packing: Packing, receipts: Receipts, units: Sequence[Unit], names: Names) -> None:
    """Make the archive of all results, with those of earlier runs where the source could not be read this time."""
    there = packing.sizes()

    def outputs() -> Iterator[str]:
        for row in receipts.rows(units):
            if row["status"] == "ok":
                yield row["output"]
            elif is_passing(row) and names.of(row["key"]) in there:
                yield names.of(row["key"])

    with progress(f"pack {packing}", sum(len(unit.samples) for unit in units), "images") as advance:
        packing.pack(outputs(), advance)
