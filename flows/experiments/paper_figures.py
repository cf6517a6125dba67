"""Figures of tables of methods: losses while training, parameters against quality, quality over training steps."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from flows.experiments.paper_rows import PaperRow
from flows.training.options import TrainOptions
from flows.training.settings import LOSSES
from reports.figures.lines import Curve, Panel
from reports.metrics.metric import Metric
from reports.metrics.registry import METRICS
from storage.stores.location import Location

Found = Sequence[tuple[PaperRow, TrainOptions, Mapping[str, Any]]]
"""Rows with their trainings and their numbers."""
POINTS = 100
"""Of a curve of losses: each is the mean of so many parts of the training."""


def panels_of(kind: Literal["losses", "parameters", "steps"], rows: Found) -> Sequence[Panel]:
    """What a figure shows of rows of a table."""
    panels: dict[str, Callable[[Found], Sequence[Panel]]] = {
        "losses": _losses,
        "parameters": _parameters,
        "steps": _steps,
    }
    return panels[kind](rows)


def _losses(rows: Found) -> Sequence[Panel]:
    curves = [Curve(row.label, *_loss_of(training)) for row, training, _ in rows]
    return [Panel("training step", "loss", curves, log_y=True)]


def _loss_of(training: TrainOptions) -> tuple[list[float], list[float]]:
    """Steps and losses of a training, both means of `POINTS` parts."""
    text = Location.of(training.target).read(LOSSES).decode()
    rows = [(float(row["step"]), float(row["loss"])) for row in csv.DictReader(io.StringIO(text))]
    size = max(1, len(rows) // POINTS)
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return tuple([sum(pair[i] for pair in part) / len(part) for part in parts] for i in (0, 1))  # type: ignore[return-value]


def _parameters(rows: Found) -> Sequence[Panel]:
    return [
        Panel("parameters", metric.heading, [*_sizes(rows, metric)], log_x=True) for metric in _shown("psnr", "ssim")
    ]


def _sizes(rows: Found, metric: Metric) -> Iterator[Curve]:
    """A point a method, and those that were published."""
    published = [row.published for row, _, _ in rows if {"parameters", metric.name} <= {*row.published}]
    for row, _, numbers in rows:
        yield Curve(row.label, [numbers["parameters"]], [_number(numbers, metric)], joined=False)
    sizes, values = ([one[name] for one in published] for name in ("parameters", metric.name))
    yield Curve("as published", sizes, values, joined=False)


def _steps(rows: Found) -> Sequence[Panel]:
    methods = list(dict.fromkeys(training.method for _, training, _ in rows))
    return [
        Panel("training steps", metric.heading, [_along(rows, method, metric) for method in methods], log_x=True)
        for metric in _shown("psnr", "lpips")
    ]


def _along(rows: Found, method: str, metric: Metric) -> Curve:
    found = [(training.steps, _number(numbers, metric)) for _, training, numbers in rows if training.method == method]
    return Curve(method, [float(steps or 0) for steps, _ in found], [value for _, value in found])


def _shown(*names: str) -> list[Metric]:
    return [metric for metric in METRICS if metric.name in names]


def _number(numbers: Mapping[str, Any], metric: Metric) -> float:
    """NaN, which is not drawn, where there is none."""
    value = numbers.get(metric.name)
    return float("nan") if value is None else float(value)
