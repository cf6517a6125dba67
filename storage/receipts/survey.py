"""What one listing of a target, and its receipts, say of a plan: what is done, what is left, what is in the way."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from storage.receipts.lease import is_stale
from storage.receipts.units import ATTEMPTS, Row, Unit, is_current, is_plain, unit_name
from storage.stores.entry import LINK_OUT, STATE, UNLISTED, is_named_only
from storage.stores.folding import folded
from storage.stores.location import Entry, Location, StorageError

UNFINISHED = f"{STATE}/unfinished"
"""There from before the first work of a run until its table is gathered and nothing of an earlier plan is left."""


def list_target(target: Location) -> list[Entry]:
    """The files below a target; StorageError where links lead to other folders, or a folder cannot be listed.

    What is written or removed by such a name would not be at the target.
    """
    entries = target.list()
    if bad := next((entry for entry in entries if is_named_only(entry) and entry.etag != LINK_OUT), None):
        if bad.etag.startswith(UNLISTED):
            why = bad.etag.removeprefix(UNLISTED)
            raise StorageError(f"{target.address(bad.key)}: cannot be listed ({why}); make it readable")
        raise StorageError(
            f"{target.address(bad.key)}: a link to another folder, and a target has none; put that folder in its "
            "place, or choose another target"
        )
    return entries


@dataclass(frozen=True)
class Stale:
    """A receipt that is not in the plan: the unit it was of, and the first and the last of its keys."""

    receipt: str
    unit: str
    first: str
    last: str


@dataclass(frozen=True)
class TargetState:
    """What one listing of a target says of a plan."""

    done: dict[str, list[Row]]
    """By the name of each unit that is done, the rows of its samples that are no plain results, such as failures."""
    stale: tuple[Stale, ...]
    """Receipts that are not in the plan."""
    kept: dict[str, Row]
    """By key, the rows of other receipts whose outputs are there: what need not be made again if nothing changed."""
    gathered: bool = False
    """Whether the table of all rows is there, as the last run left it, and of these receipts."""
    leftovers: tuple[str, ...] = ()
    """What a killed run may have left behind: temporary files, its lease."""
    nested: tuple[str, ...] = ()
    """Folders below the target that are targets themselves."""
    orphans: tuple[str, ...] = ()
    """Outputs that no receipt of the plan names: of units that are gone, and of images that now become others."""
    there: Mapping[str, int] = field(default_factory=dict)
    """By the names of units that are to be done, how many outputs are in the places of those to come."""
    replaced: tuple[str, ...] = ()
    """Outputs that were made with other options, and that the run would replace or remove."""
    made_with: Mapping[str, Any] = field(default_factory=dict)
    """The options that the target says its outputs were made with, if it says so."""
    unfinished: bool = False
    """Whether an earlier run did not come to its end."""
    attempts: tuple[str, ...] = ()
    """The marks of units that were begun in a run after one that did not come to its end, and were not left."""


@dataclass(frozen=True)
class Before:
    """The options that a target says its outputs were made with; empty where it does not say.

    is_agreed: they are those of the run, so that what was made with others is what an earlier run left to replace.
    """

    made_with: Mapping[str, Any]
    is_agreed: bool


def check_foreign(target: Location, files: Iterable[str], maker: str = "dtls") -> None:
    """StorageError where there are files at a target which a run would overwrite or take for its own."""
    if found := sorted(files):
        more = f", nor are {len(found) - 1:,} others" if len(found) > 1 else ""
        raise StorageError(
            f"{target}: {found[0]} is there already, and not made by {maker}{more}; choose another folder, "
            "or move away what is there"
        )


@dataclass(frozen=True)
class Plan:
    """The units of a run, and where their outputs would go: see `Receipts`, and its `survey`."""

    units: Sequence[Unit]
    divisible: bool
    output: Callable[[str], str] | None
    again: Callable[[Row], bool]
    manifest: str
    outputs: re.Pattern[str] | None
    before: Before

    def check_foreign_files(self, target: Location, sizes: Mapping[str, int]) -> None:
        """StorageError where there are files at a new target that the run would overwrite, or take for its own."""
        check_foreign(target, self._foreign_files(target, sizes))

    def _foreign_files(self, target: Location, sizes: Mapping[str, int]) -> set[str]:
        """The files in the places of outputs, also those that a disk which folds names has under another spelling."""
        spelled = {folded(key): key for key in sizes}
        found = set()
        for place in self._places(sizes):
            there = spelled.get(folded(place))
            if place in sizes:
                found.add(place)
            elif there is not None and target.exists(place):
                found.add(there)
        return found

    def _places(self, sizes: Mapping[str, int]) -> Iterator[str]:
        yield self.manifest
        if self.outputs is not None:
            yield from filter(self.outputs.fullmatch, sizes)
        if self.output is not None and sizes:
            yield from (self.output(sample.key) for unit in self.units for sample in unit.samples)

    def survey(self, sizes: Mapping[str, int], receipts: Iterable[tuple[str, list[Row] | None]]) -> TargetState:
        """What the files of a target, by their sizes, and the rows of its receipts say of the plan.

        A unit is done when the receipt of its fingerprint is there, and the outputs it names are, with their sizes.
        """
        planned = {unit.receipt: unit for unit in self.units}
        options = self._options if self.divisible else set()
        done: dict[str, list[Row]] = {}
        kept: dict[str, Row] = {}
        stale: list[Stale] = []
        named: set[str] = set()
        others: dict[str, str] = {}
        earlier = _Earlier()
        for key, rows in receipts:
            made = [row for row in rows or [] if row["status"] == "ok"]
            there = [row for row in made if _output_is_there(row, sizes)]
            if key in planned and rows is not None and len(there) == len(made):
                done[planned[key].name] = [row for row in rows if not is_plain(row)]
                named |= {row["output"] for row in made} if self.outputs else set()
                continue
            kept |= {row["key"]: row for row in there if row.get("options") in options}
            others |= {row["output"]: row["key"] for row in there if self._is_made_again(row)}
            if key not in planned:
                keys = [row["key"] for row in rows or []]
                stale.append(Stale(key, unit_name(key), min(keys, default=""), max(keys, default="")))
                still = [row for row in rows or [] if row.get("output") in sizes]
                earlier.note(still, self._output_of)
                others |= {row["output"]: row["key"] for row in still if self._is_other(row, key)}
        orphans = {key for key in sizes if self.outputs and self.outputs.fullmatch(key)}
        taken = self._taken(sizes, done, kept)
        unclear = taken.values() if self.before.made_with and not self.before.is_agreed else ()
        orphans = (orphans | earlier.replaced(self.units)) - named
        nested = _nested(sizes)
        return TargetState(
            done,
            stale=tuple(stale),
            kept=kept,
            leftovers=tuple(key for key in sizes if is_stale(key) and not key.startswith(_folders(nested))),
            nested=nested,
            orphans=tuple(sorted(orphans)),
            there={unit: len(places) for unit, places in taken.items()},
            replaced=tuple(sorted(self._replaced(others, orphans).union(*unclear))),
            made_with=self.before.made_with,
            unfinished=UNFINISHED in sizes,
            attempts=tuple(key for key in sizes if key.startswith(ATTEMPTS)),
        )

    def _is_other(self, row: Row, receipt: str) -> bool:
        """Whether a row of a receipt that is not in the plan tells of other options than those of the plan."""
        if self.before.is_agreed:
            return False
        if self.divisible:
            return row.get("options") not in self._options
        if self.before.made_with:
            return True
        return unit_name(receipt) in self._names and row.get("options") not in self._options

    def _is_made_again(self, row: Row) -> bool:
        return row.get("options") in self._options and row.get("output") is not None and self.again(row)

    def _replaced(self, others: Mapping[str, str], orphans: set[str]) -> set[str]:
        """Those of the `others`, keys by outputs, that do not stay as those of images that are gone do."""
        if not others:
            return set()
        planned = {sample.key for unit in self.units for sample in unit.samples}
        return {output for output, key in others.items() if output in orphans or key in planned}

    def _taken(
        self, sizes: Mapping[str, int], done: Mapping[str, list[Row]], kept: Mapping[str, Row]
    ) -> dict[str, set[str]]:
        """By the names of units that are to be done, the outputs in the places of those to come.

        Without a receipt they are of a run that was stopped, else of other options, or of sources that changed.
        """
        if self.output is None:
            return {}
        found = {
            unit.name: {
                place
                for sample in unit.samples
                if (place := self.output(sample.key)) in sizes and not _is_current(kept, sample, unit)
            }
            for unit in self.units
            if unit.name not in done
        }
        return {unit: places for unit, places in found.items() if places}

    @cached_property
    def _options(self) -> set[str]:
        return {unit.options for unit in self.units}

    @cached_property
    def _names(self) -> set[str]:
        return {unit.name for unit in self.units}

    def _output_of(self, key: str) -> str | None:
        return self.output(key) if self.output is not None else None


@dataclass
class _Earlier:
    """Outputs of earlier plans that this one gives another name."""

    keys: dict[str, set[str]] = field(default_factory=dict)
    """The keys of the samples in each."""

    def note(self, rows: Iterable[Row], output_of: Callable[[str], str | None]) -> None:
        for row in rows:
            if row["output"] != output_of(row["key"]):
                self.keys.setdefault(row["output"], set()).add(row["key"])

    def replaced(self, units: Sequence[Unit]) -> set[str]:
        """Those whose every image is in the plan; results of images that are gone stay."""
        if not self.keys:
            return set()
        planned = {sample.key for unit in units for sample in unit.samples}
        return {output for output, keys in self.keys.items() if keys <= planned}


def _nested(keys: Iterable[str]) -> tuple[str, ...]:
    """The folders in a listing of a target that are targets themselves."""
    inner = (key.partition(f"/{STATE}/") for key in keys if f"/{STATE}/" in key)
    return tuple(sorted({folder for folder, _, _ in inner}))


def _is_current(kept: Mapping[str, Row], sample: Entry, unit: Unit) -> bool:
    return (row := kept.get(sample.key)) is not None and is_current(row, sample, unit)


def _folders(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{name}/" for name in names)


def _output_is_there(row: Row, sizes: Mapping[str, int]) -> bool:
    return row.get("output") is None or sizes.get(row["output"]) == row["output_bytes"]
