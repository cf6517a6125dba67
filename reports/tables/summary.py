"""What a report's table comes to: means with intervals, differences between methods, as JSON and as Markdown."""

import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import combinations
from types import MappingProxyType
from typing import Any

import pandas as pd

from dtls.degradations.recorded import task_in_words
from reports.metrics.metric import Metric, finite_or_none
from reports.metrics.planes import PEAK
from reports.metrics.registry import METRICS, SET_METRICS
from reports.tables.ranking import COMMON, leaves_out
from reports.tables.statistics import difference, mean_interval, scores_of
from reports.tables.table import SCHEMA_VERSION

FAILED_LISTED = 20
FAILURE = ["method", "key", "error"]
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Summary:
    """The numbers of all images together.

    metrics: those of which there is a number, in the table's order, and those of sets. methods: one mapping a method,
    in first-seen order: method; protocol (names, joined by a comma where there are several); scales, sorted; ok and
    failed, counts; and for each metric its mean over the finite numbers, None without one, `<metric>_low` and
    `<metric>_high`, the 95 % bootstrap interval of the mean, and `<metric>_infinite`, how many were infinite; where
    methods have numbers of different images, `<metric>_common` and `<metric>_common_infinite` say the same of those
    that all have. ranking: how that decides who is best, in a sentence, which is among the notes, too.
    comparisons: one mapping a pair of methods and metric: a, b, metric, n, difference (a − b), low, high, p
    (Wilcoxon), wins, losses, ties.
    """

    conditions: str
    metrics: tuple[Metric, ...]
    methods: Rows
    comparisons: Rows
    images: int
    failed: Rows
    failed_total: int
    notes: tuple[str, ...] = field(default=())
    ranking: str = ""


def summarise(
    frame: pd.DataFrame, notes: Sequence[str] = (), distances: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> Summary:
    """The summary of a report's table.

    notes: what people must know to read it. distances: by method its numbers of SET_METRICS.
    """
    reduced = not _tasks(frame)
    metrics = tuple(m.labelled(reduced=reduced) for m in METRICS if frame[m.name].notna().any())
    common = _common_keys(frame)
    methods = [
        _method(str(name), rows, metrics, common) | dict(distances.get(str(name), {}))
        for name, rows in frame.groupby("method", sort=False)
    ]
    ranking = _ranking(methods, metrics, common)
    of_sets = tuple(m for m in SET_METRICS if any(m.name in row for row in methods))
    failed = frame[frame["status"] == "failed"]
    return Summary(
        conditions(frame),
        (*metrics, *of_sets),
        methods,
        list(_comparisons(frame, metrics)),
        int(frame["key"].nunique()),
        [dict(zip(FAILURE, row, strict=True)) for row in failed[FAILURE].head(FAILED_LISTED).itertuples(index=False)],
        len(failed),
        (*notes, *([ranking] if ranking else [])),
        ranking,
    )


def conditions(frame: pd.DataFrame) -> str:
    """Under what the numbers were taken: `Protocol: antialias · ×4 · Y, border 4 · LPIPS alex`.

    Of restorations at an image's own size, the task: `Task: deblurring, σ = 2 pixels (blur:2) · RGB`.
    """
    tasks = _tasks(frame)
    protocols = sorted({*frame["protocol"].dropna().unique()} - tasks.keys())
    scales = sorted({float(scale) for scale in frame["scale"].dropna().unique()} - ({1.0} if tasks else set()))
    parts = [f"Task: {', '.join(f'{words} ({name})' for name, words in tasks.items())}"] if tasks else []
    parts += [f"Protocol: {', '.join(protocols) or 'none'}"] if protocols or not tasks else []
    parts += [", ".join(f"×{scale:g}" for scale in scales)] if scales else []
    measured = frame[["colour", "border", "data_range"]].fillna({"data_range": PEAK}).dropna()
    for colour, border, peak in sorted({*measured.itertuples(index=False, name=None)}):
        more = (f", border {border}" if border else "") + (f", data range {peak:g}" if peak != PEAK else "")
        parts.append(str(colour).upper() + more)
    networks = sorted(frame["lpips_network"].dropna().unique())
    return " · ".join([*parts, *([f"LPIPS {', '.join(networks)}"] if networks else [])])


def as_json(summary: Summary, configuration: Mapping[str, Any], *, date: datetime | None = None) -> dict[str, Any]:
    """What `summary.json` holds; json.dumps(…, allow_nan=False) takes it. NaN and infinities become null.

    version, of the table; date (ISO 8601, now unless given); configuration; versions; and the fields of `Summary`.
    """
    content = {
        "version": SCHEMA_VERSION,
        "date": (date or datetime.now(UTC)).isoformat(timespec="seconds"),
        "configuration": dict(configuration),
        "versions": versions(),
        "conditions": summary.conditions,
        "pictures": summary.images,
        "metrics": {
            m.name: {"unit": m.unit, "better": m.better, "description": m.description} for m in summary.metrics
        },
        "methods": summary.methods,
        "comparisons": summary.comparisons,
        "failed": summary.failed,
        "failed_total": summary.failed_total,
        "notes": summary.notes,
    }
    return {key: _json(value) for key, value in content.items()}


def text_of(content: Mapping[str, Any]) -> str:
    """The mapping of `as_json` as people can read it."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def versions() -> dict[str, str]:
    """What the numbers depend on."""
    return {name: version(name) for name in ("dtls", "torch", "lpips")} | {"python": platform.python_version()}


def _tasks(frame: pd.DataFrame) -> dict[str, str]:
    """The degradations at an image's own size that rows name, with what undoing them is called."""
    found = {name: task_in_words(name) for name in sorted(frame["protocol"].dropna().unique())}
    return {name: words for name, words in found.items() if words is not None}


def _common_keys(frame: pd.DataFrame) -> pd.Index | None:
    """The images that are ok for all methods that have any; None where no method lacks one that another has."""
    ok = frame[frame["status"] == "ok"]
    counts = ok.groupby("key", sort=False)["method"].nunique()
    everywhere = counts.index[counts == ok["method"].nunique()]
    return everywhere if len(everywhere) < len(counts) else None


def _ranking(methods: Rows, metrics: Iterable[Metric], common: pd.Index | None) -> str:
    said = []
    if common is not None and len(common):
        images = f"{len(common):,} images" if len(common) > 1 else "one image"
        said.append(f"Ranked over the {images} that all methods have.")
    elif common is not None:
        said.append("Not ranked: there is no image that all methods have.")
    if unranked := [metric.label for metric in metrics if leaves_out(methods, metric)]:
        said.append(f"Not ranked by {' and '.join(unranked)}, which is infinite for some images.")
    return " ".join(said)


def _method(name: str, rows: pd.DataFrame, metrics: Iterable[Metric], common: pd.Index | None) -> dict[str, Any]:
    ok = rows[rows["status"] == "ok"]
    found: dict[str, Any] = {
        "method": name,
        "protocol": ", ".join(rows["protocol"].dropna().unique()) or None,
        "scales": sorted(float(scale) for scale in rows["scale"].dropna().unique()),
        "ok": len(ok),
        "failed": len(rows) - len(ok),
    }
    for metric in metrics:
        interval = mean_interval(ok[metric.name])
        found[metric.name] = finite_or_none(interval.mean)
        found[f"{metric.name}_low"] = finite_or_none(interval.low)
        found[f"{metric.name}_high"] = finite_or_none(interval.high)
        found[f"{metric.name}_infinite"] = int((ok[metric.name] == math.inf).sum())
        if common is not None:
            shared = ok.loc[ok["key"].isin(common), metric.name]
            found[f"{metric.name}{COMMON}"] = finite_or_none(shared[shared != math.inf].mean())
            found[f"{metric.name}{COMMON}_infinite"] = int((shared == math.inf).sum())
    return found


def _comparisons(frame: pd.DataFrame, metrics: Iterable[Metric]) -> Iterable[dict[str, Any]]:
    ok = frame[frame["status"] == "ok"]
    for metric in metrics:
        scores = scores_of(ok, metric.name)
        for a, b in combinations(scores.columns, 2):
            found = difference(scores, a, b, better=metric.better)
            yield {
                "a": a,
                "b": b,
                "metric": metric.name,
                "n": found.wins + found.losses + found.ties,
                "difference": finite_or_none(found.interval.mean),
                "low": finite_or_none(found.interval.low),
                "high": finite_or_none(found.interval.high),
                "p": finite_or_none(found.p),
                "wins": found.wins,
                "losses": found.losses,
                "ties": found.ties,
            }


def _json(value: object) -> Any:
    """`value` with what JSON has no literal for as null, and what it does not know as text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return finite_or_none(value)
    if isinstance(value, Mapping):
        return {str(key): _json(v) for key, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_json(v) for v in value]
    return str(value)
