"""EDSR (1707.02921): residual blocks without normalisation on the LR image; small enough for a laptop.

It learns what to add to the bicubically enlarged image.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtls.models.base import departing
from dtls.models.regression import BlocksConfig, Regression


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))) (Fig. 2c)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(features, features, 3, padding=1)
        self.second = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


class EDSR(Regression):
    """Head, residual blocks with a shortcut over all of them, and pixel shuffle by the whole scale."""

    name = "edsr"
    config_type = BlocksConfig
    defaults = departing(learning_rate=5e-4, schedule="cosine", warmup=200, clip=1.0, batch_size=16)

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.scale, width = self.config.scale, self.config.features
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(width) for _ in range(self.config.blocks)))
        self.last = nn.Conv2d(width, width, 3, padding=1)
        self.tail = nn.Conv2d(width, 3 * self.scale**2, 3, padding=1)
        nn.init.zeros_(self.tail.weight)

    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        h = self.head(x)
        h = self.tail(h + self.last(self.body(h)))
        size = (self.scale * x.shape[-2], self.scale * x.shape[-1])
        with torch.autocast(x.device.type, enabled=False):  # an image wants more than bfloat16's 8 bits
            return F.pixel_shuffle(h, self.scale).float() + self.enlarged(x.float(), size)
