"""What projecting cost or won: a note of a report that has a method with its results projected, and without."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from flows.inputs.sources import record_beside
from flows.interface.text import counted
from reports.metrics.metric import Metric
from reports.metrics.registry import METRICS
from reports.tables.statistics import difference, scores_of

OF_PROJECTING = ("projected", "passes", "made_by", "protocol")
"""The options of results that differ where the one is projected and the other is not."""


def projection_notes(frame: pd.DataFrame, results: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each method that is there with projected results and without, in a report's table.

    results: the addresses of results by the names of their methods. Whether they are projected, and else alike, is
    read from what `dtls upscale` records at its targets.
    """
    ok = frame[frame["status"] == "ok"]
    for plain, projected in _twins(results):
        methods = ok[ok["method"].isin([plain, projected])]
        if methods["method"].nunique() == 2:
            yield _sentence(methods, plain, projected)


def _twins(results: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The names of results that are alike but for projecting, the projected ones second."""
    made = {name: record_beside(address).made_with for name, address in results.items()}
    for projected, options in made.items():
        if options.get("projected") == str(True):
            for plain, others in made.items():
                if others.get("projected") != str(True) and _rest(others) == _rest(options):
                    yield plain, projected


def _rest(made_with: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in made_with.items() if name not in OF_PROJECTING}


def _sentence(rows: pd.DataFrame, plain: str, projected: str) -> str:
    found = []
    for metric in METRICS:
        if metric.is_primary and rows[metric.name].notna().any():
            change = difference(scores_of(rows, metric.name), projected, plain).interval
            if change.count:
                found.append(_change(metric, change.mean))
    images = counted(rows["key"].nunique(), "image")
    return (
        f"What projecting the results of {plain} changed ({projected}), in the mean of {images}: {', '.join(found)}."
    )


def _change(metric: Metric, by: float) -> str:
    """A change as people read it, with its sign, and whether that is better."""
    text = format(by, f"+{metric.form}")
    if float(text.rstrip("%")) == 0:
        return f"{metric.label} the same"
    unit = f" {metric.unit}" if metric.unit else ""
    return f"{metric.label} {text}{unit} ({'better' if (by < 0) == metric.lower_is_better else 'worse'})"
