"""A job: what a flow hands over to be done in units, and what a survey of its target leaves to do."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain
from pathlib import Path

from flows.engine.options import BatchOptions
from flows.interface.console import Advance
from storage.receipts.receipts import Receipts
from storage.receipts.survey import Stale, TargetState
from storage.receipts.units import Row, Unit, is_current, is_transient
from storage.stores.location import Entry, Location

Work = Callable[[Unit, Sequence[Entry], Advance], list[Row]]
"""Does some samples of a unit and returns a row for each; outputs are in their places by then."""


@dataclass(frozen=True)
class WorkerSpec:
    """How another process comes to the work. uses_gpu: it is for a GPU, where there is one.

    make: makes the work in the process that is to do it, which does so many units at once; to be pickled. trial:
    where units are made whole, what makes the work that tries a sample alone, its result in a folder that is thrown
    away.
    """

    make: Callable[[int], Work]
    uses_gpu: bool
    trial: Callable[[str], Callable[[int], Work]] | None = None


@dataclass(frozen=True)
class Job:
    """What a flow hands over: its plan, what to do with a unit, here or elsewhere, and where the receipts go.

    divisible: samples of a unit can be done again alone. again: whether one is to be, by its row. overwrite: results
    that were made with other options may be replaced. gather: makes the table of all rows, if that is not just all
    receipts in one. prepare: comes before the first work, if there is any. finish: comes after the last unit, if none
    came to nothing. output: the file of a sample's result by its key, where each has one. target: where results are,
    if not where the receipts are. also: what else is changed, and asked for like the target. reads_files: samples are
    made of files, one of which may kill the process; else a unit that was begun by runs that died is done as ever.
    """

    title: str
    units: Sequence[Unit]
    work: Work
    worker_spec: WorkerSpec
    receipts: Receipts
    divisible: bool = True
    again: Callable[[Row], bool] = lambda _: False
    overwrite: bool = True
    gather: Callable[[Iterable[Row], Path], None] | None = None
    prepare: Callable[[], object] = lambda: None
    finish: Callable[[], object] = lambda: None
    output: Callable[[str], str] | None = None
    target: str | None = None
    also: Sequence[Location] = ()
    reads_files: bool = True

    @property
    def address(self) -> str:
        """Where the results are, for people."""
        return self.target or str(self.receipts.target)


@dataclass(frozen=True)
class Remaining:
    """What a survey leaves to do of a job; with `retry_failed`, failures of earlier runs, too."""

    job: Job
    survey: TargetState
    retry_failed: bool

    @classmethod
    def of(cls, job: Job, options: BatchOptions) -> "Remaining":
        survey = job.receipts.survey(job.units, job.divisible, job.output, job.again)
        return cls(job, survey, options.retry_failed)

    def __bool__(self) -> bool:
        return bool(self.todo or self.survey.stale or self.survey.orphans or not self.survey.gathered)

    @cached_property
    def todo(self) -> list[Unit]:
        """The units that are not done, or hold failures that are to be tried again."""
        done = self.survey.done
        return [unit for unit in self.job.units if unit.name not in done or any(map(self._again, done[unit.name]))]

    @property
    def others(self) -> set[str]:
        """The results that would be replaced, as they were made with other options."""
        rows = chain.from_iterable(self.survey.done.values())
        return {
            *self.survey.replaced,
            *(row["output"] for row in rows if row["status"] == "ok" and self.job.again(row)),
        }

    @property
    def samples(self) -> list[Entry]:
        """The samples to be done."""
        return [sample for unit in self.todo for sample in self.samples_of(unit)]

    def samples_of(self, unit: Unit) -> list[Entry]:
        """The samples of a unit that are to be done."""
        if not self.job.divisible:
            return list(unit.samples)
        if unit.name in self.survey.done:
            again = {row["key"] for row in self.survey.done[unit.name] if self._again(row)}
            return [sample for sample in unit.samples if sample.key in again]
        return [sample for sample in unit.samples if not self._is_kept(unit, sample)]

    def rows_of(self, unit: Unit) -> list[Row]:
        """The rows that there are of a unit's samples; those that are done again among them."""
        if unit.name in self.survey.done:
            return self.job.receipts.read(unit)
        return [self.survey.kept[sample.key] for sample in unit.samples if sample.key in self.survey.kept]

    def _again(self, row: Row) -> bool:
        is_to_be_retried = self.retry_failed and row["status"] == "failed"
        return is_to_be_retried or is_transient(row) or self.job.again(row)

    def _is_kept(self, unit: Unit, sample: Entry) -> bool:
        """Whether there is a result of this very sample from another unit, in the place where this one has it."""
        row = self.survey.kept.get(sample.key)
        if row is None or not is_current(row, sample, unit) or self.job.again(row):
            return False
        return self.job.output is None or row["output"] == self.job.output(sample.key)


def outdated(todo: Iterable[Unit], stale: Sequence[Stale]) -> dict[str, list[str]]:
    """By the names of the units to do, the stale receipts whose outputs may be theirs: of one name, or of one key."""
    if not stale:
        return {}
    keys = ((unit.name, [sample.key for sample in unit.samples]) for unit in todo)
    units = sorted((min(found), max(found), name) for name, found in keys)
    firsts, names = [first for first, _, _ in units], {name for _, _, name in units}
    lasts = list(accumulate((last for _, last, _ in units), max))
    shared: dict[str, list[str]] = {}
    for old in stale:
        near = units[bisect_left(lasts, old.first) : bisect_right(firsts, old.last)]
        for name in {name for _, last, name in near if last >= old.first} | ({old.unit} & names):
            shared.setdefault(name, []).append(old.receipt)
    return shared
