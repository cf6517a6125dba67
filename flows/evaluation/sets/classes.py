"""What a classifier says of generated images, and of real ones whose class is known: their folder."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from flows.evaluation.collection import Collection
from flows.evaluation.set_metrics import number_of
from flows.evaluation.sets.table import FeatureTable
from flows.interface.text import counted
from flows.training.classes import class_of
from reports.metrics.inception_score import INCEPTION_SCORE, score_of
from storage.stores.location import StorageError

SURE = 0.9
"""The probability above which a sample counts as surely of its class."""


def check_classes(address: str, real: Collection, classes: Sequence[str]) -> None:
    """StorageError unless the real images are in folders of the classes: others have none, and so no score."""
    found = Counter(map(class_of, real.entries))
    if unknown := found.keys() - {*classes}:
        folder = min(unknown)
        where = f"the folder {folder}" if folder else "no folder"
        raise StorageError(
            f"{address}: {found[folder]:,} images are in {where}, which is no class of --classifier "
            f"({', '.join(classes[:5])}{', …' * (len(classes) > 5)}); an inception score is for images in folders of "
            "its classes, and images such as faces have none"
        )


@dataclass
class Classes:
    """What a classifier of these classes says of the sets of a table; notes: what must be known of that."""

    table: FeatureTable
    classes: Sequence[str]
    notes: list[str] = field(default_factory=list)

    def note_real(self, real: str) -> None:
        """Note how often the classifier is right on real images, and the score that they have."""
        keys, probabilities = self.table.probabilities(real)
        if not keys:
            return
        places = {name: place for place, name in enumerate(self.classes)}
        truth = torch.tensor([places[class_of(key)] for key in keys])
        right = (probabilities.argmax(dim=1) == truth).double().mean().item()
        self.notes.append(f"The classifier is right on {100 * right:.1f} % of {counted(len(keys), 'real image')}.")
        numbers, _ = number_of(real, INCEPTION_SCORE.name, lambda: score_of(probabilities))
        if numbers:
            self.notes.append(
                f"Inception score of the real images: {INCEPTION_SCORE.text(numbers[INCEPTION_SCORE.name])}; "
                f"{len(self.classes)} is the highest."
            )

    def numbers(self, name: str) -> dict[str, Any]:
        """The inception score of a set."""
        keys, probabilities = self.table.probabilities(name)
        if not keys:
            return {}
        best, places = probabilities.max(dim=1)
        sure = best > SURE
        seen = len(places[sure].unique())
        self.notes.append(
            f"{name}: {int(sure.sum()):,} of {counted(len(keys), 'sample')} are of a class with p > {SURE:g}, "
            f"{seen} of {len(self.classes)} classes among them."
        )
        numbers, more = number_of(name, INCEPTION_SCORE.name, lambda: score_of(probabilities))
        self.notes += more
        return numbers

    def columns(self, name: str) -> Mapping[str, dict[str, Any]]:
        """By key, the columns of `samples.parquet` that say what a sample is."""
        keys, probabilities = self.table.probabilities(name)
        best, places = probabilities.max(dim=1) if keys else (torch.zeros(0), torch.zeros(0))
        return {
            key: {"class": self.classes[int(place)], "class_probability": float(p)}
            for key, p, place in zip(keys, best.tolist(), places.tolist(), strict=True)
        }
