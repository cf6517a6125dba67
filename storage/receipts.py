"""Units and receipts: what is done, what is left, what failed.

A unit is the inputs of one task. Its receipt, written last, is a Parquet file with one row a sample, named after the
unit and its fingerprint, `TARGET/.dtls/receipts/UNIT-FINGERPRINT.parquet`: a change of inputs or options is another
name, so one listing tells what is left. A unit is done when its receipt is there and the outputs it names are there
with their sizes.
"""

import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.locations import Entry, Location, StorageError

STATE = ".dtls"
MANIFEST = "manifest.parquet"
FORMAT = 1
"""Part of every fingerprint: a new number redoes everything."""

Row = dict[str, Any]

SAMPLES = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False, metadata={"description": "the image's name in its source"}),
        pa.field("status", pa.string(), nullable=False, metadata={"description": "ok or failed"}),
        pa.field("reason", pa.string(), metadata={"description": "why it failed"}),
        pa.field("output", pa.string(), metadata={"description": "file that holds the result"}),
        pa.field("output_bytes", pa.int64(), metadata={"description": "size of that file in bytes"}),
        pa.field("sha256", pa.string(), metadata={"description": "of that file"}),
        pa.field("sample", pa.string(), metadata={"description": "key within a shard"}),
        pa.field("source_bytes", pa.int64(), metadata={"description": "size of the source in bytes"}),
        pa.field("width", pa.int32(), metadata={"description": "of the result, in pixels"}),
        pa.field("height", pa.int32(), metadata={"description": "of the result, in pixels"}),
        pa.field("seconds", pa.float64(), metadata={"description": "spent on this sample"}),
        pa.field("method", pa.string(), metadata={"description": "what made the result"}),
        pa.field("protocol", pa.string(), metadata={"description": "the downscaling the result stands on"}),
        pa.field("checkpoint", pa.string(), metadata={"description": "sha256 of the checkpoint"}),
    ]
)
"""One row a sample: the columns of receipts and of `manifest.parquet`."""


@dataclass(frozen=True)
class Unit:
    """The inputs of one task, and the fingerprint of all its outputs depend on."""

    name: str
    samples: tuple[Entry, ...]
    fingerprint: str

    @classmethod
    def of(cls, name: str, samples: Iterable[Entry], options: Mapping[str, Any]) -> "Unit":
        """A unit whose results depend on `options` (plain JSON values) and on its samples."""
        samples = tuple(samples)
        inputs = [[s.key, s.size, s.etag] for s in samples]
        content = json.dumps([FORMAT, name, dict(options), inputs], sort_keys=True, default=str)
        return cls(name, samples, hashlib.sha256(content.encode()).hexdigest()[:16])

    @property
    def receipt(self) -> str:
        return f"{STATE}/receipts/{self.name}-{self.fingerprint}.parquet"


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


class Receipts:
    """The receipts below a target."""

    def __init__(self, target: Location, schema: pa.Schema = SAMPLES) -> None:
        self.target, self.schema = target, schema

    def done(self, units: Iterable[Unit]) -> dict[str, list[Row]]:
        """The rows of each unit that is done, by its name; from one listing of the target."""
        sizes = {entry.key: entry.size for entry in self.target.list()}
        candidates = [unit for unit in units if unit.receipt in sizes]
        with ThreadPoolExecutor(16) as pool:
            rows = pool.map(lambda unit: self._read(unit.receipt), candidates)
            return {
                unit.name: found
                for unit, found in zip(candidates, rows, strict=True)
                if found is not None and len(found) == len(unit.samples) and _outputs_are_there(found, sizes)
            }

    def write(self, unit: Unit, rows: Sequence[Row]) -> None:
        """Say that `unit` is done; its outputs are in their places by now."""
        self.target.write(unit.receipt, _parquet(pa.Table.from_pylist(list(rows), self.schema)))

    def write_plan(self, units: Iterable[Unit]) -> None:
        """Keep the plan of the run beside its receipts."""
        rows = [
            {"unit": unit.name, "fingerprint": unit.fingerprint, "key": s.key, "size": s.size, "etag": s.etag}
            for unit in units
            for s in unit.samples
        ]
        self.target.write(f"{STATE}/plan.parquet", _parquet(pa.Table.from_pylist(rows)))

    def finish(self, units: Iterable[Unit], rows: Mapping[str, list[Row]], *, prune: bool) -> None:
        """Gather the rows into `manifest.parquet`, and drop the receipts of other plans.

        With `prune`, the outputs that only those name go too.
        """
        units = list(units)
        gathered = [row for unit in units for row in rows.get(unit.name, [])]
        current = {unit.receipt for unit in units}
        entries = self.target.list()
        stale = [e.key for e in entries if e.key.startswith(f"{STATE}/receipts/") and e.key not in current]
        if prune:
            kept = {row["output"] for row in gathered}
            old = {row["output"] for key in stale for row in self._read(key) or [] if row.get("output")}
            for key in sorted(old - kept):
                self.target.delete(key)
        for key in stale:
            self.target.delete(key)
        self.target.write(MANIFEST, _parquet(pa.Table.from_pylist(gathered, self.schema)))

    def _read(self, key: str) -> list[Row] | None:
        """The rows of a receipt, or None where it is no receipt of this kind."""
        try:
            return pq.read_table(io.BytesIO(self.target.read(key))).select(self.schema.names).to_pylist()
        except (StorageError, pa.ArrowException, KeyError):
            return None


def read_manifest(target: Location) -> pa.Table | None:
    """What the last run over `target` made, or None where there was none."""
    if not target.exists(MANIFEST):
        return None
    try:
        return pq.read_table(io.BytesIO(target.read(MANIFEST)))
    except pa.ArrowException as error:
        raise StorageError(f"{target.address(MANIFEST)}: not a Parquet file ({error})") from error


def failed(entry: Entry, reason: str) -> Row:
    """The row of a sample that came to nothing."""
    return {"key": entry.key, "status": "failed", "reason": reason, "source_bytes": entry.size}


def _outputs_are_there(rows: Iterable[Row], sizes: Mapping[str, int]) -> bool:
    return all(
        sizes.get(row["output"]) == row["output_bytes"]
        for row in rows
        if row["status"] == "ok" and row.get("output") is not None
    )


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
