"""What a picture says of itself: its size, and whether its end is there, without decoding it.

For the common kinds this takes microseconds, so that copying pictures costs what copying costs. Whatever is unusual
in them is left to Pillow.
"""

import io
import struct

from PIL import Image

from storage import images
from storage.images import ImageError

PNG, PNG_HEADER, PNG_END = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\rIHDR", b"\x00\x00\x00\x00IEND\xaeB`\x82"
JPEG, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
EXIF, ORIENTATION, TURNED = 0xE1, 0x0112, (5, 6, 7, 8)
SIZE = struct.Struct(">HH")
PNG_SIZE = struct.Struct(">II")


def measure(data: bytes) -> tuple[int, int]:
    """(width, height) of the upright picture in `data`; ImageError where it is none, or is cut off.

    Pixels are not decoded: damage between a sound beginning and a sound end shows only to `images.decode`.
    """
    if data.startswith(PNG) and data.startswith(PNG_HEADER, 8) and data.endswith(PNG_END):
        return _bounded(*PNG_SIZE.unpack_from(data, 16))
    if data.startswith(JPEG) and data.endswith(JPEG_END) and (size := _jpeg_size(data)) is not None:
        return _bounded(*size)
    return _opened(data)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """The size in a JPEG's frame header; None where Pillow should look: it may be turned, or is odd."""
    place, end = 2, len(data) - 9
    while place < end and data[place] == 0xFF:
        marker, length = data[place + 1], data[place + 2] << 8 | data[place + 3]
        if marker in FRAMES:
            height, width = SIZE.unpack_from(data, place + 5)
            return width, height
        if marker == EXIF:
            return None
        place += 2 + length
    return None


def _opened(data: bytes) -> tuple[int, int]:
    """What Pillow reads in the header, or, where it says nothing of the file's end, in the whole picture."""
    try:
        with Image.open(io.BytesIO(data), formats=images.FORMATS) as image:
            whole = image.format == "JPEG" and data.endswith(JPEG_END)
            width, height = image.size
            turned = whole and image.getexif().get(ORIENTATION) in TURNED
    except Exception:  # Pillow's readers raise anything
        whole = False
    if whole:
        return _bounded(height, width) if turned else _bounded(width, height)
    height, width = images.decode(data).shape[:2]
    return width, height


def _bounded(width: int, height: int) -> tuple[int, int]:
    if not width or not height:
        raise ImageError(f"broken image: {width}×{height} pixels")
    if width * height > images.MAX_PIXELS:
        raise ImageError(f"{width}×{height} is more than {images.MAX_PIXELS:,} pixels")
    return width, height
