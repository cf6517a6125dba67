"""Where pictures are read from: a folder or prefix, a zip, a tar, or a folder of shards, as one stream of entries.

Nothing is unpacked. An archive is indexed once, and each member is then read where it lies, from any thread, through
`Location.fetch`: an archive that changes meanwhile is noticed. Keys are relative POSIX paths that stay below whatever
they are joined to. What can have no such key, and what is no file, is in `refused`, with its name and why; of members
with the same key the first counts, and the others are refused. What has a key but cannot be read (encrypted, damaged,
too large) is listed, and says why when it is fetched.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from operator import attrgetter
from pathlib import PurePosixPath
from typing import Protocol

from storage import images, tars
from storage.entries import is_hidden
from storage.locations import ChangedError, Entry, Location, StorageError
from storage.members import MAX_BYTES, Archive, Refused, refuse_large
from storage.parallel import ordered_map
from storage.tars import Member, Window
from storage.zips import Zip

TO_UNPACK = re.compile(r"\.(tgz|tbz2?|txz|tar\.(gz|bz2|xz|zst)|7z|rar)$", re.IGNORECASE)
SHARD = ".tar"


class Source(Protocol):
    """What a flow reads pictures from; `list` comes first, and says what `refused` is."""

    refused: Refused

    @property
    def is_local(self) -> bool: ...
    def list(self) -> list[Entry]: ...
    def fetch(self, entry: Entry) -> bytes: ...


def open_source(address: str) -> Source:
    """The pictures at an address; StorageError for an archive of a kind that has to be unpacked."""
    location = Location.of(address)
    kind = ARCHIVES.get(PurePosixPath(location.url).suffix.lower())
    unpack = TO_UNPACK.search(location.url)
    if (kind is None and unpack is None) or location.what_is_there() != "file":
        return Folder(location)
    if kind is None:
        raise StorageError(f"{address}: pictures in such an archive cannot be read where they lie; unpack it")
    folder, _, name = location.url.rpartition("/")
    folder = folder or ("/" if location.url.startswith("/") else ".")
    return kind(Location(folder, location.store, location.root.rpartition("/")[0] or "/"), name)


class Folder:
    """The files below a location; where there are no pictures but shards, the pictures in these.

    Those have the shard in their keys (`shard-000000/000000042.png`), as shards may hold equal names.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self.refused: Refused = []
        self._shards: dict[str, Tar] = {}

    def __str__(self) -> str:
        return str(self.location)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return self.location.local is not None

    def fetch(self, entry: Entry) -> bytes:
        if entry.size > MAX_BYTES:
            refuse_large(self.location.address(entry.key), entry.size)
        if not self._shards:
            return self.location.fetch(entry)
        name = next((name for name in _folders(entry.key) if name in self._shards), None)
        if name is None:
            raise ChangedError(f"{self.location.address(entry.key)}: not as it was listed")
        return self._shards[name].fetch(replace(entry, key=entry.key[len(name) + 1 :]))

    def list(self) -> list[Entry]:
        entries = self.location.list()
        shown = [entry.key for entry in entries if not is_hidden(entry.key)]
        shards = [key for key in shown if key.endswith(SHARD)]
        self._shards, self.refused = {}, []
        if not shards or any(map(images.is_image, shown)):
            return entries
        self._shards = {key.removesuffix(SHARD): Tar(self.location, key) for key in shards}
        for name in self._shards:
            if twin := next((other for other in _folders(name) if other in self._shards), None):
                raise StorageError(f"{self}: {twin}{SHARD} and {name}{SHARD} may hold the same keys; rename one")
        members: list[Entry] = []
        lists = ordered_map(lambda shard: shard.list(), self._shards.values(), workers=16)
        for (name, shard), found in zip(self._shards.items(), lists, strict=True):
            self.refused += [(f"{name}/{refused}", why) for refused, why in shard.refused]
            members += [replace(e, key=f"{name}/{e.key}") for e in found if images.is_image(e.key)]
        return sorted(members, key=attrgetter("key"))


class Tar(Archive):
    """A tar without compression."""

    kind = "tar"

    def _index(self, file: Window) -> Iterator[Member]:
        return tars.members(file)

    def _etag(self, number: int) -> str:
        return f"{self._file.etag}-{self._offsets[number]:x}"

    def _read(self, number: int, size: int) -> bytes:
        return self.place.fetch(self._file, self._offsets[number], size)


ARCHIVES: dict[str, type[Archive]] = {".zip": Zip, ".tar": Tar}


def _folders(key: str) -> Iterator[str]:
    return (str(folder) for folder in PurePosixPath(key).parents)
