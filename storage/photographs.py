"""Photographs: bytes to pixels with all they carry, in the depth and channels they have, upright.

What training and reports want is less, 8-bit RGB: `images.decode`. What cannot be kept is noted, for people to read.
"""

import io
from dataclasses import dataclass, replace
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile

from storage import images, metadata
from storage.metadata import Carried

Samples = NDArray[np.uint8] | NDArray[np.uint16]

SIXTEEN_BITS_BECAME_8 = "16 bits became 8"
PLAIN_GAMMA, ALIKE = 0.45455, 0.01
IPTC, EXTENDED_XMP = 0x0404, b"http://ns.adobe.com/xmp/extension/\0"
IPTC_TEXT = "Raw profile type iptc"
NO_LOST_TEXTS = frozenset({"XML:com.adobe.xmp", "Raw profile type exif", IPTC_TEXT})
"""A PNG's texts that are carried, or have a note of their own."""


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
    if (deep := images.deep_tiff(data)) is not None:
        samples, frames = deep
        carried, orientation = metadata.read(data, {})
        return _photograph(*_split(samples), carried, orientation, "TIFF", _frame_notes(frames))
    with images.opened(data) as image:
        packing = _packing(image)
        notes = _frame_notes(getattr(image, "n_frames", 1))
        image.load()
        carried, orientation = metadata.read(data, image.info)
        notes += _left_out(image)
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
        images.upright(pixels, orientation),
        None if alpha is None else images.upright(alpha, orientation),
        replace(carried, icc=icc),
        kind,
        notes,
    )


def _samples(image: Image.Image, icc: bytes | None) -> Samples:
    """The decoded samples of a Pillow image, (H, W) or (H, W, 2 … 4)."""
    if image.mode.startswith(images.DEEP):
        return images.sixteen_bits(image)
    if image.mode == "CMYK" and (profile := metadata.fitting(icc, b"CMYK")) and (seen := to_srgb(image, profile)):
        return np.asarray(seen)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return np.asarray(ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB"))
    is_grey = image.mode in ("1", "L", "LA", "La")
    if image.mode in images.WITH_ALPHA or "transparency" in image.info:
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


def _packing(image: Image.Image) -> str:
    """How the file packs a pixel, in Pillow's words, such as "RGB;16B"."""
    return str(image.tile[0][3]) if isinstance(image, ImageFile.ImageFile) and image.tile else ""


def _frame_notes(count: int) -> tuple[str, ...]:
    return (f"the first of {count:,} frames",) if count > 1 else ()


def _left_out(image: Image.Image) -> tuple[str, ...]:
    """What a loaded picture has besides what is carried. (The IPTC of a TIFF goes with its EXIF.)"""
    texts = {name for name, value in image.info.items() if isinstance(value, str)}
    info = {name: value for name, value in image.info.items() if name not in texts}
    gamma = info.get("gamma", PLAIN_GAMMA)
    found = {
        "IPTC left out": IPTC in info.get("photoshop", ()) or IPTC_TEXT in texts,
        "extended XMP left out": any(body.startswith(EXTENDED_XMP) for _, body in getattr(image, "applist", ())),
        "text left out": image.format == "PNG" and not texts <= NO_LOST_TEXTS,
        "comment left out": bool(info.get("comment", b"").strip(b"\0 \r\n")),
        f"gamma of {gamma:g} left out": abs(gamma - PLAIN_GAMMA) > ALIKE
        and not info.keys() & {"icc_profile", "srgb"},
    }
    return tuple(note for note, applies in found.items() if applies)
