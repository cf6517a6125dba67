"""Fences: files below a leased target are changed only by who holds the lease, asked just before each change.

While this process works on a target, `fenced` has its stores ask before each rename, upload and removal below it.
Whoever has lost the lease in the meantime, as after a pause or the sleep of the machine, changes nothing more.

A process may work on one target for several runs, one that has lost its lease among them, as Dask's workers do. So
what runs in the context of a fence, its threads included, asks for that run alone; what runs in none asks for all.
"""

import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock

from storage.stores.entry import STATE
from storage.stores.errands import check_given_up

LEASES = f"{STATE}/lease"
"""What the names of leases begin with. They are not fenced: they are how one asks."""
Ask = Callable[[], None]
"""Raises where the target is no longer ours."""


@dataclass(frozen=True)
class _Fence:
    store: Hashable
    root: str
    ask: Ask

    def is_around(self, store: Hashable, path: str) -> bool:
        if path != self.root and not path.startswith(f"{self.root.rstrip('/')}/"):
            return False
        return store == self.store and not path[len(self.root) :].lstrip("/").startswith(LEASES)


_fences: tuple[_Fence, ...] = ()
_own: ContextVar[tuple[_Fence, ...]] = ContextVar("own fences", default=())
_lock = Lock()


@contextmanager
def fenced(store: Hashable, root: str, ask: Ask) -> Iterator[None]:
    """While the body runs, this process asks before it changes what is at `root`, or below it."""
    global _fences
    fence = _Fence(store, root, ask)
    with _lock:
        _fences = (*_fences, fence)
    token = _own.set((*_own.get(), fence))
    try:
        yield
    finally:
        _own.reset(token)
        with _lock:
            _fences = tuple(other for other in _fences if other is not fence)


def ask_before_changing(store: Hashable, path: str) -> None:
    """Called by a store immediately before it changes what is at `path`."""
    check_given_up()
    own = [fence for fence in _own.get() if fence.is_around(store, path)]
    for fence in own or [fence for fence in _fences if fence.is_around(store, path)]:
        fence.ask()


def clock() -> float:
    """Seconds of this machine that go on while a process is stopped and while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
