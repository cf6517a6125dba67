"""Photographs: bytes to pixels with all they carry, in the depth and channels they have, upright.

What training and reports want is less, 8-bit RGB: `images.decode`. What cannot be kept is noted, for people to read.
"""

import io
from dataclasses import dataclass, replace
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image, ImageCms

from storage.images import decode, deep, metadata, png, tiff
from storage.images.deep import Deep
from storage.images.exif import TIFF_HEADS
from storage.images.left_out import notes_on
from storage.images.metadata import Carried
from storage.images.room import ROOM
from storage.images.samples import DEEP, Samples, sixteen_bits, upright

__all__ = ["Photo", "Samples", "bits_became_8", "open_photo", "to_srgb"]


@dataclass(frozen=True)
class Photo:
    """An image and what it carries.

    `pixels` are uint8 or uint16, (H, W, 1) for grey and (H, W, 3) for RGB, upright. `alpha` is (H, W) of the same
    type, straight (colours are not multiplied by it), or None where every pixel is opaque. `format` is Pillow's name
    of what the image was. `notes` say what was not kept. `bits` are those of a sample, where they are more than 8.
    """

    pixels: Samples
    alpha: Samples | None
    carried: Carried
    format: str
    notes: tuple[str, ...]
    bits: int = 16


def open_photo(data: bytes) -> Photo:
    """The photograph behind `data`; ImageError where there is none, or none that the memory suffices for.

    Of several frames the first counts. CMYK becomes sRGB through its profile, LAB and YCbCr become RGB; 16 bits stay
    where they can be decoded.
    """
    with ROOM.work():
        return _opened(data)


def _opened(data: bytes) -> Photo:
    first = data
    data, notes = tiff.image_page(data)
    if (found := deep.decoded(data)) is not None:
        return _of_deep(found, first, notes)
    with decode.loaded(data) as image:
        opened, packing = image.image, image.packing
        carried, orientation = metadata.read(data, opened.info, first)
        carried = replace(carried, colour=png.colour_chunks(data))
        notes += notes_on(opened, data, image.frames, image.notes + carried.notes)
        if opened.format == "TIFF":
            orientation = 1  # Pillow has turned these while it loaded them
        if opened.format == "PNG" and packing.endswith(";16B"):
            pixels, alpha = _split(imagecodecs.png_decode(data))
        else:
            if ";16" in packing and not opened.mode.startswith("I"):
                notes += (bits_became_8(16),)
            if opened.mode in ("CMYK", "LAB"):
                notes += (f"{opened.mode} became RGB",)
            pixels, alpha = _split(_decoded(opened, carried.icc))
        kind = "JPEG" if opened.format == "MPO" else str(opened.format)
        return _photograph(Photo(pixels, alpha, carried, kind, notes), orientation)


def bits_became_8(bits: int) -> str:
    """The note on samples of more bits than a result has."""
    return f"{bits} bits became 8"


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


def _of_deep(found: Deep, first: bytes, notes: tuple[str, ...]) -> Photo:
    is_tiff = found.head[:4] in TIFF_HEADS
    carried, orientation = metadata.read(found.head, decode.info_of(found), first)
    known = found.notes + carried.notes
    if is_tiff:
        notes += known
    else:
        with decode.opened(found.head) as image:
            notes = notes_on(image, found.head, 1, known)
    pixels, alpha = _split(found.samples)
    bits = found.bits if found.samples.dtype == np.uint16 else 16
    return _photograph(Photo(pixels, alpha, carried, "TIFF" if is_tiff else "JPEG", notes, bits), orientation)


def _photograph(found: Photo, orientation: int) -> Photo:
    """The photograph turned upright, without an alpha or a profile that does nothing."""
    alpha = found.alpha
    if alpha is not None and alpha.size and int(alpha.min()) == np.iinfo(alpha.dtype).max:
        alpha = None
    icc = metadata.fitting(found.carried.icc, b"GRAY" if found.pixels.shape[2] == 1 else b"RGB ")
    pixels = upright(found.pixels, orientation)
    carried = replace(found.carried, icc=icc, size=(pixels.shape[1], pixels.shape[0]), notes=())
    return replace(
        found, pixels=pixels, alpha=None if alpha is None else upright(alpha, orientation), carried=carried
    )


def _decoded(image: Image.Image, icc: bytes | None) -> Samples:
    """The decoded samples of a Pillow image, (H, W) or (H, W, 2 … 4)."""
    if image.mode.startswith(DEEP):
        return sixteen_bits(image)
    if image.mode == "CMYK" and (profile := metadata.fitting(icc, b"CMYK")) and (seen := to_srgb(image, profile)):
        return np.asarray(seen)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return np.asarray(ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB"))
    is_grey = image.mode in ("1", "L", "LA", "La")
    if image.mode in decode.WITH_ALPHA or "transparency" in image.info:
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
