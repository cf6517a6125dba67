"""Photographs: bytes to pixels with all they carry, in the depth and channels they have, upright.

What training and reports want is less, 8-bit RGB: `images.decode`. What cannot be kept is noted, for people to read.
"""

import io
import logging
from dataclasses import dataclass, replace
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile

from storage import images, metadata
from storage.images import ROWS, ImageError
from storage.metadata import TIFF_HEADS, Carried

Samples = NDArray[np.uint8] | NDArray[np.uint16]

SIXTEEN_BITS_BECAME_8 = "16 bits became 8"
WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
UNASSOCIATED, ASSOCIATED, UNSPECIFIED = 2, 1, 0
WHITE_IS_ZERO, GREY_OR_RGB = 0, (0, 1, 2)
logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # of damaged tags; what matters is raised


@dataclass(frozen=True)
class Photograph:
    """A picture and what it carries.

    `pixels` are uint8 or uint16, (H, W, 1) for grey and (H, W, 3) for RGB, upright. `alpha` is (H, W) of the same
    type, straight (colours are not multiplied by it), or None where every pixel is opaque. `format` is Pillow's name
    of what the picture was. `notes` say what was not kept.
    """

    pixels: Samples
    alpha: Samples | None
    carried: Carried
    format: str
    notes: tuple[str, ...]


def open_photograph(data: bytes) -> Photograph:
    """The photograph behind `data`; ImageError where there is none. Of several frames the first counts.

    CMYK becomes sRGB through its profile, LAB and YCbCr become RGB; 16 bits stay where they can be decoded.
    """
    if data[:4] in TIFF_HEADS and (deep := _deep_tiff(data)) is not None:
        return deep
    with images.opened(data) as image:
        packing = _packing(image)
        notes = _frame_notes(getattr(image, "n_frames", 1))
        image.load()
        carried, orientation = metadata.read(data, image.info)
        if image.format == "TIFF":
            orientation = 1  # Pillow has turned these while it loaded them
        if image.format == "PNG" and packing.endswith(";16B"):
            pixels, alpha = _split(imagecodecs.png_decode(data))
        else:
            if ";16" in packing and not image.mode.startswith("I"):
                notes += (SIXTEEN_BITS_BECAME_8,)
            if image.mode in ("CMYK", "LAB"):
                notes += (f"{image.mode} became RGB",)
            pixels, alpha = _split(_samples(image, carried.icc))
        kind = "JPEG" if image.format == "MPO" else str(image.format)
        return _photograph(pixels, alpha, carried, orientation, kind, notes)


def to_srgb(image: Image.Image, icc: bytes) -> Image.Image | None:
    """`image` as sRGB, as its profile `icc` means it; None where the profile cannot do that."""
    try:
        return ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(icc)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _photograph(
    pixels: Samples, alpha: Samples | None, carried: Carried, orientation: int, kind: str, notes: tuple[str, ...]
) -> Photograph:
    if alpha is not None and alpha.size and int(alpha.min()) == np.iinfo(alpha.dtype).max:
        alpha = None
    icc = metadata.fitting(carried.icc, b"GRAY" if pixels.shape[2] == 1 else b"RGB ")
    return Photograph(
        _upright(pixels, orientation),
        None if alpha is None else _upright(alpha, orientation),
        replace(carried, icc=icc),
        kind,
        notes,
    )


def _deep_tiff(data: bytes) -> Photograph | None:
    """The photograph in a TIFF of 16 bits, grey or RGB; None where it is no such thing: that is Pillow's to say."""
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            if not _is_deep(page):
                return None
            images.refuse_size(page.imagewidth, page.imagelength)
            notes = _frame_notes(len(file.pages))
            samples = _decoded(data, page)
        carried, orientation = metadata.read(data, {})
        pixels, alpha = _split(samples)
        return _photograph(pixels, alpha, carried, orientation, "TIFF", notes)
    except (ImageError, MemoryError):
        raise
    except Exception:  # whatever tifffile and libtiff make of damaged files
        return None


def _is_deep(page: tifffile.TiffPage) -> bool:
    colours = 3 if page.photometric == 2 else 1
    return (
        page.bitspersample == 16
        and page.sampleformat == 1
        and page.photometric in GREY_OR_RGB
        and colours <= page.samplesperpixel <= colours + 4
        and page.imagedepth == 1
        and page.tilewidth * page.tilelength <= images.MAX_PIXELS
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
        for top in range(0, len(samples), ROWS):
            rows = samples[top : top + ROWS].astype(np.uint64)
            alpha = np.maximum(rows[..., colours:], 1)
            samples[top : top + ROWS, :, :colours] = ((rows[..., :colours] * 65535 + alpha // 2) // alpha).clip(
                0, 65535
            )
    return samples


def _samples(image: Image.Image, icc: bytes | None) -> Samples:
    """The decoded samples of a Pillow image, (H, W) or (H, W, 2 … 4)."""
    if image.mode == "F":
        raise ImageError("pixels are floating-point numbers, whose range is not known")
    if image.mode.startswith("I"):
        return np.asarray(image).clip(0, 65535).astype(np.uint16)
    if image.mode == "CMYK" and (profile := metadata.fitting(icc, b"CMYK")) and (seen := to_srgb(image, profile)):
        return np.asarray(seen)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return np.asarray(ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB"))
    is_grey = image.mode in ("1", "L", "LA", "La")
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        return np.asarray(_converted(image, "LA" if is_grey else "RGBA"))
    return np.asarray(_converted(image, "L" if is_grey else "RGB"))


def _converted(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _split(samples: Any) -> tuple[Samples, Samples | None]:
    """Samples (H, W) or (H, W, 1 … 4) as pixels (H, W, 1) or (H, W, 3) and alpha (H, W)."""
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.shape[2] % 2:
        return samples, None
    return samples[..., :-1], samples[..., -1]


def _upright(samples: Any, orientation: int) -> Any:
    """(H, W) or (H, W, C) turned as the EXIF orientation says, each 2 … 8 in one way only."""
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)


def _packing(image: Image.Image) -> str:
    """How the file packs a pixel, in Pillow's words, such as "RGB;16B"."""
    return str(image.tile[0][3]) if isinstance(image, ImageFile.ImageFile) and image.tile else ""


def _frame_notes(count: int) -> tuple[str, ...]:
    return (f"the first of {count:,} frames",) if count > 1 else ()
