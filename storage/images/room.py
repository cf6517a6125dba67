"""Room in memory for large images: whoever is about to unpack one claims what that takes at its peak.

The pixels of an image can be a thousand times its file. One that takes more than there is gets an `ImageError` before
it takes anything; those that fit, but not together, wait for each other. Small ones pass without a claim.
"""

import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from threading import Condition, Lock, get_ident, local

import humanize

from storage.images import limits
from storage.images.formats import ImageError
from storage.stores.errands import Errand, check_given_up, current, waiting

SMALL = 64 * 2**20
"""Bytes that are taken without a claim."""
KEPT_FREE = 16
"""This part of the memory is left to what makes no claims."""
PATIENCE, STEP = 5.0, 0.5
"""Seconds for which small images that are on their way may end and make room, and between two looks."""


class Work:
    """A `with` statement at whose end the claims made in it end; a class, as it costs half of a generator."""

    __slots__ = ("_end", "_is_outermost", "_mine")

    def __init__(self, mine: local, end: Callable[[int], None]) -> None:
        self._mine, self._end = mine, end

    def __enter__(self) -> None:
        self._is_outermost = not getattr(self._mine, "works", False)
        self._mine.works = True

    def __exit__(self, *_: object) -> None:
        if self._is_outermost:
            self._mine.works = False
            self._end(0)


class Room:
    """The claims of a process: a thread's last to the end of its outermost `with room.work():`.

    They do not add up: each is for all that its thread has at one time, so that the largest counts.
    available: the bytes that can be had now. total: those that there are.
    """

    def __init__(
        self, available: Callable[[], int] = limits.available, total: Callable[[], int] = limits.memory
    ) -> None:
        self._available, self._total = available, total
        self.forget()

    def forget(self) -> None:
        """Begin without claims, as a process does that is forked: it has none of the threads that made them."""
        self._turn, self._changed, self._mine = Lock(), Condition(), local()
        self._claims: dict[int, tuple[Errand, int]] = {}
        self._most = 0

    def work(self) -> "Work":
        """What this thread claims within ends with it, unless it is within another."""
        return Work(self._mine, self._set)

    def claim(self, size: int, way_out: str = "") -> None:
        """Have so many bytes from now on, once others have ended their claims; ImageError where they never fit.

        way_out: what the reason says can be done. A thread that has claims already does not wait for those of others.
        """
        if size <= SMALL or size <= self._held:
            return
        if self._held:
            self._refuse(size - self._held, size, way_out)
            self._set(size)
            return
        with waiting(), self._turn:  # who came first goes first: many of middle size do not keep a large one waiting
            with self._changed:
                while (claimed := self._claimed) and size > self._free() - claimed:
                    check_given_up()
                    self._changed.wait(STEP)
            if not claimed:
                self._refuse(size, size, way_out)
            self._set(size)

    @property
    def _held(self) -> int:
        return self._claims.get(get_ident(), (None, 0))[1]

    @property
    def _claimed(self) -> int:
        """What is claimed in all; nothing counts of threads that were left behind."""
        return sum(size for errand, size in self._claims.values() if not errand.is_given_up)

    def _set(self, size: int) -> None:
        if size != self._held:
            with self._changed:
                self._claims[get_ident()] = current(), size
                if not size:
                    del self._claims[get_ident()]
                self._changed.notify_all()

    def _free(self) -> int:
        free = self._available() - self._total() // KEPT_FREE
        self._most = max(self._most, free)
        return free

    def _refuse(self, more: int, size: int, way_out: str) -> None:
        """ImageError where `more` bytes are not there, which may have been there before and come back."""
        free = self._free()
        if more > free:
            give_back()
            free = self._free()
        waited = 0.0
        while free < more <= self._most and waited < PATIENCE:
            with self._changed:
                self._changed.wait(STEP)
            waited += STEP
            free = self._free()
        if more > free:
            told = humanize.naturalsize(size), humanize.naturalsize(max(0, free + size - more))
            raise ImageError(f"needs about {told[0]} of memory, and {told[1]} may be used{way_out}")


def give_back() -> None:
    """Give the system what the C library keeps of memory that nothing uses; only GNU's keeps much."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


ROOM = Room()
os.register_at_fork(after_in_child=ROOM.forget)
