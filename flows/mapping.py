"""From a source to a target, picture by picture: what is planned, where results go, and the run over them.

A target is a folder, with a file a picture; an archive, which is packed whole when all its pictures are made; or a
folder of WebDataset shards. Unit: about 256 pictures, or a shard. Proof: its receipt, written after the pictures.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from itertools import groupby
from typing import Any, TypeGuard

import torch

from dtls.methods import Interpolation, Method
from flows import fanout
from flows.console import Advance, progress
from flows.estimate import tell_plan
from flows.naming import Names
from flows.pictures import SizeOf, Transform
from flows.selection import MISSING, SelectionOptions, select
from flows.sources import identity, list_pictures, refuse_within
from storage import images
from storage.archives import Folder, Source, open_source
from storage.encoding import Encoding
from storage.locations import Entry, Location, StorageError, UnavailableError
from storage.packing import Packing, is_archive, refuse_names
from storage.parallel import ordered_map
from storage.receipts import Receipts
from storage.schemas import PICTURES
from storage.shards import Sample, write_shard
from storage.units import Row, Unit, cut_by_key, failed, is_passing

SHARD = re.compile(r"shard-[0-9a-f]{12}\.tar")


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
        "format": results.encoding.format,
        "quality": results.encoding.quality,
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
    pictures = _chosen(list_pictures(where), options, partial(receipts.made, made_with))
    names = Names(results.encoding.suffix, results.suffix).among(pictures)
    if packing is not None:
        refuse_names(packing.archive, map(names.of, (entry.key for entry in pictures if entry.etag != MISSING)))
    mapping = Transform(
        source=where,
        method=method,
        size_of=size_of,
        names=names,
        encoding=results.encoding,
        stamp=_stamp(method) if results.provenance else None,
        batch_size=batch_size,
        workers=options.workers,
    )
    units = [
        Unit.of(title, name, chunk, made_with, names.exceptions)
        for name, chunk in _cut(where, pictures, results.samples_per_shard, unit_size)
    ]
    job = fanout.Job(
        title=f"{title} {where}",
        units=units,
        work=partial(_to_shard if in_shards else _to_files, mapping, to),
        receipts=receipts,
        divisible=not in_shards,
        finish=partial(_pack, packing, receipts, units) if packing is not None else lambda: None,
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


def _chosen(pictures: list[Entry], options: SelectionOptions, made: Callable[[], set[Entry]]) -> list[Entry]:
    """What the run is about: the pictures chosen, and those that were made before, which stay what they are."""
    if options.takes_all:
        return pictures
    chosen = select(pictures, options)
    before = made()
    return sorted({*chosen, *(entry for entry in pictures if entry in before)})


def _cut(
    source: Source, pictures: Sequence[Entry], samples_per_shard: int | None, unit_size: int
) -> Iterator[tuple[str, tuple[Entry, ...]]]:
    """The names and samples of the units; the shards of a source stay what they are."""
    if samples_per_shard is not None and _is_of_shards(source):
        for shard, entries in groupby(pictures, lambda entry: source.shard_of(entry.key)):
            yield shard, tuple(entries)
        return
    prefix = "unit" if samples_per_shard is None else "shard"  # as SHARD has it
    for chunk in cut_by_key(pictures, samples_per_shard or unit_size):
        yield f"{prefix}-{hashlib.sha256(chunk[0].key.encode()).hexdigest()[:12]}", chunk


def _is_of_shards(source: Source) -> TypeGuard[Folder]:
    return isinstance(source, Folder) and source.has_shards


def _stamp(method: Method) -> str:
    """What made a result, for those who find it later; its day is SOURCE_DATE_EPOCH's, where that is set."""
    seconds = float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    checkpoint = method.identity.get("checkpoint")
    parts = [
        f"dtls {version('dtls')}",
        f"method {method.name}",
        *([f"checkpoint sha256:{checkpoint}"] if checkpoint else []),
        time.strftime("%Y-%m-%d", time.gmtime(seconds)),
    ]
    return "; ".join(parts)


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

    def keep(item: Any) -> Row:
        row = _kept(mapping, to, mapping.encoded(item))
        advance(1, row["status"] != "ok")
        return row

    rows = {row["key"]: row for row in ordered_map(keep, mapping.computed(samples), mapping.workers)}
    return [rows[entry.key] for entry in samples]


def _kept(mapping: Transform, to: Location, made: Sample | Row) -> Row:
    """The row of a result that is in its place, or of its failure.

    A failed sample leaves no result, not even that of an earlier run, unless it is tried again.
    """
    if isinstance(made, Sample):
        started = time.perf_counter()
        row = made.row
        try:
            to.write(row["output"], made.data)
        except UnavailableError:
            raise
        except StorageError as error:  # of this name only, such as a folder in its place
            return failed(Entry(row["key"], row["source_bytes"], ""), error)
        row["write_seconds"] += time.perf_counter() - started
        return _complete(made)
    if not is_passing(made):
        to.delete(mapping.names.of(made["key"]))
    return made


def _complete(made: Sample) -> Row:
    """The row of a result with its sum and the time it took."""
    row = made.row
    row["sha256"] = hashlib.sha256(made.data).hexdigest()
    row["seconds"] = sum(row[column] for column in ("read_seconds", "compute_seconds", "write_seconds"))
    return row


def _to_shard(mapping: Transform, to: Location, unit: Unit, samples: Sequence[Entry], advance: Advance) -> list[Row]:
    """One shard of all samples of a unit, and a row for each."""

    names = {entry.key: _name_in_shard(mapping, unit, entry.key, n) for n, entry in enumerate(samples)}
    facts = mapping.source.facts(unit.name) if _is_of_shards(mapping.source) else {}

    def made() -> Iterator[Sample | Row]:
        for item in ordered_map(mapping.encoded, mapping.computed(samples), mapping.workers):
            advance(1, not isinstance(item, Sample))
            if isinstance(item, Sample):
                row = _complete(item)
                told = facts.get(images.stem(row["key"].removeprefix(f"{unit.name}/")), {})
                yield replace(item, facts={**told, "width": row["width"], "height": row["height"]})
            else:
                yield item

    rows = {row["key"]: row for row in write_shard(to, f"{unit.name}.tar", made(), names)}
    return [rows[entry.key] for entry in samples]


def _name_in_shard(mapping: Transform, unit: Unit, key: str, number: int) -> str:
    """The name that a sample has in its shard: that of its source where this is a shard, else its number."""
    output = mapping.names.of(key)
    name = images.stem(output.removeprefix(f"{unit.name}/"))
    return name if output.startswith(f"{unit.name}/") and name.isascii() and len(name) <= 80 else f"{number:09d}"


def _pack(packing: Packing, receipts: Receipts, units: Sequence[Unit]) -> None:
    total = sum(len(unit.samples) for unit in units)
    with progress(f"pack {packing}", total, "images") as advance:
        packing.pack((row["output"] for row in receipts.rows(units) if row["status"] == "ok"), advance)
