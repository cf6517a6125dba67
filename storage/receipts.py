"""Units and receipts: what is done, what is left, what failed.

A unit is the inputs of one task. Its receipt, written last, is a Parquet file with one row a sample, named after the
unit and its fingerprint: `TARGET/.dtls/receipts/FLOW/UNIT-FINGERPRINT.parquet`. A change of inputs or options is
another name, so one listing tells what is left. A unit is done when its receipt is there, and the outputs it names
are there with their sizes.
"""

import hashlib
import io
import json
import zlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.leases import STATE, is_left_over
from storage.locations import TEMPORARY, Entry, Location, StorageError
from storage.parallel import ordered_map
from storage.schemas import PLAN, SAMPLES

SOURCE = f"{STATE}/source.json"
MANIFEST = "manifest.parquet"
ROW_GROUP = 16_384
DAMAGED = (OSError, ValueError, KeyError, pa.ArrowException)
"""What pyarrow raises for bytes that are no whole Parquet file, or not of the schema."""
FORMAT = 1
"""Part of every fingerprint: a new number redoes everything."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Unit:
    """The inputs of one task, and the fingerprint of all its outputs depend on."""

    flow: str
    name: str
    samples: tuple[Entry, ...]
    fingerprint: str
    options: str

    @classmethod
    def of(cls, flow: str, name: str, samples: Iterable[Entry], options: Mapping[str, Any]) -> "Unit":
        """A unit whose results depend on `options` (plain JSON values) and on its samples."""
        samples = tuple(samples)
        inputs = [[s.key, s.size, s.etag] for s in samples]
        made_with = _fingerprint([FORMAT, flow, dict(options)])
        return cls(flow, name, samples, _fingerprint([made_with, name, inputs]), made_with)

    @property
    def receipt(self) -> str:
        return f"{STATE}/receipts/{self.flow}/{self.name}-{self.fingerprint}.parquet"


def cut_evenly(entries: Sequence[Entry], count: int) -> Iterator[tuple[Entry, ...]]:
    """Cuts of exactly `count` entries, the last one apart."""
    for start in range(0, len(entries), count):
        yield tuple(entries[start : start + count])


def cut_by_key(entries: Sequence[Entry], about: int) -> Iterator[tuple[Entry, ...]]:
    """Cuts of `about` entries that stay where they are when others come and go.

    A cut ends after a key whose checksum is a multiple of `about`, or after 2·`about` entries, so that an added or
    a removed picture changes the cut it is in and at worst a few after it.
    """
    start = 0
    for end, entry in enumerate(entries, 1):
        if end == len(entries) or end - start == 2 * about or zlib.crc32(entry.key.encode()) % about == 0:
            yield tuple(entries[start:end])
            start = end


@dataclass(frozen=True)
class Survey:
    """What one listing of a target says of a plan."""

    done: dict[str, list[Row]]
    """The rows of failed samples of each unit that is done, by the unit's name."""
    stale: tuple[str, ...]
    """Receipts of units that are not in the plan."""
    kept: dict[str, Row]
    """By key, the rows of other receipts whose outputs are there: what need not be made again if nothing changed."""
    gathered: bool
    """Whether the table of all rows is there."""
    leftovers: tuple[str, ...] = ()
    """What a killed run may have left behind: temporary files, its lease."""


class Receipts:
    """The receipts below a target, and the table `manifest` that gathers them.

    With `source`, the address that the results are made from, a target takes the results of no other.
    """

    def __init__(
        self,
        target: Location,
        flow: str,
        schema: pa.Schema = SAMPLES,
        manifest: str = MANIFEST,
        source: str | None = None,
    ) -> None:
        self.target, self.flow, self.schema, self.manifest, self.source = target, flow, schema, manifest, source

    def survey(self, units: Iterable[Unit]) -> Survey:
        """Which units are done; a receipt whose outputs are missing or of another size does not count.

        StorageError where the target belongs to another flow, or to another source.
        """
        sizes = {entry.key: entry.size for entry in self.target.list()}
        planned = {unit.receipt: unit for unit in units}
        receipts = [key for key in sizes if key.startswith(f"{STATE}/receipts/") and not TEMPORARY.fullmatch(key)]
        if others := {key.split("/")[2] for key in receipts} - {self.flow}:
            raise StorageError(
                f"{self.target}: holds the results of {', '.join(sorted(others))}; choose another folder"
            )
        if SOURCE in sizes:
            self._refuse_other_source()

        done: dict[str, list[Row]] = {}
        kept: dict[str, Row] = {}
        for key, rows in zip(receipts, ordered_map(self._read, receipts, workers=16), strict=True):
            made = [row for row in rows or [] if row["status"] == "ok"]
            there = [row for row in made if _output_is_there(row, sizes)]
            if key in planned and rows is not None and len(there) == len(made):
                done[planned[key].name] = [row for row in rows if row["status"] != "ok"]
            else:
                kept |= {row["key"]: row for row in there}
        stale = tuple(key for key in receipts if key not in planned)
        return Survey(done, stale, kept, self.manifest in sizes, tuple(filter(is_left_over, sizes)))

    def _refuse_other_source(self) -> None:
        try:
            source = json.loads(self.target.read(SOURCE))["source"]
        except (ValueError, TypeError, KeyError):
            source = None
        if self.source is not None and source not in (None, self.source):
            raise StorageError(
                f"{self.target}: holds the results of {source}, and a target is for one source; choose another "
                f"folder, or remove {SOURCE} there if {self.source} is the same source at a new address"
            )

    def write(self, unit: Unit, rows: Sequence[Row]) -> None:
        """Say that `unit` is done; its outputs are in their places by now."""
        buffer = io.BytesIO()
        columns = [[row.get(name) for row in rows] for name in self.schema.names]
        pq.write_table(pa.table(columns, schema=self.schema), buffer, compression="zstd")
        self.target.write(unit.receipt, buffer.getvalue())

    def read(self, unit: Unit) -> list[Row]:
        """The rows of a unit, none where it has no receipt."""
        return self._read(unit.receipt) or []

    def rows(self, units: Iterable[Unit]) -> Iterator[Row]:
        """The rows of all `units`, in their order, without holding more than a few receipts in memory."""
        for rows in ordered_map(self.read, units, workers=16):
            yield from rows

    def write_plan(self, units: Iterable[Unit]) -> None:
        """Keep the plan of the run beside its receipts, and the address of its source."""
        if self.source is not None:
            self.target.write(SOURCE, json.dumps({"source": self.source}).encode())
        with self.target.writing(f"{STATE}/plan.parquet") as path:
            _write_tables(map(_planned, units), path, PLAN)

    def gather(self, units: Iterable[Unit], write: Callable[[Iterable[Row], Path], None] | None = None) -> None:
        """Make one table of all rows, and put it at the target as `manifest`; with `write`, let that make it."""
        with self.target.writing(self.manifest) as path:
            if write is not None:
                write(self.rows(units), path)
            else:
                tables = ordered_map(lambda unit: self._table(unit.receipt), units, workers=16)
                _write_tables(filter(None, tables), path, self.schema)

    def drop(self, stale: Iterable[str], kept: Container[str] | None = None) -> None:
        """Remove the receipts of other plans; with `kept`, their outputs too, but for those in it."""
        for key in stale:
            if kept is not None:
                for output in {row["output"] for row in self._read(key) or [] if row["output"]}:
                    if output not in kept:
                        self.target.delete(output)
            self.target.delete(key)

    def _read(self, key: str) -> list[Row] | None:
        """The rows of a receipt, or None where there is none of this kind; StorageError where that is not known."""
        table = self._table(key)
        return None if table is None else table.to_pylist()

    def _table(self, key: str) -> pa.Table | None:
        try:
            data = self.target.read(key)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        try:
            table = pq.read_table(io.BytesIO(data)).select(self.schema.names).cast(self.schema)
            table.validate(full=True)
        except DAMAGED:
            return None
        return table


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


def read_manifest(target: Location) -> pa.Table | None:
    """What the last run over `target` made, or None where there was none."""
    if not target.exists(MANIFEST):
        return None
    data = target.read(MANIFEST)
    try:
        return pq.read_table(io.BytesIO(data))
    except DAMAGED as error:
        reason = " ".join(str(error).split())
        raise StorageError(f"{target.address(MANIFEST)}: not a readable Parquet file ({reason})") from error


def failed(entry: Entry, reason: str) -> Row:
    """The row of a sample that came to nothing."""
    return {"key": entry.key, "status": "failed", "reason": reason, "source_bytes": entry.size}


def is_current(row: Row, entry: Entry, unit: Unit) -> bool:
    """Whether a row tells of this very source, made with this unit's options."""
    made_of = (row.get("source_bytes"), row.get("source_tag"), row.get("options"))
    return made_of == (entry.size, entry.etag, unit.options)


def _output_is_there(row: Row, sizes: Mapping[str, int]) -> bool:
    return row.get("output") is None or sizes.get(row["output"]) == row["output_bytes"]


def _fingerprint(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
