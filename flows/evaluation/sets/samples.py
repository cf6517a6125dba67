"""The samples of generated sets that a page shows, each beside its nearest training image."""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from flows.evaluation.gallery import EMBEDDED_BYTES, FOLDER
from flows.evaluation.sets.extract import ImageSets
from reports.page.sets import ShownSample, ShownSet
from storage.images import decode as codec
from storage.images.formats import ImageError
from storage.parallel import ordered_map
from storage.stores.location import Location, StorageError, UnavailableError

SIDE = 256
"""Larger images are reduced to this for the page."""
CLOSEST = 8
"""So many samples that are nearest to training images are shown of each set."""


@dataclass(frozen=True)
class Shown:
    """The samples to show of some sets; training: the name of the set of `rows`' nearest images.

    rows: the table of `samples.parquet`. count: samples of each set.
    """

    image_sets: ImageSets
    rows: pa.Table
    training: str
    count: int

    def unpicked(self, name: str) -> list[Image.Image]:
        """The first samples of a set by name; what cannot be read is left out."""
        keys = [row["key"] for row in self._first(name)]
        images = ordered_map(lambda key: self._image(name, key), keys, self.image_sets.workers)
        return [image for image in images if image is not None]

    def sets(self, names: Sequence[str], out: Location) -> list[ShownSet]:
        """What the page shows; images that together are too large for it are written beside it."""
        chosen = {name: (self._first(name), self._closest(name)) for name in names}
        wanted = {
            pair
            for name, parts in chosen.items()
            for row in (*parts[0], *parts[1])
            for pair in ((name, row["key"]), (self.training, row["nearest"]))
            if pair[1] is not None
        }
        pngs = dict(zip(sorted(wanted), ordered_map(self._png, sorted(wanted), self.image_sets.workers), strict=True))
        is_embedded = sum(len(png) for png in pngs.values() if png is not None) <= EMBEDDED_BYTES
        sources = {
            pair: _source(pair, png, out, embedded=is_embedded) for pair, png in pngs.items() if png is not None
        }
        return [
            ShownSet(name, *([self._sample(name, row, sources) for row in rows] for rows in chosen[name]))
            for name in names
        ]

    @cached_property
    def _by_set(self) -> dict[str, pa.Table]:
        names = self.rows.column("set")
        return {name: self.rows.filter(pc.equal(names, name)) for name in pc.unique(names).to_pylist()}

    def _first(self, name: str) -> list[dict[str, Any]]:
        found = self._by_set.get(name)
        return [] if found is None else found.slice(0, self.count).to_pylist()

    def _closest(self, name: str) -> list[dict[str, Any]]:
        found = self._by_set.get(name)
        if found is None or not self.count:
            return []
        order = pc.sort_indices(found, [("distance", "ascending"), ("key", "ascending")])
        return [row for row in found.take(order[:CLOSEST]).to_pylist() if row["nearest"] is not None]

    def _sample(self, name: str, row: Mapping[str, Any], sources: Mapping[tuple[str, str], str]) -> ShownSample:
        nearest = row["nearest"]
        return ShownSample(
            key=row["key"],
            source=sources.get((name, row["key"]), "data:image/png;base64,"),
            nearest=nearest,
            nearest_source=None if nearest is None else sources.get((self.training, nearest)),
            distance="–" if row["distance"] is None else f"{row['distance']:.4g}",
            note="a copy" if row["is_copy"] else "near" if row["is_near"] else "",
        )

    def _image(self, name: str, key: str) -> Image.Image | None:
        try:
            pixels = codec.decode(self.image_sets.collections[name].data(key))
        except UnavailableError:
            raise
        except (ImageError, StorageError):
            return None
        image = Image.fromarray(pixels)
        image.thumbnail((SIDE, SIDE))
        return image

    def _png(self, pair: tuple[str, str]) -> bytes | None:
        image = self._image(*pair)
        if image is None:
            return None
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
        return buffer.getvalue()


def _source(pair: tuple[str, str], png: bytes, out: Location, *, embedded: bool) -> str:
    if embedded:
        return "data:image/png;base64," + base64.b64encode(png).decode()
    name = f"{FOLDER}{_digest(pair[1])}-{_digest(pair[0])}.png"
    out.write(name, png)
    return name


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
