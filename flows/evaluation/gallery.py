"""The images of a report: which keys are shown, embedded in the page or beside it, with maps of their faults."""

import base64
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from PIL import Image

from dtls.degradations.recorded import reduces
from flows.evaluation.collection import Collection
from flows.evaluation.measure import Measurement
from reports.figures.gallery import GalleryImage, GalleryItem, Role
from reports.metrics.registry import METRICS
from reports.metrics.ssim_map import ssim_map
from reports.page.model import GalleryRow, Shown
from storage.images import decode as codec
from storage.images.formats import ImageError, Pixels
from storage.parallel import ordered_map
from storage.stores.location import Location, StorageError, UnavailableError

FOLDER = "images/"
EMBEDDED_BYTES = 12 * 2**20
"""Images that would take more of the page than this are stored beside it."""
THUMBNAIL = 192
MAP = "SSIM"
LABELS: Mapping[bool, Mapping[Role, str]] = {
    True: {"lr": "LR", "hr": "HR"},
    False: {"lr": "Degraded image", "hr": "Ground truth"},
}
"""What is no method's result is called so, where LR images were enlarged, and where images kept their size.

No method has such a name: the option refuses LR, HR and spaces.
"""


@dataclass(frozen=True)
class Gallery:
    """What the page shows of `keys`, from the worst to the best, with the rows of the table they have."""

    comparison: Measurement
    keys: Sequence[str]
    rows: Mapping[tuple[str, str], Mapping[str, Any]]
    out: Location

    @classmethod
    def of(cls, comparison: Measurement, frame: pd.DataFrame, count: int, out: Location) -> "Gallery":
        keys = chosen(frame[frame["key"].isin(comparison.truth.entries.keys())], count)
        shown = frame[frame["key"].isin(keys)]
        rows = {(str(row["method"]), str(row["key"])): row for row in records(shown)}
        return cls(comparison, keys, rows, out)

    def scenes(self) -> list[GalleryRow]:
        """All that the page shows; images that do not go into it are written beside it."""
        workers, size = self.comparison.workers, 0
        embedded = []
        for scene in ordered_map(lambda key: self._scene(key, embedded=True), self.keys, workers):
            embedded.append(scene)
            size += sum(len(source) for shown in scene.images for source in (shown.source, *shown.maps.values()))
            if size > EMBEDDED_BYTES:
                return list(ordered_map(lambda key: self._scene(key, embedded=False), self.keys, workers))
        return embedded

    def items(self, count: int) -> list[GalleryItem]:
        """The same of some keys for sheets and figures, spread over all that are shown."""
        some = [self.keys[place] for place in _spread(len(self.keys), count)]
        return [
            GalleryItem(key, [GalleryImage(p.label, p.png, p.row, p.role) for p in self._images(key)]) for key in some
        ]

    def _scene(self, key: str, *, embedded: bool) -> GalleryRow:
        found = list(self._images(key))
        hr = next((p.pixels for p in found if p.role == "hr"), None)
        shown = []
        for image in found:
            maps = {}
            if image.role == "sr" and hr is not None and hr.shape == image.pixels.shape:
                maps[MAP] = codec.encode_png(ssim_map(image.pixels, hr))
            name = f"{FOLDER}{_digest(key)}-{_digest(image.label)}"
            height, width = image.pixels.shape[:2]
            small = None if embedded or max(height, width) <= THUMBNAIL else _thumbnail(image.pixels)
            shown.append(
                Shown(
                    image.label,
                    image.role,
                    self._source(f"{name}.png", image.png, embedded=embedded),
                    (width, height),
                    None if small is None else self._source(f"{name}.webp", small, embedded=False),
                    {
                        title: self._source(f"{name}-{title.lower()}.png", data, embedded=embedded)
                        for title, data in maps.items()
                    },
                )
            )
        return GalleryRow(key, shown)

    def _source(self, name: str, data: bytes, *, embedded: bool) -> str:
        if embedded:
            return "data:image/png;base64," + base64.b64encode(data).decode()
        self.out.write(name, data)
        return name

    def _images(self, key: str) -> Iterator["_Shown"]:
        """LR, what the methods made, and HR, as they were measured; what cannot be read is left out."""
        comparison = self.comparison
        reduced = reduces(comparison.protocol)
        collections: list[tuple[str, Role, Collection | None]] = [
            (LABELS[reduced]["lr"], "lr", comparison.lr),
            *((method, "sr", collection) for method, collection in comparison.sr.items()),
            (LABELS[reduced]["hr"], "hr", comparison.hr),
        ]
        for label, role, collection in collections:
            if collection is None or key not in collection.entries:
                continue
            try:
                pixels = codec.decode(collection.data(key))
            except UnavailableError:
                raise
            except (ImageError, StorageError):
                continue
            if role == "hr":
                pixels = self._as_measured(key, pixels)
            yield _Shown(label, role, pixels, codec.encode_png(pixels), self.rows.get((label, key)))

    def _as_measured(self, key: str, hr: Pixels) -> Pixels:
        """HR cropped as it was to compare it with all results."""
        rows = [row for (_, of), row in self.rows.items() if of == key and row["status"] == "ok"]
        sizes = {(int(row["height"]), int(row["width"])) for row in rows}
        if len(sizes) != 1:
            return hr
        height, width = sizes.pop()
        return hr[:height, :width]


@dataclass(frozen=True)
class _Shown:
    label: str
    role: Role
    pixels: Pixels
    png: bytes
    row: Mapping[str, Any] | None


def chosen(frame: pd.DataFrame, count: int) -> list[str]:
    """So many keys, evenly spread from the worst to the best; all of them if there are no more.

    By the mean of the methods in the first of the primary metrics that has numbers.
    """
    metric = next((m for m in METRICS if m.is_primary and frame[m.name].notna().any()), None)
    if metric is None:
        keys = sorted(frame["key"].unique())
    else:
        means = frame.groupby("key", sort=True)[metric.name].mean()
        keys = list(means.sort_values(ascending=metric.better == "higher", kind="stable", na_position="first").index)
    return [keys[place] for place in _spread(len(keys), count)]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as mappings."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _spread(total: int, count: int) -> list[int]:
    """`count` places of `total`, or all there are, from the first to the last."""
    count = min(count, total)
    return [round(i * (total - 1) / max(count - 1, 1)) for i in range(count)]


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _thumbnail(pixels: Pixels) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return buffer.getvalue()
