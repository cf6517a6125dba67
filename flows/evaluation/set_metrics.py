"""Distances between sets, such as FID: how near all results of a method together are to all HR images."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch

from flows.evaluation.measure import Measurement
from reports.metrics.feature_set import FeatureSet
from reports.metrics.features import Extractor
from reports.metrics.metric import SetDistance, SetMetric, SetPair, TooFewError
from reports.metrics.registry import FEATURE_METRICS
from storage.images.formats import ImageError
from storage.parallel import ordered_map
from storage.stores.location import StorageError, UnavailableError

BATCH = 32


def set_distances(
    comparison: Measurement, extract: Extractor, advance: Callable[[int], None]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """By method its numbers of FEATURE_METRICS, as far as there are images enough, and what must be known of them.

    Images that cannot be read count in no set; `advance` is called for each.
    """
    if comparison.hr is None:
        return {}, ["Distances of sets compare with HR images, and there are none."]
    truth = _features(comparison, "HR", extract, advance)
    found: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for method in comparison.sr:
        pair = SetPair(_features(comparison, method, extract, advance), truth)
        found[method], more = numbers_of(method, pair, FEATURE_METRICS)
        notes += more
    return found, list(dict.fromkeys(notes))


def numbers_of(method: str, pair: SetPair, metrics: Iterable[SetMetric]) -> tuple[dict[str, Any], list[str]]:
    """The numbers of a method by name, as a summary has them, where there are images enough; and notes on them."""
    found: dict[str, Any] = {}
    notes: list[str] = []
    for metric in metrics:
        numbers, more = number_of(method, metric.name, partial(metric.compute, pair))
        found |= numbers
        notes += more
    return found, list(dict.fromkeys(notes))


def number_of(method: str, name: str, compute: Callable[[], SetDistance]) -> tuple[dict[str, Any], list[str]]:
    """One number of a method with its spread, as a summary has it, or nothing where there are too few images."""
    try:
        measured = compute()
    except TooFewError as error:
        return {}, [f"{method}: {error}."]
    spread = {} if measured.spread is None else {f"{name}_spread": measured.spread}
    return {name: measured.value, **spread}, [f"{measured.warning}."] if measured.warning else []


def _features(comparison: Measurement, label: str, extract: Extractor, advance: Callable[[int], None]) -> FeatureSet:
    collection = comparison.hr if label == "HR" else comparison.sr[label]
    features = FeatureSet()
    if collection is None:
        return features

    def load(key: str) -> torch.Tensor | None:
        try:
            return collection.tensor(key)
        except UnavailableError:
            raise
        except (ImageError, StorageError):
            return None

    waiting: list[torch.Tensor] = []
    for x in ordered_map(load, sorted(collection.entries), comparison.workers):
        advance(1)
        if x is not None:
            if waiting and (len(waiting) == BATCH or waiting[0].shape != x.shape):
                features.add(extract(torch.cat(waiting)))
                waiting = []
            waiting.append(x)
    if waiting:
        features.add(extract(torch.cat(waiting)))
    return features
