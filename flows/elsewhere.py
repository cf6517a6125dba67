"""A unit in a process of a cluster: what Dask's workers run for `flows.runners`."""

import time
from collections.abc import Callable
from functools import lru_cache
from threading import Lock

from distributed import get_worker

from flows.job import Work
from storage.units import Row, Unit

TELL_SECONDS = 1.0
RUNNING = ("executing", "long-running", "resumed")
"""What Dask calls a task that is wanted; one whose run was stopped, or is gone, is `cancelled`."""
_making = Lock()


class UnwantedError(RuntimeError):
    """The run that asked for a unit has stopped, or is gone."""


@lru_cache(maxsize=1)
def _made(make: Callable[[int], Work], at_once: int) -> Work:
    return make(at_once)


def do_unit(make: Callable[[int], Work], at_once: int, unit: Unit, topic: str) -> list[Row]:
    """The rows of a unit. What does it is made once a process, the model loaded, and kept for the units to come.

    What is done is told under `topic` every second. UnwantedError when nobody waits for it any longer.
    """
    worker = get_worker()
    key = worker.get_current_task()
    done = failures = 0
    told, lock = time.monotonic(), Lock()

    def advance(count: int, failed: int = 0) -> None:
        nonlocal done, failures, told
        task = worker.state.tasks.get(key)
        if task is None or task.state not in RUNNING:
            raise UnwantedError("stopped")
        with lock:
            done, failures = done + count, failures + failed
            if time.monotonic() - told < TELL_SECONDS:
                return
            told = time.monotonic()
            event = {"key": key, "done": done, "failed": failures}
        worker.log_event(topic, event)

    with _making:
        work = _made(make, at_once)
    return work(unit, unit.samples, advance)
