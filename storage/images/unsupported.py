"""What a file is that is not read as an image, as far as its first bytes tell: a line people can act on."""

import io
from pathlib import PurePosixPath
from typing import Literal

import tifffile
from PIL.TiffImagePlugin import COMPRESSION_INFO

from storage.images import formats
from storage.images.exif import TIFF_HEADS
from storage.images.formats import CONVERT

UNKNOWN = "not an image"
BIG = 0x2B
"""What a BigTIFF has for its version."""
NUMBERS = {1: "whole numbers", 2: "signed whole numbers", 3: "floating-point numbers", 6: "complex numbers"}
COLOURS = {0: 1, 1: 1, 2: 3, 3: 1}
"""Samples of grey (white or black is zero), RGB and palette."""


def is_unread(key: str) -> bool:
    """Whether the name says a kind of image that is not read."""
    return PurePosixPath(key).suffix.lower() in formats.unread_suffixes()


def described(data: bytes) -> str:
    """What `data` is, and what to do: "a HEIC image, which is not read; convert it"."""
    if data[:4] in TIFF_HEADS:
        return _tiff(data) or f"broken image: {'cut off' if _lacks_directory(data) else 'a damaged TIFF'}"
    for form in formats.UNREAD:
        if formats.begins(form.magic, data):
            return f"{form.what}, {form.advice}"
    return f"{UNKNOWN} ({len(data)} bytes)"


def _lacks_directory(data: bytes) -> bool:
    """Whether the first directory of a TIFF is not there: many programs write it last."""
    order: Literal["little", "big"] = "little" if TIFF_HEADS[data[:4]] == "<" else "big"
    place = data[8:16] if BIG in data[2:4] else data[4:8]
    return int.from_bytes(place, order) + 2 > len(data)


def _tiff(data: bytes) -> str | None:
    """What a TIFF's first directory says of its samples; None where it says nothing unusual, and must be damaged."""
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            count, bits, numbers = page.samplesperpixel, int(page.bitspersample), NUMBERS[page.sampleformat]
            is_packed = page.compression not in COMPRESSION_INFO
            is_usual = COLOURS.get(page.photometric) == count and bits in (1, 8, 16) and page.sampleformat == 1
            if not page.dataoffsets or (is_usual and not is_packed):
                return None
            kind = f"a TIFF of {count} sample{'s' * (count > 1)} of {bits}-bit {numbers}"
            if page.photometric not in COLOURS:
                kind += f" ({tifffile.PHOTOMETRIC(page.photometric).name})"
            if is_packed:
                packed = tifffile.COMPRESSION(page.compression).name
                return f"{kind}, compressed as {packed}, which is not read; store it uncompressed"
            return f"{kind}, {CONVERT} to 8 or 16 bits, grey or RGB"
    except Exception:  # whatever tifffile makes of damaged files
        return None
