"""Counting the images of a unit that may be started again, in whatever process."""

from threading import Lock

from flows.interface.console import Advance


class Ticks:
    """Counts the progress of a unit; a unit that is started again is counted once."""

    def __init__(self, advance: Advance) -> None:
        self.advance, self.done, self.failed, self.lock = advance, 0, 0, Lock()

    def reach(self, done: int, failed: int) -> None:
        """So many samples are done by now, so many of them failed."""
        with self.lock:
            more, worse = max(0, done - self.done), max(0, failed - self.failed)
            self.done, self.failed = self.done + more, self.failed + worse
        if more or worse:
            self.advance(more, worse)

    def started(self) -> Advance:
        """A counter that starts from the beginning, and reports only what is new."""
        done, failures, lock = 0, 0, Lock()

        def advance(count: int, failed: int = 0) -> None:
            nonlocal done, failures
            with lock:
                done, failures = done + count, failures + failed
                reached = done, failures
            if count or failed:
                self.reach(*reached)
            else:
                self.advance(0)

        return advance
