"""What a report's page is made of: pictures, the scenes they belong to, and the numbers around them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import pandas as pd

from reports.tables.table import Metric

Role = Literal["lr", "sr", "hr"]


@dataclass(frozen=True)
class Shown:
    """One picture of the gallery.

    label: LR, a method, or HR. source: a data URI of a picture, or a URL relative to the page, percent-quoted.
    size: width and height in pixels. thumbnail: the same picture, small; without one the source serves. maps:
    pictures of HR's size made of this one, by name ("SSIM map").
    """

    label: str
    role: Role
    source: str
    size: tuple[int, int]
    thumbnail: str | None = None
    maps: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """What is shown of one key, in the order it is shown: LR first, HR last."""

    key: str
    pictures: Sequence[Shown]


@dataclass(frozen=True)
class Page:
    """All that a page says.

    conditions: under what the numbers were taken, above the table. metrics: in order of importance; primary: the
    names of those that are shown at once. distortion, perception: names of the metrics that the scatter starts with.
    summary: a mapping a method: method, ok, failed (counts), `<metric>` its mean or None, and optionally
    `<metric>_infinite` (count), `<metric>_low`, `<metric>_high` (95 % interval), `<metric>_spread`, and
    `<metric>_common` (what it is ranked by). comparisons: of pairs of methods: a, b, metric, difference (a less b),
    low, high, p, wins (of a), losses, ties, n. rows: one a picture and method, with columns of metrics.parquet, of
    which method, key and status must be there. notes: sentences under the summary. ratings: what
    `summarise_ratings` says of people's answers, where there are any.
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
    scenes: Sequence[Scene]
    notes: Sequence[str]
    configuration: Mapping[str, Any]
    versions: Mapping[str, str]
    ratings: Mapping[str, Any] | None = None
