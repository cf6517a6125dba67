"""What numbers of many images allow to say: intervals of means, differences between methods, wins, preferences.

Everything is deterministic: the bootstrap's resamples come from a seed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, ndtri
from scipy.stats import wilcoxon

RESAMPLES = 5_000
NORMAL_FROM = 10_000
"""So many numbers have a mean that is distributed normally; resampling them would take seconds and say the same."""
CHUNK = 2**22
"""Numbers of resamples that are held at a time."""


@dataclass(frozen=True)
class Interval:
    """A mean of `count` finite numbers and its interval of that `confidence`; NaN where there are none."""

    mean: float
    low: float
    high: float
    count: int
    confidence: float


@dataclass(frozen=True)
class Difference:
    """Method a less method b over the images that both have.

    interval: of the mean difference. p: two-sided, of Wilcoxon's signed-rank test; 1 where all differ by nothing, NaN
    without a pair. wins: images where a is better, losses: where b is, ties: neither.
    """

    a: str
    b: str
    interval: Interval
    p: float
    wins: int
    losses: int
    ties: int


def mean_interval(values: ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> Interval:
    """The mean of the finite ones of `values` (n,), with its percentile bootstrap interval of 5,000 resamples.

    From 10,000 numbers on, the normal interval, which is the same. One number alone is its own interval. ValueError
    for a confidence outside 0…1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence is between 0 and 1, not {confidence:g}")
    numbers = np.asarray(values, dtype=np.float64).ravel()
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return Interval(np.nan, np.nan, np.nan, 0, confidence)
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    if len(numbers) < NORMAL_FROM:
        low, high = np.quantile(np.concatenate(list(_resampled_means(numbers, seed))), tails)
    else:
        low, high = numbers.mean() + ndtri(tails) * numbers.std(ddof=1) / len(numbers) ** 0.5
    return Interval(float(numbers.mean()), float(low), float(high), len(numbers), confidence)


def difference(
    scores: pd.DataFrame,
    a: str,
    b: str,
    *,
    better: Literal["higher", "lower"] = "higher",
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Compare two columns of `scores`, one row an image and one column a method, as `scores_of` makes them.

    Images that lack a number of either, or where one is infinite, count in neither test nor interval; an infinite
    PSNR still wins. ValueError for unknown methods.
    """
    if unknown := {a, b} - set(scores.columns):
        raise ValueError(f"no numbers of {', '.join(sorted(unknown))}; there are {', '.join(map(str, scores))}")
    pair = scores[[a, b]].astype(np.float64).to_numpy()
    left, right = pair[~np.isnan(pair).any(axis=1)].T
    wins, losses = int((left > right).sum()), int((left < right).sum())
    if better == "lower":
        wins, losses = losses, wins
    finite = np.isfinite(left) & np.isfinite(right)
    differences = left[finite] - right[finite]
    interval = mean_interval(differences, confidence=confidence, seed=seed)
    return Difference(a, b, interval, _signed_rank(differences), wins, losses, len(left) - wins - losses)


def scores_of(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """A column of the report's table as one row a key and one column a method, in first-seen order of the methods."""
    table = frame.pivot(index="key", columns="method", values=column)
    return table[list(dict.fromkeys(frame["method"]))]


def bradley_terry(wins: pd.DataFrame, *, prior: float = 0.1) -> pd.Series:
    """Strengths from pairwise wins, natural logarithms with mean 0: i beats j with probability 1/(1 + e^(s_j − s_i)).

    wins: square, `wins.loc[i, j]` how often i was preferred to j, halves for ties. `prior` is the weight of a normal
    prior on the strengths, which keeps those finite that never won or never lost; 0 leaves it out. ValueError when
    rows and columns are not the same, a count is negative or not finite, or the prior is negative.
    """
    counts = wins.to_numpy(dtype=np.float64)
    if list(wins.index) != list(wins.columns):
        raise ValueError("rows and columns of the wins are not the same methods")
    if not (np.isfinite(counts) & (counts >= 0)).all() or prior < 0:
        raise ValueError("wins and prior are numbers of at least 0")
    counts = counts - np.diag(np.diag(counts))

    def loss(s: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        lead = s[:, None] - s
        surprise = counts * expit(-lead)  # (n, n): wins, times how unlikely they were
        gradient = surprise.sum(axis=0) - surprise.sum(axis=1) + prior * s
        return float(0.5 * prior * (s @ s) - (counts * log_expit(lead)).sum()), gradient

    found = minimize(loss, np.zeros(len(counts)), jac=True, method="BFGS", options={"gtol": 1e-8})
    return pd.Series(found.x - found.x.mean(), index=wins.index, name="strength")


def _resampled_means(numbers: NDArray[np.float64], seed: int) -> Iterator[NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    rows = max(1, CHUNK // len(numbers))
    for start in range(0, RESAMPLES, rows):
        chosen = random.integers(len(numbers), size=(min(rows, RESAMPLES - start), len(numbers)), dtype=np.int32)
        yield numbers[chosen].mean(axis=1)


def _signed_rank(differences: NDArray[np.float64]) -> float:
    if not len(differences):
        return float("nan")
    if not differences.any():
        return 1.0
    return float(wilcoxon(differences, zero_method="pratt").pvalue)
