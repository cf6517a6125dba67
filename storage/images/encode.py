"""Photographs back to bytes: as PNG, JPEG, WebP or TIFF, with all they carry, the same bytes every time."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from storage.images import png
from storage.images.exif import (
    BYTE,
    HEAD,
    PROCESSING_SOFTWARE,
    RESOLUTION_UNIT,
    SOFTWARE,
    X_RESOLUTION,
    XMP,
    Y_RESOLUTION,
    Exif,
    ExifEntry,
)
from storage.images.formats import FORMATS, Format, ImageError, Pixels, by_suffix
from storage.images.metadata import Carried
from storage.images.photo import Photo, bits_became_8, to_srgb
from storage.images.png import chunk
from storage.images.samples import Samples, bands, from_samples, to_8_bits

JFIF = b"JFIF\0\1\1"
JPEG_EXIF, JPEG_XMP, JPEG_ICC = 65_527, 65_504, 255 * 65_519
PNG_LEVEL = 4
"""Of zlib; on photographs level 6 takes twice the time for 2 % less, level 1 saves a third for 13 % more."""
BITS, WHITE = 8, 255
STRIP_BYTES, STRIPS = 1 << 18, 273
Written = tuple[bytes, tuple[str, ...]]
"""A file, and what of the metadata it could not hold."""


@dataclass(frozen=True)
class Encoded:
    """A file's bytes, and what its format could not hold, for people to read."""

    data: bytes
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Encoding:
    """How results are stored: `format`, and the `quality` of JPEG and WebP, 1 … 100."""

    format: Format = "png"
    quality: int = 95

    @property
    def identity(self) -> dict[str, object]:
        """What makes results differ: "format", and "quality" where the format has one."""
        is_lossless = any(form.lossless for form in FORMATS if form.name == self.format)
        return {"format": self.format, **({} if is_lossless else {"quality": self.quality})}

    def suffix(self, key: str) -> str:
        """The suffix of the result of this key's source; with "same" the source's own, or .png for GIF and BMP."""
        if self.format != "same":
            return next(form.suffixes[0] for form in FORMATS if form.name == self.format)
        own = key[key.rfind(".") :] if "." in key else ""
        form = by_suffix().get(own.lower())
        return own if form is not None and form.name in ENCODERS else ".png"

    def is_of(self, photograph: Photo, suffix: str) -> bool:
        """Whether the file that a photograph was in is of the format that is wanted."""
        return self.format == "same" and by_suffix()[suffix.lower()].pillow == photograph.format

    def encode(self, photograph: Photo, suffix: str, stamp: str | None) -> Encoded:
        """`photograph`, whose pixels are the result's and whose `carried` is the source's, as `suffix` says.

        Sizes in the metadata are corrected, and `stamp` goes into EXIF's ProcessingSoftware; in a TIFF into Software,
        as libtiff warns of the other. ImageError where the image is too large for the format.
        """
        form = by_suffix()[suffix.lower()]
        height, width = photograph.pixels.shape[:2]
        if form.max_side is not None and max(height, width) > form.max_side:
            raise ImageError(
                f"{width}×{height} is more than the {form.max_side:,} pixels a side of {form.name}: take png or tiff"
            )
        tag = SOFTWARE if form.name == "tiff" else PROCESSING_SOFTWARE
        carried = photograph.carried.into(width, height, stamp, tag)
        pixels, alpha, notes = photograph.pixels, photograph.alpha, carried.notes
        if "colour" not in form.metadata:
            notes += png.lost(carried.colour, has_profile=carried.icc is not None)
        if form.bits == BITS:
            notes += () if pixels.dtype == np.uint8 else (bits_became_8(photograph.bits),)
            pixels, alpha = to_8_bits(pixels), None if alpha is None else to_8_bits(alpha)
        if alpha is not None and not form.alpha:
            pixels, alpha = _over_white(to_8_bits(pixels), to_8_bits(alpha)), None
            notes += (f"transparency laid over white, as {form.pillow} has none",)
        data, more = ENCODERS[form.name](pixels, alpha, carried, self.quality)
        return Encoded(data, notes + more)


def _jpeg(pixels: Samples, _: Samples | None, carried: Carried, quality: int) -> Written:
    options: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    if len(carried.exif or b"") > JPEG_EXIF:
        exif = Exif.parse(carried.exif or b"")
        if exif.drop_note():
            carried = replace(carried, exif=exif.tobytes())
            notes += (f"maker's note left out, as JPEG holds {JPEG_EXIF:,} bytes of EXIF",)
    for name, value, most in (
        ("icc_profile", carried.icc, JPEG_ICC),
        ("exif", carried.exif, JPEG_EXIF),
        ("xmp", carried.xmp, JPEG_XMP),
    ):
        if value and len(value) > most:
            notes += (f"{name.partition('_')[0].upper()} of {len(value):,} bytes left out, as JPEG holds {most:,}",)
        elif value:
            options[name] = b"Exif\0\0" + value if name == "exif" else value
    if carried.dpi:
        options["dpi"] = tuple(min(round(x), 65_535) for x in carried.dpi)
    data = _saved(from_samples(to_8_bits(pixels)), "JPEG", quality=quality, subsampling=0, **options)
    return data if carried.aspect is None else _with_aspect(data, carried.aspect), notes


def _with_aspect(jpeg: bytes, aspect: tuple[int, int]) -> bytes:
    """A JPEG whose JFIF header says the shape of a pixel, which Pillow's `save` has no option for."""
    at = jpeg.index(JFIF) + len(JFIF)
    return jpeg[:at] + struct.pack(">BHH", 0, *aspect) + jpeg[at + 5 :]


def _webp(pixels: Samples, alpha: Samples | None, carried: Carried, quality: int) -> Written:
    image = from_samples(to_8_bits(pixels))
    notes: tuple[str, ...] = ()
    if carried.aspect:
        notes += ("pixels that are no squares, {}:{}, left out, as WebP has none".format(*carried.aspect),)
    if image.mode == "L":
        seen = to_srgb(image, carried.icc) if carried.icc else None
        image, carried = seen or image.convert("RGB"), replace(carried, icc=None)
    if alpha is not None:
        image.putalpha(from_samples(to_8_bits(alpha)))
    carries = {"icc_profile": carried.icc, "exif": carried.exif, "xmp": carried.xmp}
    options = {name: value for name, value in carries.items() if value}
    return _saved(image, "WEBP", quality=quality, exact=True, **options), notes


def _png(pixels: Samples, alpha: Samples | None, carried: Carried, _: int) -> Written:
    if pixels.dtype == np.uint16:
        data = bytes(imagecodecs.png_encode(_joined(pixels, alpha), level=PNG_LEVEL))
    else:
        data = _saved(from_samples(_joined(pixels, alpha)), "PNG", compress_level=PNG_LEVEL)
    chunks = b"".join(chunk(kind, body) for kind, body in carried.colour)
    if carried.icc:
        chunks += chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(carried.icc))
    if carried.dpi:
        chunks += chunk(b"pHYs", struct.pack(">IIB", *(round(x / 0.0254) for x in carried.dpi), 1))
    if carried.aspect:
        chunks += chunk(b"pHYs", struct.pack(">IIB", *carried.aspect, 0))
    if carried.exif:
        chunks += chunk(b"eXIf", carried.exif)
    if carried.xmp:
        chunks += chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + carried.xmp)
    behind_header = 8 + 12 + 13
    return b"".join((data[:behind_header], chunks, data[behind_header:])), ()


def _tiff(pixels: Samples, alpha: Samples | None, carried: Carried, _: int) -> Written:
    """One page, deflated in strips. Its directory, with EXIF's tags among its own, stands at the end of the file."""
    exif = Exif.parse(carried.exif or b"")
    samples, buffer = _joined(pixels, alpha), io.BytesIO()
    with tifffile.TiffWriter(buffer, byteorder=exif.order) as writer:
        writer.write(
            samples,
            photometric="minisblack" if pixels.shape[2] == 1 else "rgb",
            planarconfig=None if samples.ndim == 2 else "contig",
            extrasamples=None if alpha is None else ["unassalpha"],
            compression="adobe_deflate",
            predictor=True,
            rowsperstrip=max(1, STRIP_BYTES // samples[0].nbytes),
            iccprofile=carried.icc,
            software=False,
            metadata=None,
            maxworkers=1,
        )
    data = buffer.getvalue()
    stored = Exif.parse(data, without=frozenset({X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT}))
    exif.image |= stored.image
    if carried.aspect:
        exif.set_resolution(*carried.aspect, unit=1)
    if carried.xmp:
        exif.image[XMP] = ExifEntry(BYTE, len(carried.xmp), carried.xmp)
    if exif.note_at is not None:
        return _behind_its_directory(data, exif), ()
    padding = bytes(len(data) % 2)
    place = len(data) + len(padding)
    return b"".join((data[:4], struct.pack(exif.order + "I", place), data[8:], padding, exif.placed(place))), ()


def _behind_its_directory(data: bytes, exif: Exif) -> bytes:
    """A TIFF whose directory comes before its strips, so that a maker's note can keep its place."""
    strips = exif.numbers(exif.image[STRIPS], most=exif.image[STRIPS].values)
    exif.image[STRIPS] = exif.long(*strips)
    shift = len(exif.tobytes()) - HEAD
    exif.image[STRIPS] = exif.long(*(at + shift for at in strips))
    return exif.tobytes() + data[HEAD:]


ENCODERS: dict[str, Callable[[Samples, Samples | None, Carried, int], Written]] = {
    "png": _png,
    "jpeg": _jpeg,
    "webp": _webp,
    "tiff": _tiff,
}
"""By the name of a format, from pixels, alpha, metadata and quality to a file and what it could not hold."""


def _over_white(pixels: Pixels, alpha: Pixels) -> Pixels:
    result = np.empty_like(pixels)
    for rows in bands(len(pixels)):
        opaque = alpha[rows, :, None].astype(np.uint16)
        result[rows] = (pixels[rows] * opaque + WHITE * (WHITE - opaque) + WHITE // 2) // WHITE
    return result


def _joined(pixels: Any, alpha: Any) -> NDArray[Any]:
    """Pixels and alpha in one array, (H, W) or (H, W, 2 … 4), whose rows are contiguous."""
    if alpha is not None:
        return np.ascontiguousarray(np.concatenate((pixels, alpha[..., None]), axis=2))
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
