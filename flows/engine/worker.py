"""A unit in a process of a cluster: what Dask's workers run for `flows.engine.runners`."""

import signal
import time
from collections.abc import Callable
from threading import Lock
from typing import Any

from distributed import get_worker

from flows.engine.job import WorkerSpec
from flows.engine.watched import Watched
from storage.receipts.claims import Claim
from storage.receipts.proofs import note_versions
from storage.receipts.units import Row, Unit
from storage.stores.durable import unsynced
from storage.stores.location import Location, StorageError

TELL_SECONDS = 1.0
RUNNING = ("executing", "long-running", "resumed")
"""What Dask calls a task that is wanted; one whose run was stopped, or is gone, is `cancelled`."""
MAX_RUNS = 3
"""Runs whose models are kept at a time; those that end are forgotten, those that are killed are not."""
_works: dict[str, Watched] = {}
_making = Lock()


class UnwantedError(RuntimeError):
    """The run that asked for a unit has stopped, or is gone."""


def dask_setup(_: Any) -> None:
    """Let Ctrl-C on a terminal be for the run alone, which ends its processes; Dask calls this in each of them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def forget(run: str) -> None:
    """Let go of what did the units of a run, its model included."""
    with _making:
        _works.pop(run, None)


def do_unit(
    worker_spec: WorkerSpec,
    at_once: int,
    unit: Unit,
    run: str,
    claim: Claim,
    sync: bool,
    limit: float = 0.0,
    apart: bool = False,
) -> list[Row]:
    """The rows of a unit. What does it is made once for a `run`, the model loaded, and kept for the units to come.

    sync: whether its outputs are to be on the disk by then. limit: the seconds that an image may take, 0 for any.
    apart: each image is done alone. Progress is reported under the name of the run every second. Nothing of its
    target is changed without the lease of its `claim`. UnwantedError when nobody waits for it any longer.
    """
    worker = get_worker()
    key = worker.get_current_task()
    done = failures = 0
    reported, lock = time.monotonic(), Lock()

    def advance(count: int, failed: int = 0) -> None:
        nonlocal done, failures, reported
        task = worker.state.tasks.get(key)
        if task is None or task.state not in RUNNING:
            raise UnwantedError("stopped")
        with lock:
            done, failures = done + count, failures + failed
            if time.monotonic() - reported < TELL_SECONDS:
                return
            reported = time.monotonic()
            event = {"key": key, "done": done, "failed": failures}
        worker.log_event(run, event)

    try:
        watched = _work_of(run, lambda: Watched.of(worker_spec.make(at_once), worker_spec, claim, limit))
        with claim.fenced(), unsynced(applies=not sync):
            rows = (watched.apart if apart else watched)(unit, unit.samples, advance)
        note_versions(Location.of(claim.target), rows)
        return rows
    except StorageError as error:
        plain = type(error)(str(error))
    raise plain  # without what it comes from, which may hold keys and cannot always travel


def _work_of(run: str, make: Callable[[], Watched]) -> Watched:
    with _making:
        if run not in _works:
            while len(_works) >= MAX_RUNS:
                del _works[next(iter(_works))]
            _works[run] = make()
        return _works[run]
