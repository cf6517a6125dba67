"""Which method is best: by means over the same images, and by no mean that leaves something out."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.metrics.metric import Metric, mean_or_infinite

COMMON = "_common"
"""Behind a metric's name in a row of the summary: of the images that all methods have."""
Rows = Sequence[Mapping[str, Any]]


def ranked_by(rows: Rows, metric: Metric) -> list[float | None]:
    """What each method, by its row of the summary, is ranked by: a mean, ∞, or None where it has no number.

    Over the images that all methods have, where rows tell that mean, too. All None where a mean leaves infinite
    numbers out: the identical images that a method is best at would count for nothing.
    """
    if leaves_out(rows, metric):
        return [None] * len(rows)
    return [mean_or_infinite(row, _name(row, metric)) for row in rows]


def best_of(rows: Rows, metric: Metric) -> set[int]:
    """The places of the best methods; all that print like the best are."""
    means = ranked_by(rows, metric)
    best = metric.best(means)
    return {place for place, mean in enumerate(means) if mean is not None and metric.text(mean) == best}


def leaves_out(rows: Rows, metric: Metric) -> bool:
    """Whether several methods have numbers, and a mean of one of them leaves infinite numbers out."""
    names = [(row, _name(row, metric)) for row in rows]
    measured = [(row, name) for row, name in names if mean_or_infinite(row, name) is not None]
    return len(measured) > 1 and any(
        row.get(name) is not None and row.get(f"{name}_infinite") for row, name in measured
    )


def _name(row: Mapping[str, Any], metric: Metric) -> str:
    common = metric.name + COMMON
    return common if common in row else metric.name
