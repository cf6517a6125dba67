"""Pictures: bytes to pixels and back. Pixels are uint8 RGB arrays (H, W, 3), upright.

Whatever is wrong with a picture leaves this room as an `ImageError` that says so.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Pixels = NDArray[np.uint8]

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 178_956_970
"""Larger pictures are refused as decompression bombs."""
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What is decoded; some of Pillow's other formats start programs on the file (EPS: Ghostscript)."""
JPEG_SCAN, MAX_SCANS = b"\xff\xda", 1000
"""Each scan of a JPEG goes over all its pixels, however few bytes it has; people's have up to a dozen."""
ROWS = 256
warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged metadata; what matters is raised
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # Pillow's, from half as many on


class ImageError(ValueError):
    """Bytes that are no picture we can use, and why."""


def is_image(key: str) -> bool:
    """Whether the name says picture."""
    name = key[key.rfind("/") + 1 :]
    return name[max(name.rfind("."), 0) :].lower() in SUFFIXES and not name.startswith(".")


def stem(key: str) -> str:
    """The key of a picture without its suffix: what names it across folders and formats."""
    return key[: key.rfind(".")] if is_image(key) else key


def decode(data: bytes) -> Pixels:
    """The pixels behind `data`, turned upright by their EXIF orientation; ImageError where there are none.

    Grey, palette and CMYK become RGB, 16 bits become 8, transparency is laid over white.
    """
    with opened(data) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(_to_rgb(image))


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """The picture behind `data`, known not to be a bomb, and not decoded yet; what fails inside is an ImageError."""
    with _refusing(data), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        refuse_size(*image.size)
        if image.format in ("JPEG", "MPO") and data.count(JPEG_SCAN) > MAX_SCANS:
            raise ImageError(f"more than {MAX_SCANS:,} scans, which would take minutes")
        yield image


@contextmanager
def _refusing(data: bytes) -> Iterator[None]:
    """Whatever decoding `data` raises becomes an ImageError of one line."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"not an image ({len(data)} bytes)") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # Pillow's decoders raise anything, from SyntaxError to struct.error
        raise ImageError(f"broken image: {' '.join(str(error).split()) or type(error).__name__}") from error


def refuse_size(width: int, height: int) -> None:
    """ImageError where that are more than MAX_PIXELS."""
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width}×{height} is more than {MAX_PIXELS:,} pixels")


def encode_png(pixels: Pixels) -> bytes:
    """`pixels` as PNG, the same bytes for the same pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def resize_square(pixels: Pixels, size: int) -> Pixels:
    """The centre square reduced to `size` by Pillow's bicubic; ImageError where the picture is smaller than that."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    if side < size:
        raise ImageError(f"{width}×{height} is smaller than the size {size}")
    left, top = (width - side) // 2, (height - side) // 2
    square = Image.fromarray(pixels).crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.BICUBIC) if side != size else square)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ImageError("pixels are floating-point numbers, whose range is not known")
    if image.mode.startswith("I;16") or image.mode == "I":
        return Image.fromarray(to_8_bits(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        upper = image if image.mode == "RGBA" else image.convert("RGBA")
        paper = Image.new("RGB", upper.size, "white")
        paper.paste(upper, mask=upper)
        return paper
    return image if image.mode == "RGB" else image.convert("RGB")


def to_8_bits(samples: NDArray[np.integer]) -> NDArray[np.uint8]:
    """16-bit samples (H, W), rounded to 8 bits; a few rows at a time, as what lies between is four times as large."""
    result = np.empty(samples.shape, np.uint8)
    for top in range(0, len(samples), ROWS):
        rows = samples[top : top + ROWS].astype(np.int32).clip(0, 65535)
        result[top : top + ROWS] = (rows + 128) // 257
    return result
