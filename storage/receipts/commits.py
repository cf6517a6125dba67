"""The files of one unit on their way to their places, each on the disk before it has its name, many at a time.

To bring a small file to the disk takes longer than to make it. So those who make small files do not wait for it:
threads of their own write them. When a unit's files are all `settled`, and the `with` statement is left, its receipt
may be written.
"""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from threading import Semaphore
from typing import Self

from storage.stores.durable import SYNCS_AT_ONCE, names_later, sync_folders
from storage.stores.errors import translating_errors
from storage.stores.location import Location

SMALL = 2**20
"""Bytes of files that are handed over; larger ones would fill the memory."""


class Commits:
    """Puts files at a target, and removes some.

    To be used in a `with` statement, at whose end all of that is on the disk, names, too.
    """

    def __init__(self, target: Location) -> None:
        self.target = target
        self._pool = ThreadPoolExecutor(SYNCS_AT_ONCE)
        self._free = Semaphore(SYNCS_AT_ONCE)
        self._pending: dict[str, Future[None]] = {}
        self._removed: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()
        sync_names(self.target, [*self._pending, *self._removed])

    def write(self, key: str, data: bytes) -> None:
        """Put `data` at `key`, whole: now, or once it is settled."""
        if self.target.local is None or len(data) > SMALL:
            self.target.write(key, data)
            return
        self._free.acquire()
        self._pending[key] = self._pool.submit(copy_context().run, self._write, key, data)

    def remove(self, key: str) -> None:
        """Remove `key`, now; it is gone for good when the `with` statement is left."""
        self.target.delete(key)
        self._removed.append(key)

    def settle(self, key: str) -> None:
        """Wait until what was written at `key` is there; StorageError where it could not be put there."""
        if (pending := self._pending.get(key)) is not None:
            pending.result()

    def _write(self, key: str, data: bytes) -> None:
        try:
            with names_later():
                self.target.write(key, data)
        finally:
            self._free.release()


def sync_names(target: Location, keys: Iterable[str]) -> None:
    """Bring to the disk which files there are, where that matters to what comes next."""
    if target.local is not None:
        with translating_errors(str(target)):
            sync_folders({Path(target.path(key)).parent for key in keys}, target.local)
