"""What a file is that is not read as an image, as far as its first bytes tell: a line people can act on."""

import io
from pathlib import PurePosixPath
from typing import Literal

import tifffile
from PIL.TiffImagePlugin import COMPRESSION_INFO

from storage.images.exif import TIFF_HEADS

RAW = frozenset({".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"})
SUFFIXES = RAW | {".avif", ".exr", ".heic", ".heif", ".j2k", ".jp2", ".jxl", ".psd", ".svg"}
"""What the names of images end in that are not read."""
UNKNOWN = "not an image"
CONVERT = "which is not read; convert it"
MAGIC: dict[bytes, str] = {
    b"\0\0\0\x0cjP  ": f"a JPEG 2000 image, {CONVERT}",
    b"\xff\x4f\xff\x51": f"a JPEG 2000 image, {CONVERT}",
    b"\0\0\0\x0cJXL ": f"a JPEG XL image, {CONVERT}",
    b"\xff\x0a": f"a JPEG XL image, {CONVERT}",
    b"\x76\x2f\x31\x01": f"an OpenEXR image, {CONVERT}",
    b"8BPS": f"a Photoshop document, {CONVERT}",
    b"%PDF-": f"a PDF document, {CONVERT}",
    b"FUJIFILMCCD-RAW": f"a camera's raw image (Fujifilm), {CONVERT}",
    b"IIRO": f"a camera's raw image (Olympus), {CONVERT}",
    b"IIRS": f"a camera's raw image (Olympus), {CONVERT}",
    b"MMOR": f"a camera's raw image (Olympus), {CONVERT}",
    b"IIU\0": f"a camera's raw image (Panasonic), {CONVERT}",
    b"II\x1a\0\0\0HEAP": f"a camera's raw image (Canon), {CONVERT}",
    b"\0MRM": f"a camera's raw image (Minolta), {CONVERT}",
    b"FOVb": f"a camera's raw image (Sigma), {CONVERT}",
    b"PK\x03\x04": "a zip archive, not an image",
    b"version https://git-lfs": "a Git LFS pointer, not the image itself; fetch that with git lfs pull",
}
BRANDS: dict[bytes, str] = {
    **dict.fromkeys((b"avif", b"avis"), f"an AVIF image, {CONVERT}"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), f"a HEIC image, {CONVERT}"),
    b"crx ": f"a camera's raw image (Canon), {CONVERT}",
}
"""What follows "ftyp" in the files that begin like films."""
BIG = 0x2B
"""What a BigTIFF has for its version."""
PAGES = (b"<!doctype html", b"<html", b"<head", b"<?xml", b"<error")
NUMBERS = {1: "whole numbers", 2: "signed whole numbers", 3: "floating-point numbers", 6: "complex numbers"}
COLOURS = {0: 1, 1: 1, 2: 3, 3: 1}
"""Samples of grey (white or black is zero), RGB and palette."""


def is_unread(key: str) -> bool:
    """Whether the name says a kind of image that is not read."""
    return PurePosixPath(key).suffix.lower() in SUFFIXES


def described(data: bytes) -> str:
    """What `data` is, and what to do: "a HEIC image, which is not read; convert it"."""
    if data[4:8] == b"ftyp":
        return BRANDS.get(data[8:12], "a film, not an image")
    if data[:4] in TIFF_HEADS:
        return _tiff(data) or f"broken image: {'cut off' if _lacks_directory(data) else 'a damaged TIFF'}"
    text = data[:200].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in text:
        return f"an SVG drawing, {CONVERT}"
    if text.startswith(PAGES):
        return "a web page or a server's error, not an image; fetch it again"
    for magic, kind in MAGIC.items():
        if data.startswith(magic):
            return kind
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
