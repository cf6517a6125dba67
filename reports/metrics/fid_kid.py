"""How near a set of images is to another: FID (Heusel et al. 2017) and KID (Bińkowski et al. 2018).

Features, from `inception` or elsewhere, come batch by batch; a set keeps their mean and covariance, for FID, and a
sample of them, for KID, so memory does not grow with the number of images.
"""

import numpy as np
import torch
from torch import Tensor

from reports.metrics.metric import SetDistance, SetMetric

SAMPLE = 10_000
"""Features of so many images are kept for KID."""
SUBSETS, SUBSET_SIZE = 100, 1000
"""KID's, as in its paper and in torchmetrics."""
FID_LEAST, FID_SENSIBLE = 2_048, 10_000
"""Fewer images than features leave the covariance singular. Below 10,000, which Heusel et al. advise, FID's bias,
which depends on the number of images, is as large as what methods differ by."""
KID_LEAST, KID_SENSIBLE = 100, 1000
"""KID has no bias, only noise: hundreds do, a thousand shows the usual differences."""


class TooFewError(ValueError):
    """Too few images for a number that means something."""


class FeatureSet:
    """The features of a set of images, added in batches: their moments, and an even sample of `SAMPLE` of them."""

    def __init__(self, seed: int = 0) -> None:
        self.count = 0
        self._random = np.random.default_rng(seed)
        self._mean = self._scatter = torch.zeros(0)
        self._sample = torch.zeros(0)

    def add(self, features: Tensor) -> None:
        """Take features in, float (N, D) on any device; the moments stay on it in float64. ValueError for other D."""
        if features.ndim != 2 or (self.count and features.shape[1] != len(self._mean)):
            raise ValueError(f"features are (N, {len(self._mean) or 'D'}), not {tuple(features.shape)}")
        if not len(features):
            return
        self._keep(features)
        batch = features.double()
        mean = batch.mean(dim=0)
        scatter = (batch - mean).T @ (batch - mean)
        if self.count:  # Chan et al. 1979
            total = self.count + len(batch)
            lead = mean - self._mean
            scatter += self._scatter + torch.outer(lead, lead) * (self.count * len(batch) / total)
            mean = self._mean + lead * (len(batch) / total)
        self._mean, self._scatter = mean, scatter
        self.count += len(batch)

    @property
    def mean(self) -> Tensor:
        """float64 (D,)."""
        return self._mean

    @property
    def covariance(self) -> Tensor:
        """The sample's, over n − 1: float64 (D, D)."""
        return self._scatter / (self.count - 1)

    @property
    def sample(self) -> Tensor:
        """Features of min(count, SAMPLE) images, each as likely as any other: float32 (n, D)."""
        return self._sample[: self.count]

    def _keep(self, features: Tensor) -> None:
        """Reservoir sampling (Vitter's algorithm R)."""
        if not self.count:
            self._sample = torch.empty(SAMPLE, features.shape[1], device=features.device)
        places = np.arange(self.count, self.count + len(features))
        late = places >= SAMPLE
        places[late] = self._random.integers(0, places[late] + 1)
        for row, place in enumerate(places):
            if place < SAMPLE:
                self._sample[place] = features[row]


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
    description="Fréchet distance of InceptionV3's features of all images",
    compute=fid,
)
KID = SetMetric(
    name="kid",
    label="KID",
    decimals=4,
    lower_is_better=True,
    description="kernel distance of InceptionV3's features of all images",
    compute=kid,
)
