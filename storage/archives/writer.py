"""Archives as targets: results wait in a folder beside the archive, which is then made of them anew and whole.

Nothing is ever lost: until the new archive is in its place, the old one and what waits stay as they are; what waits
goes afterwards. The same keys and bytes make the same archive, whenever and wherever it is packed.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from storage.archives.archive import Add, key_of
from storage.archives.kinds import written_by_name
from storage.archives.source import Source, open_source, place_of
from storage.archives.tars import Damaged
from storage.parallel import ordered_map
from storage.stores.entry import STATE, is_hidden
from storage.stores.fence import ask_before_changing
from storage.stores.location import Entry, Location, StorageError

WORKERS = 8
"""Threads that read members ahead, and delete; at most twice as many members and one more are in memory."""


def is_archive(address: str) -> bool:
    """Whether results for an address go into an archive, by its name, such as .zip or .tar."""
    return written_by_name(address) is not None


class Listing(NamedTuple):
    """An archive as it is: the file, what reads it, and its members by key."""

    file: Entry
    source: Source
    members: dict[str, Entry]


class Packing:
    """An archive of results that is made anew, whole, from images that wait in a folder beside it."""

    def __init__(self, address: str) -> None:
        location = Location.of(address)
        self.archive = location.url
        self.staging = Location.of(f"{location}.dtls")
        self.location = location
        self._place, self._name = place_of(location)
        self._listing: Listing | None = None

    def __str__(self) -> str:
        return self.archive

    def sizes(self) -> dict[str, int]:
        """The members of the archive there now, key → size; none where there is no archive.

        Listed anew only where the archive is another. StorageError for a folder, for an archive whose results were
        not made with receipts in `staging`, and for one that is damaged.
        """
        listing = self._there()
        return {key: entry.size for key, entry in listing.members.items()} if listing else {}

    def read(self, key: str) -> bytes:
        """The bytes of a member; ChangedError or StorageError where they are not to be had."""
        listing = self._listing or self._there()
        if listing is None or key not in listing.members:
            raise StorageError(f"{self}: {key}: no such member")
        return listing.source.fetch(listing.members[key])

    def check_name(self, key: str) -> None:
        """StorageError for a key that would not be the same key as a member of an archive."""
        try:
            why = "" if key_of(key) == key else "a name that is not plain"
        except Damaged as error:
            why = str(error)
        if why:
            raise StorageError(f"{self}: {key!r} cannot be in an archive: {why}; rename it, or choose a folder")

    def pack(self, keys: Iterable[str], advance: Callable[[int], None]) -> None:
        """Make the archive of these keys, in their order, and remove them from `staging`; hidden ones never go in.

        Each is taken from `staging`, else from the archive that is there now. Where that has these very members and
        none waits, it stays. `advance` is told of each member. StorageError for a key that is in neither place, or
        that no member may have: before anything is written.
        """
        keys = [key for key in dict.fromkeys(keys) if not is_hidden(key)]
        for key in keys:
            self.check_name(key)
        listing = self._there()
        staged = {entry.key: entry for entry in self.staging.list()}
        waiting = [key for key in keys if key in staged]
        if listing and not waiting and set(keys) == set(listing.members):
            return
        there = {*staged, *(listing.members if listing else ())}
        if lost := next((key for key in keys if key not in there), None):
            raise StorageError(f"{self}: {lost} is neither in it nor in {self.staging}; run it again")

        def read(key: str) -> bytes:
            return self.staging.fetch(staged[key]) if key in staged else self.read(key)

        self.location.abort_uploads()  # of a run that was killed
        with self._place.writing(self._name) as path, _adding(path, self._name) as add:
            for key, data in zip(keys, ordered_map(read, keys, WORKERS), strict=True):
                add(key, data)
                advance(1)
        for _ in ordered_map(self.staging.delete, waiting, WORKERS):
            pass
        if (folder := self.staging.local) is not None:
            for emptied in {(folder / key).parent for key in waiting}:
                ask_before_changing(self.staging.store, str(emptied))
                with suppress(OSError):  # somebody's file is in it
                    os.removedirs(emptied)

    def _there(self) -> Listing | None:
        """The archive as it is now, if there is one."""
        kind = self.location.what_is_there()
        if kind == "nothing":
            return None
        if kind == "folder":
            raise StorageError(f"{self}: is a folder, with the name of an archive; choose another name")
        if (self.staging / STATE).what_is_there() != "folder":
            raise StorageError(f"{self}: is there, and {self.staging} has no receipts of it; choose another name")
        file = self._place.info(self._name)
        if self._listing is None or self._listing.file != file:
            self._listing = Listing(file, *self._listed())
        return self._listing

    def _listed(self) -> tuple[Source, dict[str, Entry]]:
        source = open_source(self.archive)
        try:
            return source, {entry.key: entry for entry in source.list() if not is_hidden(entry.key)}
        except StorageError as error:
            if isinstance(error.__cause__, Damaged):
                raise StorageError(f"{error}; remove it, and the next run makes it anew") from error
            raise


@contextmanager
def _adding(path: Path, name: str) -> Iterator[Add]:
    """A function that adds a member to a new archive."""
    kind = written_by_name(name)
    if kind is None:
        raise StorageError(f"{name}: no archive that can be written")
    with path.open("wb") as file, kind.adding(file) as add:
        yield add
