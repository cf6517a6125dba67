"""Where units run: in threads of this process, in processes of this machine, one a GPU, or on a Dask cluster.

Whoever plans the run holds the lease, writes the receipts and tells the progress; what runs elsewhere only makes the
outputs of a unit and sends its rows back. Dask spreads the units, starts those of a lost worker again on another, and
tells when a run is gone, whose units then end at their next sample.
"""

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from threading import Event, Lock
from typing import Any

from flows.console import Advance, tell
from flows.job import Elsewhere, Work
from flows.options import CORES, BatchOptions
from storage.locations import Entry, StorageError, UnavailableError
from storage.units import Row, Unit

PATIENCE, POLL = 60.0, 1.0
"""Seconds to wait for the first worker, and between two looks at whether the run was stopped."""
GRACE = 25.0
"""How long units elsewhere may take to stop; Prefect gives a cancelled flow run 30 s."""
MOST = 1000
"""Units on their way at a time, however many workers there are."""
GPU = "GPU"
"""The resource that workers with a GPU offer: `dask worker … --resources GPU=1`."""


@dataclass(frozen=True)
class Runner:
    """What does units, and how many of them may be on their way."""

    work: Work
    window: Callable[[], int]


@contextmanager
def runner_of(here: Work, elsewhere: Elsewhere, options: BatchOptions) -> Iterator[Runner]:
    """Where the options have units done, for as long as the run takes."""
    if options.runner == "threads":
        yield Runner(here, lambda: options.in_flight)
        return
    with connected(options, is_heavy=elsewhere.is_heavy) as client:
        cluster = Cluster(client, elsewhere, options)
        yield Runner(cluster.work, cluster.window)


@dataclass
class Cluster:
    """Units done by Dask's workers."""

    client: Any
    elsewhere: Elsewhere
    options: BatchOptions
    topic: str = field(default_factory=lambda: f"dtls-{uuid.uuid4().hex}")
    ticks: dict[str, "Ticks"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.client.subscribe_topic(self.topic, self._hear)
        self.resources = resources_of(self.client, self.options, is_heavy=self.elsewhere.is_heavy)
        by_host: dict[str, int] = {}
        for worker in _workers(self.client).values():
            by_host[worker["host"]] = by_host.get(worker["host"], 0) + worker["nthreads"]
        self.at_once = max(by_host.values())

    def window(self) -> int:
        """Two units a thread: one that it does, and one that waits for it."""
        threads = sum(worker["nthreads"] for worker in _workers(self.client).values())
        return max(self.options.in_flight, min(MOST, 2 * threads))

    def work(self, unit: Unit, samples: Sequence[Entry], advance: Advance) -> list[Row]:
        """The rows of a unit that a worker has done; when `advance` raises, as when the run stops, it ends there."""
        from distributed import CancelledError

        from flows.elsewhere import do_unit

        unit = replace(unit, samples=tuple(samples))
        key = f"{unit.flow}-{unit.name}-{uuid.uuid4().hex}"
        self.ticks[key] = ticks = Ticks(advance)
        future = self.client.submit(
            do_unit,
            self.elsewhere.make,
            self.at_once,
            unit,
            self.topic,
            key=key,
            pure=False,
            resources=self.resources,
        )
        try:
            ended = Event()
            future.add_done_callback(lambda _: ended.set())
            while not ended.wait(POLL):
                advance(0)
            rows: list[Row] = future.result()
        except StorageError:
            raise
        except (CancelledError, OSError) as error:  # of the connection
            raise UnavailableError(f"{self.options.scheduler or 'the processes'}: lost: {error}") from error
        except BaseException:
            self._stop(key, future)
            raise
        finally:
            del self.ticks[key]
        ticks.reach(len(rows), sum(row["status"] != "ok" for row in rows))
        return rows

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        _, told = event
        if ticks := self.ticks.get(told["key"]):
            with suppress(Exception):  # the thread that waits for the unit learns of it, too
                ticks.reach(told["done"], told["failed"])

    def _stop(self, key: str, future: Any) -> None:
        """Have a unit end at its next sample, and wait until it did: the lease must not go before it."""
        future.cancel()
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            with suppress(Exception):  # a scheduler that is gone
                if not any(self.client.run(is_doing, key, on_error="ignore").values()):
                    return
            time.sleep(POLL / 4)


class Ticks:
    """Counts what a worker tells of a unit; a unit that is started again is counted once."""

    def __init__(self, advance: Advance) -> None:
        self.advance, self.done, self.failed, self.lock = advance, 0, 0, Lock()

    def reach(self, done: int, failed: int) -> None:
        """So many samples are done by now, so many of them failed."""
        with self.lock:
            more, worse = max(0, done - self.done), max(0, failed - self.failed)
            self.done, self.failed = self.done + more, self.failed + worse
        if more or worse:
            self.advance(more, worse)


def is_doing(key: str, dask_worker: Any) -> bool:
    """Whether a worker's thread still does a unit, wanted or not."""
    return key in dask_worker.active_threads.values()


def _workers(client: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return found


def resources_of(client: Any, options: BatchOptions, *, is_heavy: bool) -> dict[str, float]:
    """What a unit asks of a worker: a GPU, where there are such workers and it has use for one."""
    device = getattr(options, "device", "cpu")
    if not is_heavy or device == "cpu":
        return {}
    if any(GPU in worker["resources"] for worker in _workers(client).values()):
        return {GPU: 1}
    if device != "auto":
        raise StorageError(
            f"{options.scheduler or 'this machine'}: no worker offers a GPU for --device {device}; "
            f"start some by `dask worker {options.scheduler or 'SCHEDULER'} --nthreads 1 --resources GPU=1`"
        )
    return {}


@contextmanager
def connected(options: BatchOptions, *, is_heavy: bool) -> Iterator[Any]:
    """A client of the scheduler, once it has a worker."""
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.ERROR)  # what matters is told in the run's own words
    with _processes(options, is_heavy=is_heavy) if options.runner == "processes" else _no_cluster() as cluster:
        address = cluster or options.scheduler
        try:
            client = Client(address, timeout=PATIENCE / 4, set_as_default=False, name="dtls")
        except (OSError, TimeoutError, ValueError) as error:
            raise StorageError(f"{address}: no Dask scheduler answers there ({error})") from error
        with client:
            if not _workers(client):
                tell(f"{address}: no worker yet; waiting for one")
            try:
                client.wait_for_workers(1, timeout=PATIENCE)
            except TimeoutError as error:
                raise StorageError(
                    f"{address}: no worker came; start some by `dask worker {address} --nthreads 1`"
                ) from error
            yield client


@contextmanager
def _no_cluster() -> Iterator[None]:
    yield None


@contextmanager
def _processes(options: BatchOptions, *, is_heavy: bool) -> Iterator[Any]:
    """Processes of this machine: one a GPU for what has use for them, else as many as units are to be in flight."""
    import dask
    from distributed import Nanny, Scheduler, SpecCluster

    gpus = _gpus() if is_heavy and getattr(options, "device", "cpu") != "cpu" else []
    count = len(gpus) or options.in_flight
    threads = {
        f"distributed.nanny.pre-spawn-environ.{name}": max(1, CORES // count)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    }
    common = {"nthreads": 1, "memory_limit": 0, "dashboard": False, "silence_logs": logging.ERROR}
    workers = {
        place: {
            "cls": Nanny,
            "options": common
            | ({"env": {"CUDA_VISIBLE_DEVICES": gpus[place]}, "resources": {GPU: 1}} if gpus else {}),
        }
        for place in range(count)
    }
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard": False}}
    with dask.config.set(threads), SpecCluster(workers, scheduler, silence_logs=logging.ERROR) as cluster:
        yield cluster


def _gpus() -> list[str]:
    """The GPUs of this process, as CUDA_VISIBLE_DEVICES calls them."""
    import torch

    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    return told.split(",") if told else [str(place) for place in range(torch.cuda.device_count())]
