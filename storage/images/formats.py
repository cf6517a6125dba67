"""Image formats: one table of those that are read, one of those that are known and not read.

A format that Pillow decodes is one row of `FORMATS`. One that results can be of has an encoder in `encode`, too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Format = Literal["png", "jpeg", "webp", "tiff", "same"]
"""What results can be: `same` is the format of the source."""
Metadata = Literal["icc", "exif", "xmp", "aspect", "colour"]
"""What a file can carry: a colour profile, EXIF, XMP, pixels that are no squares, and PNG's chunks on colour."""

MAX_PIXELS = 178_956_970
"""Larger images are refused as decompression bombs."""
HEAD = 200
"""So many bytes tell what a file is."""
CONVERT = "which is not read; convert it"


class ImageError(ValueError):
    """Bytes that are no image we can use, and why."""


@dataclass(frozen=True)
class ImageFormat:
    """A format that is read.

    name: for `--format`. pillow: Pillow's name. suffixes: in small letters, that of results first. magic: a pattern
    of the first bytes; none where another row has them. frames: whether a file may have several that are not pages.
    Of results: bits a sample at most, whether there is alpha, whether pixels are kept whole, pixels a side at most,
    and the metadata that a file holds.
    """

    name: str
    pillow: str
    suffixes: tuple[str, ...]
    magic: bytes = b"(?!)"
    frames: bool = False
    bits: int = 8
    alpha: bool = False
    lossless: bool = False
    max_side: int | None = None
    metadata: frozenset[Metadata] = frozenset()


@dataclass(frozen=True)
class UnreadFormat:
    """A kind of file that is known and not read: what it is, what to do, and how it is known."""

    what: str
    suffixes: tuple[str, ...] = ()
    magic: bytes = b"(?!)"
    advice: str = CONVERT


FORMATS: tuple[ImageFormat, ...] = (
    ImageFormat(
        "png",
        "PNG",
        (".png",),
        rb"\x89PNG\r\n\x1a\n",
        frames=True,
        bits=16,
        alpha=True,
        lossless=True,
        metadata=frozenset({"icc", "exif", "xmp", "aspect", "colour"}),
    ),
    ImageFormat(
        "jpeg",
        "JPEG",
        (".jpg", ".jpeg", ".jfif"),
        rb"\xff\xd8\xff",
        max_side=65_500,
        metadata=frozenset({"icc", "exif", "xmp", "aspect"}),
    ),
    ImageFormat(
        "webp",
        "WEBP",
        (".webp",),
        rb"RIFF.{4}WEBP",
        frames=True,
        alpha=True,
        max_side=16_383,
        metadata=frozenset({"icc", "exif", "xmp"}),
    ),
    ImageFormat(
        "tiff",
        "TIFF",
        (".tif", ".tiff"),
        rb"II[*+]\0|MM\0[*+]",
        bits=16,
        alpha=True,
        lossless=True,
        metadata=frozenset({"icc", "exif", "xmp", "aspect"}),
    ),
    ImageFormat("gif", "GIF", (".gif",), rb"GIF8[79]a", frames=True),
    ImageFormat("bmp", "BMP", (".bmp",), rb"BM.{4}\0{4}"),
    ImageFormat("jpeg-ls", "JPEG", (".jls",)),  # begins as JPEG does
)
"""Some of Pillow's other formats start programs on the file (EPS: Ghostscript)."""

UNREAD: tuple[UnreadFormat, ...] = (
    UnreadFormat("an AVIF image", (".avif",), rb".{4}ftypavi[fs]"),
    UnreadFormat("a HEIC image", (".heic", ".heif"), rb".{4}ftyp(?:hei[cxms]|hevc|m[is]f1)"),
    UnreadFormat("a camera's raw image (Canon)", (".cr2", ".cr3"), rb".{4}ftypcrx |II\x1a\0\0\0HEAP"),
    UnreadFormat("a film", (), rb".{4}ftyp", "not an image"),
    UnreadFormat("an SVG drawing", (".svg",), rb"(?i).{0,196}<svg"),
    UnreadFormat(
        "a web page or a server's error",
        (),
        rb"(?i)(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|head|\?xml|error)",
        "not an image; fetch it again",
    ),
    UnreadFormat("a JPEG 2000 image", (".j2k", ".jp2"), rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
    UnreadFormat("a JPEG XL image", (".jxl",), rb"\0\0\0\x0cJXL |\xff\x0a"),
    UnreadFormat("an OpenEXR image", (".exr",), rb"\x76\x2f\x31\x01"),
    UnreadFormat("a Photoshop document", (".psd",), rb"8BPS"),
    UnreadFormat("a PDF document", (), rb"%PDF-"),
    UnreadFormat("a camera's raw image (Fujifilm)", (".raf",), rb"FUJIFILMCCD-RAW"),
    UnreadFormat("a camera's raw image (Olympus)", (".orf",), rb"IIR[OS]|MMOR"),
    UnreadFormat("a camera's raw image (Panasonic)", (".rw2",), rb"IIU\0"),
    UnreadFormat("a camera's raw image (Minolta)", (), rb"\0MRM"),
    UnreadFormat("a camera's raw image (Sigma)", (), rb"FOVb"),
    UnreadFormat("a camera's raw image", (".arw", ".dng", ".nef", ".pef", ".srw")),  # these are TIFFs
    UnreadFormat("a zip archive", (), rb"PK\x03\x04", "not an image"),
    UnreadFormat(
        "a Git LFS pointer", (), rb"version https://git-lfs", "not the image itself; fetch that with git lfs pull"
    ),
)
"""The first row counts whose magic the file begins with."""


@cache
def by_suffix() -> Mapping[str, ImageFormat]:
    """The formats that are read, by their suffixes."""
    return {suffix: form for form in FORMATS for suffix in form.suffixes}


@cache
def pillow_names() -> tuple[str, ...]:
    """The formats that Pillow may open."""
    return tuple(dict.fromkeys(form.pillow for form in FORMATS))


@cache
def unread_suffixes() -> frozenset[str]:
    """What the names of images end in that are not read."""
    return frozenset(suffix for form in UNREAD for suffix in form.suffixes)


def begins(magic: bytes, head: bytes) -> bool:
    """Whether a file that begins with `head` has this magic."""
    return re.match(magic, head[:HEAD], re.DOTALL) is not None


def is_image(key: str) -> bool:
    """Whether the name says image."""
    name = key[key.rfind("/") + 1 :]
    dot = max(name.rfind("."), 0)
    is_visible = not name.startswith(".") or (name.startswith("..") and name[:dot].strip(".") != "")
    return name[dot:].lower() in by_suffix() and is_visible


def suffix_of(head: bytes) -> str | None:
    """The suffix of the kind of image that begins so; None for what is none that is read."""
    return next((form.suffixes[0] for form in FORMATS if begins(form.magic, head)), None)


def stem(key: str) -> str:
    """The key of an image without its suffix: what names it across folders and formats."""
    return key[: key.rfind(".")] if is_image(key) else key


def check_size(width: int, height: int) -> None:
    """ImageError where that are more than MAX_PIXELS, or none."""
    if not width or not height:
        raise ImageError(f"broken image: {width}×{height} pixels")
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width}×{height} is more than {MAX_PIXELS:,} pixels")
