"""The features of a report's sets, read back from its table some rows at a time, and the nearest among them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from reports.metrics.feature_set import FeatureSet
from reports.metrics.neighbours import nearest
from storage.receipts.parquet import batches_of
from storage.receipts.units import Row

REFERENCES, MIN_REFERENCES = 2048, 100
"""So many real images, evenly chosen, say how near a real image is to training images; fewer say too little."""
NEAR = 0.01
"""A sample counts as near a training image if so small a part of the real images is nearer to one."""


@dataclass(frozen=True)
class Part:
    """Some images of a set: their names, the hashes of their pixels, and their features, float32 (N, D).

    probabilities: of their classes, float32 (N, C); C is 0 where no classifier was asked.
    """

    keys: list[str]
    pixels: list[str]
    features: Tensor
    probabilities: Tensor


@dataclass(frozen=True)
class FeatureTable:
    """`features.parquet` at `path`."""

    path: Path

    def parts(self, name: str) -> Iterator[Part]:
        """What is known of the images of a set, in the order of their names; what failed is left out."""
        for batch in batches_of(self.path):
            keys = batch.column("key").to_pylist()
            status = batch.column("status").to_pylist()
            chosen = [i for i, key in enumerate(keys) if key.startswith(f"{name}/") and status[i] == "ok"]
            if chosen:
                rows = batch.take(pa.array(chosen))
                yield Part(
                    [keys[i].partition("/")[2] for i in chosen],
                    rows.column("pixels").to_pylist(),
                    _matrix(rows.column("features")),
                    _matrix(rows.column("probabilities")),
                )

    @property
    def rows(self) -> int:
        """How many images it is of, failed ones included."""
        return int(pq.read_metadata(self.path).num_rows)

    def failures(self) -> list[Row]:
        """method, key and error of each image that has no features."""
        found = []
        for batch in batches_of(self.path):
            for row in batch.select(["key", "status", "error"]).to_pylist():
                if row["status"] != "ok":
                    name, _, key = row["key"].partition("/")
                    found.append({"method": name, "key": key, "error": row["error"]})
        return found

    def feature_set(self, name: str) -> FeatureSet:
        """The features of a set."""
        made = FeatureSet()
        for part in self.parts(name):
            made.add(part.features)
        return made

    def probabilities(self, name: str) -> tuple[list[str], Tensor]:
        """The names of the images of a set, and what the classifier says of them, float32 (N, C)."""
        parts = [*self.parts(name)]
        keys = [key for part in parts for key in part.keys]
        return keys, torch.cat([part.probabilities for part in parts]) if parts else torch.zeros(0, 0)

    def nearest(self, name: str, training: str) -> Iterator[dict[str, Any]]:
        """The columns of `samples.parquet` but for set and is_near, of each image of a set; training: another set."""
        known = [
            (key, pixels) for part in self.parts(training) for key, pixels in zip(part.keys, part.pixels, strict=True)
        ]
        copies = {pixels: key for key, pixels in reversed(known)}
        for part in self.parts(name):
            distances, places = nearest(part.features, (other.features for other in self.parts(training)))
            for key, pixels, distance, place in zip(
                part.keys, part.pixels, distances.tolist(), places.tolist(), strict=True
            ):
                found, is_copy = copies.get(pixels), pixels in copies
                if not is_copy and place >= 0:
                    found = known[place][0]
                yield {
                    "key": key,
                    "nearest": found,
                    "distance": None if found is None else 0.0 if is_copy else distance,
                    "is_copy": is_copy,
                }

    def reference_distances(self, real: str, training: str) -> Tensor:
        """How far real images are from the nearest training image: float64 (N,), N at most 2,048.

        Where both are one set, from the nearest other one. Real images that are training images do not count.
        """
        total = sum(len(part.keys) for part in self.parts(real))
        chosen = torch.linspace(0, total - 1, min(total, REFERENCES), dtype=torch.float64).round().long()
        features, start = [], 0
        for part in self.parts(real):
            own = chosen[(chosen >= start) & (chosen < start + len(part.keys))] - start
            features.append(part.features[own])
            start += len(part.keys)
        if not features:
            return torch.zeros(0, dtype=torch.float64)
        others = (part.features for part in self.parts(training))
        distances, _ = nearest(torch.cat(features), others, chosen if real == training else None)
        return distances[(distances > 0) & distances.isfinite()]

    def threshold(self, real: str, training: str) -> float | None:
        """The distance to a training image that 1 % of the real images are within; None of fewer than 100."""
        found = self.reference_distances(real, training)
        return None if len(found) < MIN_REFERENCES else torch.quantile(found, NEAR).item()


def _matrix(column: pa.Array) -> Tensor:
    """The vectors of a column, float32 (N, D); D is 0 where it has none."""
    data = b"".join(value or b"" for value in column.to_pylist())
    return torch.from_numpy(np.frombuffer(data, np.float32).reshape(len(column), -1).copy())
