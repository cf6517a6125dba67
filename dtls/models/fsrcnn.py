"""FSRCNN(56, 12, 4) (1608.00367) for RGB: all but the last layer work on the LR image: 24,683 parameters."""

from typing import Any

from torch import nn

from dtls.models.base import departing
from dtls.models.regression import Regression

FEATURES, SHRUNK, MAPPINGS = 56, 12, 4


class FSRCNN(Regression):
    """Extraction, shrinking, mapping, expanding, and a 9×9 transposed convolution by the scale (§3.2)."""

    name = "fsrcnn"
    defaults = departing(learning_rate=1e-3, schedule="cosine", warmup=100, loss="mse")

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.scale = self.config.scale
        mapping = [
            layer for _ in range(MAPPINGS) for layer in (nn.Conv2d(SHRUNK, SHRUNK, 3, padding=1), nn.PReLU(SHRUNK))
        ]
        self.network = nn.Sequential(
            nn.Conv2d(3, FEATURES, 5, padding=2),
            nn.PReLU(FEATURES),
            nn.Conv2d(FEATURES, SHRUNK, 1),
            nn.PReLU(SHRUNK),
            *mapping,
            nn.Conv2d(SHRUNK, FEATURES, 1),
            nn.PReLU(FEATURES),
            nn.ConvTranspose2d(FEATURES, 3, 9, self.scale, padding=4, output_padding=self.scale - 1),
        )
