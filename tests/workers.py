"""How the tests are shared between several processes: what stays together, in which order, and what runs alone.

A group of tests goes to one process, in order. It is a file, unless the tests ask for something that is there once a
session, such as the Prefect server: then all that ask for it are one group. A test marked `quiet` runs while no other
process runs a test.
"""

import fcntl
import json
import os
import shlex
import shutil
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import TextIO

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.services import Adopted, S3Server, is_running, wait_until

SHARED = "DTLS_TESTS_SHARED"
"""Names the folder that the processes of one session share."""
MAIN = "main"
"""The process that is no worker."""
STOP_SECONDS = 60.0
GROUPS = {"prefect_server": "prefect", "browser": "browser"}
"""The group of the tests that ask for a fixture. Prefect comes before the browser: Playwright leaves an event loop
running in its process, and where one runs Prefect's flows are coroutines."""
RANKS = {"prefect": -1, "browser": 1, "quiet": 1}
"""Which groups begin before all others, and which after them."""
OF_GROUP = ExitStack()
"""What is closed after the last test of a group."""
SERVERS = {"s3_server", "prefect_server"}
"""The fixtures that make a test one of `integration`, whether or not it is marked."""
KNOWN = ("port", "endpoint", "access_key", "secret_key")
"""What a process must know of the S3 server that another one started."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class Groups(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Hands out whole groups in the order of the tests, by what the processes wrote down as they collected them."""

    @cached_property
    def names(self) -> dict[str, str]:
        names: dict[str, str] = json.loads((Path(os.environ[SHARED]) / "groups.json").read_text())
        return names

    def _split_scope(self, nodeid: str) -> str:
        return self.names[nodeid]


class Workers:
    """The part of pytest's hooks that knows of several processes; it holds for a single one, too."""

    def __init__(self, config: pytest.Config) -> None:
        if hasattr(config, "workerinput"):
            self.name = str(config.workerinput["workerid"])
            _pid_file(self.name).write_text(str(os.getpid()))
        else:
            self.name = MAIN
            folder = Path(mkdtemp(prefix="dtls-tests-"))
            config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
            config.add_cleanup(lambda: stop_shared(folder))
            os.environ[SHARED] = str(folder)
            if config.getoption("numprocesses", None):
                os.environ |= ONE_THREAD  # before the workers load what reads them
        self.failed: list[str] = []

    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Producer) -> Groups:
        return Groups(config, log)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put what takes long first, so that no process waits for the other at the end, and write down the groups."""
        for item in items:
            if SERVERS & set(getattr(item, "fixturenames", ())):
                item.add_marker("integration")
        groups = {item: group_of(item) for item in items}
        slow = Counter(groups[item] for item in items if item.get_closest_marker("slow"))

        def place(item: pytest.Item) -> tuple[int, int, str]:
            return RANKS.get(groups[item], 0), -slow[groups[item]], groups[item]

        items.sort(key=place)
        shared = Path(os.environ[SHARED])
        draft = shared / f"groups-{self.name}.json"
        draft.write_text(json.dumps({item.nodeid: group for item, group in groups.items()}))
        draft.replace(shared / "groups.json")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        with turn(Path(os.environ[SHARED]), alone=item.get_closest_marker("quiet") is not None):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        yield
        if nextitem is None or group_of(nextitem) != group_of(item):
            OF_GROUP.close()

    def pytest_keyboard_interrupt(self) -> None:
        if self.name != MAIN:
            leave_in_peace()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Iterator[None]:
        """Where the session is cut short, ask the workers to end and wait; xdist kills them in ten seconds."""
        if self.name == MAIN:
            stop_workers(Path(os.environ[SHARED]))
            yield
            return
        leave_in_peace()
        try:
            yield
        finally:
            _pid_file(self.name).unlink()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and report.nodeid not in self.failed:
            self.failed.append(report.nodeid)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.failed:
            terminalreporter.section("each of these alone")
            for name in self.failed:
                terminalreporter.write_line(f".venv/bin/pytest -m '' {shlex.quote(name)}")


def group_of(item: pytest.Item) -> str:
    """The group that a test is in by its mark, by a fixture that it asks for, or by its file."""
    marked = item.get_closest_marker("xdist_group")
    if marked is not None:
        return str(marked.args[0])
    asked = [group for fixture, group in GROUPS.items() if fixture in getattr(item, "fixturenames", ())]
    if asked:
        return asked[0]
    return "quiet" if item.get_closest_marker("quiet") else item.nodeid.partition("::")[0]


@contextmanager
def turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Hold the lock under which tests of several processes run: together, or alone.

    Who waits to be alone keeps the door shut, so that the others do not overtake for ever.
    """
    with (folder / "door").open("w") as door, (folder / "room").open("w") as room, ExitStack() as inside:
        with locked(door, fcntl.LOCK_EX):
            inside.enter_context(locked(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        yield


@contextmanager
def locked(file: TextIO, kind: int) -> Iterator[None]:
    fcntl.flock(file, kind)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)  # a child that was forked meanwhile has the file open still


def shared_s3_server(folder: Path) -> S3Server:
    """The server of the processes that share the folder; whoever asks first starts it, `stop_shared` ends it."""
    with (folder / "s3.lock").open("w") as lock, locked(lock, fcntl.LOCK_EX):
        if not _known(folder).exists():
            server = S3Server(folder / "s3").__enter__()
            assert server.process
            known = {"pid": server.process.pid, **{name: getattr(server, name) for name in KNOWN}}
            _known(folder).write_text(json.dumps(known))
        return _adopted(folder)


def stop_shared(folder: Path) -> None:
    if _known(folder).exists():
        _adopted(folder).stop()


def leave_in_peace() -> None:
    """Let no signal disturb a worker that stops what it has started; the main process may ask it to while it does."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def stop_workers(folder: Path) -> None:
    """End the processes that still run tests, so that they stop the servers of theirs; kill those that do not end."""
    at_work = {}
    for path in folder.glob("*.pid"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has come to its end meanwhile
            at_work[path] = int(path.read_text())
            os.kill(at_work[path], signal.SIGTERM)
    if not wait_until(lambda: not _running(at_work), STOP_SECONDS):
        for pid in _running(at_work):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _running(at_work: Mapping[Path, int]) -> list[int]:
    """Of processes by the files that say that they are at work, those that are."""
    return [pid for path, pid in at_work.items() if path.exists() and is_running(pid)]


def _pid_file(worker: str) -> Path:
    return Path(os.environ[SHARED], f"{worker}.pid")


def _known(folder: Path) -> Path:
    return folder / "s3.json"


def _adopted(folder: Path) -> S3Server:
    known = json.loads(_known(folder).read_text())
    server = S3Server(folder / "s3")
    server.process = Adopted(known.pop("pid"))
    for name, value in known.items():
        setattr(server, name, value)
    return server
