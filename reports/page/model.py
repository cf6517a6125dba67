"""What a report's page is made of: images, the scenes they belong to, and the numbers around them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd

from reports.figures.gallery import Role
from reports.metrics.metric import Metric


@dataclass(frozen=True)
class Shown:
    """One image of the gallery.

    label: LR or Degraded image, a method, HR or Ground truth. source: a data URI of an image, or a URL relative to
    the page, percent-quoted. size: width and height in pixels. thumbnail: the same image, small; without one the
    source serves. maps: images of HR's size made of this one, by name ("SSIM map").
    """

    label: str
    role: Role
    source: str
    size: tuple[int, int]
    thumbnail: str | None = None
    maps: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GalleryRow:
    """What is shown of one key, in the order it is shown: LR first, HR last."""

    key: str
    images: Sequence[Shown]


@dataclass(frozen=True)
class Page:
    """The content of a page.

    conditions: under what the numbers were taken, above the table. metrics: in order of importance; primary: the
    names of those that are shown at once. distortion, perception: names of the metrics that the scatter starts with.
    summary: a mapping a method: method, ok, failed (counts), `<metric>` its mean or None, and optionally
    `<metric>_infinite` (count), `<metric>_low`, `<metric>_high` (95 % interval), `<metric>_spread`, and
    `<metric>_common` (what it is ranked by). comparisons: of pairs of methods: a, b, metric, difference (a less b),
    low, high, p, wins (of a), losses, ties, n. rows: one an image and method, with columns of metrics.parquet, of
    which method, key and status must be there. notes: sentences under the summary. ratings: what
    `summarise_ratings` says of people's answers, where there are any. rates: what `reports.tables.rates` says of file
    sizes, where they were asked for.
    """

    title: str
    date: datetime
    conditions: str
    metrics: Sequence[Metric]
    primary: Sequence[str]
    distortion: str
    perception: str
    summary: Sequence[Mapping[str, Any]]
    comparisons: Sequence[Mapping[str, Any]]
    rows: pd.DataFrame
    scenes: Sequence[GalleryRow]
    notes: Sequence[str]
    configuration: Mapping[str, Any]
    versions: Mapping[str, str]
    ratings: Mapping[str, Any] | None = None
    rates: Sequence[Mapping[str, Any]] = ()
