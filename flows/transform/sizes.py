"""The size of a result by that of its image, and what becomes of an image that does not fit.

What becomes of it is no part of the fingerprints of units: it changes these images alone. `again` finds their rows.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

from dtls.degradations.scale import downscale_size
from dtls.errors import SizeError
from storage.receipts.units import COPIED, CROPPED, SKIPPED, Row, SkippedError

Size = tuple[int, int]
"""Height and width."""
Larger = Literal["fail", "skip", "copy"]
Smaller = Literal["fail", "skip"]
TOO_LARGE, TOO_SMALL, ODD = "is larger than the size", "is smaller than one pixel", "is no multiple of the scale"
"""What reasons contain, those of earlier versions, too."""


class Sizing(ABC):
    """From the size of an image to that of its result; SizeError where there is none."""

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What all results depend on, as plain JSON values."""

    @abstractmethod
    def __call__(self, image: Size, /) -> Size: ...

    def part(self, image: Size, /) -> Size:
        """The part of an image that is used, from its top left corner."""
        return image

    def stays(self, _: Size, /) -> bool:
        """Whether the result is the image itself, which no method has to see."""
        return False

    def again(self, _: Row, /) -> bool:
        """Whether an image that does not fit was treated otherwise, by its row, than it is to be now."""
        return False


@dataclass(frozen=True)
class Enlarged(Sizing):
    """By a scale, or to a longer side of `size` pixels. larger: what becomes of images that are larger than that."""

    scale: float | None
    size: int | None
    larger: Larger = "fail"

    @property
    def identity(self) -> dict[str, Any]:
        return {"scale": self.scale, "size": self.size}

    def __call__(self, image: Size) -> Size:
        height, width = image
        if self.stays(image):
            return image
        ratio = self.scale if self.scale is not None else (self.size or 0) / max(image)
        if ratio < 1:
            what = f"{width}×{height} {TOO_LARGE} {self.size} already"
            if self.larger == "skip":
                raise SkippedError(what)
            raise SizeError(f"{what}; --larger skip leaves such images out, --larger copy takes them as they are")
        return max(1, round(height * ratio)), max(1, round(width * ratio))

    def stays(self, image: Size) -> bool:
        return self.larger == "copy" and self.size is not None and max(image) > self.size

    def again(self, row: Row) -> bool:
        was = "copy" if _has(row, COPIED) and self._is_beyond(row) else _fate(row, TOO_LARGE)
        return was is not None and was != self.larger

    def _is_beyond(self, row: Row) -> bool:
        return self.size is not None and max(row["height"], row["width"]) > self.size


@dataclass(frozen=True)
class Reduced(Sizing):
    """By a scale, without a remainder. smaller: what becomes of images that are smaller than that; cropped: images
    lose the pixels on the right and at the bottom that the scale does not divide."""

    scale: float
    smaller: Smaller = "fail"
    cropped: bool = False

    @property
    def identity(self) -> dict[str, Any]:
        return {"scale": self.scale}

    def __call__(self, image: Size) -> Size:
        part = self.part(image)
        if min(image) < self.scale or min(part) < 1:
            what = f"{image[1]}×{image[0]} {TOO_SMALL} at the scale {self.scale:g}"
            if self.smaller == "skip":
                raise SkippedError(what)
            raise SizeError(f"{what}; --smaller skip leaves such images out")
        try:
            return downscale_size(part, self.scale)
        except SizeError as error:
            raise SizeError(f"{error}; --crop cuts such images to a multiple") from error

    def part(self, image: Size) -> Size:
        return (self._multiple(image[0]), self._multiple(image[1])) if self.cropped else image

    def _multiple(self, side: int) -> int:
        """The most pixels of a side that the scale makes whole pixels of; 0 for none."""
        for low in range(int(side / self.scale + 1e-6), 0, -1):
            if abs(low * self.scale - round(low * self.scale)) <= 1e-6 * self.scale:
                return round(low * self.scale)
        return 0

    def again(self, row: Row) -> bool:
        if (was := _fate(row, TOO_SMALL)) is not None:
            return was != self.smaller
        return _fate(row, ODD) is not None if self.cropped else _has(row, CROPPED)


@dataclass(frozen=True)
class Unchanged(Sizing):
    """The image's own size."""

    @property
    def identity(self) -> dict[str, Any]:
        return {}

    def __call__(self, image: Size) -> Size:
        return image


@dataclass(frozen=True)
class Squared(Sizing):
    """A square."""

    side: int

    @property
    def identity(self) -> dict[str, Any]:
        return {"side": self.side}

    def __call__(self, _: Size) -> Size:
        return self.side, self.side


def _has(row: Row, note: str) -> bool:
    return note in (row.get("note") or "").split("; ")


def _fate(row: Row, why: str) -> Literal["skip", "fail"] | None:
    """The status of a row whose image has no result for this reason; None for other rows."""
    if row["status"] == "ok" or why not in (row.get("reason") or ""):
        return None
    return "skip" if row["status"] == SKIPPED else "fail"
