"""What a type of archive declares, and what all have in common: an index of members, and the keys they may have."""

import posixpath
import re
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from operator import attrgetter
from typing import IO, ClassVar

from storage.archives.tars import Damaged, Member, Window
from storage.stores.location import ChangedError, Entry, Location, StorageError

MAX_BYTES = 2**30
"""Larger files are not read: no image of images.MAX_PIXELS has more, at 16 bits a colour and uncompressed."""
MAX_MEMBERS = 10_000_000
MAX_NAME = 1024
NO_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line separators, and what bytes become that are not UTF-8."""

MAX_LINKS = 40
"""So many links, as on Linux, may lead to each other."""
MAX_FOREIGN, MAX_SHOWN = 1000, 200

MODE = 0o644
"""Of every member that is written."""

Refused = list[tuple[str, str]]
Add = Callable[[str, bytes], None]
"""Adds a member, by its key and its bytes, to an archive that is being written."""


class Archive(ABC):
    """A file of many files. Indexed by `list`.

    kind: its name. endings: of the names of such files, without the dot. magic: what such files begin with.
    is_written: whether results can be put into one, by `adding`. title: the
    name in messages, where it is not the kind.
    encoding: of names that come with none. foreign: without it, the first of those names that are not in UTF-8.
    """

    kind: ClassVar[str]
    endings: ClassVar[tuple[str, ...]]
    magic: ClassVar[tuple[bytes, ...]] = ()
    title: ClassVar[str] = ""
    is_written: ClassVar[bool] = False

    def __init__(self, place: Location, name: str, encoding: str | None = None) -> None:
        self.place, self.name, self.encoding = place, name, encoding
        self.refused: Refused = []
        self.foreign: list[bytes] = []
        self._file = Entry(name, 0, "")
        self._numbers: dict[str, int] = {}
        self._offsets = array("Q")

    @classmethod
    def begins(cls, head: bytes) -> bool:
        """Whether an archive of this kind begins so."""
        return head.startswith(cls.magic)

    @classmethod
    def adding(cls, file: IO[bytes]) -> AbstractContextManager[Add]:
        """Write an archive to an open file: the members that are added within this context."""
        raise NotImplementedError(f"{cls.kind} is only read")

    def __str__(self) -> str:
        return self.place.address(self.name)

    @property
    def is_indexed(self) -> bool:
        """Whether nothing can be fetched from it before it is listed."""
        return True

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return self.place.local is not None

    @abstractmethod
    def _index(self, file: Window) -> Iterator[Member]:
        """The members in their order, which numbers them; Damaged where these cannot be all of them."""

    @abstractmethod
    def _etag(self, number: int) -> str: ...

    @abstractmethod
    def _read(self, number: int, size: int) -> bytes:
        """The bytes of a member; Damaged where they are not to be had."""

    def fetch(self, entry: Entry) -> bytes:
        """The bytes of a member as it was listed."""
        address = f"{self}: {entry.key}"
        number = self._numbers.get(entry.key)
        if number is None or self._etag(number) != entry.etag:
            raise ChangedError(f"{address}: not as it was listed")
        check_large(address, entry.size)
        try:
            return self._read(number, entry.size)
        except Damaged as error:
            raise StorageError(f"{address}: {error}") from error

    def list(self) -> list[Entry]:
        """The files in it, by key; StorageError where it is not whole."""
        self._file = self.place.info(self.name)
        self._numbers, self._offsets, self.refused, self.foreign = {}, array("Q"), [], []
        entries: list[Entry] = []
        links: dict[str, Member] = {}
        try:
            for number, member in enumerate(self._index(Window(self.place, self._file))):
                if number == MAX_MEMBERS:
                    raise Damaged(f"more than {MAX_MEMBERS:,} members; make several archives of it")
                self._offsets.append(member.offset)
                if member.raw and len(self.foreign) < MAX_FOREIGN:
                    self.foreign.append(member.raw)
                key = self._key(member, links)
                if key is not None and member.link:
                    links[key] = member
                elif key is not None:
                    self._numbers[key] = number
                    entries.append(Entry(key, member.size, self._etag(number)))
        except Damaged as error:
            raise StorageError(f"{self}: not a {self.title or self.kind} that can be read ({error})") from error
        if links:
            entries += self._linked(links, {entry.key: entry for entry in entries})
        return sorted(entries, key=attrgetter("key"))

    def _key(self, member: Member, links: Container[str]) -> str | None:
        """The key of a member, or None where it is refused."""
        try:
            key = key_of(member.name)
            why = "" if member.link else member.refusal
            if key in self._numbers or key in links:
                why = "a second member of this name; the first one counts"
        except Damaged as error:
            why = f"a name that is not in {self.encoding}" if member.raw and self.encoding else str(error)
            why += "; its encoding is not told: --names-encoding" if member.raw and not self.encoding else ""
        if why:
            self.refused.append((shown(member.name), why))
        return None if why else key

    def _linked(self, links: Mapping[str, Member], there: Mapping[str, Entry]) -> Iterator[Entry]:
        """The links to members, as files with the bytes of these; other links are refused."""
        for key, link in links.items():
            try:
                target = there[followed(key, links, there)]
            except Damaged as error:
                self.refused.append((shown(link.name), f"{link.refusal} {error}"))
                continue
            self._numbers[key] = self._numbers[target.key]
            yield replace(target, key=key)


def followed(key: str, links: Mapping[str, Member], there: Container[str]) -> str:
    """The key of the member that a link leads to, by one or more links; Damaged where it leads to none."""
    for _ in range(MAX_LINKS):
        if key in there:
            return key
        if key not in links:
            raise Damaged(f"to {shown(key)}, which is no file in the archive")
        name = links[key].link
        try:
            key = key_of(posixpath.normpath(name))
        except Damaged as error:
            raise Damaged(f"that leads out of the archive, to {shown(name)}") from error
    raise Damaged("that leads to itself, or to too many others")


def resolved(members: Iterable[Member]) -> list[Member]:
    """The files among the members of a tar, links as what they lead to; one that leads to none has no bytes."""
    found = [member for member in members if member.link or not member.refusal]
    links: dict[str, Member] = {}
    there: dict[str, Member] = {}
    if any(member.link for member in found):
        for member in found:
            with suppress(Damaged):
                (links if member.link else there).setdefault(key_of(member.name), member)
    files = []
    for member in found:
        target = member
        if member.link:
            try:
                target = there[followed(key_of(member.name), links, there)]
            except Damaged:
                target = member._replace(size=0)
        files.append(target._replace(name=member.name))
    return files


def shown(name: str) -> str:
    """A name for people: printable, and of bounded length."""
    return repr(name if len(name) <= MAX_SHOWN else f"{name[:150]}…{name[-40:]}")[1:-1]


def key_of(name: str) -> str:
    """The key of a member by its name; Damaged, with the reason, where it can have none."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if NO_NAME.search(name):
        raise Damaged("a name with control characters, or not in UTF-8")
    if not parts or name.endswith("/"):
        raise Damaged("a name that is empty, or a folder's")
    if name.startswith("/") or ".." in parts or "\\" in name or re.match("[A-Za-z]:", parts[0]):
        raise Damaged("a name that leads out of the archive, or is of another system")
    key = "/".join(parts)
    if len(key.encode()) > MAX_NAME:
        raise Damaged(f"a name of more than {MAX_NAME:,} bytes")
    return key


def check_large(address: str, size: int) -> None:
    """StorageError for a file that is larger than any image we would take."""
    if size > MAX_BYTES:
        raise StorageError(f"{address}: {size:,} bytes, more than an image may have")
