"""What of an image does not show in its 8-bit RGB pixels, so that two images can be told to be of unlike kinds."""

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from storage.images import decode, deep, formats, metadata, tiff
from storage.images.deep import Deep
from storage.images.extents import Extent
from storage.images.formats import ImageError
from storage.images.probe import ORIENTATION, PNG, TURNING, TURNING_TEXTS
from storage.images.room import ROOM

UPRIGHT = 1
TIFF_DEPTHS, PNG_DEPTH = 258, 24
RGB, WITH_ALPHA, GREY_DIMENSIONS = 3, (2, 4), 2
BITS, OPAQUE, DEEP = 8, 255, ("I", "F")
COLOURS = {"1": "grey", "L": "grey", "LA": "grey", "La": "grey", "CMYK": "CMYK", "LAB": "CIELAB"}
SRGB = ""
"""The colour profile that an image without one is shown by."""


@dataclass(frozen=True)
class Kind:
    """depth: bits a sample, 8 where there are fewer. colours: grey, RGB, … is_transparent: in any pixel.

    orientation: of EXIF. has_frames: whether there are several frames or pages. profile: what the colour profile says
    it is, or SRGB.
    """

    depth: int = 8
    colours: str = "RGB"
    is_transparent: bool = False
    orientation: int = UPRIGHT
    has_frames: bool = False
    profile: str = SRGB

    @classmethod
    def of(cls, data: bytes) -> "Kind":
        """The kind of an image that `images.decode` decodes; where that cannot be told, it is an ordinary one."""
        data, others = tiff.image_page(data)
        has_frames = bool({*others} - {tiff.MASK_LEFT_OUT})
        with suppress(ImageError), ROOM.work():
            if (found := deep.decoded(data)) is not None:
                return replace(_of_deep(data, found), has_frames=has_frames)
            with decode.opened(data) as image:
                return cls(
                    depth=_depth(image, data),
                    colours=COLOURS.get(image.mode, "grey" if image.mode.startswith(DEEP) else "RGB"),
                    is_transparent=_is_transparent(image),
                    orientation=_orientation(image, data),
                    has_frames=has_frames or (image.format in _animated() and getattr(image, "is_animated", False)),
                    profile=_profile(image.info.get("icc_profile")),
                )
        return cls()


def unlike(one: Kind, other: Kind, name: str) -> Iterator[str]:
    """Why a comparison of SR, the other, with the image called `name` is one of unlike things, or of parts."""
    if one.is_transparent and other.is_transparent:
        yield "transparency is laid over white, and not compared"
    elif one.is_transparent or other.is_transparent:
        has, lacks = (name, "SR") if one.is_transparent else ("SR", name)
        yield f"{has} is transparent in parts, {lacks} is not: compared over white"
    if one.depth != other.depth:
        yield f"{name} has {one.depth} bits a sample, SR {other.depth}: compared in 8 bits"
    if one.colours != other.colours:
        yield f"{name} is {one.colours}, SR {other.colours}: compared as RGB"
    elif one.profile != other.profile:
        yield f"{name} and SR have different colour profiles: compared as if they had the same"
    if one.orientation != other.orientation:
        yield f"{name} and SR have different EXIF orientations: both are compared upright"
    if one.has_frames or other.has_frames:
        has = "both have" if one.has_frames and other.has_frames else f"{name if one.has_frames else 'SR'} has"
        yield f"{has} several frames or pages: one is compared"


def _animated() -> set[str]:
    """Pillow's names of the formats whose files may have several frames."""
    return {form.pillow for form in formats.FORMATS if form.frames}


def _depth(image: Image.Image, data: bytes) -> int:
    """The bits of a sample; Pillow has no modes for colours of more than 8."""
    if data.startswith(PNG):
        return max(BITS, data[PNG_DEPTH])
    if image.format == "TIFF":
        with suppress(TypeError, ValueError):
            return max(BITS, *getattr(image, "tag_v2", {}).get(TIFF_DEPTHS, ()))
    return 16 if image.mode.startswith(DEEP) else BITS


def _orientation(image: Image.Image, data: bytes) -> int:
    """How an image is turned; a PNG that nothing in turns is not decoded for what may come after its pixels."""
    if data.startswith(PNG) and not any(word in data for word in (TURNING, *TURNING_TEXTS)):
        return UPRIGHT
    return image.getexif().get(ORIENTATION, UPRIGHT) or UPRIGHT


def _is_transparent(image: Image.Image) -> bool:
    """Whether anything shows through; an alpha of nothing but zeros is none in a BMP."""
    if not image.has_transparency_data:
        return False
    ROOM.claim(Extent.of(image).decoding)
    lowest, highest = image.convert("RGBA").getchannel("A").getextrema()
    return lowest != OPAQUE and not (image.format == "BMP" and highest == 0)


def _profile(icc: bytes | None) -> str:
    """What a colour profile says it is; what is no profile counts as none."""
    if not icc:
        return SRGB
    with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
        name = _described(icc)
        return SRGB if name.lower().startswith("srgb") else name
    return SRGB


@lru_cache(maxsize=16)
def _described(icc: bytes) -> str:
    return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc))).strip()


def _of_deep(data: bytes, found: Deep) -> Kind:
    """The kind of an image that Pillow cannot hold or does not know."""
    channels = found.samples.shape[2] if found.samples.ndim == GREY_DIMENSIONS + 1 else 1
    alpha = found.samples[..., -1] if channels in WITH_ALPHA else None
    read = metadata.read(data, decode.info_of(found))
    return Kind(
        depth=max(BITS, found.bits),
        colours="RGB" if channels >= RGB else "grey",
        is_transparent=alpha is not None and bool(alpha.min() < np.iinfo(alpha.dtype).max),
        orientation=read.orientation,
        profile=_profile(read.carried.icc),
    )
