"""What a photograph carries besides pixels: colour profile, EXIF, XMP and resolution, made to fit another size."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, NamedTuple

from storage.images import exif_sizes, xmp
from storage.images.exif import (
    HEIGHT,
    ICC,
    ORIENTATION,
    PROCESSING_SOFTWARE,
    STORAGE,
    TIFF_HEADS,
    WIDTH,
    X_RESOLUTION,
    XMP,
    Exif,
)
from storage.images.exif_sizes import Resizing
from storage.images.png import Chunks

MAX_DENSITY = 65535


@dataclass(frozen=True)
class Carried:
    """What goes with the pixels: ICC profile, EXIF (a block from its byte order on), XMP packet, dots per inch.

    None where the image has none. The image is upright, and no orientation is in here. `aspect` is how many
    pixels across are as long as how many down, where a pixel is no square. `colour` are a PNG's chunks that tell what
    its colours mean. `size` is the (width, height) that all this is of. `notes` say what was not kept.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    aspect: tuple[int, int] | None = None
    colour: Chunks = ()
    size: tuple[int, int] | None = field(default=None, compare=False)
    notes: tuple[str, ...] = ()

    def into(self, width: int, height: int, stamp: str | None, place: int = PROCESSING_SOFTWARE) -> "Carried":
        """What goes into a result of this size: sizes corrected, `stamp` in EXIF's tag `place` (see `Exif.sign`).

        Its notes say what the size made impossible.
        """
        sizes = Resizing(self.size or (width, height), (width, height))
        exif, packet = Exif.parse(self.exif or b""), self.xmp
        notes = exif_sizes.resize(exif, sizes)
        if self.dpi and X_RESOLUTION not in exif.image:
            exif.set_resolution(*self.dpi)
        if stamp is not None:
            exif.sign(stamp, place)
        if packet:
            packet, more = xmp.resized(packet, sizes)
            notes += more
        return replace(self, exif=None if exif.is_empty else exif.tobytes(), xmp=packet, notes=notes)


class Found(NamedTuple):
    """What an image carries, and its orientation, 1 … 8, which is taken out of that."""

    carried: Carried
    orientation: int


def read(data: bytes, info: Mapping[str | tuple[int, int], Any], first: bytes = b"") -> Found:
    """What the image in `data` carries.

    `info` is what Pillow found in it, and not needed for a TIFF. first: a TIFF before the page of the image was put
    first in it (see `tiff_pages`); what that page does not say, the one before it does. The ICC profile is as found
    (see `fitting`).
    """
    is_tiff = data[:4] in TIFF_HEADS
    exif = Exif.parse(data if is_tiff else _exif_block(info))
    if is_tiff and first[:16] != data[:16]:
        exif.add(Exif.parse(first, STORAGE | {WIDTH, HEIGHT, ORIENTATION}))
    icc, packet, dpi = info.get("icc_profile"), info.get("xmp"), info.get("dpi")
    if is_tiff:
        icc, packet = (entry.value if (entry := exif.image.get(tag)) else None for tag in (ICC, XMP))
    if is_tiff or (data[:2] == b"\xff\xd8" and info.get("jfif_unit") not in (1, 2)):
        dpi = None  # Pillow's own guess, as the file's head has none
    told = exif.number(exif.image.pop(ORIENTATION, None))
    for tag in (ICC, XMP):
        exif.image.pop(tag, None)
    packet, seen, notes = xmp.upright(packet)
    orientation = told or seen
    orientation = orientation if orientation in range(1, 9) else 1
    notes += exif_sizes.cleaned(exif, orientation)
    if packet and orientation > 1:
        packet, more = xmp.without_places(packet)
        notes += more
    dots, aspect = _resolution(exif, dpi, _ratio(data, info), is_turned=orientation >= 5)
    block = None if exif.is_empty else exif.tobytes()
    return Found(Carried(_bytes(icc), block, packet, dots, aspect, notes=notes), orientation)


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


def _ratio(data: bytes, info: Mapping[str | tuple[int, int], Any]) -> object:
    """What the file's head says of the shape of a pixel: (dots across, dots down) of the same length."""
    if data[:2] == b"\xff\xd8":
        return info.get("jfif_density") if info.get("jfif_unit") == 0 else None
    if data[:3] == b"GIF" and len(data) > 12 and data[12]:
        return 64, data[12] + 15  # as wide as so many 64ths of its height
    return info.get("aspect")


def _resolution(
    exif: Exif, dpi: object, ratio: Any, *, is_turned: bool
) -> tuple[tuple[float, float] | None, tuple[int, int] | None]:
    """Dots per inch, and the shape of a pixel where it is no square: as the file's head says, or else EXIF."""
    if is_turned:  # as EXIF is by now
        dpi, ratio = _exchanged(dpi), _exchanged(ratio)
    dots, shape = _dots(dpi or exif.resolution()), _dots(ratio or exif.shape())
    if dots or not shape or shape[0] == shape[1]:
        return dots, None
    near = Fraction(shape[0] / shape[1]).limit_denominator(MAX_DENSITY)
    return None, (near.numerator, near.denominator) if near and near.numerator <= MAX_DENSITY else None


def _exchanged(pair: Any) -> Any:
    return pair[::-1] if isinstance(pair, tuple) else pair
