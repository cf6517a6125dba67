"""Where pictures are read from: a folder or prefix, a zip, a tar, or a folder of shards, as one stream of entries.

Nothing is unpacked. An archive is indexed once, and each member is then read where it lies, from any thread, through
`Location.fetch`: an archive that changes meanwhile is noticed. Keys are relative POSIX paths that stay below whatever
they are joined to. What can have no such key, and what is no file, is in `refused`, with its name and why; of members
with the same key the first counts, and the others are refused. What has a key but cannot be read (encrypted, damaged,
too large) is listed, and says why when it is fetched.
"""

import re
import stat
import struct
import zlib
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import replace
from operator import attrgetter
from pathlib import PurePosixPath
from typing import Protocol

from storage import images, tars
from storage.locations import ChangedError, Entry, Location, StorageError
from storage.parallel import ordered_map
from storage.tars import Damaged, Member, Window

MAX_BYTES = 2**30
"""Larger files are not read: no picture of images.MAX_PIXELS has more, at 16 bits a colour and uncompressed."""
MAX_MEMBERS = 10_000_000
MAX_NAME = 1024
NO_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line separators, and what bytes become that are not UTF-8."""
TO_UNPACK = re.compile(r"\.(tgz|tbz2?|txz|tar\.(gz|bz2|xz|zst)|7z|rar)$", re.IGNORECASE)
SHARD = ".tar"

END = struct.Struct("<4s4H2LH")
END64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR = struct.Struct("<4sLQL")
CENTRAL = struct.Struct("<4s4H4L5HLL")
LOCAL = struct.Struct("<4s5H3L2H")
ROW = struct.Struct("<QLLHH")
LONG = 0xFFFFFFFF
UNIX, ENCRYPTED, UTF8 = 3, 0x2041, 0x800
STORED, DEFLATED = 0, 8

Refused = list[tuple[str, str]]


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
            _refuse_large(self.location.address(entry.key), entry.size)
        if not self._shards:
            return self.location.fetch(entry)
        name = next((name for name in _folders(entry.key) if name in self._shards), None)
        if name is None:
            raise ChangedError(f"{self.location.address(entry.key)}: not as it was listed")
        return self._shards[name].fetch(replace(entry, key=entry.key[len(name) + 1 :]))

    def list(self) -> list[Entry]:
        entries = self.location.list()
        shown = [entry.key for entry in entries if not entry.key.startswith(".") and "/." not in entry.key]
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
        _refuse_large(address, entry.size)
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


class Tar(Archive):
    """A tar without compression."""

    kind = "tar"

    def _index(self, file: Window) -> Iterator[Member]:
        return tars.members(file)

    def _etag(self, number: int) -> str:
        return f"{self._file.etag}-{self._offsets[number]:x}"

    def _read(self, number: int, size: int) -> bytes:
        return self.place.fetch(self._file, self._offsets[number], size)


class Zip(Archive):
    """A zip, of members stored or deflated."""

    kind = "zip"

    def _index(self, file: Window) -> Iterator[Member]:
        self._rows = bytearray()
        position, count, self._end = _directory(file)
        for number in range(count):
            head = file.read(position, CENTRAL.size)
            if len(head) < CENTRAL.size or not head.startswith(b"PK\1\2"):
                raise Damaged(f"its directory ends after {number:,} of {count:,} members")
            _, system, _, flags, method, stamp, crc, packed, size, *lengths, _, _, mode, offset = CENTRAL.unpack(head)
            tail = file.read(position + CENTRAL.size, sum(lengths[:2]))
            position += CENTRAL.size + sum(lengths)
            if LONG in (size, packed, offset):
                size, packed, offset = _long(tail[lengths[0] :], size, packed, offset)
            name = _name(tail[: lengths[0]], flags)
            if size or not name.endswith("/"):
                kind = stat.S_IFMT(mode >> 16) if system >> 8 == UNIX else 0
                refusal = "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "a link, a device or a pipe"
                self._rows += ROW.pack(packed, crc, stamp, flags, method)
                yield Member(name, offset, size, refusal)
        if position != self._end:
            raise Damaged("its directory does not end where it says")
        self._starts = array("Q", sorted(self._offsets))

    def _etag(self, number: int) -> str:
        _, crc, stamp, _, _ = ROW.unpack_from(self._rows, number * ROW.size)
        return f"{crc:08x}-{stamp:08x}"

    def _read(self, number: int, size: int) -> bytes:
        packed, crc, _, flags, method = ROW.unpack_from(self._rows, number * ROW.size)
        if flags & ENCRYPTED:
            raise Damaged("encrypted")
        if method not in (STORED, DEFLATED):
            raise Damaged(f"packed by method {method}; pack it anew with deflate, or unpack it")
        if packed > MAX_BYTES:
            raise Damaged(f"packed to {packed:,} bytes, which are more than it may have unpacked")
        data = self._packed(self._offsets[number], packed)
        if method == DEFLATED:
            data = _inflated(data, size)
        if len(data) != size or zlib.crc32(data) != crc:
            raise Damaged("damaged: not the bytes that its checksum is of")
        return bytes(data)

    def _packed(self, offset: int, packed: int) -> memoryview:
        """What lies behind the header of a member, up to where the next one may begin."""
        following = bisect_right(self._starts, offset)
        alone = bisect_left(self._starts, offset) == following - 1
        end = self._starts[following] if following < len(self._starts) else self._end
        ahead = min(LOCAL.size + MAX_NAME + packed, end - offset)
        found = self.place.fetch(self._file, offset, ahead) if ahead >= LOCAL.size else b""
        if not found.startswith(b"PK\3\4"):
            raise Damaged("damaged: it does not begin where the directory says")
        start = LOCAL.size + sum(LOCAL.unpack_from(found)[-2:])
        if start + packed > end - offset or not alone:
            raise Damaged("damaged: it overlaps another member")
        if start + packed > len(found):
            found = self.place.fetch(self._file, offset, start + packed)
        return memoryview(found)[start : start + packed]


ARCHIVES: dict[str, type[Archive]] = {".zip": Zip, ".tar": Tar}


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


def _refuse_large(address: str, size: int) -> None:
    if size > MAX_BYTES:
        raise StorageError(f"{address}: {size:,} bytes, more than a picture may have")


def _folders(key: str) -> Iterator[str]:
    return (str(folder) for folder in PurePosixPath(key).parents)


def _directory(file: Window) -> tuple[int, int, int]:
    """Where the directory of a zip begins, how many members it has, and where it ends."""
    tail = file.read(max(file.size - END.size - 0xFFFF, 0), file.size)
    found = tail.rfind(b"PK\5\6")
    if found < 0 or found + END.size > len(tail):
        raise Damaged("it has no end: cut off, or no zip")
    end = file.size - len(tail) + found
    _, disk, first, _, count, size, start, comment = END.unpack_from(tail, found)
    if found + END.size + comment != len(tail):
        raise Damaged("something follows its end, or is missing there")
    locator = file.read(end - LOCATOR.size, LOCATOR.size) if end >= LOCATOR.size else b""
    if locator.startswith(b"PK\6\7"):
        end = LOCATOR.unpack(locator)[2]
        long = file.read(end, END64.size)
        if len(long) < END64.size or not long.startswith(b"PK\6\6"):
            raise Damaged("its end is damaged")
        _, _, _, _, disk, first, _, count, size, start = END64.unpack(long)
    if disk or first:
        raise Damaged("it is one part of several")
    if start + size != end:
        raise Damaged("it has bytes that its directory does not know of: several zips in one, or cut off?")
    return start, count, end


def _long(extra: bytes, *fields: int) -> list[int]:
    """The size, packed size and offset of a member, where they are more than 32 bits can say."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            values = iter(struct.unpack_from(f"<{min(length, len(extra) - 4) // 8}Q", extra, 4))
            return [next(values, LONG) if field == LONG else field for field in fields]
        extra = extra[4 + length :]
    return list(fields)


def _name(raw: bytes, flags: int) -> str:
    """The name of a member: in UTF-8, as all but old programs write it, else as these did."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("utf-8", "surrogateescape") if flags & UTF8 else raw.decode("cp437")


def _inflated(data: memoryview, size: int) -> memoryview:
    """What was deflated, and never more than a byte beyond its size."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return memoryview(inflater.decompress(data, size + 1))
    except zlib.error as error:
        raise Damaged(f"damaged: {error}") from error
