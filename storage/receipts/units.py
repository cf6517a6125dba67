"""Units, the inputs of one task each, with a fingerprint of what their outputs depend on; and rows, one a sample."""

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from storage.receipts.schemas import SampleRow
from storage.stores.entry import STATE
from storage.stores.location import ChangedError, Entry

ATTEMPTS = f"{STATE}/attempt-"
"""What the names of marks begin with, by which a run after one that did not come to its end says what it is at."""
FORMAT = 1
"""Part of every fingerprint: a new number redoes everything."""

Row = dict[str, Any]
T = TypeVar("T")

SKIPPED = "skipped"
"""The status of what an option leaves out: it is told, and no failure."""
COPIED = "copied, as it is no smaller than the size wanted"
CROPPED = "edges beyond a multiple of the scale"
"""Notes of results that an option makes exceptions of."""


class SkippedError(Exception):
    """An image that an option leaves out."""


@dataclass(frozen=True)
class Unit:
    """The inputs of one task, and the fingerprint of all its outputs depend on.

    names: of the outputs of those of its keys whose outputs are named otherwise than the options say. refused: why
    some of its samples are not to be read, by their keys: what reads them does not come back, or takes its process
    with it.
    """

    flow: str
    name: str
    samples: tuple[Entry, ...]
    fingerprint: str
    options: str
    names: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        flow: str,
        name: str,
        samples: Iterable[Entry],
        options: Mapping[str, Any],
        names: Mapping[str, str] = MappingProxyType({}),
    ) -> "Unit":
        """A unit whose results depend on `options` (plain JSON values) and on its samples; names: those of all."""
        samples = tuple(samples)
        own = {s.key: names[s.key] for s in samples if s.key in names} if names else {}
        inputs = [[s.key, s.size, s.etag, *([own[s.key]] if s.key in own else [])] for s in samples]
        made_with = fingerprint_of(flow, options)
        return cls(flow, name, samples, _fingerprint([made_with, name, inputs]), made_with, own)

    @property
    def receipt(self) -> str:
        return f"{STATE}/receipts/{self.flow}/{self.name}-{self.fingerprint}.parquet"

    @property
    def attempt(self) -> str:
        """The mark that the unit is being done, where it may kill the process."""
        return f"{ATTEMPTS}{self.fingerprint}"


def fingerprint_of(flow: str, options: Mapping[str, Any]) -> str:
    """What changes when the options of a flow do."""
    return _fingerprint([FORMAT, flow, dict(options)])


def unit_name(receipt: str) -> str:
    """The name of the unit that a receipt is of, by the receipt's key."""
    return receipt.split("/", 3)[3].rpartition("-")[0]


def cut_evenly(entries: Sequence[T], count: int) -> Iterator[tuple[T, ...]]:
    """Cuts of exactly `count` entries, the last one apart."""
    for start in range(0, len(entries), count):
        yield tuple(entries[start : start + count])


def cut_by_key(entries: Sequence[Entry], about: int) -> Iterator[tuple[Entry, ...]]:
    """Cuts of `about` entries that stay where they are when others come and go.

    A cut ends after a key whose checksum is a multiple of `about`, or after 2·`about` entries, so that an added or
    a removed image changes the cut it is in and at worst a few after it.
    """
    start = 0
    for end, entry in enumerate(entries, 1):
        if end == len(entries) or end - start == 2 * about or zlib.crc32(entry.key.encode()) % about == 0:
            yield tuple(entries[start:end])
            start = end


def failed(entry: Entry, error: Exception | str) -> Row:
    """The row of a sample that came to nothing; one that changed under our hands has no tag, and is tried again."""
    row: SampleRow = {"key": entry.key, "status": "failed", "reason": str(error), "source_bytes": entry.size}
    return {**row, "source_tag": None} if isinstance(error, ChangedError) else {**row}


def skipped(entry: Entry, reason: SkippedError) -> Row:
    """The row of a sample that an option leaves out."""
    return {"key": entry.key, "status": SKIPPED, "reason": str(reason), "source_bytes": entry.size}


def is_plain(row: Row) -> bool:
    """Whether a row tells of a result like all others."""
    return row["status"] == "ok" and not {COPIED, CROPPED} & {*(row.get("note") or "").split("; ")}


def is_transient(row: Row) -> bool:
    """Whether a failure says nothing of the source as it was listed."""
    return "source_tag" in row and row["source_tag"] is None


def is_current(row: Row, entry: Entry, unit: Unit) -> bool:
    """Whether a row tells of this very source, made with this unit's options."""
    made_of = (row.get("source_bytes"), row.get("source_tag"), row.get("options"))
    return made_of == (entry.size, entry.etag, unit.options)


def _fingerprint(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
