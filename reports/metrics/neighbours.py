"""What nearest neighbours tell of two sets: precision, recall, density, coverage, and the nearest training image.

A set's manifold is the union of the balls around its features, each as large as the distance to its own k-th nearest
neighbour (Kynkäänniemi et al. 2019, arXiv 1904.06991). Distances are computed in blocks, so memory grows with the
number of images, not with its square.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from reports.metrics.metric import Metric, SetDistance, SetMetric, SetPair, TooFewError

K = 5
"""Neighbours that a ball reaches to, as in arXiv 2002.09797."""
BLOCK = 2048
"""Features of each set that are compared at a time: a block of distances takes 32 MiB."""
ROUNDING = 1e-6
"""Two features that are nearer than this part of their lengths are one: the rest is rounding."""
LEAST, SENSIBLE = 100, 1000
"""Shares of fewer images are too coarse to compare, or have to be compared with shares of as many."""


@dataclass(frozen=True)
class Neighbourhoods:
    """How a generated set and a real one cover each other; each number is 0 … 1, but density, which may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def neighbourhoods(generated: Tensor, real: Tensor, k: int = K) -> Neighbourhoods:
    """Precision and recall (arXiv 1904.06991), density and coverage (arXiv 2002.09797) of features.

    generated: float (M, D). real: float (N, D). With r_i the distance of a real image i to its k-th nearest other
    real image, precision is the share of generated images within any r_i, coverage the share of real images that have
    a generated image within r_i, density the number of pairs within r_i over k·M. Recall is precision with the sets
    exchanged. ValueError unless each set has more than k images.
    """
    if min(len(generated), len(real)) <= k:
        raise ValueError(f"a ball to neighbour {k} needs more than {k} images in each set")
    real_radii, generated_radii = radii(real, k), radii(generated, k)
    within_real = torch.zeros(len(generated), dtype=torch.long, device=generated.device)
    within_generated = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    covered = torch.zeros_like(within_generated)
    for rows, columns, distances in _blocks(generated, real):
        is_near = distances <= real_radii[columns]
        within_real[rows] += is_near.sum(dim=1)
        covered[columns] |= is_near.any(dim=0)
        within_generated[columns] |= (distances <= generated_radii[rows, None]).any(dim=0)
    return Neighbourhoods(
        precision=(within_real > 0).double().mean().item(),
        recall=within_generated.double().mean().item(),
        density=within_real.sum().item() / (k * len(generated)),
        coverage=covered.double().mean().item(),
    )


def radii(x: Tensor, k: int = K) -> Tensor:
    """The Euclidean distance of each feature to its k-th nearest other one: float64 (N,) of float (N, D), N > k."""
    nearest = torch.full((len(x), k), torch.inf, dtype=torch.float64, device=x.device)
    for rows, columns, distances in _blocks(x, x):
        own = torch.arange(rows.start, rows.stop, device=x.device)[:, None]
        distances[own == torch.arange(columns.start, columns.stop, device=x.device)] = torch.inf
        found = torch.cat([nearest[rows], distances], dim=1)
        nearest[rows] = found.topk(k, dim=1, largest=False).values
    return nearest[:, -1]


def nearest(x: Tensor, others: Iterable[Tensor], own: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """For each of x, float (N, D): the distance to the nearest of `others`, and its place among all of these.

    others: float (M, D) each; only one is in memory at a time. own: int64 (N,), the place that each of x itself has
    among them, which does not count. Returns float64 (N,), infinite where there is none, and int64 (N,), −1 there.
    """
    found = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    places = torch.full((len(x),), -1, dtype=torch.long, device=x.device)
    start = 0
    for part in others:
        for rows, columns, distances in _blocks(x, part.to(x.device)):
            if own is not None:
                there = torch.arange(start + columns.start, start + columns.stop, device=x.device)
                distances[own[rows, None] == there] = torch.inf
            distance, place = distances.min(dim=1)
            is_nearer = distance < found[rows]
            found[rows] = torch.where(is_nearer, distance, found[rows])
            places[rows] = torch.where(is_nearer, start + columns.start + place, places[rows])
        start += len(part)
    return found, places


def _blocks(x: Tensor, y: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Rows of x, rows of y, and their distances: float64 (n, m). What is only rounding is 0."""
    for top in range(0, len(x), BLOCK):
        rows = slice(top, min(top + BLOCK, len(x)))
        a = x[rows].double()
        for left in range(0, len(y), BLOCK):
            columns = slice(left, min(left + BLOCK, len(y)))
            b = y[columns].double()
            distances = torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist")
            lengths = a.norm(dim=1)[:, None] + b.norm(dim=1)
            yield rows, columns, distances.masked_fill_(distances <= ROUNDING * lengths, 0)


def _neighbourhoods(pair: SetPair) -> Neighbourhoods:
    return pair.kept.once("neighbourhoods", lambda: neighbourhoods(pair.made.sample, pair.real.sample))


def _metric(name: str, description: str) -> SetMetric:
    def compute(pair: SetPair) -> SetDistance:
        images = min(pair.made.count, pair.real.count)
        if images < LEAST:
            raise TooFewError(
                f"precision, recall, density and coverage of {images:,} images would be noise: they need {LEAST:,} "
                "or more in each set"
            )
        warning = None
        if images < SENSIBLE:
            warning = (
                f"precision, recall, density and coverage of {images:,} images are coarse: compare them only with "
                "those of as many"
            )
        return SetDistance(getattr(_neighbourhoods(pair), name), None, images, warning)

    return SetMetric(
        name=name,
        label=name.capitalize(),
        decimals=3,
        lower_is_better=False,
        description=description,
        compute=compute,
    )


PRECISION = _metric("precision", "share of the results within the manifold of the real images, arXiv 1904.06991")
RECALL = _metric("recall", "share of the real images within the manifold of the results, arXiv 1904.06991")
DENSITY = _metric("density", "how many real images' neighbourhoods a result is in, over k, arXiv 2002.09797")
NEAR_TRAINING = Metric(
    name="near_training",
    label="Near training",
    decimals=3,
    lower_is_better=True,
    description="share of the samples that are nearer to a training image than 99 % of the real images are: 0.01 is "
    "chance, more is memorised",
)
COVERAGE = _metric("coverage", "share of the real images with a result in their neighbourhood, arXiv 2002.09797")
