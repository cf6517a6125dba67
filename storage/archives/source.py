"""Where images are read from: a folder, a file, a zip, a tar, or a folder of shards, as one stream of entries.

Nothing is unpacked, but for tars packed otherwise than by gzip. An archive is indexed once. Each member is then read
from where it is stored, from any thread, through `Location.fetch`: an archive that changes meanwhile is noticed. Keys
are relative POSIX paths that stay below whatever they are joined to. What can have no such key, and what is no file,
is in `refused`, with its name and the reason. Of members with the same key the first counts, and the others are
refused. What has a key but cannot be read (encrypted, damaged, too large) is listed, and fetching it tells why.
"""

import json
import posixpath
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from operator import attrgetter
from pathlib import PurePosixPath
from typing import Protocol

from storage.archives import kinds, tars
from storage.archives.archive import MAX_BYTES, Refused, check_large
from storage.archives.tar import Tar
from storage.archives.tars import Damaged, Window
from storage.images import formats, unsupported
from storage.parallel import ordered_map
from storage.stores.entry import is_hidden, is_junk, is_named_only
from storage.stores.location import ChangedError, Entry, Location, StorageError

SHARD = ".tar"
WEB = ("http://", "https://")
MAX_FACTS = 2**16
"""Larger files are not what a sample's JSON is."""


class Source(Protocol):
    """What a flow reads images from; `list` comes first, and says what is `refused`.

    foreign: names that are not in UTF-8, and whose encoding is not told.
    """

    refused: Refused
    foreign: list[bytes]

    @property
    def is_local(self) -> bool: ...
    @property
    def is_indexed(self) -> bool:
        """Whether nothing can be fetched from it before it is listed."""
        ...

    def list(self) -> list[Entry]: ...
    def fetch(self, entry: Entry) -> bytes: ...


def open_source(address: str, encoding: str | None = None, *, follow_links: bool = False) -> Source:
    """The images at an address; StorageError for a file that is neither an image nor an archive that is read.

    encoding: of names in archives that come with none. follow_links: in a folder, also to what is not below it.
    """
    location = Location.of(address, follow_links=follow_links)
    kind = kinds.by_name(location.url)
    if not location.is_file:
        return Folder(location, encoding)
    place, name = place_of(location)
    file = place.info(name)
    head = place.fetch(file, 0, min(file.size, kinds.HEAD))
    kind = kinds.by_content(head) or kind
    if isinstance(kind, kinds.UnreadKind):
        raise StorageError(f"{address}: an archive of the kind {kind.kind}, which is not read; unpack it")
    if kind is not None:
        return kind(place, name, encoding)
    if not formats.is_image(name) and (unsupported.is_unread(name) or formats.suffix_of(head) is None):
        if location.url.startswith(WEB):  # where folders are files, too
            return Folder(location, encoding)
        raise StorageError(f"{address}: neither a folder, nor an archive, nor an image{_other_kind(head)}")
    return Single(place, name)


def _other_kind(head: bytes) -> str:
    """What a file is by its first bytes, where they tell."""
    told = unsupported.described(head)
    return "" if told.startswith(unsupported.UNKNOWN) else f", but {told}"


def place_of(file: Location) -> tuple[Location, str]:
    """The folder that a file is in, and the file's name."""
    folder, _, name = file.url.rpartition("/")
    folder = folder or ("/" if file.url.startswith("/") else ".")
    return Location(folder, file.store, file.root.rpartition("/")[0] or "/"), name


class Folder:
    """The files below a location; where there are no images but shards, the images in these.

    Those have the shard in their keys (`shard-000000/000000042.png`), as shards may hold equal names. What then lies
    beside the shards, and what is in them and neither an image nor a sample's JSON, is in `beside`.
    """

    def __init__(self, location: Location, encoding: str | None = None) -> None:
        self.location, self.encoding = location, encoding
        self.refused: Refused = []
        self.foreign: list[bytes] = []
        self.beside: list[Entry] = []
        self._shards: dict[str, Tar] = {}

    def __str__(self) -> str:
        return str(self.location)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return self.location.local is not None

    def fetch(self, entry: Entry) -> bytes:
        if entry.size > MAX_BYTES:
            check_large(self.location.address(entry.key), entry.size)
        if not self._shards:
            return self.location.fetch(entry)
        name = self.shard_of(entry.key)
        return self._shards[name].fetch(replace(entry, key=entry.key[len(name) + 1 :]))

    @property
    def has_shards(self) -> bool:
        """Whether its images are those in shards."""
        return bool(self._shards)

    @property
    def is_indexed(self) -> bool:
        """Whether nothing can be fetched from it before it is listed."""
        return self.has_shards

    def shard_of(self, key: str) -> str:
        """The shard, without its ending, that a listed image is in."""
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
        there = [entry.key for entry in entries if not is_named_only(entry)]
        shown = [key for key in there if not is_hidden(key) and not is_junk(key)]
        shards = [key for key in shown if key.endswith(SHARD)]
        self._shards, self.refused, self.foreign, self.beside = {}, [], [], []
        if not shards or any(map(formats.is_image, shown)):
            return entries
        self._shards = {key.removesuffix(SHARD): Tar(self.location, key, self.encoding) for key in shards}
        for name in self._shards:
            if twin := next((other for other in _folders(name) if other in self._shards), None):
                raise StorageError(f"{self}: {twin}{SHARD} and {name}{SHARD} may hold the same keys; rename one")
        taken = set(shards)
        self.beside = [entry for entry in entries if entry.key not in taken]
        members: list[Entry] = []
        lists = ordered_map(lambda shard: shard.list(), self._shards.values(), workers=16)
        for (name, shard), found in zip(self._shards.items(), lists, strict=True):
            self.refused += [(f"{name}/{refused}", why) for refused, why in shard.refused]
            self.foreign += shard.foreign
            for entry in found:
                if formats.is_image(entry.key):
                    members.append(replace(entry, key=f"{name}/{entry.key}"))
                elif not entry.key.endswith(".json"):
                    self.beside.append(replace(entry, key=f"{name}/{entry.key}"))
        return sorted(members, key=attrgetter("key"))


class Single:
    """One file, which is an image by its name or by its first bytes. Its key is its name, without a URL's query."""

    is_indexed = False

    def __init__(self, place: Location, name: str) -> None:
        self.place, self.name = place, name
        self.refused: Refused = []
        self.foreign: list[bytes] = []

    def __str__(self) -> str:
        return self.place.address(self.name)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return self.place.local is not None

    def list(self) -> list[Entry]:
        is_on_web = self.place.url.startswith(WEB)
        return [replace(self.place.info(self.name), key=self.name.partition("?")[0] if is_on_web else self.name)]

    def fetch(self, entry: Entry) -> bytes:
        if entry.size > MAX_BYTES:
            check_large(str(self), entry.size)
        return self.place.fetch(replace(entry, key=self.name))


def _folders(key: str) -> Iterator[str]:
    return (str(folder) for folder in PurePosixPath(key).parents)
