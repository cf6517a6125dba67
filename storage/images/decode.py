"""Images: bytes to pixels and back. Pixels are uint8 RGB arrays (H, W, 3), upright.

Whatever is wrong with an image leaves this room as an `ImageError` that says so.
"""

import ctypes
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tifffile
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError, _imaging

from storage.images import deep, jpeg, metadata, png, tiff, unsupported
from storage.images.exif import TIFF_HEADS
from storage.images.extents import Extent
from storage.images.formats import (
    MAX_PIXELS,
    ImageError,
    Pixels,
    check_size,
    pillow_names,
)
from storage.images.room import ROOM
from storage.images.samples import DEEP, from_samples, sixteen_bits, to_8_bits, upright

logger = logging.getLogger(__name__)

JPEGS = ("JPEG", "MPO")
UNDECODABLE = ("decoder error", "could not create decoder object", "unrecognized data stream contents")
"""What Pillow says of damaged pixels, as its messages begin."""
UNDECODED = frozenset({127, 128})
"""What all channels of a JPEG's pixel are that is not there."""
WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
for library in ("tifffile", "imagecodecs", "PIL"):
    logging.getLogger(library).setLevel(logging.CRITICAL)  # of damaged files; what matters is raised
warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged metadata; what matters is raised
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # Pillow's, from half as many on
with suppress(AttributeError, OSError):  # what Pillow's libtiff would print is raised as well
    for handler in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        getattr(ctypes.CDLL(_imaging.__file__), handler)(None)
DEPTH = 32997
"""The tag of a TIFF that says how many slices a volume has."""


@dataclass(frozen=True)
class Loaded:
    """An image that Pillow has decoded; how its file packs a pixel, in Pillow's words, such as "RGB;16B".

    Frames are not counted in a TIFF: see `tiff_pages`.
    """

    image: Image.Image
    packing: str
    frames: int
    notes: tuple[str, ...] = ()


def decode(data: bytes) -> Pixels:
    """The pixels behind `data`, turned upright by their EXIF orientation; ImageError where there are none,
    or none that the memory suffices for.

    Grey, palette and CMYK become RGB, 16 bits become 8, transparency is laid over white.
    """
    data, _ = tiff.image_page(data)
    with ROOM.work():
        if (found := deep.decoded(data)) is not None:
            orientation = metadata.read(data, info_of(found)).orientation
            return np.asarray(_to_rgb(from_samples(upright(to_8_bits(found.samples), orientation))))
        with loaded(data) as image:
            opened = image.image
            ImageOps.exif_transpose(opened, in_place=True)
            return np.asarray(_to_rgb(opened))


def extent(data: bytes) -> Extent | None:
    """What an image says that it becomes; None where only decoding can tell, or tell what is wrong."""
    data, _ = tiff.image_page(data)
    with suppress(ImageError):
        if (frame := jpeg.rare_frame(data)) is not None:
            return frame.extent
        with opened(data) as image:
            return Extent.of(image)
    with suppress(Exception), tifffile.TiffFile(io.BytesIO(data)) as file:  # of kinds that Pillow does not know
        return deep.extent_of(file.pages.first)
    return None


def info_of(found: deep.Deep) -> Mapping[str | tuple[int, int], Any]:
    """What Pillow finds in the head of an image besides pixels; nothing in a TIFF, which `metadata.read` reads."""
    if found.head[:4] in TIFF_HEADS:
        return {}
    with opened(found.head) as image:
        return image.info


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """The image behind `data`, known not to be a bomb, and not decoded yet; what fails inside is an ImageError."""
    with _refusing(data), Image.open(io.BytesIO(data), formats=pillow_names()) as image:
        check_size(*image.size)
        if image.format in JPEGS:
            jpeg.check_scans(data)
        if (slices := getattr(image, "tag_v2", {}).get(DEPTH, 1)) != 1:  # Pillow would put them over each other
            raise ImageError(f"a TIFF volume of {slices} slices, which is not read; save each slice as an image")
        yield image


@contextmanager
def loaded(data: bytes) -> Iterator[Loaded]:
    """The image behind `data` decoded by Pillow; what fails inside is an ImageError."""
    with _refusing(data):
        try:
            if jpeg.ends_in_nothing(data):
                raise ImageError("broken image: cut off")
            image = _decoded(data)
        except ImageError:
            if not data.startswith(jpeg.START) or not jpeg.lacks_only_its_end(data):
                raise
            image = replace(_decoded(data + jpeg.END), notes=(jpeg.NO_END,))
        else:
            image = replace(image, notes=_notes_on_end(data, image.image))
        yield image


def _notes_on_end(data: bytes, image: Image.Image) -> tuple[str, ...]:
    """What is missing at the end of an image that could be decoded; ImageError for a JPEG that lacks pixels there.

    To know takes long, so that the grey of what is not there is looked for first.
    """
    if png.lacks_its_end(data):
        return (jpeg.NO_END,)
    if not data.startswith(jpeg.START):
        return ()
    corner = np.asarray(image.crop((image.width - 1, image.height - 1, image.width, image.height)))
    if set(corner.flat) <= UNDECODED and jpeg.ends_early(data):
        raise ImageError("broken image: cut off")
    return (jpeg.NOT_ALL_SCANS,) if jpeg.lacks_scans(data) else ()


def _decoded(data: bytes) -> Loaded:
    with opened(data) as image:
        ROOM.claim(Extent.of(image).decoding)
        packing = str(image.tile[0][3]) if isinstance(image, ImageFile.ImageFile) and image.tile else ""
        if image.format in JPEGS and jpeg.lacks_scans(data) and jpeg.ends_early(data):
            raise ImageError("broken image: cut off")
        frames = 1 if image.format == "TIFF" else getattr(image, "n_frames", 1)
        image.load()
        return Loaded(_without_blank_alpha(image), packing, frames)


@contextmanager
def _refusing(data: bytes) -> Iterator[None]:
    """Whatever decoding `data` raises becomes an ImageError of one line."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise ImageError(unsupported.described(data)) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # Pillow's decoders raise anything, from SyntaxError to struct.error
        logger.debug("an image of %d bytes cannot be decoded", len(data), exc_info=error)
        raise ImageError(f"broken image: {_in_plain_words(error, data)}") from error


def _in_plain_words(error: Exception, data: bytes) -> str:
    """What Pillow's words mean, in a line."""
    said = " ".join(str(error).split()) or type(error).__name__
    is_short = data.startswith(b"RIFF") and int.from_bytes(data[4:8], "little") + 8 > len(data)
    if is_short or said.startswith("image file is truncated") or said.endswith("input stream too small"):
        return "cut off"
    return "its pixels cannot be decoded" if said.startswith(UNDECODABLE) else said


def encode_png(pixels: Pixels) -> bytes:
    """`pixels` as PNG, the same bytes for the same pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def resize_square(pixels: Pixels, size: int) -> Pixels:
    """The centre square reduced to `size` by Pillow's bicubic; ImageError where the image is smaller than that."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    if side < size:
        raise ImageError(f"{width}×{height} is smaller than the size {size}")
    left, top = (width - side) // 2, (height - side) // 2
    square = Image.fromarray(pixels).crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.BICUBIC) if side != size else square)


def resize_shorter(pixels: Pixels, size: int) -> Pixels:
    """The whole image, by Pillow's bicubic, with `size` pixels on its shorter side."""
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    target = (max(size, round(width * size / shorter)), max(size, round(height * size / shorter)))
    return np.asarray(Image.fromarray(pixels).resize(target, Image.Resampling.BICUBIC))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(DEEP):
        return Image.fromarray(to_8_bits(sixteen_bits(image))).convert("RGB")
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        upper = image if image.mode == "RGBA" else image.convert("RGBA")
        paper = Image.new("RGB", upper.size, "white")
        paper.paste(upper, mask=upper)
        return paper
    return image if image.mode == "RGB" else image.convert("RGB")


def _without_blank_alpha(image: Image.Image) -> Image.Image:
    """A BMP whose alpha is zero everywhere has none: many programs leave the fourth byte at that."""
    if image.format == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getbbox():
        opaque = image.convert("RGB")
        opaque.format, opaque.info = image.format, image.info
        return opaque
    return image
