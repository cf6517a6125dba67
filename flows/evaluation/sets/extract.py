"""The features of the images of several sets, some at a time: what the units of a report on generated images do."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from dtls.devices import best_device
from flows.engine.job import Work
from flows.evaluation.collection import Collection
from flows.evaluation.sets.classifier import Classifier, load_classifier
from flows.inputs.grouping import in_batches
from flows.inputs.sources import SourceSpec
from flows.interface.console import Advance
from reports.metrics.choices import FeatureName
from reports.metrics.features import Extractor, load_features
from reports.tables.set_tables import FEATURES, SETS_VERSION
from storage.images.formats import ImageError
from storage.images.room import ROOM
from storage.parallel import ordered_map
from storage.receipts.schemas import MADE_OF, SAMPLES
from storage.receipts.units import Row, Unit, cut_by_key
from storage.stores.errands import Turn, in_hand
from storage.stores.location import ChangedError, Entry, StorageError, UnavailableError

FLOW = "report-sets"
UNIT_SIZE = 256
WAITING_PIXELS = 2**24
"""Images of other sizes wait for their batch as long as they have no more pixels than this together."""
RECEIPT = pa.schema([*FEATURES, *map(SAMPLES.field, MADE_OF)], metadata=FEATURES.metadata)
"""The columns of a unit's rows: those of the table, and the tags that show whether they are still true."""


@dataclass(frozen=True)
class ImageSets:
    """Sets of images by their names, and what makes their features.

    extract: None where units are done elsewhere. classify: what says the probabilities of their classes, if anything.
    """

    collections: Mapping[str, Collection]
    features: FeatureName
    extract: Extractor | None
    batch_size: int
    workers: int
    classify: Classifier | None = None
    turn: Turn = field(default_factory=Turn)

    def units(self) -> list[Unit]:
        """About 256 images each; a sample is SET/KEY."""
        samples = [
            Entry.of(f"{name}/{key}", [collection.listed(key)])
            for name, collection in sorted(self.collections.items())
            for key in sorted(collection.entries)
        ]
        made_with: dict[str, Any] = {"features": self.features, "table": SETS_VERSION}
        made_with |= {"classifier": self.classify.sha256} if self.classify else {}
        return [
            Unit.of(FLOW, f"images-{hashlib.sha256(cut[0].key.encode()).hexdigest()[:16]}", cut, made_with)
            for cut in cut_by_key(samples, UNIT_SIZE)
        ]

    def work(self, unit: Unit, samples: Sequence[Entry], advance: Advance) -> list[Row]:
        """A row for each sample, with its features, or why it has none."""
        rows: dict[str, Row] = {}
        loaded = ordered_map(lambda sample: self._loaded(unit, sample), samples, self.workers)
        for batch in in_batches(
            loaded,
            kind=lambda item: item.pixels.shape if isinstance(item, _Loaded) else None,
            full=lambda _: self.batch_size,
            weight=lambda item: item.pixels[0, 0].numel() if isinstance(item, _Loaded) else 0,
            most=WAITING_PIXELS,
        ):
            images = [item for item in batch if isinstance(item, _Loaded)]
            failures = [item for item in batch if not isinstance(item, _Loaded)]
            for row in [*self._rows(images), *failures]:
                rows[row["key"]] = row
                advance(1, row["status"] != "ok")
        return [rows[sample.key] | {"source_bytes": sample.size} for sample in samples]

    def _loaded(self, unit: Unit, sample: Entry) -> "_Loaded | Row":
        name = sample.key.partition("/")[0]
        if reason := unit.refused.get(sample.key):
            return {"key": sample.key, "status": "failed", "error": reason}
        try:
            with in_hand(sample.key), ROOM.work():
                return _Loaded(sample.key, self.collections[name].see(sample.parts[0]).pixels)
        except (UnavailableError, ChangedError):  # of no image's quality
            raise
        except (ImageError, StorageError) as error:
            return {"key": sample.key, "status": "failed", "error": str(error)}

    def _rows(self, images: Sequence["_Loaded"]) -> Iterator[Row]:
        if not images or self.extract is None:
            return
        x = torch.cat([image.pixels for image in images])
        with in_hand(*(image.key for image in images)), self.turn:
            columns = {"features": self.extract(x)}
            columns |= {"probabilities": self.classify(x)} if self.classify else {}
        vectors = {name: [*column.float().cpu().numpy()] for name, column in columns.items()}
        for place, image in enumerate(images):
            own = {name: vector[place].tobytes() for name, vector in vectors.items()}
            yield {"key": image.key, "status": "ok", **own, **image.facts()}


@dataclass(frozen=True)
class SetsSpec:
    """What makes features of images, so written down that any process can do it."""

    sets: tuple[tuple[str, SourceSpec], ...]
    features: FeatureName
    device: str
    batch_size: int
    workers: int
    classifier: str | None = None

    def __call__(self, _: int) -> Work:
        """What does a unit in this process; the unit has what is in the folders."""
        return self.image_sets({name: Collection(one.open(), {}) for name, one in self.sets}).work

    def image_sets(self, collections: Mapping[str, Collection], *, is_here: bool = True) -> ImageSets:
        """The sets of these collections; where units are done elsewhere, no network is loaded here."""
        device = best_device("auto" if self.device.startswith("cuda") and not is_here else self.device)
        extract = load_features(self.features, device) if is_here else None
        classify = load_classifier(self.classifier, device if is_here else "cpu") if self.classifier else None
        return ImageSets(collections, self.features, extract, self.batch_size, self.workers, classify)


@dataclass(frozen=True)
class _Loaded:
    """An image, uint8 (1, 3, H, W), of the sample `key`."""

    key: str
    pixels: Tensor

    def facts(self) -> dict[str, Any]:
        """What its row says of it beside its features."""
        height, width = self.pixels.shape[-2:]
        told = hashlib.sha256(f"{width}×{height}".encode())
        told.update(self.pixels.contiguous().numpy().tobytes())
        return {"width": width, "height": height, "pixels": told.hexdigest()}
