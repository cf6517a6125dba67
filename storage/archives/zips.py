"""Zips: members stored or deflated, read in place.

Not by Python's zipfile, whose index of a million members takes 600 MB, and which inflates whatever it is given:
here a member is some 20 bytes of index, is never inflated past its size, and may not overlap another.
"""

import re
import stat
import struct
import zipfile
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from storage.archives.archive import MAX_BYTES, MAX_NAME, MODE, Add, Archive
from storage.archives.tars import Damaged, Member, Window

END = struct.Struct("<4s4H2LH")
END64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR = struct.Struct("<4sLQL")
CENTRAL = struct.Struct("<4s4H4L5HLL")
LOCAL = struct.Struct("<4s5H3L2H")
ROW = struct.Struct("<QLLHH")
LONG = 0xFFFFFFFF
UNIX, ENCRYPTED, UTF8 = 3, 0x2041, 0x800
DOS = frozenset({0, 6, 10, 11, 14})
"""The systems whose programs have written names with backslashes: FAT, HPFS, NTFS by two numbers, VFAT."""
SPLIT = re.compile(rb"[\x80-\xff]\\")
"""What may be one letter of an East Asian encoding, or a letter and a backslash."""
SIZES, UNICODE_PATH = 1, 0x7075
"""The kinds of extra fields that are read."""
STORED, DEFLATED = 0, 8
LARGE, MAX_TIMES = 2**26, 100
"""Larger files that would grow more often than so many times are not inflated."""


class Zip(Archive):
    """A zip, of members stored or deflated."""

    kind = "zip"
    endings = ("zip", "cbz")
    magic = (b"PK\3\4", b"PK\5\6")
    is_written = True

    @classmethod
    @contextmanager
    def adding(cls, file: IO[bytes]) -> Iterator[Add]:
        """Store the members, as images hardly shrink."""
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

            def add(key: str, data: bytes) -> None:
                info = zipfile.ZipInfo(key)
                info.create_system, info.external_attr = UNIX, MODE << 16
                archive.writestr(info, data)

            yield add

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
            name, raw = self._name(tail[: lengths[0]], flags, tail[lengths[0] :], system >> 8)
            if size or not name.endswith("/"):
                kind = stat.S_IFMT(mode >> 16) if system >> 8 == UNIX else 0
                refusal = "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "a link, a device or a pipe"
                self._rows += ROW.pack(packed, crc, stamp, flags, method)
                yield Member(name, offset, size, refusal, raw=raw)
        if position != self._end:
            raise Damaged("its directory does not end where it says")
        self._starts = array("Q", sorted(self._offsets))

    def _name(self, told: bytes, flags: int, extra: bytes, system: int) -> tuple[str, bytes]:
        """The name of a member, with `/` between folders, and its bytes where nothing tells their encoding.

        It is in UTF-8, as all but old programs write it, else as these did: in whatever encoding their system had.
        """
        raw = b""
        if (name := _unicode_path(extra, told)) is None:
            try:
                is_foreign = self.encoding is not None and not flags & UTF8
                name = told.decode(self.encoding or "utf-8") if is_foreign else told.decode()
            except UnicodeError:
                if flags & UTF8 or self.encoding is not None:
                    return told.decode("utf-8", "surrogateescape"), b"" if flags & UTF8 else told
                name, raw = told.decode("cp437"), told
        if system in DOS and "/" not in name and not (raw and SPLIT.search(raw)):
            name = name.replace("\\", "/")
        return name, raw

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
        if method == DEFLATED and size > LARGE and size > MAX_TIMES * packed:
            raise Damaged(f"a bomb: {packed:,} bytes would become {size:,}")
        data = self._packed(self._offsets[number], packed)
        if method == DEFLATED:
            data = _inflated(data, size)
        if len(data) != size or zlib.crc32(data) != crc:
            raise Damaged("damaged: not the bytes that its checksum is of")
        return bytes(data)

    def _packed(self, offset: int, packed: int) -> memoryview:
        """What follows the header of a member, up to where the next one may begin."""
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


def _extra(extra: bytes, wanted: int) -> bytes | None:
    """What the extra field of a kind holds, if there is one."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        content, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == wanted:
            return content if len(content) == length else None
    return None


def _long(extra: bytes, *fields: int) -> list[int]:
    """The size, packed size and offset of a member, where they are more than 32 bits can say."""
    found = _extra(extra, SIZES) or b""
    values = iter(struct.unpack_from(f"<{len(found) // 8}Q", found))
    return [next(values, LONG) if field == LONG else field for field in fields]


def _unicode_path(extra: bytes, told: bytes) -> str | None:
    """The name in Unicode that a member has besides, where it is of the name in the directory."""
    found = _extra(extra, UNICODE_PATH) or b""
    version, crc = struct.unpack_from("<BL", found) if len(found) > 5 else (0, 0)
    if version != 1 or crc != zlib.crc32(told):
        return None
    try:
        return found[5:].decode()
    except UnicodeDecodeError:
        return None


def _inflated(data: memoryview, size: int) -> memoryview:
    """What was deflated, and never more than a byte beyond its size."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return memoryview(inflater.decompress(data, size + 1))
    except zlib.error as error:
        raise Damaged(f"damaged: {error}") from error
