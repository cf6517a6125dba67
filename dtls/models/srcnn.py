"""SRCNN (1501.00092): three convolutions on the enlarged image, 9-5-5, RGB: 69,251 parameters."""

from typing import Any

from torch import nn

from dtls.models.base import departing
from dtls.models.regression import Regression


class SRCNN(Regression):
    """Patch extraction, non-linear mapping, reconstruction (§3.1), of 64 and 32 features; sides stay as they are."""

    name = "srcnn"
    defaults = departing(learning_rate=1e-3, schedule="cosine", warmup=100, loss="mse")

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.network = nn.Sequential(
            nn.Conv2d(3, 64, 9, padding=4),
            nn.ReLU(),
            nn.Conv2d(64, 32, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(32, 3, 5, padding=2),
        )
