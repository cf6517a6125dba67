"""EXIF, taken apart into its entries and put together again with each value's own bytes and type.

Pillow's Image.Exif would write "José" as "Jos??" and guess types anew. A maker's note counts its own offsets from the
beginning of all EXIF, so that it keeps the place that it had. What cannot be read is left out and counted; nothing
here raises on bad bytes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, NamedTuple

LARGEST = 1 << 24
"""Bytes of one image's EXIF, and of its XMP, that are read; an entry or packet beyond that is dropped."""
TIFF_HEADS: dict[bytes, Literal["<", ">"]] = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
HEAD = 8
PROCESSING_SOFTWARE, SOFTWARE, WIDTH, HEIGHT, ORIENTATION = 0x000B, 0x0131, 0x0100, 0x0101, 0x0112
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, XMP, ICC = 0x011A, 0x011B, 0x0128, 0x02BC, 0x8773
PHOTO, GPS, INTEROP, PHOTO_WIDTH, PHOTO_HEIGHT, MAKER_NOTE = 0x8769, 0x8825, 0xA005, 0xA002, 0xA003, 0x927C
UNSIGNED = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 129: 1}
WRITTEN = frozenset({*range(1, 13), 129})
"""The types of values that are written: not those of BigTIFF, nor of directories that are not read."""
BYTE, ASCII, SHORT, LONG, RATIONAL = 1, 2, 3, 4, 5
STORAGE = (
    frozenset({254, 255, *range(258, 260), *range(262, 267), 273, *range(277, 282), 284, *range(288, 294), 297, 301})
    | frozenset({317, *range(320, 326), 330, *range(332, 349), *range(512, 522), *range(529, 533), 559})
    | frozenset({34377, 37724})  # Photoshop's layers and previews
    | frozenset({32997, 32998})  # depth of an image and of its tiles
    | frozenset({33424, 50933, 65024})  # places of directories that are not read
)
"""Tags of a TIFF's first directory that describe how the old file stored its pixels."""
RELATIVE = (b"Nikon\0\x02", b"OLYMPUS\0", b"OM SYSTEM\0", b"FUJIFILM", b"Apple iOS\0", b"PENTAX \0", b"RICOH\0")
"""Maker's notes that count from their own beginning, and may stand anywhere."""
FARTHEST = 1 << 16
"""Notes that stand farther back are not kept there: the bytes between would be empty."""


class ExifEntry(NamedTuple):
    """One EXIF value as it is stored."""

    kind: int
    values: int
    value: bytes


Directory = dict[int, ExifEntry]


@dataclass
class Exif:
    """EXIF as directories of entries, all in the byte order `order`; without previews.

    note_at: the place of the maker's note, where it has to keep it. left_out: the tags that were passed over, and
    how many values were damaged.
    """

    order: Literal["<", ">"] = "<"
    image: Directory = field(default_factory=dict)
    photo: Directory = field(default_factory=dict)
    gps: Directory = field(default_factory=dict)
    interop: Directory = field(default_factory=dict)
    note_at: int | None = None
    left_out: set[int] = field(default_factory=set)
    damaged: int = 0

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
            elsewhere = without | {MAKER_NOTE}
            exif.image = exif._read(data, start, big, elsewhere)
            exif.photo = exif._read(data, exif._pop(exif.image, PHOTO), big, without)
            exif.gps = exif._read(data, exif._pop(exif.image, GPS), big, elsewhere)
            exif.interop = exif._read(data, exif._pop(exif.photo, INTEROP), big, elsewhere)
        return exif

    @property
    def is_empty(self) -> bool:
        return not (self.image or self.photo or self.gps)

    def number(self, entry: ExifEntry | None) -> int | None:
        """The first value of an entry of whole numbers."""
        numbers = self.numbers(entry, most=1)
        return numbers[0] if numbers else None

    def numbers(self, entry: ExifEntry | None, most: int) -> tuple[int, ...]:
        """The values of an entry of whole numbers, up to so many of them; none of any other."""
        if entry is None or entry.kind not in UNSIGNED:
            return ()
        return struct.unpack_from(f"{self.order}{min(entry.values, most)}{UNSIGNED[entry.kind]}", entry.value)

    def rational(self, entry: ExifEntry | None) -> float | None:
        """The value of an entry of an unsigned fraction."""
        if entry is None or entry.kind != RATIONAL or not entry.values:
            return None
        over, under = struct.unpack_from(self.order + "II", entry.value)
        return over / under if under else None

    def long(self, *values: int) -> ExifEntry:
        return ExifEntry(LONG, len(values), struct.pack(f"{self.order}{len(values)}I", *values))

    def short(self, *values: int) -> ExifEntry:
        return ExifEntry(SHORT, len(values), struct.pack(f"{self.order}{len(values)}H", *values))

    def fraction(self, value: float) -> ExifEntry:
        near = Fraction(value).limit_denominator(1000)
        return ExifEntry(RATIONAL, 1, struct.pack(self.order + "II", near.numerator, near.denominator))

    def set_resolution(self, across: float, down: float, unit: int = 2) -> None:
        """Dots per inch; in unit 1, see `shape`."""
        self.image[X_RESOLUTION], self.image[Y_RESOLUTION] = self.fraction(across), self.fraction(down)
        self.image[RESOLUTION_UNIT] = self.short(unit)

    def resolution(self) -> tuple[float, float] | None:
        """Dots per inch, across and down."""
        if not (dots := self._dots()) or dots[2] not in (2, 3):
            return None
        return (dots[0], dots[1]) if dots[2] == 2 else (dots[0] * 2.54, dots[1] * 2.54)

    def shape(self) -> tuple[float, float] | None:
        """How many dots across are as long as how many down, where nothing more is known of them."""
        return dots[:2] if (dots := self._dots()) and dots[2] == 1 else None

    def _dots(self) -> tuple[float, float, int] | None:
        across, down = self.rational(self.image.get(X_RESOLUTION)), self.rational(self.image.get(Y_RESOLUTION))
        unit = self.number(self.image.get(RESOLUTION_UNIT)) or 2
        return None if across is None or down is None else (across, down, unit)

    def sign(self, stamp: str, tag: int) -> None:
        """`stamp` in Software, behind what is there, or in ProcessingSoftware, whose old value goes in any case."""
        self.image.pop(PROCESSING_SOFTWARE, None)
        before = self.image.get(tag)
        texts = before.value.split(b"\0") if before and before.kind == ASCII else []
        text = b"; ".join((*filter(bytes.strip, texts), stamp.encode())) + b"\0"
        self.image[tag] = ExifEntry(ASCII, len(text), text)

    def add(self, other: "Exif") -> None:
        """What `other`, of the same file, has besides."""
        self.image = other.image | self.image
        if not self.photo:
            self.photo, self.interop, self.note_at = other.photo, other.interop, other.note_at
        self.gps = self.gps or other.gps
        self.left_out |= other.left_out

    def settle(self) -> bool:
        """Leave out a maker's note that has to keep its place and cannot; whether there was one."""
        if self.note_at is None or HEAD <= self.note_at <= FARTHEST:
            return False
        return self.drop_note()

    def drop_note(self) -> bool:
        """Leave out the maker's note; whether there was one."""
        self.note_at = None
        return self.photo.pop(MAKER_NOTE, None) is not None

    def placed(self, at: int) -> bytes:
        """The directories as they are written at the place `at` of a file, the first one first; not for `note_at`."""
        return self._written(at)[0]

    def tobytes(self) -> bytes:
        """As EXIF is stored in a file, from its byte order on; the same bytes for the same entries."""
        body, first = self._written(HEAD)
        head = b"II*\0" if self.order == "<" else b"MM\0*"
        return head + struct.pack(self.order + "I", first) + body

    def _written(self, at: int) -> tuple[bytes, int]:
        """The directories from the place `at` on, around a note that keeps its place, and where the first one is."""
        first, photo = dict(self.image), dict(self.photo)
        below = [(first, PHOTO, photo), (first, GPS, self.gps), (photo, INTEROP, self.interop)]
        below = [link for link in below if link[2] or (link[1] == PHOTO and self.interop)]
        for above, tag, _ in below:
            above[tag] = self.long(0)
        note = photo.get(MAKER_NOTE)
        kept = self.note_at if note and self.note_at is not None else at
        taken = range(kept, kept + len(note.value)) if note and self.note_at is not None else range(at, at)
        directories, places, end = [first, *(directory for _, _, directory in below)], [], at
        for directory in directories:
            size = len(self._table(directory, 0))
            if end < taken.stop and end + size > taken.start:
                end = taken.stop + taken.stop % 2
            places.append(end)
            end += size
        for (above, tag, _), place in zip(below, places[1:], strict=True):
            above[tag] = self.long(place)
        body = bytearray(max(end, taken.stop) - at)
        for directory, place in zip(directories, places, strict=True):
            table = self._table(directory, place)
            body[place - at : place - at + len(table)] = table
        if note and taken:
            body[taken.start - at : taken.stop - at] = note.value
        return bytes(body), places[0]

    def _table(self, directory: Directory, at: int) -> bytes:
        """The directory as it is written at the place `at`, its values behind it."""
        entries = [(tag, entry) for tag, entry in sorted(directory.items()) if entry.kind in WRITTEN]
        values = at + 2 + 12 * len(entries) + 4
        table, behind = struct.pack(self.order + "H", len(entries)), bytearray()
        for tag, (kind, count, value) in entries:
            table += struct.pack(self.order + "HHI", tag, kind, count)
            if len(value) <= 4:
                table += value.ljust(4, b"\0")
            elif tag == MAKER_NOTE and self.note_at is not None:
                table += struct.pack(self.order + "I", self.note_at)
            else:
                table += struct.pack(self.order + "I", values + len(behind))
                behind += value + bytes(len(value) % 2)
        return table + bytes(4) + bytes(behind)

    def _pop(self, directory: Directory, tag: int) -> int:
        return self.number(directory.pop(tag, None)) or 0

    def _read(self, data: bytes, start: int, big: bool, without: frozenset[int]) -> Directory:
        """The directory at `start`; empty without one, and without what is damaged or of a tag in `without`."""
        found: Directory = {}
        left = LARGEST
        for tag, kind, length, at in _entries(data, start, self.order, big):
            size = SIZES.get(kind, 0) * length
            if tag in found or not size:
                continue
            if tag in without:
                self.left_out.add(tag)
            elif size > left or at + size > len(data):
                self.damaged += 1
            else:
                found[tag] = ExifEntry(kind, length, data[at : at + size])
                left -= size
                if tag == MAKER_NOTE and size > 4 and not data.startswith(RELATIVE, at):
                    self.note_at = at
        return found


def _entries(data: bytes, start: int, order: str, big: bool) -> Iterator[tuple[int, int, int, int]]:
    """The tag, type, count and place of each value in the directory at `start`."""
    number, head, inline = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    counted, entry = struct.calcsize("=" + number), struct.calcsize("=" + head) + inline
    if not HEAD <= start <= len(data) - counted:
        return
    count = min(struct.unpack_from(order + number, data, start)[0], (len(data) - start - counted) // entry, 65535)
    for place in range(start + counted, start + counted + count * entry, entry):
        tag, kind, length = struct.unpack_from(order + head, data, place)
        at = place + entry - inline
        if SIZES.get(kind, 0) * length > inline:
            at = struct.unpack_from(order + ("Q" if big else "I"), data, at)[0]
        yield tag, kind, length, at
