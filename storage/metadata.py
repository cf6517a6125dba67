"""What a photograph carries besides pixels: colour profile, EXIF, XMP and resolution, made to fit another size."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from storage.exif import (
    HEIGHT,
    ICC,
    LARGEST,
    ORIENTATION,
    PHOTO_HEIGHT,
    PHOTO_WIDTH,
    PROCESSING_SOFTWARE,
    STORAGE,
    TIFF_HEADS,
    WIDTH,
    X_RESOLUTION,
    XMP,
    Exif,
)


@dataclass(frozen=True)
class Carried:
    """What goes with the pixels: ICC profile, EXIF (a block from its byte order on), XMP packet, dots per inch.

    None where the picture has none. The picture is upright, and no orientation is in here.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None

    def into(self, width: int, height: int, stamp: str | None, place: int = PROCESSING_SOFTWARE) -> "Carried":
        """What goes into a result of this size: sizes corrected, `stamp` in EXIF's tag `place` (see `Exif.sign`)."""
        exif = Exif.parse(self.exif or b"")
        for directory, tag, size in (
            (exif.image, WIDTH, width),
            (exif.image, HEIGHT, height),
            (exif.photo, PHOTO_WIDTH, width),
            (exif.photo, PHOTO_HEIGHT, height),
        ):
            if tag in directory:
                directory[tag] = exif.long(size)
        if self.dpi and X_RESOLUTION not in exif.image:
            exif.set_resolution(self.dpi)
        if stamp is not None:
            exif.sign(stamp, place)
        empty = not (exif.image or exif.photo or exif.gps)
        xmp = self.xmp and _resized(self.xmp, width, height)
        return replace(self, exif=None if empty else exif.tobytes(), xmp=xmp)


class Found(NamedTuple):
    """What a picture carries, and its orientation, 1 … 8, which is taken out of that."""

    carried: Carried
    orientation: int


def read(data: bytes, info: Mapping[str | tuple[int, int], Any], first: bytes = b"") -> Found:
    """What the picture in `data` carries.

    `info` is what Pillow found in it, and not needed for a TIFF. first: a TIFF before the page of the image was put
    first in it (see `tiff_pages`); what that page does not say, the one before it does. The ICC profile is as found
    (see `fitting`).
    """
    is_tiff = data[:4] in TIFF_HEADS
    exif = Exif.parse(data if is_tiff else _exif_block(info))
    if is_tiff and first[:16] != data[:16]:
        exif.add(Exif.parse(first, STORAGE | {WIDTH, HEIGHT, ORIENTATION}))
    icc, xmp, dpi = info.get("icc_profile"), info.get("xmp"), info.get("dpi")
    if is_tiff:
        icc, xmp = (entry.value if (entry := exif.image.get(tag)) else None for tag in (ICC, XMP))
    if is_tiff or (data[:2] == b"\xff\xd8" and info.get("jfif_unit") not in (1, 2)):
        dpi = None  # Pillow's own guess, as the file's head has none
    told = exif.number(exif.image.pop(ORIENTATION, None))
    for tag in (ICC, XMP):
        exif.image.pop(tag, None)
    upright, seen = _upright(xmp)
    orientation = told or seen
    block = exif.tobytes() if exif.image or exif.photo or exif.gps else None
    carried = Carried(_bytes(icc), block, upright, _dots(dpi or exif.resolution()))
    return Found(carried, orientation if orientation in range(1, 9) else 1)


def fitting(icc: bytes | None, space: bytes) -> bytes | None:
    """`icc` where it looks like a profile of the colour space `space`, b"RGB ", b"GRAY" or b"CMYK"; else None."""
    if not icc or len(icc) < 132 or icc[36:40] != b"acsp" or icc[16:20] != space:
        return None
    return icc if int.from_bytes(icc[:4], "big") <= len(icc) else None


def _exif_block(info: Mapping[str | tuple[int, int], Any]) -> bytes:
    block = _bytes(info.get("exif")) or b""
    if not block and "Raw profile type exif" in info:  # as ImageMagick wrote it into PNGs
        try:
            block = bytes.fromhex("".join(str(info["Raw profile type exif"]).split("\n")[3:]))
        except ValueError:
            return b""
    return block.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0")


def _bytes(value: object) -> bytes | None:
    return value if isinstance(value, bytes) and value else None


def _dots(dpi: Any) -> tuple[float, float] | None:
    try:
        across, down = map(float, dpi)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return (across, down) if all(math.isfinite(x) and 0.01 < x < 1e5 for x in (across, down)) else None


def _attribute(name: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"(\s%s\s{0,9}=\s{0,9}[\"'])([^\"'<]{0,99})([\"'])" % name)


def _element(name: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"(<%s(?:\s[^<>]{0,99})?>)([^<]{0,99})(</%s\s{0,9}>)" % (name, name))


_ACROSS = [make(name) for name in (b"exif:PixelXDimension", b"tiff:ImageWidth") for make in (_attribute, _element)]
_DOWN = [make(name) for name in (b"exif:PixelYDimension", b"tiff:ImageLength") for make in (_attribute, _element)]
_TURNED = [make(b"tiff:Orientation") for make in (_attribute, _element)]


def _upright(xmp: object) -> tuple[bytes | None, int]:
    """The packet without an orientation, and the orientation it had; None where it is no XMP in UTF-8."""
    if not isinstance(xmp, bytes) or len(xmp) > LARGEST or b"rdf:RDF" not in xmp:
        return None, 1
    xmp, orientation = xmp.strip(b"\0"), 1
    try:
        xmp.decode()
    except UnicodeDecodeError:
        return None, 1
    for pattern in _TURNED:
        if (found := pattern.search(xmp)) and found[2].strip().isdigit():
            orientation = int(found[2])
        xmp = pattern.sub(b"", xmp)
    return xmp, orientation


def _resized(xmp: bytes, width: int, height: int) -> bytes:
    for patterns, size in ((_ACROSS, width), (_DOWN, height)):
        for pattern in patterns:
            xmp = pattern.sub(rb"\g<1>%d\g<3>" % size, xmp)
    return xmp
