"""What the ratings of several people say: the share satisfied, mean opinions, preferences, and how sure that is.

One person's grades are alike, and so are the grades of one image. Intervals take that into account: they are for
other people and other images, not for these people asked again.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import t as student

from reports.rating.study import SATISFIED
from reports.tables.statistics import bradley_terry

CONFIDENCE = 0.95
RESAMPLES = 300
Share = tuple[float, float, float]


def summarise_ratings(table: pa.Table) -> dict[str, Any]:
    """What a table of `RATINGS_SCHEMA` says; json.dumps(…, allow_nan=False) takes it.

    raters, ratings (without repeats) and repeats, counts; agreement, the share of repeats answered as before, None
    without any. grades, one mapping a method, the most satisfying first: method, satisfied (share of grades 3 and 4),
    opinion (mean grade), ratings, raters. pairs, one mapping a method, the strongest first: method, preferred (share
    of its comparisons, half for no difference), strength (Bradley–Terry, natural logarithms, mean 0) and, again,
    ratings and raters. Each number x has its 95% interval in x_low and x_high. Repeats count for the agreement only.
    """
    frame = table.to_pandas()
    first = frame[~frame["is_repeat"]]
    repeats = frame[frame["is_repeat"]]
    return {
        "raters": int(frame["rater"].nunique()),
        "ratings": len(first),
        "repeats": len(repeats),
        "agreement": _agreement(first, repeats),
        "grades": _grades(first[first["grade"].notna()]),
        "pairs": _pairs(first[first["preference"].notna()]),
    }


def share_interval(values: NDArray[np.float64], raters: NDArray[Any], keys: NDArray[Any]) -> Share:
    """The mean of values within 0…1 and its interval, each value given by a rater to an image; all of shape (n,).

    Wilson's interval for the number of independent ratings that would be as sure (Korn and Graubard 1998).
    """
    mean, count = float(values.mean()), len(values)
    variance, freedom = _clustered(values, raters, keys)
    spread = mean * (1 - mean)
    effective = min(count, spread / variance) if variance > 0 and spread > 0 else count
    q = _quantile(freedom) ** 2 / effective
    centre = (mean + q / 2) / (1 + q)
    half = (q * spread + q * q / 4) ** 0.5 / (1 + q)
    return mean, max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(values: NDArray[np.float64], raters: NDArray[Any], keys: NDArray[Any]) -> Share:
    """The mean of grades and its interval, within the grades there are; as `share_interval` otherwise."""
    variance, freedom = _clustered(values, raters, keys)
    mean, half = float(values.mean()), _quantile(freedom) * variance**0.5
    return mean, max(1.0, mean - half), min(4.0, mean + half)


def _clustered(values: NDArray[np.float64], raters: NDArray[Any], keys: NDArray[Any]) -> tuple[float, int]:
    """The variance of a mean whose parts hang together by rater and by image, and its degrees of freedom.

    Cameron, Gelbach and Miller 2011; never less than for independent values.
    """
    residuals, count = values - values.mean(), len(values)
    by_rater, by_key = pd.factorize(raters)[0], pd.factorize(keys)[0]
    sizes = [int(groups.max()) + 1 for groups in (by_rater, by_key)]
    both = pd.factorize(by_rater * sizes[1] + by_key)[0]

    def part(groups: NDArray[np.intp]) -> float:
        sums = np.bincount(groups, residuals)
        return float((sums**2).sum() * len(sums) / max(1, len(sums) - 1)) / count**2

    rater, key = part(by_rater), part(by_key)
    variance = max(rater + key - part(both), rater, key, float((residuals**2).sum()) / count**2)
    return variance, min((size for size in sizes if size > 1), default=2) - 1


def _quantile(freedom: int) -> float:
    return float(student.ppf((1 + CONFIDENCE) / 2, freedom))


def _grades(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for method, part in frame.groupby("method", sort=False):
        grades, groups = part["grade"].to_numpy(np.float64), (part["rater"].to_numpy(), part["key"].to_numpy())
        satisfied = share_interval((grades >= SATISFIED).astype(np.float64), *groups)
        rows.append(
            {"method": str(method)}
            | _named("satisfied", satisfied)
            | _named("opinion", mean_interval(grades, *groups))
            | {"ratings": len(part), "raters": int(part["rater"].nunique())}
        )
    return sorted(rows, key=lambda row: (-row["satisfied"], -row["opinion"], row["method"]))


def _pairs(frame: pd.DataFrame) -> list[dict[str, Any]]:
    if frame.empty:
        return []
    methods = sorted(set(frame["method"]) | set(frame["other"]))
    strengths = bradley_terry(_wins(frame, methods, np.ones(len(frame))))
    drawn = np.array([bradley_terry(_wins(frame, methods, weights)) for weights in _resampled_weights(frame)])
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    rows = []
    for place, method in enumerate(methods):
        part = frame[(frame["method"] == method) | (frame["other"] == method)]
        worth = part["preference"].where(part["method"] == method, 1 - part["preference"]).to_numpy(np.float64)
        preferred = share_interval(worth, part["rater"].to_numpy(), part["key"].to_numpy())
        rows.append(
            {"method": method}
            | _named("preferred", preferred)
            | _named("strength", (strengths[method], low[place], high[place]))
            | {"ratings": len(part), "raters": int(part["rater"].nunique())}
        )
    return sorted(rows, key=lambda row: (-row["strength"], row["method"]))


def _wins(frame: pd.DataFrame, methods: list[str], weights: NDArray[np.float64]) -> pd.DataFrame:
    """How often the row's method was preferred to the column's; no difference is half a win for each."""
    places = pd.Index(methods)
    left, right = places.get_indexer(pd.Index(frame["method"])), places.get_indexer(pd.Index(frame["other"]))
    preference = frame["preference"].to_numpy(np.float64)
    wins = np.zeros((len(methods),) * 2)
    np.add.at(wins, (left, right), weights * preference)
    np.add.at(wins, (right, left), weights * (1 - preference))
    return pd.DataFrame(wins, index=places, columns=places)


def _resampled_weights(frame: pd.DataFrame, seed: int = 0) -> Iterator[NDArray[np.float64]]:
    """How often each rating counts when raters and images are drawn anew (the pigeonhole bootstrap, Owen 2007)."""
    random = np.random.default_rng(seed)
    groups = [pd.factorize(frame[column])[0] for column in ("rater", "key")]
    for _ in range(RESAMPLES):
        weights = np.ones(len(frame))
        for group in groups:
            size = int(group.max()) + 1
            weights = weights * random.multinomial(size, np.full(size, 1 / size))[group]
        yield weights


def _agreement(first: pd.DataFrame, repeats: pd.DataFrame) -> float | None:
    answers = dict(zip(_questions(first), _answers(first), strict=True))
    again = zip(_questions(repeats), _answers(repeats), strict=True)
    same = [answers[question] == answer for question, answer in again if question in answers]
    return float(np.mean(same)) if same else None


def _questions(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    columns = (frame["session"], frame["key"], frame["method"], frame["other"].fillna(""))
    return [(session, key, frozenset((a, b))) for session, key, a, b in zip(*columns, strict=True)]


def _answers(frame: pd.DataFrame) -> list[object]:
    """A grade, or the method that was preferred, whichever side it stood on."""
    columns = (frame[name] for name in ("grade", "preference", "method", "other"))
    return [
        grade if grade == grade else {1.0: a, 0.0: b, 0.5: None}[preference]
        for grade, preference, a, b in zip(*columns, strict=True)
    ]


def _named(name: str, interval: Share) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), map(float, interval), strict=True))
