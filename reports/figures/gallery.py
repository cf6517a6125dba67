"""Which rows a gallery has: the images of one key side by side, with their numbers, and which of these are shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from typing import Any, Literal

from PIL import Image

from reports.metrics.metric import Metric
from reports.metrics.registry import METRICS

Role = Literal["lr", "sr", "hr"]
"""What an image is in a comparison: the LR or degraded image, a result, or the HR or original image."""
COLUMN = 256
"""How wide, in pixels, an image is drawn at most; small ones are enlarged by whole numbers up to it."""
LARGE_COLUMN = 320
SHOWN = ("psnr", "lpips")
"""Under each image; where no image has these, as without ground truth, the first numbers that there are."""


class NothingToDrawError(ValueError):
    """No image, or no number, that a figure could show."""


@dataclass(frozen=True)
class GalleryImage:
    """One image of a gallery row: its label, PNG bytes, and its row of the metrics table.

    role: whether it is what methods were given, what one made, or the ground truth.
    """

    label: str
    png: bytes
    metrics: Mapping[str, Any] | None = None
    role: Role = "sr"

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        with Image.open(BytesIO(self.png)) as image:
            return image.size

    @property
    def failed(self) -> bool:
        """Whether its row says that it could not be compared; then it may be of any size."""
        return self.metrics is not None and self.metrics.get("status") == "failed"


@dataclass(frozen=True)
class GalleryItem:
    """One row of a gallery: the images of one key in the order they are shown, LR first and HR last."""

    key: str
    images: Sequence[GalleryImage] = field(default_factory=list)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels of the largest image that did not fail, normally HR."""
        return max((p.size for p in self.images if not p.failed), default=(1, 1))

    @property
    def column(self) -> int:
        """How wide, in pixels, each image of this row is drawn."""
        width = self.size[0]
        return width * (COLUMN // width) if width <= COLUMN else min(width, LARGE_COLUMN)


def chosen_metrics(gallery: Sequence[GalleryItem], names: Sequence[str] = SHOWN) -> list[Metric]:
    """Those of `names` that some image has a number of; where none has, as many others in the table's order."""
    there: list[Metric] = [
        m for m in METRICS if m.best(value for item in gallery for value in values_of(item, m)) is not None
    ]
    return [m for m in there if m.name in names] or there[: len(names)]


def best_texts(item: GalleryItem, metrics: Sequence[Metric]) -> dict[str, str | None]:
    """By metric, the best number of a row as it is printed; None without one."""
    return {metric.name: metric.best(values_of(item, metric)) for metric in metrics}


def values_of(item: GalleryItem, metric: Metric) -> list[object]:
    """The numbers of a metric in a row, of images that did not fail."""
    return [p.metrics.get(metric.name) for p in item.images if p.metrics and not p.failed]
