"""Pictures: bytes to pixels and back. Pixels are uint8 RGB arrays (H, W, 3), upright.

Steps on the way that photographs of other depths take too are here as well, 16-bit TIFFs above all.
Whatever is wrong with a picture leaves this room as an `ImageError` that says so.
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from storage import metadata, unread

Pixels = NDArray[np.uint8]

SUFFIXES = frozenset({".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 178_956_970
"""Larger pictures are refused as decompression bombs."""
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What is decoded; some of Pillow's other formats start programs on the file (EPS: Ghostscript)."""
JPEG_SCAN, MAX_SCANS = b"\xff\xda", 1000
"""Each scan of a JPEG goes over all its pixels, however few bytes it has; people's have up to a dozen."""
ROWS = 256
UNASSOCIATED, ASSOCIATED, UNSPECIFIED = 2, 1, 0
WHITE_IS_ZERO, GREY_OR_RGB = 0, (0, 1, 2)
SAMPLE_FORMAT, UNSIGNED = 339, 1
DEEP = ("I", "F")
"""Pillow's modes of more than 8 bits begin so."""
WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # of damaged tags; what matters is raised
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
    if (deep := _deep_in_8_bits(data)) is not None:
        return np.asarray(_to_rgb(deep))
    with opened(data) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(_to_rgb(image))


def size(data: bytes) -> tuple[int, int] | None:
    """(height, width) as a picture says it is stored; None where only decoding can tell, or tell what is wrong."""
    with suppress(ImageError), opened(data) as image:
        return image.height, image.width
    with suppress(Exception), tifffile.TiffFile(io.BytesIO(data)) as file:  # of kinds that Pillow does not know
        page = file.pages.first
        return page.imagelength, page.imagewidth
    return None


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
        raise ImageError(unread.described(data)) from error
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


def deep_tiff(data: bytes) -> tuple[NDArray[np.uint16], int] | None:
    """The samples of a TIFF of 16 bits, grey or RGB, and its frames; None where it is none: that is Pillow's to say.

    Samples are (H, W, 1 … 4), black is zero, alpha is last and straight, and they are not turned upright yet.
    """
    if data[:4] not in metadata.TIFF_HEADS:
        return None
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            if not _is_deep(page):
                return None
            refuse_size(page.imagewidth, page.imagelength)
            return _decoded(data, page), len(file.pages)
    except (ImageError, MemoryError):
        raise
    except Exception:  # whatever tifffile and libtiff make of damaged files
        return None


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


def sixteen_bits(image: Image.Image) -> NDArray[np.uint16]:
    """The numbers (H, W) of a picture of a mode in DEEP; ImageError where 16 bits do not hold them."""
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


def to_8_bits(samples: NDArray[np.unsignedinteger]) -> NDArray[np.uint8]:
    """16-bit samples of any shape rounded to 8 bits, a few rows at a time: what lies between is twice as large."""
    result = np.empty(samples.shape, np.uint8)
    for rows in bands(len(samples)):
        result[rows] = (samples[rows].astype(np.uint32) + 128) // 257
    return result


def bands(height: int) -> Iterator[slice]:
    """Rows by the few hundred, for what would take much memory at once."""
    return (slice(top, top + ROWS) for top in range(0, height, ROWS))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(DEEP):
        return Image.fromarray(to_8_bits(sixteen_bits(image))).convert("RGB")
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        upper = image if image.mode == "RGBA" else image.convert("RGBA")
        paper = Image.new("RGB", upper.size, "white")
        paper.paste(upper, mask=upper)
        return paper
    return image if image.mode == "RGB" else image.convert("RGB")


def _deep_in_8_bits(data: bytes) -> Image.Image | None:
    if (deep := deep_tiff(data)) is None:
        return None
    return from_samples(upright(to_8_bits(deep[0]), metadata.read(data, {})[1]))


def _is_deep(page: tifffile.TiffPage) -> bool:
    colours = 3 if page.photometric == 2 else 1
    return (
        page.bitspersample == 16
        and page.sampleformat == 1
        and page.photometric in GREY_OR_RGB
        and colours <= page.samplesperpixel <= colours + 4
        and page.imagedepth == 1
        and page.tilewidth * page.tilelength <= MAX_PIXELS
    )


def _decoded(data: bytes, page: tifffile.TiffPage) -> NDArray[np.uint16]:
    """The samples of a 16-bit page, (H, W, 1 … 4): black is zero, alpha is last and straight."""
    samples = imagecodecs.tiff_decode(data, index=0)
    if samples.ndim == 3 and page.planarconfig == 2:
        samples = np.moveaxis(samples, 0, -1)
    samples = samples.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)
    colours = 3 if page.photometric == 2 else 1
    kind = int(page.extrasamples[0]) if page.extrasamples else UNASSOCIATED
    samples = np.ascontiguousarray(samples[..., : colours + (kind != UNSPECIFIED)])
    if page.photometric == WHITE_IS_ZERO:
        np.subtract(65535, samples[..., :1], out=samples[..., :1])
    if kind == ASSOCIATED and samples.shape[2] > colours:
        for rows in bands(len(samples)):
            colour, alpha = np.split(samples[rows].astype(np.uint64), [colours], axis=2)
            alpha = np.maximum(alpha, 1)
            samples[rows, :, :colours] = ((colour * 65535 + alpha // 2) // alpha).clip(0, 65535)
    return samples
