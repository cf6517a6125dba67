"""The features of a set of images, in bounded memory: their moments, and an even sample of them."""

import numpy as np
import torch
from torch import Tensor

SAMPLE = 10_000
"""Features of so many images are kept for what needs single ones, such as KID and precision."""


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
