"""Units in, receipts out: what is planned and not yet done is worked on, a bounded number at a time.

Inside a Prefect flow run each unit is a task of it; elsewhere, a thread's. A bad sample never stops a unit, a bad
unit never stops the run, and the run fails only after all that could be done is done. Whoever works on a target
holds its lease; a run that finds nothing to do writes nothing.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from contextvars import copy_context
from queue import SimpleQueue
from threading import Event
from typing import Any

from flows.engine.cluster import scheduler_of
from flows.engine.job import Job, Remaining, outdated
from flows.engine.options import BatchOptions
from flows.engine.replacing import check_replacing
from flows.engine.runners import MAX, Runner, runner_of
from flows.engine.summary import Summary
from flows.interface.console import in_flow_run, log, log_failure, progress, publish
from flows.interface.errors import RunError
from flows.interface.outcome import one_line
from flows.interface.text import words_of
from storage.receipts.lease import Lease, hold, is_released, sweep
from storage.receipts.owners import LostError
from storage.receipts.proofs import unlike
from storage.receipts.units import Row, Unit, is_transient
from storage.stores.durable import unsynced
from storage.stores.location import StorageError, UnavailableError


def run(job: Job, options: BatchOptions) -> Summary:
    """Do what is left of `job`; RunError when too much of it failed, StorageError when another run works there."""
    with unsynced(applies=not options.sync):
        return _run(job, options)


def _run(job: Job, options: BatchOptions) -> Summary:
    started = time.monotonic()
    scheduler_of(options)  # refuses
    left = Remaining.of(job, options)
    check_replacing(left)
    summary = skipped(left)
    is_needed = (
        bool(left) or job.receipts.has_news or (bool(left.survey.leftovers) and is_released(job.receipts.target))
    )
    del left  # another run may just have ended, so that it is found out again
    if is_needed:
        with hold(job.receipts.target, job.receipts.flow, also=job.also) as lease:
            summary = _do(job, Remaining.of(job, options), options, lease)
    summary.wall = time.monotonic() - started
    _log(job, summary, options)
    return summary


def _do(job: Job, left: Remaining, options: BatchOptions, lease: Lease) -> Summary:
    check_replacing(left)  # another run may just have ended
    summary, survey, todo = skipped(left), left.survey, left.todo
    receipts = job.receipts
    sweep(receipts.target, survey.leftovers, survey.nested)
    if todo:
        job.prepare()
    receipts.keep_looks()
    if left:
        receipts.begin(job.units, survey)
    if todo:
        with runner_of(job.work, job.worker_spec, options, lease) as runner:
            _work(job, left, runner, summary, lease)
    if left:
        receipts.gather(job.units, job.gather)
    lease.check()
    if not summary.broken_units:
        if left:
            job.finish()
        receipts.prune(survey.orphans, job.units)
        receipts.drop((*(old.receipt for old in survey.stale), *survey.attempts))
        receipts.end()
    return summary


def skipped(left: Remaining) -> Summary:
    """A summary that counts what was done before."""
    summary, todo = Summary(), {unit.name for unit in left.todo}
    for unit in left.job.units:
        if unit.name not in todo:
            special = left.survey.done[unit.name]
            summary.skipped += len(unit.samples) - len(special)
            summary.add_before(special)
    return summary


def _work(job: Job, left: Remaining, runner: Runner, summary: Summary, lease: Lease) -> None:
    todo = left.todo
    samples_of = {unit.name: left.samples_of(unit) for unit in todo}
    total = sum(map(len, samples_of.values()))
    stale = outdated(todo, left.survey.stale)
    suspects = {*left.survey.attempts} if runner.is_here and job.reads_files else set()
    stopping = Event()
    with progress(job.title, total, "images") as tick:

        def advance(count: int, failed: int = 0) -> None:
            if stopping.is_set() or lease.lost.is_set():
                raise RunError("stopped")
            tick(count, failed)

        def do(unit: Unit) -> Summary:
            samples, old = samples_of[unit.name], stale.get(unit.name, ())
            before = job.receipts.results_of((unit.receipt, *old)) if job.divisible else {}
            job.receipts.drop(old)  # its outputs are about to be others'
            rows = (runner.apart if unit.attempt in suspects else runner.work)(unit, samples, advance)
            if not runner.is_here:
                _check_out_of_sight(job, rows)
            tags = {sample.key: sample.etag for sample in samples}
            for row in rows:
                row["options"] = unit.options
                row.setdefault("source_tag", tags[row["key"]])
                if is_transient(row) and row["key"] in before:
                    row["output"] = before[row["key"]]  # it stays
            earlier = {row["key"]: row for row in left.rows_of(unit)}
            by_key = earlier | {row["key"]: row for row in rows}
            job.receipts.write(unit, [by_key[sample.key] for sample in unit.samples])
            made = Summary.of(rows)
            made.add_before(earlier[key] for key in by_key.keys() - tags.keys())
            return made

        def do_at_work(unit: Unit) -> Summary:
            with lease.at_work(), _attempted(job, left, runner, unit):
                return do(unit)

        with closing(_outcomes(todo, do_at_work, runner.window, stopping)) as outcomes:
            for unit, outcome in outcomes:
                lease.check()
                if isinstance(outcome, LostError):
                    raise outcome
                if isinstance(outcome, UnavailableError):
                    raise StorageError(f"{outcome}; stopped, run it again to resume") from outcome
                if isinstance(outcome, BaseException):
                    summary.skipped += len(unit.samples) - len(samples_of[unit.name])
                    summary.broken_units += 1
                    summary.failed += len(samples_of[unit.name])
                    nothing = _nothing(unit, outcome)
                    summary.note(nothing)
                    log_failure(nothing)
                    continue
                summary.add(outcome)
    lease.check()


@contextmanager
def _attempted(job: Job, left: Remaining, runner: Runner, unit: Unit) -> Iterator[None]:
    """Mark, after a run that did not come to its end, what is being done here: it may be what killed that one.

    A mark that stays is of a unit whose process has died again.
    """
    target = job.receipts.target
    if not (left.survey.unfinished and runner.is_here and job.reads_files):
        yield
        return
    target.write(unit.attempt, b"")
    try:
        yield
    finally:
        with suppress(StorageError):  # the next run then does it image by image
            target.delete(unit.attempt)


def _check_out_of_sight(job: Job, rows: Sequence[Row]) -> None:
    """UnavailableError where a result of another process is not, as seen from here, what that process made."""
    output = unlike(job.receipts.target, rows)
    if output is not None:
        raise UnavailableError(
            f"{job.receipts.target.address(output)}: what a worker says that it made is not what is there, as seen "
            "from here; give addresses that mean the same to all machines"
        )


def _outcomes(
    units: Iterable[Unit], do: Callable[[Unit], Any], window: Callable[[], int], stopping: Event
) -> Generator[tuple[Unit, Any]]:
    """`do` each unit, at most `window()` at a time; its result, or the exception it raised, as soon as it has ended.

    So a slow unit holds back no other.
    """
    ended: SimpleQueue[Unit] = SimpleQueue()
    pending: dict[str, Callable[[], Any]] = {}

    def first_ended() -> tuple[Unit, Any]:
        unit = ended.get()
        return unit, pending.pop(unit.name)()

    with _submitter(do, ended.put) as submit:
        try:
            for unit in units:
                while len(pending) >= window():
                    yield first_ended()
                pending[unit.name] = submit(unit)
            while pending:
                yield first_ended()
        except BaseException:  # Ctrl-C, a cancelled flow run, a lost lease: units in flight end at their next sample
            stopping.set()
            raise


@contextmanager
def _submitter(
    do: Callable[[Unit], Any], on_end: Callable[[Unit], None]
) -> Iterator[Callable[[Unit], Callable[[], Any]]]:
    """A function that starts a unit and returns another, for its outcome, which is there once `on_end` was called."""
    if in_flow_run():
        from prefect import task
        from prefect.cache_policies import NO_CACHE
        from prefect.futures import PrefectFuture, wait

        units: dict[str, Unit] = {}
        futures: dict[str, PrefectFuture[Any]] = {}

        @task(name="unit", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
        @one_line
        def do_unit(name: str) -> Any:
            return do(units.pop(name))

        def submit(unit: Unit) -> Callable[[], Any]:
            units[unit.name] = unit
            future = futures[unit.name] = do_unit.submit(unit.name)
            future.add_done_callback(lambda _: on_end(unit))
            return lambda: outcome_of(unit)

        def outcome_of(unit: Unit) -> Any:
            outcome = futures[unit.name].result(raise_on_failure=False)
            del futures[unit.name]  # not before: a run that is stopped meanwhile has to wait for it
            return outcome

        try:
            yield submit
        finally:
            wait(list(futures.values()))  # a unit in flight still writes
        return
    with ThreadPoolExecutor(MAX) as pool:

        def submit_thread(unit: Unit) -> Callable[[], Any]:
            future = pool.submit(copy_context().run, do, unit)
            future.add_done_callback(lambda _: on_end(unit))
            return lambda: future.exception() or future.result()

        yield submit_thread


def _nothing(unit: Unit, error: BaseException) -> str:
    """Which unit came to nothing, where it begins, and why."""
    return f"{unit.name} (from {unit.samples[0].key}): {words_of(error)}"


def _log(job: Job, summary: Summary, options: BatchOptions) -> None:
    manifest = job.receipts.target.address(job.receipts.manifest)
    for line in summary.exceptions():
        log(f"  {line}")
    for reason in summary.reasons:
        log(f"  failed: {reason}")
    if summary.failed > len(summary.reasons) and not summary.broken_units:
        log(f"  … and {summary.failed - len(summary.reasons):,} more, all in {manifest}")
    log(f"{job.title} → {job.address}: {summary}")
    for line in filter(None, (summary.losses(), summary.pace())):
        log(f"  {line}")
    publish(f"dtls-{job.receipts.flow}-run", summary.markdown(job.title, job.address, manifest, job.receipts.skipped))
    total = sum(len(unit.samples) for unit in job.units)
    if summary.broken_units:
        raise RunError(f"{summary.broken_units} of {len(job.units)} units came to nothing; run it again to resume")
    if summary.failed > options.max_failed * total:
        raise RunError(
            f"{summary.failed:,} of {total:,} images failed, more than --max-failed {options.max_failed:g} allows; "
            "--retry-failed tries them again"
        )
