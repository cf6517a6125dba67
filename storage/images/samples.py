"""Samples of other depths than 8 bits, and what is done to all: rescaled, turned upright, in bands of rows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storage.images.formats import ImageError, Pixels

Samples = NDArray[np.uint8] | NDArray[np.uint16]

DEEP = ("I", "F")
"""Pillow's modes of more than 8 bits begin so."""
SAMPLE_FORMAT, UNSIGNED = 339, 1
ROWS = 256


def full_range(samples: NDArray[Any], bits: int) -> Samples:
    """Samples of so many bits, in steps of their own, as 8 bits (of up to 8) or 16 of the whole range."""
    if bits not in (8, 16):
        most, full = (1 << bits) - 1, 255 if bits < 8 else 65535
        table = (np.arange(1 << bits, dtype=np.uint32) * full + most // 2) // most
        samples = table.astype(np.uint8 if bits < 8 else np.uint16)[np.minimum(samples, most)]
    return samples.astype(np.uint8, copy=False) if bits <= 8 else samples.astype(np.uint16, copy=False)


def to_8_bits(samples: NDArray[np.unsignedinteger]) -> Pixels:
    """Samples of any shape, those of 16 bits rounded to 8, a few rows at a time: that takes twice the memory."""
    if samples.dtype == np.uint8:
        return samples.astype(np.uint8, copy=False)
    result = np.empty(samples.shape, np.uint8)
    for rows in bands(len(samples)):
        result[rows] = (samples[rows].astype(np.uint32) + 128) // 257
    return result


def sixteen_bits(image: Image.Image) -> NDArray[np.uint16]:
    """The numbers (H, W) of an image of a mode in DEEP; ImageError where 16 bits do not hold them."""
    if image.mode == "F":
        raise ImageError("pixels are floating-point numbers, whose range is not known")
    values = np.asarray(image)
    if image.mode == "I":
        if getattr(image, "tag_v2", {}).get(SAMPLE_FORMAT, (UNSIGNED,)) == (UNSIGNED,):
            values = values.view(np.uint32)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise ImageError(
                f"pixels are whole numbers from {low:,} to {high:,}, not 16-bit (0 to 65,535); convert it to 16 bits"
            )
    return values.astype(np.uint16)


def straight(samples: Samples, colours: int) -> Samples:
    """Samples whose colours are multiplied by their alpha, which is last, with it taken out of them; in place."""
    most = np.iinfo(samples.dtype).max
    for rows in bands(len(samples)):
        colour, alpha = np.split(samples[rows].astype(np.uint64), [colours], axis=2)
        alpha = np.maximum(alpha, 1)
        samples[rows, :, :colours] = ((colour * most + alpha // 2) // alpha).clip(0, most)
    return samples


def upright(samples: Any, orientation: int) -> Any:
    """(H, W) or (H, W, C) turned as the EXIF orientation says, each 2 … 8 in one way only."""
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)


def from_samples(samples: NDArray[np.uint8]) -> Image.Image:
    """8-bit samples, (H, W) or (H, W, 1 … 4), as Pillow holds them."""
    return Image.fromarray(samples[..., 0] if samples.ndim == 3 and samples.shape[2] == 1 else samples)


def bands(height: int) -> Iterator[slice]:
    """Rows by the few hundred, for what would take much memory at once."""
    return (slice(top, top + ROWS) for top in range(0, height, ROWS))
