"""Python programs without their seconds of imports: a process that has imported everything forks what tests start.

While `Starter.active` holds, `subprocess` and `multiprocessing` here, and in what is started so, get a program of
this project as a fork of a process that has only imported modules. The program runs as `__main__` from its source,
with its own arguments, environment, folder, and open files. It is a child of the process that starts it, in the
session and group that it would have had: signals, waiting, and orphans are as they are without this.

Other programs start as ever, and so do those with variables that are read when an interpreter starts, and all where
there is no Linux. A test of imports, or of an interpreter's start, does without this.
"""

import _posixsubprocess
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import dropwhile
from pathlib import Path
from threading import Lock
from typing import Any, Self

from tests.workers import ONE_THREAD

ROOT = Path(__file__).parents[1]
PROGRAMS = ("flows", "dask", "prefect")
SUPERVISOR = "prefect.runner._workspace_supervisor"
"""The program that Prefect's worker starts for a flow run, which is replaced by the engine in the end."""
FLAGS = ("-u", "-B")
AT_START = ("CUDA_", "LD_", "MALLOC_MMAP", "PYTHON")
"""What the names of variables begin with that are read before a fork can have them."""
ALSO_LATER = ("CUDA_VISIBLE_DEVICES", "PYTHONHASHSEED", "PYTHONPATH", "PYTHONUNBUFFERED")
"""The first is read when a GPU is first used. Dask sets the second for all that it starts, where it changes nothing.
The third may name what a fork has anyway; it sees to the last."""
HELPER = "forks"
"""What a process calls itself that forks for a program."""
MESSAGE = 2**20
PR_SET_CHILD_SUBREAPER = 36

Fork = Callable[..., int]


@dataclass(frozen=True)
class Request:
    """A program to be run: its command line without the interpreter, and what it would inherit.

    files: the numbers that the open files sent along have there.
    """

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    files: list[int]
    session: bool
    group: int
    ignores_interrupts: bool

    @property
    def is_unbuffered(self) -> bool:
        return self.arguments[0] == "-u" or bool(self.environment.get("PYTHONUNBUFFERED"))

    @property
    def is_known(self) -> bool:
        """Whether this is one of the programs, or a process of multiprocessing's."""
        known = program(self.arguments)
        if known[:1] == ["-c"]:
            return known[-1] == "--multiprocessing-fork"
        return known[:1] == ["-m"] and known[1].partition(".")[0] in PROGRAMS

    @property
    def is_supervisor(self) -> bool:
        return program(self.arguments)[:2] == ["-m", SUPERVISOR]


class Starter:
    """The end of a channel to a process that forks what is started here."""

    def __init__(self, channel: socket.socket | None = None) -> None:
        self.channel, self.lock = channel, Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.environment, self.session = dict(os.environ), os.getsid(0)
        self.real: Fork = _posixsubprocess.fork_exec
        self.is_paused = False

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Self]:
        """With a process that imports everything once it is needed, and ends with the block."""
        starter = cls()
        try:
            yield starter
        finally:
            if starter.channel is not None and starter.process is not None:
                starter.process.terminate()
                starter.channel.close()
                starter.process.wait()

    def _begin(self) -> socket.socket:
        """Start the process; it ends with the other end of its channel."""
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = theirs.fileno()
        with theirs, self.paused():
            command, none = [sys.executable, "-m", "tests.warm_process", str(number)], subprocess.DEVNULL
            environment = self.environment | ONE_THREAD
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=[number], stdin=none)
        return self.channel

    def install(self) -> None:
        _start_by(self.fork_exec)

    @contextmanager
    def active(self) -> Iterator[Self]:
        """Fork, from now on, what can be forked."""
        before = _posixsubprocess.fork_exec
        self.install()
        try:
            yield self
        finally:
            _start_by(before)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Start what is started as ever."""
        self.is_paused = True
        try:
            yield
        finally:
            self.is_paused = False

    def can_be(self, request: Request) -> bool:
        """Whether a fork can be this program: nothing was read at the start that it wants otherwise."""
        read = _read_at_start(request.environment)
        return (
            request.is_known
            and all(self.environment.get(name) == value for name, value in read.items())
            and set(filter(None, request.environment.get("PYTHONPATH", "").split(":"))) <= {str(ROOT), *sys.path}
        )

    def _can_fork(self, request: Request) -> bool:
        """The same, and what forks is in the session still, where a fork can join each group."""
        return self.can_be(request) and os.getsid(0) == self.session

    def fork_exec(self, *given: Any) -> int:
        """Do what `_posixsubprocess.fork_exec` does; the pid of the child."""
        request, files = _requested(given)
        if self.is_paused or request is None or not self._can_fork(request):
            return self.real(*given)
        with self.lock:
            channel = self.channel or self._begin()
            process_control(PR_SET_CHILD_SUBREAPER, 1)  # what is orphaned meanwhile becomes a child of this process
            try:
                socket.send_fds(channel, [json.dumps(asdict(request)).encode()], files)
                return int(channel.recv(MESSAGE))
            except (OSError, ValueError):  # the other end was stopped together with this process's group
                return self.real(*given)
            finally:
                process_control(PR_SET_CHILD_SUBREAPER, 0)


def _requested(given: Sequence[Any]) -> tuple[Request | None, list[int]]:
    """What a call of `fork_exec` asks for, where it can be forked, and the open files that go with it."""
    arguments, _, _, kept, folder, listed, stdin, _, _, stdout, _, stderr, _, errors = given[:14]
    _, session, group, *others, _ = given[14:]
    command = [os.fsdecode(argument) for argument in arguments]
    if not sys.platform.startswith("linux") or command[0] != sys.executable:
        return None, []
    if any(other is not None and other != -1 for other in others):  # another user, or something to do before
        return None, []
    environment = dict(os.environ)
    if listed is not None:
        environment = dict(os.fsdecode(pair).split("=", 1) for pair in listed)
    standard = [(number, own if own != -1 else number) for number, own in enumerate((stdin, stdout, stderr))]
    sent = [*standard, *((number, number) for number in kept if number != errors)]
    request = Request(
        command[1:],
        environment,
        os.fsdecode(folder) if folder is not None else str(Path.cwd()),
        [number for number, _ in sent],
        bool(session),
        int(group) if group != -1 else os.getpgrp(),
        signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
    )
    return request, [file for _, file in sent]


def program(arguments: Sequence[str]) -> Sequence[str]:
    """What is to be run, without options of the interpreter that a fork can have, too."""
    return list(dropwhile(FLAGS.__contains__, arguments))


def _start_by(fork_exec: Fork) -> None:
    _posixsubprocess.fork_exec = subprocess._fork_exec = fork_exec  # type: ignore[attr-defined]


def only_forks(pid: int) -> bool:
    """Whether a process is one that runs no program, but forks for one that does."""
    return Path(f"/proc/{pid}/comm").read_text().strip() == HELPER


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    names = [name for name in environment if name.startswith(AT_START) and name not in ALSO_LATER]
    return {name: environment[name] for name in names}


def process_control(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
