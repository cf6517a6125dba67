"""Images done one by one in a process of their own, which may hang or die of one, and is then ended or replaced.

So is a unit done that has killed its process before, or whose image a library does not come back from: what cannot be
done alone either becomes a failed row, and the rest of the unit is done. It is slow, and the last resort.
"""

import ctypes
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any

from flows.engine.job import Work, WorkerSpec
from flows.interface.console import Advance
from flows.interface.text import words_of
from storage.receipts.claims import Claim
from storage.receipts.units import Row, Unit
from storage.stores.location import Entry, StorageError
from storage.stores.scratch import scratch_folder

logger = logging.getLogger(__name__)

POLL = 0.5
"""Seconds between two looks at whether the run was stopped, and in the process, whether the run is gone."""
PR_SET_PDEATHSIG = 1
LATE = "took longer than --image-timeout {:g} s"
DEADLY = "killed the process that read it, twice ({})"
TRIES = 2
"""An image that has killed so many processes, alone in each, is given up."""


def is_not_to_be_read(reason: object) -> bool:
    """Whether a failed row records that its image hangs or kills the process that reads it."""
    return str(reason).startswith(tuple(words.partition("{")[0] for words in (LATE, DEADLY)))


class EndedError(Exception):
    """A process that ended, or was ended, over what it was to do; why, in words."""


class HungError(EndedError):
    """A process that was ended, as what it was to do took too long."""


@dataclass(frozen=True)
class Apart:
    """Does units image by image. here: what does them in this process, once it is known what must not be read.

    limit: how many seconds an image may take; None for any.
    """

    here: Work
    worker_spec: WorkerSpec
    claim: Claim
    limit: float | None

    def __call__(self, unit: Unit, samples: Sequence[Entry], advance: Advance) -> list[Row]:
        """The rows of a unit, those of its images that end or hold up a process as failures."""
        if self.worker_spec.trial is None:
            return self._one_by_one(self.worker_spec.make, unit, samples, advance)
        with scratch_folder() as folder:
            tried = self._one_by_one(self.worker_spec.trial(str(folder)), unit, samples, advance)
        lost = {row["key"]: row["reason"] for row in tried if row["status"] == "failed"}
        unit = replace(unit, refused=lost)
        process = Process(self.worker_spec.make, self.claim, lambda: advance(0))
        try:
            with process.started():
                return process.do(unit, samples, None)
        except EndedError as error:
            raise StorageError(
                f"its images are sound one by one, and the process that made it died ({error}); try fewer --workers"
            ) from error

    def _one_by_one(
        self, make: Callable[[int], Work], unit: Unit, samples: Sequence[Entry], advance: Advance
    ) -> list[Row]:
        rows: list[Row] = []
        process = Process(make, self.claim, lambda: advance(0))
        with process.started():
            for sample in samples:
                rows += self._alone(process, replace(unit, samples=(sample,)), sample)
                advance(1, rows[-1]["status"] == "failed")
        return rows

    def _alone(self, process: "Process", unit: Unit, sample: Entry) -> list[Row]:
        """The row of a sample that is done alone, twice if its process dies."""
        why = ""
        for _ in range(TRIES):
            try:
                return process.do(unit, [sample], self.limit)
            except HungError:
                why = LATE.format(self.limit)
                break
            except EndedError as error:
                why = DEADLY.format(error)
        return self.here(replace(unit, refused={sample.key: why}), [sample], lambda *_: None)


class Process:
    """A process that does what it is given, one thing at a time; another takes its place when it has ended."""

    def __init__(self, make: Callable[[int], Work], claim: Claim, look: Callable[[], object]) -> None:
        self._given = pickle.dumps((make, claim))
        self._look = look
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    @contextmanager
    def started(self) -> Iterator[None]:
        """While the body runs, there may be such a process."""
        try:
            yield
        finally:
            self._end()

    def do(self, unit: Unit, samples: Sequence[Entry], limit: float | None) -> list[Row]:
        """The rows of some samples; EndedError where the process ended over them, or took too long (HungError)."""
        if self._pipe is None:
            self._pipe = self._start()
        try:
            self._pipe.send((unit, samples))
            rows, error = self._answer(self._pipe, limit)
        except (EOFError, OSError) as broken:
            raise EndedError(self._end()) from broken
        if error is not None:
            raise error
        return rows

    def _start(self) -> Connection:
        own, other = Pipe()
        with other:
            none = subprocess.DEVNULL
            command = [sys.executable, "-m", "flows.engine.apart", str(other.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[other.fileno()], stdin=none, stdout=none)
        try:
            own.send_bytes(self._given)
            self._answer(own, None)
        except (EOFError, OSError) as broken:
            own.close()
            raise StorageError(f"the process for images done alone died at its start ({self._end()})") from broken
        return own

    def _answer(self, pipe: Connection, limit: float | None) -> Any:
        """What the process answers; meanwhile a stop of the run is noticed."""
        started = time.monotonic()
        while not pipe.poll(POLL):
            self._look()
            if limit is not None and time.monotonic() - started > limit:
                self._end()
                raise HungError
        return pipe.recv()

    def _end(self) -> str:
        """End the process, if it has not; how it has ended."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if self._process is None:
            return "it never was"
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(POLL)  # of its own accord, if its end of the pipe is closed
        self._process.kill()
        code = self._process.wait()
        self._process = None
        if code == -signal.SIGKILL:
            return "SIGKILL, as for want of memory"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def main() -> None:
    """Do what comes through the pipe whose number is given, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C on a terminal is for the run, which ends this
    _end_with_parent()
    with suppress(OSError):  # where memory ends, the system is to choose this process
        Path("/proc/self/oom_score_adj").write_text("1000")
    with Connection(int(sys.argv[1])) as pipe, suppress(EOFError):
        make, claim = pickle.loads(pipe.recv_bytes())  # noqa: S301, from who started this
        with claim.fenced():
            work = make(1)
            pipe.send(None)
            while True:
                pipe.send(_outcome(work, *pipe.recv()))


def _outcome(work: Work, unit: Unit, samples: Sequence[Entry]) -> tuple[list[Row], Exception | None]:
    """The rows, or the error, without what it comes from, which may hold keys and cannot always travel."""
    try:
        return work(unit, samples, lambda *_: None), None
    except StorageError as error:
        return [], type(error)(str(error))
    except Exception as error:
        logger.debug("%s failed", unit.name, exc_info=error)
        return [], RuntimeError(words_of(error))


def _end_with_parent() -> None:
    """Let this process end when the one that started it is gone: on Linux at once, else soon."""
    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        os._exit(1)

    Thread(target=watch, args=(os.getppid(),), daemon=True).start()


if __name__ == "__main__":
    main()
