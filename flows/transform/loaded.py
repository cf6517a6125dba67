"""An image on its way through a run: as it was fetched, as it was loaded, or as the row of its failure."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from dtls.errors import DtlsError
from storage.images import metadata
from storage.images.formats import ImageError
from storage.images.photo import Photo, Samples
from storage.receipts.units import Row, SkippedError, failed, skipped
from storage.stores.errands import in_hand
from storage.stores.location import Entry, StorageError, UnavailableError

logger = logging.getLogger(__name__)

SizeOf = Callable[[tuple[int, int]], tuple[int, int]]
"""From the (height, width) of an image to that of its result; SizeError or SkippedError where there is none."""
T = TypeVar("T")


PROFILES = {1: b"GRAY", 3: b"RGB "}
"""The colour spaces of the profiles that images of so many channels can have."""


@dataclass(frozen=True)
class FetchedMask:
    """The bytes of a mask, under the name that it was listed by."""

    entry: Entry
    data: bytes
    sha256: str


@dataclass(frozen=True)
class Fetched:
    """The bytes of an image, how many of memory it and its result will take, and the seconds that reading took.

    mask: of its holes, where a file says where they are.
    """

    entry: Entry
    data: bytes
    sha256: str
    needed: int
    seconds: float
    mask: FetchedMask | None = None


@dataclass(frozen=True)
class LoadedImage:
    """An image on its way, with the seconds spent on it so far. own: its bytes, where its result is itself.

    needed: the bytes of memory that it and its result take at their peak. hole: (H, W), which pixels a method is to
    fill; None for methods that fill none. mask: the file that said so, if one did.
    """

    entry: Entry
    photograph: Photo
    sha256: str
    needed: int
    read_seconds: float
    compute_seconds: float = 0.0
    own: bytes | None = None
    hole: NDArray[np.bool_] | None = None
    mask: FetchedMask | None = None

    @property
    def kind(self) -> tuple[object, ...]:
        """What images of one batch have in common."""
        pixels = self.photograph.pixels
        return (pixels.shape, pixels.dtype, self.photograph.alpha is None)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.photograph.pixels.shape[:2]
        return height, width

    def become(self, pixels: Samples, alpha: Samples | None, seconds: float) -> "LoadedImage":
        """The result of this image, and the seconds that computing it took.

        A colour profile goes where the channels have become others.
        """
        photograph = self.photograph
        icc = metadata.fitting(photograph.carried.icc, PROFILES[pixels.shape[2]])
        notes = photograph.notes
        if icc != photograph.carried.icc:
            notes += (f"colour profile left out, as the result is {'grey' if pixels.shape[2] == 1 else 'in colour'}",)
        carried = replace(photograph.carried, icc=icc)
        made = replace(photograph, pixels=pixels, alpha=alpha, carried=carried, notes=notes)
        return replace(self, photograph=made, compute_seconds=seconds)


def weight_of(item: LoadedImage | Fetched | Row) -> int:
    """The bytes of memory that something on its way takes."""
    return item.needed if isinstance(item, LoadedImage | Fetched) else 0


def is_unmade(item: LoadedImage | Fetched | Row) -> TypeGuard[LoadedImage]:
    """Whether this is an image that has yet to go through the method."""
    return isinstance(item, LoadedImage) and item.own is None


def tried(entry: Entry, do: Callable[[], T]) -> T | Row:
    """What `do` returns, or the row of a sample whose own fault it is that it does not."""
    try:
        with in_hand(entry.key):
            return do()
    except UnavailableError:
        raise
    except SkippedError as error:
        return skipped(entry, error)
    except (ImageError, StorageError) as error:
        return failed(entry, error)
    except Exception as error:  # one image never stops the rest, whatever libraries make of it
        return failed(entry, reason_of(entry, error))


def reason_of(entry: Entry, error: Exception) -> str:
    """Why an image failed. Of an unexpected error, its class and first line; the log has its traceback."""
    if isinstance(error, DtlsError):
        return str(error)
    if isinstance(error, MemoryError):
        return "not enough memory"
    logger.debug("%s failed", entry.key, exc_info=error)
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
