"""A Dask scheduler and its workers for the tests, each a program of its own."""

import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.services import Service, descendants, free_ports, isolated_environment

ROOT = Path(__file__).parents[1]
"""Where they run, so that tests can have functions of theirs called there."""


class DaskScheduler(Service):
    """A scheduler on a free port of 127.0.0.1."""

    name = "dask-scheduler"
    scheme = "tcp"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.cwd = ROOT
        self.port = free_ports(2)
        self.address = f"{self.scheme}://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        where = [
            "--protocol",
            self.scheme,
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--dashboard-address",
            f"127.0.0.1:{self.port + 1}",
        ]
        return [sys.executable, "-m", "dask", "scheduler", *where]

    def process_environment(self) -> dict[str, str]:
        return isolated_environment()

    def is_ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class DaskWorker(Service):
    """One process of one thread for a scheduler, under a nanny that starts it again."""

    def __init__(
        self, folder: Path, scheduler: str, name: str, environment: Mapping[str, str] | None = None, *options: str
    ) -> None:
        self.name = name
        super().__init__(folder)
        self.cwd = ROOT
        self.scheduler, self.options = scheduler, options
        self.environment = {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False", **(environment or {})}

    def command(self) -> list[str]:
        where = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", "--local-directory", str(self.folder)]
        one = ["--name", self.name, "--nworkers", "1", "--nthreads", "1", *self.options]
        return [sys.executable, "-m", "dask", "worker", self.scheduler, *where, *one]

    def process_environment(self) -> dict[str, str]:
        return isolated_environment(self.environment)

    def is_ready(self) -> bool:
        from distributed import Client

        with suppress(OSError), Client(self.scheduler, timeout=5, set_as_default=False) as client:
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
            return any(worker["name"] == self.name for worker in workers)
        return False

    def kill(self) -> None:
        """Kill the nanny and all that it started, as a power cut does."""
        for pid in self.pids:
            with suppress(ProcessLookupError):  # it was ended by the death of another one
                os.kill(pid, signal.SIGKILL)

    @property
    def pids(self) -> list[int]:
        """The nanny, and the processes that it started."""
        assert self.process is not None
        return [self.process.pid, *descendants(self.process.pid)]
