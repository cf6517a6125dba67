"""JPEGs that Pillow does not know: of more than 8 bits, lossless, JPEG-LS; and those that only lack their end."""

import hashlib
import re
import struct
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import imagecodecs
from numpy.typing import NDArray

from storage.images.extents import Extent
from storage.images.formats import ImageError, check_size
from storage.images.room import ROOM

START, END, SCAN, ZEROS = b"\xff\xd8", b"\xff\xd9", b"\xff\xda", bytes(8)
MAX_SCANS = 1000
"""Each scan of a JPEG goes over all its pixels, however few bytes it has; people's have up to a dozen."""
FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
USUAL, PROGRESSIVE, LOSSLESS, JPEG_LS = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA}), (0xC2, 0xCA), 0xC3, 0xF7
NOT_READ = {
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "a hierarchical JPEG"),
    0xCB: "an arithmetically coded lossless JPEG",
}
FRAME = struct.Struct(">BHHB")
NO_END, NOT_ALL_SCANS = "no end marker", "some of its scans are missing"
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker among the bits of a scan, but for those of restarts."""
COEFFICIENTS = 64


@dataclass(frozen=True)
class Frame:
    """A JPEG's frame header, which stands at `place`: of what kind and size the image is."""

    place: int
    marker: int
    bits: int
    width: int
    height: int
    components: tuple[int, ...]

    @property
    def extent(self) -> Extent:
        return Extent.of_deep(self.height, self.width, len(self.components))

    def as_baseline(self, data: bytes) -> bytes:
        """The image as one of the usual kind, for what its other segments say; its pixels are not to be decoded."""
        at = self.place
        return b"".join((data[:at], b"\xff\xc0", data[at + 2 : at + 4], b"\x08", data[at + 5 :]))


def rare_frame(data: bytes) -> Frame | None:
    """The frame of a JPEG that Pillow does not decode; ImageError where nothing here does either."""
    frame = _frame(data) if data.startswith(START) else None
    if frame is None or (frame.marker in USUAL and frame.bits == 8):
        return None
    if kind := NOT_READ.get(frame.marker):
        raise ImageError(f"{kind}, which is not read; convert it")
    if frame.marker in (0xC9, 0xCA) or (frame.marker in USUAL and frame.bits != 12):
        raise ImageError(f"a JPEG of a kind with {frame.bits} bits, which is not read; convert it")
    if len(frame.components) not in (1, 3):
        raise ImageError(
            f"a {frame.bits}-bit JPEG of {len(frame.components)} components, neither grey nor RGB; convert it"
        )
    if not 2 <= frame.bits <= 16:
        raise ImageError(f"broken image: samples of {frame.bits} bits")
    return frame


def decoded(data: bytes, frame: Frame) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The samples of an image of a rare kind, in steps of their own, and notes; ImageError where it is damaged."""
    check_size(frame.width, frame.height)
    check_scans(data)
    ROOM.claim(frame.extent.decoding)
    notes: tuple[str, ...] = ()
    if data.find(END, frame.place) < 0:
        if frame.marker != JPEG_LS and not lacks_only_its_end(data):
            raise ImageError("broken image: cut off")
        data, notes = data + END, (NO_END,)
    elif frame.marker != JPEG_LS and ends_early(data):
        raise ImageError("broken image: cut off")
    decode = imagecodecs.jpegls_decode if frame.marker == JPEG_LS else imagecodecs.jpeg8_decode
    try:
        samples = decode(data)
    except Exception as error:  # of imagecodecs' many kinds
        raise ImageError(f"broken image: {' '.join(str(error).split())}") from error
    if samples.shape[:2] != (frame.height, frame.width):
        raise ImageError("broken image: of another size than it says")
    return samples, notes


def check_scans(data: bytes) -> None:
    """ImageError for more scans than an image has."""
    if data.count(SCAN) > MAX_SCANS:
        raise ImageError(f"more than {MAX_SCANS:,} scans, which would take minutes")


def ends_in_nothing(data: bytes) -> bool:
    """Whether a JPEG has zeros where its last scan should end, as where a copy was given up."""
    return data.startswith(START) and data.endswith(ZEROS) and _end(data) is None


def lacks_only_its_end(data: bytes) -> bool:
    """Whether a JPEG without its end marker has all its pixels; ImageError for a bomb.

    If it has, whatever follows its last scan does not matter to the decoder. If not, that is taken for pixels: three
    endings that begin with other bits then give three images.
    """
    body = data.rstrip(b"\0") + b"\0" if data.endswith(ZEROS) else data.rstrip(b"\xff")
    frame = _frame(data)
    if frame is None or _end(data) is not None or not _has_all_scans(body, frame):
        return False
    check_size(frame.width, frame.height)
    check_scans(data)
    ROOM.claim(frame.extent.decoding)
    try:
        return not _is_gone_on_with(body)
    except Exception:  # of imagecodecs' many kinds
        return False


def ends_early(data: bytes) -> bool:
    """Whether the end marker of a JPEG stands before the end of its pixels; to know takes three decodings."""
    end = _end(data)
    if end is None:
        return False
    body = data[:end].rstrip(b"\xff")
    try:
        return _is_gone_on_with(body)
    except Exception:  # of imagecodecs' many kinds
        return False


def lacks_scans(data: bytes) -> bool:
    """Whether a JPEG has no scan for a part of its coefficients, such as those that make a progressive one sharp."""
    frame = _frame(data)
    return frame is not None and not _has_all_scans(data, frame)


def _end(data: bytes) -> int | None:
    """Where the end marker of a JPEG is: not of another within it, or behind it."""
    frame = _frame(data)
    place = frame.place if frame else len(data)
    while not data.startswith(END, place):
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if (found := MARKER.search(data, place)) is None:
            return None
        place = found.start()
    return place


def _is_gone_on_with(body: bytes) -> bool:
    """Whether a decoder takes for pixels what follows a JPEG without its end marker."""
    first = _digest(body)
    return any(_digest(body + _ending(flip)) != first for flip in (0, 254))


def _digest(body: bytes) -> bytes:
    """What tells the pixels of a JPEG from others, without holding them."""
    return hashlib.sha256(imagecodecs.jpeg8_decode(body + END).data).digest()


def _ending(flip: int) -> bytes:
    """Bits that are no image's, between restart markers, so that a decoder finds the one it waits for."""
    noise = bytes(flip - value if flip else value for value in (73 * i % 255 for i in range(255)))
    return b"".join(noise + bytes((0xFF, 0xD0 + number)) for number in (*range(8), *range(8)))


def _frame(data: bytes) -> Frame | None:
    """The first frame header; None where there is none before the first scan."""
    place, end = 2, len(data) - 10
    while place < end and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xFF:
            place += 1
            continue
        if marker in FRAMES:
            bits, height, width, count = FRAME.unpack_from(data, place + 4)
            return Frame(place, marker, bits, width, height, tuple(data[place + 10 : place + 10 + 3 * count : 3]))
        if marker == SCAN[1] or length < 2:
            return None
        place += 2 + length
    return None


def _has_all_scans(data: bytes, frame: Frame) -> bool:
    """Whether the scans that begin bring each component's coefficients, in a progressive JPEG to the last bit."""
    wanted = range(COEFFICIENTS) if frame.marker in PROGRESSIVE else range(1)
    brought: dict[int, set[int]] = defaultdict(set)
    at = frame.place
    while (at := data.find(SCAN, at + 2)) >= 0:
        length, count = struct.unpack_from(">HB", data.ljust(at + 5, b"\0"), at + 2)
        header = data[at + 5 : at + 8 + 2 * count]
        if length != 6 + 2 * count or len(header) != 3 + 2 * count:
            continue
        first, last, bits = header[-3:]
        if frame.marker not in PROGRESSIVE:
            first, last, bits = 0, 0, 0
        if not bits & 15:
            for component in header[0:-3:2]:
                brought[component] |= set(range(first, min(last, COEFFICIENTS - 1) + 1))
    return all(brought[component].issuperset(wanted) for component in frame.components)
