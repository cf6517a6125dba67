"""Images that Pillow cannot hold or does not know: TIFFs of 16 and of odd bits, and the rare kinds of JPEG."""

import io
from dataclasses import dataclass

import imagecodecs
import numpy as np
import tifffile

from storage.images import jpeg
from storage.images.exif import TIFF_HEADS
from storage.images.extents import Extent
from storage.images.formats import MAX_PIXELS, ImageError, check_size
from storage.images.room import ROOM
from storage.images.samples import Samples, full_range, straight

ODD_BITS = frozenset({*range(2, 8), *range(9, 16)})
UNASSOCIATED, ASSOCIATED, UNSPECIFIED = 2, 1, 0
WHITE_IS_ZERO, GREY_OR_RGB, RGB = 0, (0, 1, 2), 2
SEPARATE, UNCOMPRESSED = 2, 1


@dataclass(frozen=True)
class Deep:
    """Decoded samples, uint8 or uint16, (H, W) or (H, W, 1 … 4): black is zero, alpha is last and straight.

    They are not turned upright yet. `bits` is how many a sample had. `head` is a file that Pillow reads as far as
    metadata goes.
    """

    samples: Samples
    bits: int
    head: bytes
    notes: tuple[str, ...] = ()


def decoded(data: bytes) -> Deep | None:
    """What is to be decoded here; None for all else, which is Pillow's to say, as is what is wrong with it."""
    if data[:4] in TIFF_HEADS:
        return _of_tiff(data)
    if (frame := jpeg.rare_frame(data)) is None:
        return None
    samples, notes = jpeg.decoded(data, frame)
    return Deep(full_range(samples, frame.bits), frame.bits, frame.as_baseline(data), notes)


def _of_tiff(data: bytes) -> Deep | None:
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            if not _is_deep(page):
                return None
            check_size(page.imagewidth, page.imagelength)
            ROOM.claim(extent_of(page).decoding)
            return Deep(_samples(data, page), int(page.bitspersample), data)
    except (ImageError, MemoryError):
        raise
    except Exception:  # whatever tifffile and libtiff make of damaged files
        return None


def extent_of(page: tifffile.TiffPage) -> Extent:
    """What a page of a TIFF becomes; a few bytes may stand for a tile that is larger than the image."""
    channels = min(int(page.samplesperpixel), (3 if page.photometric == RGB else 1) + 1)
    return Extent.of_deep(page.imagelength, page.imagewidth, channels, page.tilewidth * page.tilelength)


def _is_deep(page: tifffile.TiffPage) -> bool:
    colours = 3 if page.photometric == RGB else 1
    return (
        (page.bitspersample == 16 or page.bitspersample in ODD_BITS)
        and page.sampleformat == 1
        and page.photometric in GREY_OR_RGB
        and colours <= page.samplesperpixel <= colours + 4
        and page.imagedepth == 1
        and page.tilewidth * page.tilelength <= MAX_PIXELS
    )


def _samples(data: bytes, page: tifffile.TiffPage) -> Samples:
    bits = int(page.bitspersample)
    if bits == 16:
        samples = imagecodecs.tiff_decode(data, index=0)
    else:
        _check_half(data, page)
        samples = page.asarray(maxworkers=1)
    if samples.ndim == 3 and page.planarconfig == SEPARATE:
        samples = np.moveaxis(samples, 0, -1)
    samples = samples.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)
    colours = 3 if page.photometric == RGB else 1
    kind = int(page.extrasamples[0]) if page.extrasamples else UNASSOCIATED
    samples = full_range(np.ascontiguousarray(samples[..., : colours + (kind != UNSPECIFIED)]), bits)
    if page.photometric == WHITE_IS_ZERO:
        np.subtract(np.iinfo(samples.dtype).max, samples[..., :1], out=samples[..., :1])
    return straight(samples, colours) if kind == ASSOCIATED and samples.shape[2] > colours else samples


def _check_half(data: bytes, page: tifffile.TiffPage) -> None:
    """ImageError where strips or tiles are missing, which tifffile would leave black."""
    wanted = -(-page.imagewidth * page.samplesperpixel * int(page.bitspersample) // 8) * page.imagelength
    stored = sum(page.databytecounts)
    ends = (at + size for at, size in zip(page.dataoffsets, page.databytecounts, strict=True))
    if (
        not all(page.databytecounts)
        or max(ends) > len(data)
        or (page.compression == UNCOMPRESSED and stored < wanted)
    ):
        raise ImageError("broken image: cut off")
