"""The result in words: which method is best, by how much, and whether that is more than chance."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.metrics.metric import Metric, finite_or_none, mean_or_infinite
from reports.page.model import Page
from reports.tables.ranking import best_of, ranked_by


def verdict(page: Page) -> list[str]:
    """What wins, one sentence; then how far it is from the next best in distortion and in perception, where known.

    Empty when nothing was measured, or nothing can be ranked.
    """
    metrics = [m for m in page.metrics if m.name in page.primary]
    measured_rows = [row for row in page.summary if any(mean_or_infinite(row, m.name) is not None for m in metrics)]
    if len(measured_rows) == 1:
        (row,) = measured_rows
        means = [(m, mean_or_infinite(row, m.name)) for m in metrics]
        numbers = [f"{m.label} {measured(m, mean)}" for m, mean in means if mean is not None]
        return [f"One method was measured, {row['method']}: {', '.join(numbers)}."]
    winners = {m: [page.summary[place]["method"] for place in sorted(best_of(page.summary, m))] for m in metrics}
    winners = {m: names for m, names in winners.items() if names}
    if not winners:
        return []
    methods = [row["method"] for row in page.summary]
    won = {name: [m for m, names in winners.items() if name in names] for name in methods}
    most = max(map(len, won.values()))
    leaders = [name for name in methods if len(won[name]) == most]
    if len(leaders) > 1:
        count = f"{most} of {len(winners)} metrics" if len(winners) > 1 else winners.popitem()[0].label
        return [f"{_and(leaders)} are each best in {count}."]
    first = f"{leaders[0]} is best in {_count(won[leaders[0]], list(winners))}"
    others = [
        f"{name} in {_and([m.label for m in best])}" for name, best in won.items() if best and name not in leaders
    ]
    distances = [_distance(leaders[0], m, page) for m in winners if m.name in (page.distortion, page.perception)]
    return ["; ".join([first, *others]) + ".", *(text for text in distances if text)]


def measured(metric: Metric, value: object) -> str:
    """A number with its unit, as in `27.31 dB`."""
    return f"{metric.text(value)} {metric.unit}".rstrip()


def signed(metric: Metric, value: float) -> str:
    """A difference as people read it: `+0.86`, `−0.05`, without a sign where it prints as nothing."""
    text = format(abs(value), metric.form)
    return text if float(text) == 0 else ("+" if value > 0 else "−") + text


def interval(metric: Metric, low: object, high: object) -> str | None:
    """`27.10 … 27.52`; None where an end is missing."""
    ends = [end for end in map(finite_or_none, (low, high)) if end is not None]
    if len(ends) < 2:
        return None
    return " … ".join("−" * (end < 0) + format(abs(end), metric.form) for end in ends)


def _count(won: list[Metric], all_metrics: list[Metric]) -> str:
    if len(all_metrics) == 1:
        return won[0].label
    count = f"{len(won)} of {len(all_metrics)} metrics"
    return count if len(won) == len(all_metrics) else f"{count}, {_and([m.label for m in won])}"


def _distance(leader: str, metric: Metric, page: Page) -> str | None:
    means = dict(zip((row["method"] for row in page.summary), ranked_by(page.summary, metric), strict=True))
    rivals = [name for name, mean in means.items() if mean is not None and name != leader]
    if not rivals:
        return None
    rival = (max if metric.better == "higher" else min)(rivals, key=lambda name: means[name] or 0.0)
    for pair in page.comparisons:
        if pair["metric"] == metric.name and {pair["a"], pair["b"]} == {leader, rival}:
            return _sentence(metric, rival, pair, turned=pair["a"] == rival)
    return None


def _sentence(metric: Metric, rival: str, pair: Mapping[str, Any], *, turned: bool) -> str | None:
    sign = -1 if turned else 1
    difference, low, high = (finite_or_none(pair[name]) for name in ("difference", "low", "high"))
    if difference is None or low is None or high is None:
        return None
    difference *= sign
    low, high = sorted((sign * low, sign * high))
    wins = pair["losses"] if turned else pair["wins"]
    word = "over" if metric.better == "higher" and difference > 0 else "against"
    by = f"{metric.label} {signed(metric, difference)} {metric.unit}".rstrip()
    chance = ", which may be chance" if low <= 0 <= high else ""
    better = f"better in {wins} of {pair['n']} images"
    return f"{by} {word} {rival} (95 % {interval(metric, low, high)}, {better}){chance}."


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
