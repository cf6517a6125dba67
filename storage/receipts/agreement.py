"""Whether the tables of a target say what its receipts say: the plan, and the table of all rows, column by column.

Memory holds a line a row, and the rows themselves only of what is told.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

from storage.receipts.parquet import DAMAGED, batches_of, read_parquet
from storage.receipts.receipts import MANIFEST
from storage.receipts.units import Row
from storage.stores.entry import STATE
from storage.stores.location import Location

SHOWN, COLUMNS = 20, 3
"""Rows of a table that are told of, and columns of each, at most."""
UNREADABLE = "not a readable Parquet file"
Told = tuple[str, str, int]
"""What is remembered of a row: its key, its status, and a number that all of its values give."""


@dataclass(frozen=True)
class Gathered:
    """The table that a flow makes of its receipts: its name, and how the key in a receipt follows from a row of it.

    without: columns of receipts that it does not take over.
    """

    name: str = MANIFEST
    key_of: Callable[[Row], str] = itemgetter("key")
    without: frozenset[str] = frozenset()


@dataclass
class Agreement:
    """What receipts say of rows and inputs, to be compared with the tables of the target."""

    target: Location
    flow: str
    gathered: Gathered
    rows: Counter[Told] = field(default_factory=Counter)
    inputs: dict[str, int] = field(default_factory=dict)
    """By receipt, a number that the keys, sizes and tags of its inputs give."""
    unreadable: set[str] = field(default_factory=set)
    """Receipts that nobody can read: what tables say of theirs is not known to be wrong."""
    _order: bytes = b""

    def add(self, receipt: str, rows: list[Row]) -> None:
        """Take in the rows of a receipt."""
        self.rows.update(self._told(row) for row in rows)
        self.inputs[receipt] = hash(repr([_input(row) for row in rows]))

    def plan(self, name: str) -> Iterator[str]:
        """What the plan says otherwise than the receipts."""
        order, seen, lacking = hashlib.sha256(), set[str](), list[str]()
        with self.target.as_file(name) as path:
            try:
                planned = (row for batch in batches_of(path) for row in batch.to_pylist())
                for (unit, fingerprint), group in groupby(planned, itemgetter("unit", "fingerprint")):
                    rows = list(group)
                    receipt = f"{STATE}/receipts/{self.flow}/{unit}-{fingerprint}.parquet"
                    if receipt in self.unreadable:
                        continue
                    if receipt not in self.inputs:
                        lacking.append(unit)
                        continue
                    if receipt in seen:
                        yield f"has the unit {unit} more than once"
                    seen.add(receipt)
                    order.update(_sequence(row["key"] for row in rows))
                    if hash(repr([(row["key"], row["size"], row["etag"]) for row in rows])) != self.inputs[receipt]:
                        yield from self._other_inputs(receipt, rows)
            except DAMAGED:
                yield UNREADABLE
                return
        if lacking:
            yield f"has {_counted(lacking, 'unit')} without a receipt"
        if left := sorted(self.inputs.keys() - seen):
            yield f"lacks the {_counted(left, 'unit')} of receipts"
        self._order = order.digest()

    def table(self, name: str) -> Iterator[str]:
        """What the table of all rows says otherwise than the receipts; `plan` comes before."""
        left, order = self.rows.copy(), hashlib.sha256()
        unlike: list[Row] = []
        with self.target.as_file(name) as path:
            try:
                for row in (row for batch in batches_of(path) for row in batch.to_pylist()):
                    row["key"] = self.gathered.key_of(row)
                    order.update(_sequence([row["key"]]))
                    told = self._told(row)
                    left[told] -= 1
                    if left[told] < 0 and len(unlike) < SHOWN:
                        unlike.append(row)
            except DAMAGED:
                yield UNREADABLE
                return
        if not any(left.values()):
            if self._order and self._order != order.digest():
                yield "has its rows in another order than the plan"
            return
        yield from self._other_rows(+left, -left, unlike)

    def _other_rows(self, lost: Counter[Told], more: Counter[Told], unlike: list[Row]) -> Iterator[str]:
        """What is said of rows that only the receipts, or only the table has."""
        changed = {key for key, _, _ in lost} & {key for key, _, _ in more}
        receipts = self._rows_of(changed & {row["key"] for row in unlike})
        for row in unlike:
            if row["key"] in receipts:
                yield f"{row['key']}: {_difference(row, receipts[row['key']])}"
        if rest := len(changed) - len(receipts):
            yield f"{rest:,} more rows do not match their receipts"
        if gone := [told for told in lost.elements() if told[0] not in changed]:
            yield f"lacks {_rows(gone)} of the receipts"
        others = [told for told in more.elements() if told[0] not in changed]
        if doubled := [told for told in others if told in self.rows]:
            yield f"has {_rows(doubled)} more than once"
        if (strange := [told for told in others if told not in self.rows]) and not self.unreadable:
            yield f"has {_rows(strange)} of no receipt"

    def _other_inputs(self, receipt: str, planned: list[Row]) -> Iterator[str]:
        """In what the inputs of a unit are others in the plan than in its receipt, as far as that knows them."""
        made = [_input(row) for row in read_parquet(self.target.read(receipt)).to_pylist()]
        if [key for key, _, _ in made] != [row["key"] for row in planned]:
            yield f"has other keys in {planned[0]['unit']} than its receipt"
            return
        for row, (key, size, tag) in zip(planned, made, strict=True):
            told = {"size": size, "etag": tag}
            said = {name: row[name] for name, value in told.items() if value is not None}
            if said != {name: told[name] for name in said}:
                yield f"{key}: {_difference(said, told)}"

    def _rows_of(self, keys: set[str]) -> dict[str, Row]:
        """By key, what receipts say of some keys."""
        found: dict[str, Row] = {}
        for receipt in self.inputs if keys else ():
            rows = read_parquet(self.target.read(receipt)).to_pylist()
            found |= {row["key"]: row for row in rows if row["key"] in keys}
            if len(found) == len(keys):
                break
        return {key: self._taken_over(row) for key, row in found.items()}

    def _told(self, row: Row) -> Told:
        return row["key"], row["status"], hash(tuple(sorted(self._taken_over(row).items())))

    def _taken_over(self, row: Row) -> Row:
        """The values of a row, without those that are none: earlier versions lack columns that came later."""
        return {name: v for name, v in row.items() if name not in self.gathered.without and not _is_none(v)}


def _input(row: Row) -> tuple[str, int | None, str | None]:
    return row["key"], row.get("source_bytes"), row.get("source_tag")


def _is_none(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _difference(row: Mapping[str, object], receipt: Mapping[str, object]) -> str:
    """In what a row differs from that of a receipt."""
    names = [name for name in {**receipt, **row} if _plain(row.get(name)) != _plain(receipt.get(name))]
    shown = ((name, _plain(row.get(name)), _plain(receipt.get(name))) for name in names[:COLUMNS])
    more = [f"{len(names) - COLUMNS} more columns"] if len(names) > COLUMNS else []
    return "; ".join([*(f"{name} {value}, where its receipt says {right}" for name, value, right in shown), *more])


def _plain(value: object) -> object:
    return "none" if _is_none(value) else value


def _sequence(keys: Iterator[str] | list[str]) -> bytes:
    return b"".join(f"{key}\0".encode() for key in keys)


def _counted(names: list[str], noun: str) -> str:
    more = ", …" if len(names) > 1 else ""
    return f"{len(names):,} {noun}{'s' if len(names) > 1 else ''} ({names[0]}{more})"


def _rows(rows: list[Told]) -> str:
    key, status, _ = min(rows)
    more = ", …" if len(rows) > 1 else ""
    return f"{len(rows):,} row{'s' if len(rows) > 1 else ''} ({key}, {status}{more})"
