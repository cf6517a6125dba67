"""EXIF, taken apart into its entries and put together again with each value's own bytes and type.

Pillow's Image.Exif would write "José" as "Jos??" and guess types anew. What cannot be read is left out; nothing here
raises on bad bytes.
"""

import struct
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, NamedTuple

LARGEST = 1 << 24
"""Bytes of one picture's EXIF, and of its XMP, that are read; an entry or packet beyond that is dropped."""
TIFF_HEADS: dict[bytes, Literal["<", ">"]] = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
PROCESSING_SOFTWARE, SOFTWARE, WIDTH, HEIGHT, ORIENTATION = 0x000B, 0x0131, 0x0100, 0x0101, 0x0112
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, XMP, ICC = 0x011A, 0x011B, 0x0128, 0x02BC, 0x8773
PHOTO, GPS, INTEROP, PHOTO_WIDTH, PHOTO_HEIGHT = 0x8769, 0x8825, 0xA005, 0xA002, 0xA003
UNSIGNED = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
BYTE, ASCII, SHORT, LONG, RATIONAL = 1, 2, 3, 4, 5
STORAGE = (
    frozenset({254, 255, *range(258, 260), *range(262, 267), 273, *range(277, 282), 284, *range(288, 294), 297, 301})
    | frozenset({317, *range(320, 326), 330, *range(332, 349), *range(512, 522), *range(529, 533), 559})
    | frozenset({33550, 33922, 34264})  # which place on the ground a pixel of the old size has
    | frozenset({34377, 37724})  # Photoshop's layers and previews
)
"""Tags of a TIFF's first directory that describe how the old file stored its pixels."""


class Entry(NamedTuple):
    """One EXIF value as it is stored."""

    kind: int
    values: int
    value: bytes


Directory = dict[int, Entry]


@dataclass
class Exif:
    """EXIF as directories of entries, all in the byte order `order`; without previews."""

    order: Literal["<", ">"] = "<"
    image: Directory = field(default_factory=dict)
    photo: Directory = field(default_factory=dict)
    gps: Directory = field(default_factory=dict)
    interop: Directory = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes, without: frozenset[int] = STORAGE) -> "Exif":
        """The EXIF of a TIFF, or of a block laid out like one, less some tags; empty where it is neither."""
        order = TIFF_HEADS.get(data[:4])
        exif = cls(order or "<")
        if order and len(data) >= 16:
            big = data[2:4] in (b"+\0", b"\0+")
            start = (
                struct.unpack_from(order + "Q", data, 8)[0] if big else struct.unpack_from(order + "I", data, 4)[0]
            )
            exif.image = _read(data, start, order, big, without)
            exif.photo = _read(data, exif._pop(exif.image, PHOTO), order, big, without)
            exif.gps = _read(data, exif._pop(exif.image, GPS), order, big, without)
            exif.interop = _read(data, exif._pop(exif.photo, INTEROP), order, big, without)
        return exif

    def number(self, entry: Entry | None) -> int | None:
        """The first value of an entry of whole numbers."""
        if entry is None or entry.kind not in UNSIGNED or not entry.values:
            return None
        return int(struct.unpack_from(self.order + UNSIGNED[entry.kind], entry.value)[0])

    def rational(self, tag: int) -> float | None:
        """The value of an unsigned fraction in the first directory."""
        entry = self.image.get(tag)
        if entry is None or entry.kind != RATIONAL or not entry.values:
            return None
        over, under = struct.unpack_from(self.order + "II", entry.value)
        return over / under if under else None

    def long(self, *values: int) -> Entry:
        return Entry(LONG, len(values), struct.pack(f"{self.order}{len(values)}I", *values))

    def set_resolution(self, dpi: tuple[float, float]) -> None:
        for tag, value in zip((X_RESOLUTION, Y_RESOLUTION), dpi, strict=True):
            near = Fraction(value).limit_denominator(1000)
            self.image[tag] = Entry(RATIONAL, 1, struct.pack(self.order + "II", near.numerator, near.denominator))
        self.image[RESOLUTION_UNIT] = Entry(SHORT, 1, struct.pack(self.order + "H", 2))

    def resolution(self) -> tuple[float, float] | None:
        """Dots per inch, across and down."""
        across, down = self.rational(X_RESOLUTION), self.rational(Y_RESOLUTION)
        unit = self.number(self.image.get(RESOLUTION_UNIT)) or 2
        if across is None or down is None or unit not in (2, 3):
            return None
        return (across, down) if unit == 2 else (across * 2.54, down * 2.54)

    def sign(self, stamp: str, tag: int) -> None:
        """`stamp` in Software, behind what is there, or in ProcessingSoftware, whose old value goes in any case."""
        self.image.pop(PROCESSING_SOFTWARE, None)
        before = self.image.get(tag)
        texts = before.value.split(b"\0") if before and before.kind == ASCII else []
        text = b"; ".join((*filter(bytes.strip, texts), stamp.encode())) + b"\0"
        self.image[tag] = Entry(ASCII, len(text), text)

    def add(self, other: "Exif") -> None:
        """What `other`, of the same file, has besides."""
        self.image = other.image | self.image
        self.photo, self.gps, self.interop = (
            self.photo or other.photo,
            self.gps or other.gps,
            self.interop or other.interop,
        )

    def placed(self, at: int) -> bytes:
        """The directories as they are written at the place `at` of a file, the first one first."""
        first, photo = dict(self.image), dict(self.photo)
        if self.interop:
            photo[INTEROP] = self.long(0)
        if photo:
            first[PHOTO] = self.long(0)
        if self.gps:
            first[GPS] = self.long(0)
        place = at + len(_written(first, at, self.order))
        for above, tag, directory in ((first, PHOTO, photo), (first, GPS, self.gps), (photo, INTEROP, self.interop)):
            if directory:
                above[tag] = self.long(place)
                place += len(_written(directory, place, self.order))
        directories = (first, *filter(None, (photo, self.gps, self.interop)))
        data = b""
        for directory in directories:
            data += _written(directory, at + len(data), self.order)
        return data

    def tobytes(self) -> bytes:
        """As EXIF is stored in a file, from its byte order on; the same bytes for the same entries."""
        head = b"II*\0" if self.order == "<" else b"MM\0*"
        return head + struct.pack(self.order + "I", 8) + self.placed(8)

    def _pop(self, directory: Directory, tag: int) -> int:
        return self.number(directory.pop(tag, None)) or 0


def _read(data: bytes, start: int, order: str, big: bool, without: frozenset[int]) -> Directory:
    """The directory at `start`; empty without one. Entries that are damaged or of a tag in `without` are left out."""
    number, head, inline = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    counted, entry = struct.calcsize("=" + number), struct.calcsize("=" + head) + inline
    found: Directory = {}
    if not 8 <= start <= len(data) - counted:
        return found
    left = LARGEST
    count = min(struct.unpack_from(order + number, data, start)[0], (len(data) - start - counted) // entry, 65535)
    for place in range(start + counted, start + counted + count * entry, entry):
        tag, kind, length = struct.unpack_from(order + head, data, place)
        size = SIZES.get(kind, 0) * length
        if tag in found or tag in without or not 0 < size <= left:
            continue
        at = place + entry - inline
        if size > inline:
            at = struct.unpack_from(order + ("Q" if big else "I"), data, at)[0]
        if at + size <= len(data):
            found[tag] = Entry(kind, length, data[at : at + size])
            left -= size
    return found


def _written(directory: Directory, at: int, order: str) -> bytes:
    """The directory as it is written at the place `at`, its values behind it."""
    entries = [(tag, entry) for tag, entry in sorted(directory.items()) if entry.kind <= 12]
    values = at + 2 + 12 * len(entries) + 4
    table, behind = struct.pack(order + "H", len(entries)), bytearray()
    for tag, (kind, count, value) in entries:
        table += struct.pack(order + "HHI", tag, kind, count)
        if len(value) <= 4:
            table += value.ljust(4, b"\0")
        else:
            table += struct.pack(order + "I", values + len(behind))
            behind += value + bytes(len(value) % 2)
    return table + bytes(4) + bytes(behind)
