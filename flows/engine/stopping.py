"""Ctrl-C and SIGTERM: the first has a run end at its next image, a second ends the process now.

A thread that is inside a library's call does not hear of a stop, and cannot be ended, so that it is waited for: it
may still write. Whoever does not want to wait says so a second time. Then the process ends with all that it started,
and leaves its lease, which the next run takes over. A thread of its own listens, as the main thread, which alone runs
Python's handlers, may be inside such a call itself.
"""

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Thread
from types import FrameType
from typing import NoReturn

import psutil

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ONCE_SECONDS = 0.2
"""A signal that comes so soon after the first is the same: supervisors send one to a group and to its head."""
TOLD_AFTER = 3.0
"""Seconds after which it is logged that images are waited for."""
WAITS = "stopping: what is in hand is waited for; a second Ctrl-C, or SIGTERM, ends it now"
ENDED = "ended at once; run it again to resume"

_ending = Lock()


class TerminatedError(SystemExit):
    """The first SIGTERM, as it reaches the main thread."""


@contextmanager
def obeying_signals() -> Iterator[None]:
    """While the body runs, the first signal is raised in it, and a second ends the process; for the main thread."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signals = _Signals()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        if before[number] is not signal.SIG_IGN:  # as for a job in the background
            signal.signal(number, signals.raise_first)
    woken = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    Thread(target=signals.listen, args=(read,), name="signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken)
        os.close(write)  # ends the thread
        for number, handler in before.items():
            signal.signal(number, handler)


class _Signals:
    """What has come so far, as the main thread and the one that listens see it, each for itself."""

    def __init__(self) -> None:
        self.raised_at: float | None = None

    def raise_first(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.raised_at is None:
            self.raised_at = now
            raise KeyboardInterrupt if number == signal.SIGINT else TerminatedError(128 + number)
        if now - self.raised_at > ONCE_SECONDS:
            end_now(128 + number, ENDED)

    def listen(self, pipe: int) -> None:
        """Read the numbers of signals as they come, until the pipe is closed at its other end."""
        first: float | None = None
        is_told = False
        with os.fdopen(pipe, "rb", buffering=0) as numbers:
            while True:
                waits = None if first is None or is_told else TOLD_AFTER
                if not select.select([numbers], [], [], waits)[0]:
                    _say(WAITS)
                    is_told = True
                    continue
                came = numbers.read(1)
                if not came:
                    return
                if signal.getsignal(number := came[0]) != self.raise_first:  # another's, as within a flow run
                    continue
                if first is None:
                    first = time.monotonic()
                elif time.monotonic() - first > ONCE_SECONDS:
                    end_now(128 + number, ENDED)


def end_now(code: int, why: str) -> NoReturn:
    """End this process and all that it started, whatever its threads are at; nothing is cleaned up."""
    _ending.acquire()  # never released: of two threads that end the process one logs it
    _say(why)
    for process in psutil.Process().children(recursive=True):
        try:
            process.kill()
        except psutil.Error:  # it has ended
            continue
    os._exit(code)


def _say(line: str) -> None:
    """A line on standard error, past Python's buffers, whose locks another thread may hold."""
    try:
        os.write(2, f"dtls: {line}\n".encode())
    except OSError:  # it is closed
        return
