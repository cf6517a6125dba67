"""Where units run: in threads of this process, in processes of this machine, one a GPU, or on a Dask cluster.

The process that plans the run holds the lease, writes the receipts and reports the progress. Other processes only
make the outputs of a unit and send its rows back. Dask spreads the units, and starts those of a lost worker again on
another. It notices when a run is gone, whose units then end at their next sample.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any

from flows.engine.cluster import PATIENCE, Workers, connected, resources_of, scheduler_of
from flows.engine.job import Work, WorkerSpec
from flows.engine.options import BatchOptions
from flows.engine.ticks import Ticks
from flows.engine.watched import Watched
from flows.interface.console import Advance, logger
from storage.receipts.lease import Lease
from storage.receipts.units import Row, Unit
from storage.stores.location import Entry, StorageError, UnavailableError

POLL = 1.0
"""Seconds between two looks at whether the run was stopped, and whether there are workers."""
GRACE = 25.0
"""How long units elsewhere may take to stop; Prefect gives a cancelled flow run 30 s."""
DESERTED = 600.0
"""How long a run waits when its last worker has gone."""
MAX = 1000
"""Units on their way at a time, however many workers there are."""


@dataclass(frozen=True)
class Runner:
    """What does units, how many of them may be on their way, and whether that is in this process.

    apart: what does those that have killed their process before, image by image.
    """

    work: Work
    apart: Work
    window: Callable[[], int]
    is_here: bool


@contextmanager
def runner_of(here: Work, worker_spec: WorkerSpec, options: BatchOptions, lease: Lease) -> Iterator[Runner]:
    """Where the options have units done, for as long as the run takes, which holds a lease."""
    if options.runner == "threads":
        watched = Watched.of(here, worker_spec, lease.claim, options.image_timeout, logger())
        yield Runner(watched, watched.apart, lambda: options.in_flight, is_here=True)
        return
    with (
        connected(options, uses_gpu=worker_spec.uses_gpu) as client,
        Cluster.of(client, worker_spec, options, lease) as cluster,
    ):
        yield Runner(cluster.work, cluster.apart, cluster.window, is_here=False)


@dataclass
class Cluster:
    """Units done by Dask's workers. lease: the run's. run: what this run is called there."""

    client: Any
    worker_spec: WorkerSpec
    options: BatchOptions
    lease: Lease
    workers: Workers
    at_once: int
    run: str = field(default_factory=lambda: f"dtls-{uuid.uuid4().hex}")
    ticks: dict[str, Ticks] = field(default_factory=dict)
    log: Callable[[str], None] = field(default_factory=logger)

    @classmethod
    @contextmanager
    def of(cls, client: Any, worker_spec: WorkerSpec, options: BatchOptions, lease: Lease) -> Iterator["Cluster"]:
        """The workers behind a client, which forget the run at its end."""
        from flows.engine.worker import forget

        workers = Workers(client, resources_of(client, options, uses_gpu=worker_spec.uses_gpu))
        cluster = cls(client, worker_spec, options, lease, workers, workers.threads_a_host())
        client.subscribe_topic(cluster.run, cluster._hear)
        try:
            yield cluster
        finally:
            with suppress(Exception):  # a scheduler that is gone
                client.unsubscribe_topic(cluster.run)
                client.sync(client._run, forget, cluster.run, on_error="ignore", callback_timeout=POLL)

    def window(self) -> int:
        """Two units a thread: one that it does, and one that waits for it."""
        return max(self.options.in_flight, min(MAX, 2 * self.workers.threads()))

    def work(self, unit: Unit, samples: Sequence[Entry], advance: Advance) -> list[Row]:
        """The rows of a unit that a worker has done; when `advance` raises, as when the run stops, it ends there.

        One that has killed its workers is done once more, image by image.
        """
        from distributed import KilledWorker

        ticks = Ticks(advance)
        try:
            return self._done(unit, samples, ticks, apart=False)
        except KilledWorker:
            self.log(f"{self.name}: {unit.name} has killed its workers; it is done image by image")
        return self.apart(unit, samples, ticks.started())

    def apart(self, unit: Unit, samples: Sequence[Entry], advance: Advance) -> list[Row]:
        """The rows of a unit that a worker has done image by image; StorageError where it is killed even so."""
        from distributed import KilledWorker

        try:
            return self._done(unit, samples, Ticks(advance), apart=True)
        except KilledWorker as error:
            raise StorageError(f"it kills its workers, though it is done image by image: {error}") from error

    def _done(self, unit: Unit, samples: Sequence[Entry], ticks: Ticks, *, apart: bool) -> list[Row]:
        from distributed import CancelledError, KilledWorker

        from flows.engine.worker import do_unit

        key = f"{unit.flow}-{unit.name}-{uuid.uuid4().hex}"
        self.ticks[key] = ticks
        future = self.client.submit(
            do_unit,
            self.worker_spec,
            self.at_once,
            replace(unit, samples=tuple(samples)),
            self.run,
            self.lease.claim,
            self.options.sync,
            self.options.image_timeout,
            apart,
            key=key,
            pure=False,
            resources=self.workers.resources,
        )
        try:
            ended = Event()
            future.add_done_callback(lambda _: ended.set())
            while not ended.wait(POLL):
                ticks.advance(0)
                self._check_desertion()
            rows: list[Row] = future.result()
        except KilledWorker:
            raise
        except StorageError:
            future.cancel()
            raise
        except (CancelledError, OSError) as error:  # of the connection; a worker may still be at it
            self.lease.run_out()
            raise UnavailableError(f"{self.name}: lost: {error}") from error
        except BaseException:
            self._stop(key, future)
            raise
        finally:
            del self.ticks[key]
        ticks.reach(len(rows), sum(row["status"] == "failed" for row in rows))
        return rows

    @property
    def name(self) -> str:
        return scheduler_of(self.options) or "the processes"

    def _check_desertion(self) -> None:
        """Tell when there is no worker left; UnavailableError when none came back, though one may be at work."""
        if (since := self.workers.deserted_for()) > DESERTED:
            self.lease.run_out()
            raise UnavailableError(f"{self.name}: no worker is connected that does this")
        if since > PATIENCE and self.workers.is_news():
            self.log(f"{self.name}: no worker is connected that does this; waiting for one, ten minutes at most")

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        _, reported = event
        if ticks := self.ticks.get(reported["key"]):
            with suppress(Exception):  # the thread that waits for the unit learns of it, too
                ticks.reach(reported["done"], reported["failed"])

    def _stop(self, key: str, future: Any) -> None:
        """Have a unit end at its next sample, and wait until it did; the lease is not removed where it did not."""
        future.cancel()
        deadline = time.monotonic() + GRACE
        while self.workers.may_do(key):
            if time.monotonic() > deadline:
                self.lease.run_out()
                return
            time.sleep(POLL / 4)
