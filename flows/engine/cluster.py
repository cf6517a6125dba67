"""Dask's side of a run: a client of its scheduler, the processes of this machine as a cluster, and who is there.

Whoever runs a scheduler runs code in the processes that connect to it: Dask's messages are pickles.
"""

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from flows.engine.options import BatchOptions
from flows.interface.console import in_deployment, log
from flows.interface.extras import check_extra
from flows.interface.options import CORES
from storage.stores.location import StorageError, check_secrets

PATIENCE = 60.0
"""Seconds to wait for a worker before that is logged."""
ASKED_EVERY = 1.0
"""Seconds for which an answer of the scheduler holds."""
GPU = "GPU"
"""The resource that workers with a GPU offer: `dask worker … --resources GPU=1`."""
LOOPBACK = "127.0.0.1"
SCHEDULER = "DTLS_SCHEDULER"
"""The environment's name of the scheduler that is used, and in a deployment's run the only one."""
NO_PROFILE = {"distributed.worker.profile.enabled": False}
"""Dask's profiler looks at all threads a hundred times a second, and Python 3.11 may lock up as one starts then."""
CA_FILE = "distributed.comm.tls.ca-file"
IN_CLEAR = {CA_FILE: None, "distributed.comm.require-encryption": None}
"""Processes of this machine meet on the loopback alone, and need no certificate of a scheduler elsewhere."""


def scheduler_of(options: BatchOptions) -> str | None:
    """The address of the scheduler that the options ask for; None for runners of this machine.

    StorageError where there is none, and in a deployment's run for another than the operator of its worker names in
    the environment: who may start runs may not choose whose code the worker runs.
    """
    if options.runner != "dask":
        return None
    known = os.environ.get(SCHEDULER) or None
    if in_deployment() and options.scheduler not in (None, known):
        raise StorageError(
            f"{options.scheduler}: not the Dask scheduler of this worker; leave --scheduler out: whoever runs the "
            f"worker sets {SCHEDULER} in its environment"
        )
    if (address := options.scheduler or known) is None:
        where = "the worker's environment" if in_deployment() else "the environment, or give --scheduler ADDRESS"
        raise StorageError(f"--runner dask: no Dask scheduler is known; set {SCHEDULER} in {where}")
    check_secrets(address)
    return address


class Workers:
    """The workers of a scheduler, asked for at most every second, by whatever many threads."""

    def __init__(self, client: Any, resources: Mapping[str, float]) -> None:
        self.client, self.resources, self.lock = client, dict(resources), Lock()
        self.reported = False
        self._seen: Mapping[str, Any] = {}
        self._doing: frozenset[str] | None = None
        self._asked = self._asked_doing = -ASKED_EVERY
        self._there = time.monotonic()

    def threads(self) -> int:
        """Threads of all workers that may do units of this run."""
        return sum(worker["nthreads"] for worker in self._fitting())

    def threads_a_host(self) -> int:
        """The most threads that workers on one host have together: so many units share its memory."""
        by_host: dict[str, int] = {}
        for worker in self._fitting():
            by_host[worker["host"]] = by_host.get(worker["host"], 0) + worker["nthreads"]
        return max(by_host.values(), default=1)

    def deserted_for(self) -> float:
        """Seconds since there was a worker that may do units of this run."""
        if self._fitting():
            self._there, self.reported = time.monotonic(), False
        return time.monotonic() - self._there

    def is_news(self) -> bool:
        """Whether this was not logged yet; from now on it was."""
        with self.lock:
            reported, self.reported = self.reported, True
        return not reported

    def may_do(self, key: str) -> bool:
        """Whether a worker's thread may still be at a task, wanted or not; it may where not all of them answer."""
        with self.lock:
            if time.monotonic() - self._asked_doing >= ASKED_EVERY:
                self._doing = None
                with suppress(Exception):  # a scheduler that is gone, a worker that is frozen
                    found = self.client.sync(self.client._run, active_keys, on_error="ignore", callback_timeout=5)
                    self._doing = frozenset(key for keys in found.values() for key in keys)
                self._asked_doing = time.monotonic()
            return self._doing is None or key in self._doing

    def _fitting(self) -> list[Mapping[str, Any]]:
        with self.lock:
            if time.monotonic() - self._asked >= ASKED_EVERY:
                with suppress(Exception):  # a scheduler that is gone; what waits for a unit learns of it
                    self._seen = workers_of(self.client)
                self._asked = time.monotonic()
            return [worker for worker in self._seen.values() if self.resources.keys() <= worker["resources"].keys()]


def active_keys(dask_worker: Any) -> list[str]:
    """What the threads of a worker are at."""
    return [str(key) for key in dask_worker.active_threads.values()]


def workers_of(client: Any) -> Mapping[str, Any]:
    """By address what the scheduler knows of its workers."""
    found: Mapping[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return found


def resources_of(client: Any, options: BatchOptions, *, uses_gpu: bool) -> dict[str, float]:
    """What a unit asks of a worker: a GPU, where there are such workers and it has use for one."""
    if not _may_want_gpu(options, uses_gpu=uses_gpu):
        return {}
    if any(GPU in worker["resources"] for worker in workers_of(client).values()):
        return {GPU: 1}
    if _device(options) != "cuda":
        return {}
    if (scheduler := scheduler_of(options)) is None:
        raise StorageError("this machine has no GPU for --device cuda")
    raise StorageError(
        f"{scheduler}: no worker offers a GPU for --device cuda; "
        f"start some by `dask worker {scheduler} --nthreads 1 --resources GPU=1`"
    )


def _device(options: BatchOptions) -> str:
    """The device that options name; flows that compute on none have no such option."""
    return str(getattr(options, "device", "cpu"))


def _may_want_gpu(options: BatchOptions, *, uses_gpu: bool) -> bool:
    return uses_gpu and _device(options) in ("auto", "cuda")


@contextmanager
def connected(options: BatchOptions, *, uses_gpu: bool) -> Iterator[Any]:
    """A client of the scheduler, once it has a worker; StorageError with the reason where there is none."""
    check_extra("dask", f"--runner {options.runner}")
    from distributed import Client

    if re.fullmatch(r"cuda:\d+", _device(options)):
        raise StorageError(
            "with this --runner each process has a GPU of its own: say --device cuda, and by CUDA_VISIBLE_DEVICES "
            "which GPUs there are"
        )
    logging.getLogger("distributed").setLevel(logging.ERROR)  # what matters is logged in the run's own words
    if (scheduler := scheduler_of(options)) is not None:
        _check_without_certificate(scheduler)
    with processes(options, uses_gpu=uses_gpu) if scheduler is None else nullcontext() as cluster:
        address = scheduler or "the processes"
        try:
            client = Client(cluster or address, timeout=PATIENCE / 4, set_as_default=False, name="dtls")
        except (OSError, TimeoutError, ValueError, TypeError, ImportError, RuntimeError) as error:
            raise StorageError(f"{address}: no Dask scheduler answers there ({error})") from error
        with client:
            if not workers_of(client):
                log(f"{address}: no worker yet; waiting for one, a minute at most")
            try:
                client.wait_for_workers(1, timeout=PATIENCE)
            except TimeoutError as error:
                raise StorageError(
                    f"{address}: no worker came; start some by `dask worker {address} --nthreads 1`"
                ) from error
            yield client


def _check_without_certificate(scheduler: str) -> None:
    import dask

    file = dask.config.get(CA_FILE, None)
    if scheduler.startswith("tls://") and file and not Path(file).is_file():
        raise StorageError(
            f"{file}: no certificate there for {scheduler}; it is what DASK_DISTRIBUTED__COMM__TLS__CA_FILE names"
        )


@contextmanager
def processes(options: BatchOptions, *, uses_gpu: bool) -> Iterator[Any]:
    """Processes of this machine: one a GPU for what has use for them, else as many as units are to be in flight.

    They listen to this machine alone.
    """
    import dask
    from distributed import Nanny, Scheduler, SpecCluster

    gpus = _gpus() if _may_want_gpu(options, uses_gpu=uses_gpu) else []
    count = len(gpus) or options.in_flight
    threads = {
        f"distributed.nanny.pre-spawn-environ.{name}": max(1, CORES // count)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    }
    settings = {**threads, **NO_PROFILE, **IN_CLEAR}
    settings["distributed.scheduler.allowed-failures"] = 1  # the second death counts
    logging.getLogger("distributed.scheduler").setLevel(logging.CRITICAL)  # which the run logs in its own words
    here = {"host": LOOPBACK, "dashboard_address": f"{LOOPBACK}:0"}
    common = {
        **here,
        "nthreads": 1,
        "memory_limit": 0,
        "silence_logs": logging.ERROR,
        "preload": ["flows.engine.worker"],
    }
    own = [{"env": {"CUDA_VISIBLE_DEVICES": gpu}, "resources": {GPU: 1}} for gpu in gpus] or [{}] * count
    workers = {place: {"cls": Nanny, "options": common | one} for place, one in enumerate(own)}
    scheduler = {"cls": Scheduler, "options": {**here, "port": 0, "dashboard": False}}
    with dask.config.set(settings):
        try:
            cluster = SpecCluster(workers, scheduler, silence_logs=logging.ERROR)
        except RuntimeError as error:
            raise StorageError(
                f'no processes could be started ({error}); a script needs `if __name__ == "__main__":` for them'
            ) from error
        with cluster:
            yield cluster


def _gpus() -> list[str]:
    """The GPUs of this process, as CUDA_VISIBLE_DEVICES calls them."""
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[:count] if visible else [str(place) for place in range(count)]
