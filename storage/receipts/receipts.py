"""Units and receipts: what is done, what is left, what failed.

A unit is the inputs of one task. Its receipt, written last, is a Parquet file with one row a sample, named after the
unit and its fingerprint: `TARGET/.dtls/receipts/FLOW/UNIT-FINGERPRINT.parquet`. A change of inputs or options is
another name, so one listing tells what is left. A unit is done when its receipt is there, and the outputs it names
are there with their sizes.
"""

import io
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.parallel import ordered_map
from storage.receipts.commits import sync_names
from storage.receipts.parquet import DAMAGED, read_parquet, read_table
from storage.receipts.schemas import LATER, PLAN, SAMPLES
from storage.receipts.seals import FIELD, SEALS, Seal, broken, seals_in, tagged
from storage.receipts.survey import UNFINISHED, Before, Plan, TargetState, list_target
from storage.receipts.units import Row, Unit, fingerprint_of, is_transient
from storage.stores.entry import STATE
from storage.stores.location import TEMPORARY, ChangedError, Entry, Location, StorageError
from storage.stores.looks import Looks, settled

SOURCE = f"{STATE}/source.json"
PLANNED = f"{STATE}/plan.parquet"
MANIFEST = "manifest.parquet"
SKIPPED = "dtls.skipped"
"""The field of the table's metadata that has, as JSON by kind, what of the source was skipped."""
ROW_GROUP = 16_384
MAX_JSON = 2**30
"""Bytes of what a run says of itself, most of it the names of what goes at its end."""


class Receipts:
    """The receipts below a target, and the table `manifest` that gathers them.

    With `source`, the address that the results are made from, a target takes the results of no other, and remembers
    `made_with`, the options of the results as plain JSON values. With `outputs`, what the names of all outputs match,
    and of nothing else, those that no receipt names are removed. With `elsewhere`, outputs count as there, too, if it
    says so: their sizes by name. The table keeps in its metadata what of the source was `skipped`: by kind, how many
    files and one of them.
    """

    def __init__(
        self,
        target: Location,
        flow: str,
        schema: pa.Schema = SAMPLES,
        manifest: str = MANIFEST,
        source: str | None = None,
        outputs: re.Pattern[str] | None = None,
        elsewhere: Callable[[], Mapping[str, int]] = dict,
        made_with: Mapping[str, Any] | None = None,
        skipped: Mapping[str, tuple[int, str]] = MappingProxyType({}),
    ) -> None:
        self.target, self.flow, self.schema, self.manifest = target, flow, schema, manifest
        self.source, self.outputs, self.elsewhere, self.skipped = source, outputs, elsewhere, skipped
        self.made_with = json.loads(json.dumps(made_with or {}))
        self._seals: dict[str, Seal] = {}
        self._seen: Looks | None = None
        self._looks: Looks | None = None

    def survey(
        self,
        units: Sequence[Unit],
        divisible: bool = True,
        output: Callable[[str], str] | None = None,
        again: Callable[[Row], bool] = lambda _: False,
    ) -> TargetState:
        """What a listing of the target says of a plan; rows are kept only if samples of a unit can be done alone.

        output: the file of a sample's result by its key, where each has one. again: whether a result with such a row
        is to be made again, as an option that is not of its unit is another. StorageError where the target belongs to
        another flow, or to another source, or has files of somebody else's where results would go.
        """
        entries = list_target(self.target)
        own = {entry.key: entry.size for entry in entries}
        kept = {entry.key: entry for entry in entries if entry.key in (self.manifest, PLANNED, SOURCE, SEALS)}
        del entries
        sizes = {**self.elsewhere(), **own}
        receipts = [key for key in sizes if key.startswith(f"{STATE}/receipts/") and not TEMPORARY.fullmatch(key)]
        if others := {key.split("/")[2] for key in receipts} - {self.flow}:
            raise StorageError(
                f"{self.target}: holds the results of {', '.join(sorted(others))}; choose another folder"
            )
        record = record_of(self.target, kept[SOURCE]) if SOURCE in kept else None
        before = self._before(record) if record is not None else Before({}, is_agreed=False)
        plan = Plan(units, divisible, output, again, self.manifest, self.outputs, before)
        if not receipts and PLANNED not in sizes:
            plan.check_foreign_files(self.target, sizes)
        found = plan.survey(sizes, zip(receipts, ordered_map(self._read, receipts, workers=16), strict=True))
        if receipts and not found.done and record is not None:
            self._check_unknown_source(record)
        orphans = {*found.orphans, *(unfinished(self.target).orphans if UNFINISHED in sizes else ())}
        gathered = UNFINISHED not in sizes and self._is_gathered(kept)
        return replace(found, orphans=tuple(sorted(orphans & own.keys())), gathered=gathered)

    def _is_gathered(self, kept: Mapping[str, Entry]) -> bool:
        """Whether the table of all rows, and what is kept beside it, are there as the last run left them."""
        seals = seals_in(self.target, kept.get(SEALS))
        return self.manifest in seals and not broken(self.target, seals, kept)

    def _check_unknown_source(self, record: "Record") -> None:
        """StorageError where nothing says what source the results are of, and the plan fits none of them."""
        if self.source is not None and record.source is None:
            raise StorageError(
                f"{self.target.address(SOURCE)}: damaged, so that it is not known what the results there are of; "
                f"remove it if that is {self.source}, or choose another target"
            )

    def _before(self, record: "Record") -> Before:
        """What the target says of its results; StorageError where they are of another source."""
        source = record.source
        if self.source is not None and source not in (None, self.source):
            raise StorageError(
                f"{self.target}: holds the results of {source}, and a target is for one source; choose another "
                f"folder, or remove {SOURCE} there if {self.source} is the same source at a new address"
            )
        return Before(record.made_with, is_agreed=record.made_with == self.made_with)

    def write(self, unit: Unit, rows: Sequence[Row]) -> None:
        """Say that `unit` is done; its outputs are in their places by now."""
        buffer = io.BytesIO()
        columns = [[row.get(name) for row in rows] for name in self.schema.names]
        pq.write_table(pa.table(columns, schema=self.schema), buffer, compression="zstd")
        self.target.write(unit.receipt, buffer.getvalue())

    def made(self, options: Mapping[str, Any]) -> Iterator[tuple[Entry, bool, bool]]:
        """The samples that receipts tell of, as they were listed then; if they are of these options, and if all well.

        But for those that could not be read.
        """
        made_with = fingerprint_of(self.flow, options)
        receipts = [e.key for e in list_target(self.target) if e.key.startswith(f"{STATE}/receipts/{self.flow}/")]
        for rows in ordered_map(self._read, receipts, workers=16):
            for row in rows or []:
                if not is_transient(row):
                    entry = Entry(row["key"], row["source_bytes"], row["source_tag"])
                    yield entry, row.get("options") == made_with, row["status"] == "ok"

    def settled(
        self,
        entries: Sequence[Entry],
        fetch: Callable[[Entry], bytes],
        made_of: Callable[[Mapping[str, Any]], str | None] = itemgetter("source_sha256"),
    ) -> list[Entry]:
        """A listing of the source, with other tags for what was changed under its size and time: see `looks`.

        made_of: the sha256 of the bytes that the result of a row was made of, where that is known.
        """
        if not any(entry.changed for entry in entries):
            return list(entries)
        self._seen = Looks.at(self.target)
        found, self._looks = settled(entries, self._seen, self._rows_of, fetch, made_of)
        return found

    @property
    def has_news(self) -> bool:
        """Whether the source was seen otherwise than the target has kept."""
        return self._looks != self._seen

    def keep_looks(self) -> None:
        """Keep what was seen of the source for the next run."""
        if self._looks is not None and self.has_news:
            self._looks.keep(self.target)
            self._seen = self._looks

    def _rows_of(self, keys: Collection[str]) -> dict[str, list[Row]]:
        """By key, what receipts say of some samples."""
        receipts = [e.key for e in self.target.list() if e.key.startswith(f"{STATE}/receipts/{self.flow}/")]
        found: dict[str, list[Row]] = {}
        for rows in ordered_map(self._read, receipts, workers=16):
            for row in rows or []:
                if row["key"] in keys:
                    found.setdefault(row["key"], []).append(row)
        return found

    def read(self, unit: Unit) -> list[Row]:
        """The rows of a unit, none where it has no receipt."""
        return self._read(unit.receipt) or []

    def rows(self, units: Iterable[Unit]) -> Iterator[Row]:
        """The rows of all `units`, in their order, without holding more than a few receipts in memory."""
        for rows in ordered_map(self.read, units, workers=16):
            yield from rows

    def results_of(self, receipts: Iterable[str]) -> dict[str, str]:
        """By key, the outputs that some receipts tell of, those of samples that could not be read since included."""
        rows = (row for receipt in receipts for row in self._read(receipt) or [])
        return {row["key"]: row["output"] for row in rows if row.get("output") is not None}

    def begin(self, units: Iterable[Unit], survey: TargetState) -> None:
        """Keep the plan of the run, its options and the address of its source; now the table is an old one.

        What the survey says goes at the end is kept for the run that ends it.
        """
        self.target.write(UNFINISHED, json.dumps({"orphans": survey.orphans, "there": survey.there}).encode())
        self._seals = {}
        if self.source is not None:
            told = json.dumps({"source": self.source, "made_with": self.made_with}).encode()
            self.target.write(SOURCE, told)
            self._seals[SOURCE] = Seal.of(told)
        with self.target.writing(PLANNED) as path:
            _write_tables(map(_planned, units), path, PLAN)
            self._seals[PLANNED] = Seal.of_file(path)

    def gather(self, units: Iterable[Unit], write: Callable[[Iterable[Row], Path], None] | None = None) -> None:
        """Make one table of all rows, and put it at the target as `manifest`; with `write`, let that make it."""
        with self.target.writing(self.manifest) as path:
            if write is not None:
                write(self.rows(units), path)
            else:
                tables = ordered_map(lambda unit: self._table(unit.receipt), units, workers=16)
                _write_tables((table for table in tables if table is not None), path, self._told())
            self._seals[self.manifest] = Seal.of_file(path)

    def _told(self) -> pa.Schema:
        """The columns of the table, and what was skipped."""
        if not self.skipped:
            return self.schema
        told = {kind: {"count": count, "example": example} for kind, (count, example) in self.skipped.items()}
        return self.schema.with_metadata({SKIPPED: json.dumps(told, sort_keys=True)})

    def end(self) -> None:
        """Say that the table is of these receipts, and that no output of an earlier plan is left."""
        if self._seals:
            seals = tagged(self._seals, map(self.target.info, self._seals))
            self.target.write(SEALS, json.dumps({FIELD: seals}).encode())
        self.drop([UNFINISHED])

    def drop(self, receipts: Iterable[str]) -> None:
        """Remove receipts that no longer count; they are gone for good before what they tell of changes."""
        gone = list(receipts)
        for key in gone:
            self.target.delete(key)
        sync_names(self.target, gone)

    def prune(self, orphans: Sequence[str], units: Iterable[Unit]) -> None:
        """Remove those of the orphans that are not outputs of `units` by now."""
        named = {row["output"] for row in self.rows(units)} if orphans else set()
        gone = [key for key in orphans if key not in named]
        for _ in ordered_map(self.target.delete, gone, workers=16):
            pass
        sync_names(self.target, gone)

    def _read(self, key: str) -> list[Row] | None:
        """The rows of a receipt, or None where there is none of this kind; StorageError where that is not known."""
        table = self._table(key)
        return None if table is None else table.to_pylist()

    def _table(self, key: str) -> pa.Table | None:
        data = self.target.read_if_there(key)
        if data is None:
            return None
        try:
            names = self.schema.names
            table = _with_later(read_parquet(data, names), self.schema).select(names).cast(self.schema)
            table.validate(full=True)
        except DAMAGED:
            return None
        return table


def _with_later(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table of an earlier version with the columns that came later, which are empty."""
    for field in schema:
        if field.name not in table.column_names and LATER in (field.metadata or {}):
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table


@dataclass(frozen=True)
class Record:
    """What a target says of its results: the address of their source, and the options they are made with."""

    source: object
    made_with: dict[str, Any]


@dataclass(frozen=True)
class Unfinished:
    """What a run that goes on has left for its end: what is to be removed then; by unit, what was there before."""

    orphans: list[str]
    there: dict[str, int]


def record_of(target: Location, listed: Entry | None = None) -> Record:
    """What a target says of its results, as far as it can be understood; listed: the file that says so, if known."""
    found = _json(target, SOURCE, listed)
    told = found if isinstance(found, dict) else {}
    made_with = told.get("made_with")
    return Record(told.get("source"), made_with if isinstance(made_with, dict) else {})


def unfinished(target: Location) -> Unfinished:
    """What a run that goes on has left for its end, as far as it can be understood."""
    found = _json(target, UNFINISHED)
    told = found if isinstance(found, dict) else {"orphans": found}  # a list of earlier versions
    orphans, there = told.get("orphans"), told.get("there")
    return Unfinished(
        [key for key in orphans if isinstance(key, str)] if isinstance(orphans, list) else [],
        {unit: count for unit, count in there.items() if isinstance(count, int)} if isinstance(there, dict) else {},
    )


def _json(target: Location, key: str, listed: Entry | None = None) -> Any:
    """What a file has as JSON; None where it is missing or damaged. Where it is listed, its size is not asked for."""
    try:
        if listed is not None and listed.size <= MAX_JSON:
            with suppress(ChangedError):
                return json.loads(target.fetch(listed))
        return json.loads(target.read_if_there(key, most=MAX_JSON) or b"null")
    except (ValueError, RecursionError):
        return None


def _planned(unit: Unit) -> pa.Table:
    """The rows of a unit in the plan."""
    count = len(unit.samples)
    columns = [
        [unit.name] * count,
        [unit.fingerprint] * count,
        [sample.key for sample in unit.samples],
        [sample.size for sample in unit.samples],
        [sample.etag for sample in unit.samples],
    ]
    return pa.table(columns, schema=PLAN)


def _write_tables(tables: Iterable[pa.Table], path: Path, schema: pa.Schema) -> None:
    """Write tables as one Parquet file, in groups of rows, without holding more than one group in memory."""
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        waiting: list[pa.Table] = []
        for table in tables:
            waiting.append(table)
            if sum(len(waited) for waited in waiting) >= ROW_GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))


def read_manifest(target: Location, columns: Sequence[str] | None = None) -> pa.Table | None:
    """What the last run over `target` made, or those of `columns` that it has; None where there was none."""
    return read_table(target, MANIFEST, columns)
