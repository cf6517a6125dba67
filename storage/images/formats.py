"""What is read as an image: by which names, in which formats, and up to which size."""

import numpy as np
from numpy.typing import NDArray

from storage.images.exif import TIFF_HEADS

Pixels = NDArray[np.uint8]

SUFFIXES = frozenset({".bmp", ".gif", ".jfif", ".jls", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 178_956_970
"""Larger images are refused as decompression bombs."""
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What is decoded; some of Pillow's other formats start programs on the file (EPS: Ghostscript)."""
HEADS = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG\r\n\x1a\n": ".png",
    b"GIF87a": ".gif",
    b"GIF89a": ".gif",
    **dict.fromkeys(TIFF_HEADS, ".tif"),
}
"""What most images begin with."""


class ImageError(ValueError):
    """Bytes that are no image we can use, and why."""


def is_image(key: str) -> bool:
    """Whether the name says image."""
    name = key[key.rfind("/") + 1 :]
    dot = max(name.rfind("."), 0)
    is_visible = not name.startswith(".") or (name.startswith("..") and name[:dot].strip(".") != "")
    return name[dot:].lower() in SUFFIXES and is_visible


def suffix_of(head: bytes) -> str | None:
    """The suffix of the kind of image that begins so; None for what is none that is read."""
    if head.startswith(b"RIFF"):
        return ".webp" if head[8:12] == b"WEBP" else None
    if head.startswith(b"BM"):
        return ".bmp" if head[6:10] == bytes(4) else None
    return next((suffix for magic, suffix in HEADS.items() if head.startswith(magic)), None)


def stem(key: str) -> str:
    """The key of an image without its suffix: what names it across folders and formats."""
    return key[: key.rfind(".")] if is_image(key) else key


def check_size(width: int, height: int) -> None:
    """ImageError where that are more than MAX_PIXELS, or none."""
    if not width or not height:
        raise ImageError(f"broken image: {width}×{height} pixels")
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width}×{height} is more than {MAX_PIXELS:,} pixels")
