"""The holes of images: read from masks, or the pixels of an image that are transparent."""

import hashlib
from dataclasses import dataclass, field, replace
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from dtls.inference.method import Method
from flows.inputs.selection import check_absent
from flows.transform.grey import without_colour
from flows.transform.loaded import FetchedMask
from storage.archives.source import Single, Source
from storage.images import decode
from storage.images.formats import ImageError
from storage.images.photo import Photo, open_photo
from storage.stores.location import Entry

Hole = NDArray[np.bool_]
"""(H, W), true where pixels are missing."""


@dataclass
class MaskReader:
    """Fetches the masks of a source; the one mask of all images is kept."""

    source: Source
    _lock: Lock = field(default_factory=Lock)
    _last: FetchedMask | None = None

    def fetch(self, entry: Entry) -> FetchedMask:
        """The bytes of a mask; StorageError, with the reason, where there is none."""
        check_absent(entry)
        if not isinstance(self.source, Single):
            return self._fetched(entry)
        with self._lock:
            if self._last is None or self._last.entry != entry:
                self._last = self._fetched(entry)
            return self._last

    def _fetched(self, entry: Entry) -> FetchedMask:
        data = self.source.fetch(entry)
        return FetchedMask(entry, data, hashlib.sha256(data).hexdigest())


def as_taken(photograph: Photo, method: Method, mask: FetchedMask | None) -> tuple[Photo, Hole | None]:
    """A photograph as a method takes it, and its hole, if the method wants to know it; ImageError says why not.

    mask: the file that says where the hole is; without one, what is transparent is.
    """
    if method.grey_only:
        photograph = without_colour(photograph)
    if not method.needs_mask:
        return photograph, None
    if mask is None:
        return without_transparency(photograph)
    return photograph, hole_in(mask, photograph.pixels.shape[:2])


def hole_in(mask: FetchedMask, size: tuple[int, int]) -> Hole:
    """The hole that a mask says an image of `size` (H, W) has: what is white there, at least half, and opaque.

    ImageError for a mask of another size, which is not unpacked then, and for one that masks nothing, or all.
    """
    name = mask.entry.key
    if (extent := decode.extent(mask.data)) is not None and sorted(extent.size) != sorted(size):
        raise _unequal(name, extent.size, size)
    try:
        photograph = open_photo(mask.data)
    except ImageError as error:
        raise ImageError(f"its mask {name}: {error}") from error
    height, width = photograph.pixels.shape[:2]
    if (height, width) != size:
        raise _unequal(name, (height, width), size)
    hole = _lightness(photograph) >= 0.5
    if not hole.any():
        raise ImageError(f"its mask {name} masks nothing: no pixel is white; white is what is filled")
    if hole.all():
        raise ImageError(f"its mask {name} masks all of the image, so that nothing is known of it")
    return hole


def without_transparency(photograph: Photo) -> tuple[Photo, Hole]:
    """A photograph whose wholly transparent pixels are opaque, and the hole that they were.

    ImageError where no pixel is transparent, or all are.
    """
    alpha = photograph.alpha
    hole = np.zeros(photograph.pixels.shape[:2], np.bool_) if alpha is None else alpha == 0
    if alpha is None or not hole.any():
        raise ImageError(
            "no pixel is transparent, so that there is nothing to fill; --masks says where the holes are"
        )
    if hole.all():
        raise ImageError("all of the image is transparent, so that nothing is known of it")
    filled = alpha.copy()
    filled[hole] = np.iinfo(alpha.dtype).max
    return replace(photograph, alpha=None if int(filled.min()) == np.iinfo(alpha.dtype).max else filled), hole


def _unequal(name: str, found: tuple[int, int], size: tuple[int, int]) -> ImageError:
    """What is wrong with a mask of another size (H, W) than the image's."""
    return ImageError(
        f"its mask {name} has {found[1]}×{found[0]} pixels, and the image {size[1]}×{size[0]}; make them equal"
    )


def _lightness(photograph: Photo) -> NDArray[np.float32]:
    """The mean of the channels, in [0, 1]; what is transparent is black."""
    largest = np.iinfo(photograph.pixels.dtype).max
    light = photograph.pixels.mean(axis=2, dtype=np.float32) / largest
    return light if photograph.alpha is None else light * (photograph.alpha.astype(np.float32) / largest)
