"""Where pictures are read from: a folder, a zip, a tar or tar.gz, or a folder of shards, as one stream of entries.

Nothing is unpacked. An archive is indexed once, and each member is then read where it lies, from any thread, through
`Location.fetch`: an archive that changes meanwhile is noticed. Keys are relative POSIX paths that stay below whatever
they are joined to. What can have no such key, and what is no file, is in `refused`, with its name and why; of members
with the same key the first counts, and the others are refused. What has a key but cannot be read (encrypted, damaged,
too large) is listed, and says why when it is fetched.
"""

import json
import posixpath
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from operator import attrgetter
from pathlib import PurePosixPath
from typing import Protocol

from storage import images, tars
from storage.entries import is_hidden
from storage.gzips import Gzip
from storage.locations import ChangedError, Entry, Location, StorageError
from storage.members import MAX_BYTES, Archive, Refused, refuse_large
from storage.parallel import ordered_map
from storage.tars import Damaged, Member, Window
from storage.zips import Zip

TO_UNPACK = re.compile(r"\.(tbz2?|txz|tar\.(bz2|xz|zst)|7z|rar)$", re.IGNORECASE)
SHARD = ".tar"
MAX_FACTS = 2**16
"""Larger files are not what a sample's JSON is."""


class Source(Protocol):
    """What a flow reads pictures from; `list` comes first, and says what `refused` is."""

    refused: Refused

    @property
    def is_local(self) -> bool: ...
    @property
    def is_indexed(self) -> bool:
        """Whether nothing can be fetched from it before it is listed."""
        ...

    def list(self) -> list[Entry]: ...
    def fetch(self, entry: Entry) -> bytes: ...


def open_source(address: str) -> Source:
    """The pictures at an address; StorageError for an archive of a kind that has to be unpacked."""
    location = Location.of(address)
    kind = kind_of(address)
    unpack = TO_UNPACK.search(location.url)
    if (kind is None and unpack is None) or location.what_is_there() != "file":
        return Folder(location)
    if kind is None:
        raise StorageError(f"{address}: pictures in such an archive cannot be read where they lie; unpack it")
    return kind(*place_of(location))


def kind_of(address: str) -> "type[Archive] | None":
    """The kind of archive at an address, by its name."""
    found = ARCHIVE.search(address.rstrip("/"))
    return ARCHIVES[found[1].lower()] if found else None


def place_of(file: Location) -> tuple[Location, str]:
    """The folder that a file is in, and the file's name."""
    folder, _, name = file.url.rpartition("/")
    folder = folder or ("/" if file.url.startswith("/") else ".")
    return Location(folder, file.store, file.root.rpartition("/")[0] or "/"), name


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
        name = self.shard_of(entry.key)
        return self._shards[name].fetch(replace(entry, key=entry.key[len(name) + 1 :]))

    @property
    def has_shards(self) -> bool:
        """Whether its pictures are those in shards."""
        return bool(self._shards)

    @property
    def is_indexed(self) -> bool:
        """Whether nothing can be fetched from it before it is listed."""
        return self.has_shards

    def shard_of(self, key: str) -> str:
        """The shard, without its ending, that a listed picture is in."""
        name = next((name for name in _folders(key) if name in self._shards), None)
        if name is None:
            raise ChangedError(f"{self.location.address(key)}: not as it was listed")
        return name

    def facts(self, shard: str) -> dict[str, dict[str, object]]:
        """What the JSON files in a shard say, by the names of the samples; the shard is walked over once."""
        found: dict[str, dict[str, object]] = {}
        window = Window(self.location, self.location.info(f"{shard}{SHARD}"))
        try:
            for member in tars.members(window):
                name, ending = posixpath.splitext(member.name)
                if ending == ".json" and not member.refusal and member.size <= MAX_FACTS:
                    with suppress(ValueError, RecursionError):
                        facts = json.loads(window.read(member.offset, member.size))
                        json.dumps(facts, ensure_ascii=False).encode()  # lone surrogates cannot be written again
                        found |= {name: facts} if isinstance(facts, dict) else {}
        except Damaged as error:
            raise ChangedError(f"{self.location.address(shard)}{SHARD}: not as it was listed ({error})") from error
        return found

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


class TarGz(Tar):
    """A tar packed by gzip. Listing it unpacks the whole of it once; a member is then read from a point before it."""

    kind = "tar.gz"

    def _index(self, file: Window) -> Iterator[Member]:
        self._gzip = Gzip(file.place, file.file)
        return self._gzip.members()

    def _read(self, number: int, size: int) -> bytes:
        return self._gzip.read(self._offsets[number], size)


ARCHIVES: dict[str, type[Archive]] = {"zip": Zip, "tar": Tar, "tar.gz": TarGz, "tgz": TarGz}
ARCHIVE = re.compile(r"[^/]\.(zip|tar|tar\.gz|tgz)$", re.IGNORECASE)


def _folders(key: str) -> Iterator[str]:
    return (str(folder) for folder in PurePosixPath(key).parents)
