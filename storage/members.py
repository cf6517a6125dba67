"""What zips and tars have in common: an index of members, and the keys that these may have."""

import re
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator
from operator import attrgetter

from storage.locations import ChangedError, Entry, Location, StorageError
from storage.tars import Damaged, Member, Window

MAX_BYTES = 2**30
"""Larger files are not read: no picture of images.MAX_PIXELS has more, at 16 bits a colour and uncompressed."""
MAX_MEMBERS = 10_000_000
MAX_NAME = 1024
NO_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line separators, and what bytes become that are not UTF-8."""

Refused = list[tuple[str, str]]


class Archive(ABC):
    """A file of many files. Indexed by `list`."""

    kind: str

    def __init__(self, place: Location, name: str) -> None:
        self.place, self.name = place, name
        self.refused: Refused = []
        self._file = Entry(name, 0, "")
        self._numbers: dict[str, int] = {}
        self._offsets = array("Q")

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
        refuse_large(address, entry.size)
        try:
            return self._read(number, entry.size)
        except Damaged as error:
            raise StorageError(f"{address}: {error}") from error

    def list(self) -> list[Entry]:
        """The files in it, by key; StorageError where it is not whole."""
        self._file = self.place.info(self.name)
        self._numbers, self._offsets, self.refused = {}, array("Q"), []
        entries = []
        try:
            for number, member in enumerate(self._index(Window(self.place, self._file))):
                if number == MAX_MEMBERS:
                    raise Damaged(f"more than {MAX_MEMBERS:,} members; make several archives of it")
                self._offsets.append(member.offset)
                key = self._key(member)
                if key is not None:
                    self._numbers[key] = number
                    entries.append(Entry(key, member.size, self._etag(number)))
        except Damaged as error:
            raise StorageError(f"{self}: not a {self.kind} that can be read ({error})") from error
        return sorted(entries, key=attrgetter("key"))

    def _key(self, member: Member) -> str | None:
        """The key of a member, or None where it is refused."""
        try:
            key = key_of(member.name)
            why = member.refusal or (key in self._numbers and "a second member of this name; the first one counts")
        except Damaged as error:
            why = str(error)
        if why:
            self.refused.append((repr(member.name[:200])[1:-1], why))
        return None if why else key


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


def refuse_large(address: str, size: int) -> None:
    """StorageError for a file that is larger than any picture we would take."""
    if size > MAX_BYTES:
        raise StorageError(f"{address}: {size:,} bytes, more than a picture may have")
