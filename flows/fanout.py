"""Units in, receipts out: what is planned and not yet done is worked on, a bounded number at a time.

Inside a Prefect flow run each unit is a task of it; elsewhere, a thread's. A bad sample never stops a unit, a bad
unit never stops the run, and the run fails only after all that could be done is done. Whoever works on a target
holds its lease; a run that finds nothing to do writes nothing.
"""

import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from threading import Event
from typing import Any, Self

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, wait

from flows.console import Advance, in_flow_run, progress, publish, tell
from flows.options import BatchOptions
from flows.summary import Summary, reason_of
from storage.leases import Lease, hold, is_free, sweep
from storage.locations import Entry, StorageError, UnavailableError
from storage.receipts import Receipts
from storage.survey import Stale, Survey
from storage.units import Row, Unit, is_current, is_passing

Work = Callable[[Unit, Sequence[Entry], Advance], list[Row]]
"""Does some samples of a unit and returns a row for each; outputs are in their places by then."""


class RunError(RuntimeError):
    """A run that ended with more failures than it may have."""


@dataclass(frozen=True)
class Job:
    """What a flow hands over: its plan, what to do with a unit, and where the receipts go.

    divisible: samples of a unit can be done again alone.
    gather: makes the table of all rows, if that is not just all receipts in one. prepare: comes before the first
    work, if there is any. finish: comes after the last unit, if none came to nothing. output: the file of a sample's
    result by its key, where each has one. target: where results are, if not where the receipts are.
    """

    title: str
    units: Sequence[Unit]
    work: Work
    receipts: Receipts
    divisible: bool = True
    gather: Callable[[Iterable[Row], Path], None] | None = None
    prepare: Callable[[], object] = lambda: None
    finish: Callable[[], object] = lambda: None
    output: Callable[[str], str] | None = None
    target: str | None = None

    @property
    def address(self) -> str:
        """Where the results are, for people."""
        return self.target or str(self.receipts.target)


@dataclass(frozen=True)
class Left:
    """What a survey leaves to do."""

    survey: Survey
    todo: list[Unit]

    @classmethod
    def of(cls, job: Job, options: BatchOptions) -> Self:
        survey = job.receipts.survey(job.units, job.divisible, job.output)
        again = {
            name
            for name, failures in survey.done.items()
            if (failures and options.retry_failed) or any(map(is_passing, failures))
        }
        return cls(survey, [unit for unit in job.units if unit.name in again or unit.name not in survey.done])

    def __bool__(self) -> bool:
        return bool(self.todo or self.survey.stale or self.survey.orphans or not self.survey.gathered)


def run(job: Job, options: BatchOptions) -> Summary:
    """Do what is left of `job`; RunError when too much of it failed, StorageError when another run works there."""
    started = time.monotonic()
    left = Left.of(job, options)
    summary = skipped(job, left)
    is_needed = bool(left) or (bool(left.survey.leftovers) and is_free(job.receipts.target))
    del left  # another run may just have ended, so that it is found out anew
    if is_needed:
        with hold(job.receipts.target, job.receipts.flow) as lease:
            summary = _do(job, Left.of(job, options), options, lease)
    summary.wall = time.monotonic() - started
    _tell(job, summary, options)
    return summary


def _do(job: Job, left: Left, options: BatchOptions, lease: Lease) -> Summary:
    summary, survey, todo = skipped(job, left), left.survey, left.todo
    receipts = job.receipts
    sweep(receipts.target, survey.leftovers, survey.nested)
    if todo:
        job.prepare()
    if left:
        receipts.begin(job.units)
    if todo:
        _work(job, todo, survey, options.in_flight, summary, lease)
    if left:
        receipts.gather(job.units, job.gather)
    lease.check()
    if not summary.broken_units:
        if left:
            job.finish()
        receipts.prune(survey.orphans, job.units)
        receipts.drop(stale.receipt for stale in survey.stale)
        receipts.end()
    return summary


def samples_left(job: Job, left: Left) -> list[Entry]:
    """The samples that a run would work on."""
    return [sample for unit in left.todo for sample in _left_of(job, unit, left.survey)]


def _left_of(job: Job, unit: Unit, survey: Survey) -> list[Entry]:
    """The samples of a unit that are to be done."""
    if not job.divisible:
        return list(unit.samples)
    if unit.name in survey.done:
        again = {row["key"] for row in survey.done[unit.name]}
        return [sample for sample in unit.samples if sample.key in again]
    return [sample for sample in unit.samples if not _is_kept(job, unit, survey, sample)]


def _kept(job: Job, unit: Unit, survey: Survey) -> list[Row]:
    """The rows of a unit's samples that are not done again."""
    if unit.name in survey.done:
        return job.receipts.read(unit)
    return [survey.kept[sample.key] for sample in unit.samples if sample.key in survey.kept]


def _is_kept(job: Job, unit: Unit, survey: Survey, sample: Entry) -> bool:
    """Whether there is a result of this very sample from another unit, in the place where this one has it."""
    row = survey.kept.get(sample.key)
    if row is None or not is_current(row, sample, unit):
        return False
    return job.output is None or row["output"] == job.output(sample.key)


def _outdated(todo: Iterable[Unit], stale: Sequence[Stale]) -> dict[str, list[str]]:
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


def skipped(job: Job, left: Left) -> Summary:
    """A summary that counts what was done before."""
    summary, todo = Summary(), {unit.name for unit in left.todo}
    for unit in job.units:
        if unit.name not in todo:
            failures = left.survey.done[unit.name]
            summary.skipped += len(unit.samples) - len(failures)
            summary.failed += len(failures)
            for row in failures:
                summary.note(reason_of(row))
    return summary


def _work(
    job: Job,
    todo: Sequence[Unit],
    survey: Survey,
    in_flight: int,
    summary: Summary,
    lease: Lease,
) -> None:
    left = {unit.name: _left_of(job, unit, survey) for unit in todo}
    total = sum(map(len, left.values()))
    outdated = _outdated(todo, survey.stale)
    stopping = Event()
    with progress(job.title, total, "images") as tick:

        def advance(count: int, failed: int = 0) -> None:
            if stopping.is_set() or lease.lost.is_set():
                raise RunError("stopped")
            tick(count, failed)

        def do(unit: Unit) -> Summary:
            samples = left[unit.name]
            job.receipts.drop(outdated.get(unit.name, ()))  # its outputs are about to be others'
            rows = job.work(unit, samples, advance)
            tags = {sample.key: sample.etag for sample in samples}
            for row in rows:
                row["options"] = unit.options
                row.setdefault("source_tag", tags[row["key"]])
            by_key = {row["key"]: row for row in (*_kept(job, unit, survey), *rows)}
            job.receipts.write(unit, [by_key[sample.key] for sample in unit.samples])
            return Summary.of(rows)

        with closing(_outcomes(todo, do, in_flight, stopping)) as outcomes:
            for unit, outcome in outcomes:
                lease.check()
                if isinstance(outcome, UnavailableError):
                    raise StorageError(f"{outcome}; stopped, run it again to go on") from outcome
                summary.skipped += len(unit.samples) - len(left[unit.name])
                if isinstance(outcome, BaseException):
                    summary.broken_units += 1
                    summary.failed += len(left[unit.name])
                    summary.note(f"{unit.name}: {_one_line(outcome)}")
                    continue
                summary.add(outcome)
    lease.check()


def _outcomes(
    units: Iterable[Unit], do: Callable[[Unit], Any], window: int, stopping: Event
) -> Generator[tuple[Unit, Any]]:
    """`do` each unit, at most `window` at a time, and hand out its result, or the exception it raised."""
    with _submitter(do, window) as submit:
        pending: deque[tuple[Unit, Callable[[], Any]]] = deque()
        try:
            for unit in units:
                if len(pending) == window:
                    oldest, outcome = pending.popleft()
                    yield oldest, outcome()
                pending.append((unit, submit(unit)))
            while pending:
                oldest, outcome = pending.popleft()
                yield oldest, outcome()
        except BaseException:  # Ctrl-C, a cancelled flow run, a lost lease: units in flight end at their next sample
            stopping.set()
            raise


@contextmanager
def _submitter(do: Callable[[Unit], Any], window: int) -> Iterator[Callable[[Unit], Callable[[], Any]]]:
    """A function that starts a unit and returns another, which waits for its outcome."""
    if in_flow_run():
        units: dict[str, Unit] = {}
        futures: dict[str, PrefectFuture[Any]] = {}

        @task(name="unit", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
        def do_unit(name: str) -> Any:
            return do(units.pop(name))

        def submit(unit: Unit) -> Callable[[], Any]:
            units[unit.name] = unit
            futures[unit.name] = do_unit.submit(unit.name)
            return lambda: futures.pop(unit.name).result(raise_on_failure=False)

        try:
            yield submit
        finally:
            wait(list(futures.values()))  # a unit in flight still writes
        return
    with ThreadPoolExecutor(window) as pool:

        def submit_thread(unit: Unit) -> Callable[[], Any]:
            future = pool.submit(do, unit)
            return lambda: future.exception() or future.result()

        yield submit_thread


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _tell(job: Job, summary: Summary, options: BatchOptions) -> None:
    manifest = job.receipts.target.address(job.receipts.manifest)
    for reason in summary.reasons:
        tell(f"  failed: {reason}")
    if summary.failed > len(summary.reasons) and not summary.broken_units:
        tell(f"  … and {summary.failed - len(summary.reasons):,} more, all in {manifest}")
    tell(f"{job.title} → {job.address}: {summary}")
    for line in filter(None, (summary.losses(), summary.pace())):
        tell(f"  {line}")
    publish(f"dtls-{job.receipts.flow}-run", summary.markdown(job.title, job.address, manifest))
    total = sum(len(unit.samples) for unit in job.units)
    if summary.broken_units:
        raise RunError(f"{summary.broken_units} of {len(job.units)} units came to nothing; run it again to go on")
    if summary.failed > options.max_failed * total:
        raise RunError(
            f"{summary.failed:,} of {total:,} images failed, more than --max-failed {options.max_failed:g} allows; "
            "--retry-failed tries them again"
        )
