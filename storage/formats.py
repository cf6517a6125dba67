"""What is read as an image: by which names, in which formats, and up to which size."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

SUFFIXES = frozenset({".bmp", ".gif", ".jfif", ".jls", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 178_956_970
"""Larger pictures are refused as decompression bombs."""
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What is decoded; some of Pillow's other formats start programs on the file (EPS: Ghostscript)."""


class ImageError(ValueError):
    """Bytes that are no picture we can use, and why."""


def is_image(key: str) -> bool:
    """Whether the name says picture."""
    name = key[key.rfind("/") + 1 :]
    return name[max(name.rfind("."), 0) :].lower() in SUFFIXES and not name.startswith(".")


def stem(key: str) -> str:
    """The key of a picture without its suffix: what names it across folders and formats."""
    return key[: key.rfind(".")] if is_image(key) else key


def refuse_size(width: int, height: int) -> None:
    """ImageError where that are more than MAX_PIXELS."""
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width}×{height} is more than {MAX_PIXELS:,} pixels")
