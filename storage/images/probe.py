"""What an image says of itself: its size, and whether its end is there, without decoding it.

For the common kinds this takes microseconds, so that copying images costs what copying costs. Whatever is unusual
in them is left to Pillow.
"""

import io
import struct
import zlib

from PIL import Image

from storage.images import decode as codec
from storage.images.formats import ImageError, check_size

PNG, PNG_HEADER, PNG_END = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\rIHDR", b"\x00\x00\x00\x00IEND\xaeB`\x82"
TURNING, TURNING_TEXTS = b"eXIf", (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
"""The chunk, and the keywords of texts, that may say how a PNG is turned."""
JPEG, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
FILL, SCAN, EXIF, SEGMENTS = 0xFF, 0xDA, 0xE1, frozenset({*range(0xC0, 0xD0), *range(0xDB, 0xFF)})
FRAMES, USUAL, COMPONENTS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}, (0xC0, 0xC1, 0xC2), (1, 3, 4)
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)
FRAME = struct.Struct(">BHHB")
CHUNK, PNG_FRAME = struct.Struct(">I4s"), struct.Struct(">II5sI")


def probe_size(data: bytes) -> tuple[int, int]:
    """(width, height) of the upright image in `data`; ImageError where it is none, or is cut off.

    Pixels are not decoded: damage between a sound beginning and a sound end shows only to `images.decode`.
    """
    size = None
    if data.startswith(PNG) and data.startswith(PNG_HEADER, 8) and data.endswith(PNG_END, 33):
        size = _png_size(data)
    elif data.startswith(JPEG) and data.endswith(JPEG_END):
        size = _jpeg_size(data)
    elif data.startswith(PNG) and PNG_END not in data:  # Pillow can do without
        raise ImageError("broken image: cut off")
    if size is None:
        height, width = codec.decode(data).shape[:2]
        return width, height
    check_size(*size)
    return size


def _png_size(data: bytes) -> tuple[int, int] | None:
    """The size in a PNG's header; None where Pillow should look: it may be turned, or is odd."""
    width, height, _, check = PNG_FRAME.unpack_from(data, 16)
    if check != zlib.crc32(data[12:29]):
        return None
    place = 33
    while place < len(data) - 8:
        length, kind = CHUNK.unpack_from(data, place)
        if kind == TURNING or data.startswith(TURNING_TEXTS, place + 8):
            return None
        place += 12 + length
    return (width, height) if place == len(data) else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """The size in a JPEG's frame header; None where Pillow should look: it is odd."""
    size, exif = None, False
    place, end = 2, len(data) - 9
    while place < end and data[place] == FILL:
        marker, length = data[place + 1], data[place + 2] << 8 | data[place + 3]
        if marker == FILL:
            place += 1
            continue
        if marker == SCAN:
            return _upright(data, size) if size and exif else size
        if marker not in SEGMENTS or length < 2:
            return None
        if marker in FRAMES:
            precision, height, width, components = FRAME.unpack_from(data, place + 4)
            if size or marker not in USUAL or precision != 8 or components not in COMPONENTS:
                return None
            size = width, height
        exif = exif or marker == EXIF
        place += 2 + length
    return None


def _upright(data: bytes, size: tuple[int, int]) -> tuple[int, int] | None:
    """The size of a JPEG once it is turned as its EXIF or XMP says; None where these are broken."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return size[::-1] if image.getexif().get(ORIENTATION) in TURNED else size
    except Exception:  # Pillow's readers raise anything
        return None
