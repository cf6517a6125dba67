"""How far a run over a target is, by what is stored there: its plan, its receipts, and the lease of the run."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from storage.parallel import ordered_map
from storage.receipts.owners import Owner, owner_of
from storage.receipts.parquet import DAMAGED, read_parquet
from storage.receipts.receipts import PLANNED, record_of, unfinished
from storage.receipts.survey import UNFINISHED
from storage.receipts.units import SKIPPED, Unit
from storage.stores.entry import STATE
from storage.stores.location import Location, StorageError

RECEIPTS = f"{STATE}/receipts/"


@dataclass
class RunStatus:
    """What is planned, and what of that is done.

    units and samples: in the plan; done: units whose receipts are there; ok, failed and skipped: samples of these.
    under_way: samples of other units whose results are there, while a run is active: the next one makes such units
    again. owner: who holds the lease, running or not.
    is_finished: the table of all is made, and nothing of earlier plans is left. reasons: of the failed samples, how
    many have each. examples: the first sample of each reason.
    """

    units: int
    samples: int
    owner: Owner | None
    is_finished: bool
    done: int = 0
    ok: int = 0
    failed: int = 0
    skipped: int = 0
    under_way: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def count(self, rows: Iterable[tuple[str, str, str | None]]) -> None:
        """Count in the rows of a receipt, each a key, a status and a reason."""
        self.done += 1
        for key, status, reason in rows:
            self.ok += status == "ok"
            self.skipped += status == SKIPPED
            if status == "failed":
                self.failed += 1
                why = reason or "for no known reason"
                self.reasons[why] += 1
                self.examples.setdefault(why, key)

    @property
    def left(self) -> int:
        """Samples that have neither a row nor a result yet."""
        return self.samples - self.ok - self.failed - self.skipped - self.under_way


def is_planned(target: Location, units: Iterable[Unit]) -> bool:
    """Whether these units are what was planned last for `target`."""
    return {*_planned(target)} == {unit.receipt.rpartition("/")[2] for unit in units}


Namer = Callable[[Sequence[str]], Callable[[str], str]]
"""From the sorted keys of a plan to the name of a result by its key."""


def standing(
    target: Location,
    workers: int,
    progress: Callable[[int], AbstractContextManager[Callable[[int], None]]],
    namer: Callable[[Mapping[str, Any]], Namer | None] = lambda _: None,
) -> RunStatus:
    """How far the run over `target` is; StorageError where no run has planned anything there.

    progress: is called with the number of receipts, for what is told of each that was read. namer: by the options
    that results are made with, what they are called, where each is a file of its own.
    """
    keys = {entry.key for entry in target.list()}
    if PLANNED not in keys:
        raise StorageError(f"{target}: no run has planned anything there")
    planned = _planned(target)
    current = [key for key in keys if _file_of(key) in planned]
    found = RunStatus(len(planned), sum(map(len, planned.values())), owner_of(target), UNFINISHED not in keys)
    with progress(len(current)) as advance:
        for key, rows in zip(current, ordered_map(lambda key: _rows(target, key), current, workers), strict=True):
            advance(1)
            if rows is not None:
                found.count(rows)
                del planned[_file_of(key)]
    is_active = found.owner is not None and not found.owner.is_dead
    if planned and is_active and not found.is_finished and (names := namer(record_of(target).made_with)) is not None:
        found.under_way = _under_way(planned, names, keys, unfinished(target).there)
    return found


def _under_way(planned: Mapping[str, list[str]], namer: Namer, keys: set[str], there: Mapping[str, int]) -> int:
    """How many results there are of the units in `planned`, by receipts, that were not `there` when the run began."""
    name = namer(sorted(chain.from_iterable(planned.values())))
    counts = {receipt.rpartition("-")[0]: sum(name(key) in keys for key in unit) for receipt, unit in planned.items()}
    return sum(max(0, count - there.get(unit, 0)) for unit, count in counts.items())


def _planned(target: Location) -> dict[str, list[str]]:
    """The keys of each unit of the plan, by the file of its receipt; see `Unit.receipt`."""
    try:
        table = read_parquet(target.read(PLANNED), ["unit", "fingerprint", "key"])
    except DAMAGED as error:
        raise StorageError(f"{target.address(PLANNED)}: not a readable plan; run the flow again") from error
    groups = table.group_by(["unit", "fingerprint"]).aggregate([("key", "list")])
    return {f"{row['unit']}-{row['fingerprint']}.parquet": row["key_list"] for row in groups.to_pylist()}


def _file_of(key: str) -> str:
    """A receipt's file below its flow's folder; empty for what is no receipt."""
    return key.removeprefix(RECEIPTS).partition("/")[2] if key.startswith(RECEIPTS) else ""


def _rows(target: Location, key: str) -> list[tuple[str, str, str | None]] | None:
    """The key, the status and the reason of each row of a receipt; None for one that is gone or damaged."""
    data = target.read_if_there(key)
    if data is None:
        return None
    try:
        table = read_parquet(data, ["key", "status", "reason", "error"])
        reason = "reason" if "reason" in table.column_names else "error"
        return list(zip(*(table[name].to_pylist() for name in ("key", "status", reason)), strict=True))
    except DAMAGED:
        return None
