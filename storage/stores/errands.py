"""Whose work a thread does, and which image it has in hand.

A thread cannot be ended. One that is inside a library's call for too long, or still there when its run has ended, is
left behind: its errand is given up, and from then on its stores refuse any change by it (`storage.stores.fence`).
The threads that `storage.parallel` starts are on the errand of the thread that starts them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Condition, get_ident

from storage.stores.errors import StorageError

LOOK_SECONDS = 1.0
"""Between two looks at whether who has the turn was given up."""


class Errand:
    """What some threads do together."""

    def __init__(self) -> None:
        self.is_given_up = False
        self._in_hand: dict[int, tuple[tuple[str, ...], float]] = {}

    def give_up(self) -> None:
        """Have all changes by its threads refused from now on."""
        self.is_given_up = True

    def late(self, seconds: float) -> list[tuple[str, ...]]:
        """What threads have in hand for longer than so many seconds an image."""
        now = time.monotonic()
        held = list(self._in_hand.values())
        return [keys for keys, since in held if now - since > seconds * len(keys)]

    @contextmanager
    def carried_out(self) -> Iterator[None]:
        """What runs in the context of the body is on this errand."""
        token = _own.set(self)
        try:
            yield
        finally:
            _own.reset(token)

    def take(self, keys: tuple[str, ...]) -> None:
        """This thread has these images in hand from now on."""
        self._in_hand[get_ident()] = (keys, time.monotonic())

    def keys_in_hand(self) -> tuple[str, ...]:
        """The images that this thread has in hand."""
        return self._in_hand.get(get_ident(), ((), 0.0))[0]

    def put_down(self) -> None:
        """This thread has no image in hand any longer."""
        self._in_hand.pop(get_ident(), None)


class in_hand:  # noqa: N801, a context manager, and a class as it costs a third of a generator
    """While the body runs, this thread has these images in hand: it reads, decodes, computes or encodes them."""

    __slots__ = ("_errand", "_keys")

    def __init__(self, *keys: str) -> None:
        self._keys = keys

    def __enter__(self) -> None:
        self._errand = _own.get()
        self._errand.take(self._keys)

    def __exit__(self, *_: object) -> None:
        self._errand.put_down()


@contextmanager
def waiting() -> Iterator[None]:
    """While the body runs, this thread waits for others: what it has in hand is late only by the time after that."""
    errand = _own.get()
    held = errand.keys_in_hand()
    errand.put_down()
    try:
        yield
    finally:
        if held:
            errand.take(held)


class Turn:
    """A lock for threads on different errands, which an errand that was given up keeps from nobody."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._holder: Errand | None = None

    def __enter__(self) -> None:
        with self._changed:
            while self._holder is not None and not self._holder.is_given_up:
                self._changed.wait(LOOK_SECONDS)
            self._holder = _own.get()

    def __exit__(self, *_: object) -> None:
        with self._changed:
            if self._holder is _own.get():
                self._holder = None
                self._changed.notify()


_own: ContextVar[Errand] = ContextVar("own errand", default=Errand())  # noqa: B039, nobody waits for that one


def current() -> Errand:
    """What this thread is on; one that nobody waits for, where it is on none."""
    return _own.get()


def check_given_up() -> None:
    """StorageError where this thread was left behind."""
    if _own.get().is_given_up:
        raise StorageError("given up")
