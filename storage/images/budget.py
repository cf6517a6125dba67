"""Images in no more than so many bytes: the highest quality of JPEG or WebP whose file is small enough."""

import io
from collections.abc import Mapping
from typing import Any, Literal

from PIL import Image

from storage.images.formats import Pixels

CodecName = Literal["jpeg", "webp"]
OPTIONS: Mapping[CodecName, dict[str, Any]] = {
    "jpeg": {"format": "JPEG", "optimize": True},
    "webp": {"format": "WEBP", "method": 4},
}
"""As Pillow takes them: JPEG with its own Huffman tables and 4:2:0, WebP lossy."""
QUALITIES: Mapping[CodecName, tuple[int, int]] = {"jpeg": (1, 95), "webp": (0, 100)}
"""The lowest and the highest quality; above 95 JPEG files grow without a gain."""


def encode_within(pixels: Pixels, codec: CodecName, size: int) -> bytes:
    """The file of the highest quality with at most `size` bytes; of the lowest quality where all are larger.

    pixels: uint8 RGB (H, W, 3). The quality is found by bisection, in about seven encodings: files grow with it,
    those of WebP but for a few bytes.
    """
    image = Image.fromarray(pixels)
    low, high = QUALITIES[codec]
    best = _encoded(image, codec, low)
    while low < high and len(best) <= size:
        middle = (low + high + 1) // 2
        tried = _encoded(image, codec, middle)
        if len(tried) <= size:
            low, best = middle, tried
        else:
            high = middle - 1
    return best


def _encoded(image: Image.Image, codec: CodecName, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, quality=quality, **OPTIONS[codec])
    return buffer.getvalue()
