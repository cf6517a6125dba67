"""The KL divergence of an image's values from N(0, 1), in nats: how near the state of a chain is to pure noise.

All values of an image or a latent are taken as draws of one distribution p. KL is ½ ln 2π + ½ E x² − h(p), where h is
the differential entropy. Two estimates of h give two of KL. By moments, h is that of the normal distribution with the
mean and variance of the values. By a histogram, h is that of 64 bins, each of one density. The second KL less the
first is the negentropy: how far the values are from any normal distribution.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

BINS = 64
"""Bins of one width, from the smallest value to the largest."""


def kl_by_moments(mean: float, variance: float) -> float:
    """½ (v + m² − 1 − ln v): exact where the values are normally distributed, else a lower bound.

    Infinite for values that are all equal.
    """
    return (variance + mean**2 - 1 - math.log(variance)) / 2 if variance > 0 else math.inf


def kl_by_histogram(values: ArrayLike) -> float:
    """½ ln 2π + ½ mean(x²) + Σ p ln(p / w), of the shares p of values in bins of width w.

    values: of any shape, at least one. Infinite for values that are all equal, NaN where one is not finite. n draws
    of a smooth density give about 63 / 2n too much, and bins that are wide beside its changes too little.
    """
    x = np.asarray(values, np.float64).ravel()
    if not np.isfinite(x).all():
        return math.nan
    if x.min() == x.max():
        return math.inf
    counts, edges = np.histogram(x, BINS)
    shares = counts[counts > 0] / len(x)
    width = (edges[-1] - edges[0]) / BINS
    return float((math.log(2 * math.pi) + np.mean(x**2)) / 2 + np.sum(shares * np.log(shares / width)))


def kl_of_exponential(rate: float) -> float:
    """KL(Exp(λ) ‖ N(0, 1)) = ln λ − 1 + ½ ln 2π + 1 / λ²; 3.2258 for λ = ½."""
    return math.log(rate) - 1 + math.log(2 * math.pi) / 2 + 1 / rate**2


def noised_moments(mean: float, variance: float, kept: float) -> tuple[float, float]:
    """Mean and variance of √ᾱ x + √(1 − ᾱ) ε of values x of a mean and a variance, ε ~ N(0, 1) (2006.11239, eq. 4).

    kept: ᾱ, in [0, 1].
    """
    return math.sqrt(kept) * mean, kept * variance + 1 - kept
