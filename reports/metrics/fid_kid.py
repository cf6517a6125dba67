"""How near a set of images is to another: FID (Heusel et al. 2017) and KID (Bińkowski et al. 2018).

Both are the formulas of torchmetrics, which the tests compare with, on features that are bounded in memory.
"""

import numpy as np
import torch
from torch import Tensor

from reports.metrics.feature_set import FeatureSet
from reports.metrics.metric import SetDistance, SetMetric, TooFewError

SUBSETS, SUBSET_SIZE = 100, 1000
"""KID's, as in its paper and in torchmetrics."""
FID_LEAST, FID_SENSIBLE = 2_048, 10_000
"""Fewer images than features leave the covariance singular. Below 10,000, which Heusel et al. advise, FID's bias,
which depends on the number of images, is as large as what methods differ by."""
KID_LEAST, KID_SENSIBLE = 100, 1000
"""KID has no bias, only noise: hundreds do, a thousand shows the usual differences."""


def fid(a: FeatureSet, b: FeatureSet) -> SetDistance:
    """Fréchet distance |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2(Σ_a Σ_b)^½) between the normal distributions of two sets.

    TooFewError below 2,048 images in a set; flagged below 10,000.
    """
    images = _enough(a, b, "FID", FID_LEAST)
    warning = None
    if images < FID_SENSIBLE:
        warning = f"FID of {images:,} images is biased: compare it only with FIDs of as many; KID is not"
    return SetDistance(frechet(a.mean, a.covariance, b.mean, b.covariance), None, images, warning)


def kid(a: FeatureSet, b: FeatureSet, *, seed: int = 0) -> SetDistance:
    """Kernel distance: the unbiased MMD² under (x·y/D + 1)³, mean and standard deviation over 100 random subsets.

    A subset has 1,000 images, or half the smaller set's where that is less, so that subsets differ. It may be a
    little below 0. TooFewError below 100 images in a set; flagged below 1,000.
    """
    images = _enough(a, b, "KID", KID_LEAST)
    random = np.random.default_rng(seed)
    x, y = a.sample, b.sample
    size = min(SUBSET_SIZE, len(x) // 2, len(y) // 2)
    values = []
    for _ in range(SUBSETS):
        rows, columns = (torch.from_numpy(random.choice(len(s), size, replace=False)).to(s.device) for s in (x, y))
        values.append(squared_mmd(x[rows].double(), y[columns].double()))
    warning = None
    if images < KID_SENSIBLE:
        warning = f"KID of {images:,} images is noisy: look at its spread before you compare"
    return SetDistance(float(np.mean(values)), float(np.std(values)), images, warning)


def frechet(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """FID's formula of means (D,) and covariances (D, D), float64.

    The trace of (Σ_a Σ_b)^½ is the sum of the roots of the eigenvalues of Σ_a^½ Σ_b Σ_a^½, which is symmetric.
    """
    values, vectors = torch.linalg.eigh(covariance_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ covariance_b @ root).clamp(min=0).sqrt().sum()
    lead = mean_a - mean_b
    return float(lead @ lead + covariance_a.trace() + covariance_b.trace() - 2 * cross)


def squared_mmd(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate of MMD² under the cubic kernel of features (n, D) and (m, D), n and m at least 2."""
    within = (_cubic(s, s).sum() - _cubic_norms(s) for s in (x, y))
    own = sum(total / (len(s) * (len(s) - 1)) for total, s in zip(within, (x, y), strict=True))
    return float(own - 2 * _cubic(x, y).mean())


def _cubic(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _cubic_norms(x: Tensor) -> Tensor:
    """The sum of a kernel matrix's diagonal."""
    return ((x.square().sum(dim=1) / x.shape[1] + 1) ** 3).sum()


def _enough(a: FeatureSet, b: FeatureSet, name: str, least: int) -> int:
    images = min(a.count, b.count)
    if images < least:
        raise TooFewError(f"{name} of {images:,} images would be noise: it needs {least:,} or more in each set")
    return images


FID = SetMetric(
    name="fid",
    label="FID",
    decimals=2,
    lower_is_better=True,
    description="Fréchet distance of the features of all images, InceptionV3's in papers",
    compute=lambda pair: fid(pair.made, pair.real),
)
KID = SetMetric(
    name="kid",
    label="KID",
    decimals=4,
    lower_is_better=True,
    description="kernel distance of the features of all images, InceptionV3's in papers",
    compute=lambda pair: kid(pair.made, pair.real),
)
