"""`classifier`: a small network that tells the classes of images apart, by which sets of new ones are judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtls.degradations.resize import resize
from dtls.errors import SizeError
from dtls.models.base import Compare, Draws, Model, Network, Sized, departing

MAX_CLASSES = 10_000
DOUBLINGS = 3
"""Layers that have twice the width, and half the resolution, of the one before."""


@dataclass(frozen=True)
class ClassifierConfig(Sized):
    """size: side in pixels of what the network sees. classes: their names. width: of the first layer."""

    size: int = 32
    classes: Sequence[str] = ()
    width: int = 32

    @property
    def summary(self) -> str:
        return f"{self.size}×{self.size} pixels to {len(self.classes)} classes"

    def validate(self) -> Self:
        super().validate()
        if type(self.width) is not int or self.width < 4 or self.width % 4:
            raise SizeError(f"width is a multiple of 4, not {self.width!r}")
        if self.size < 2**DOUBLINGS:
            raise SizeError(f"size is at least {2**DOUBLINGS} pixels, not {self.size}")
        if len(self.classes) > MAX_CLASSES or len({*self.classes}) < len(self.classes):
            raise SizeError(f"classes are at most {MAX_CLASSES:,} names, each another")
        if any(type(name) is not str for name in self.classes):
            raise SizeError("classes are names")
        return self


class Classifier(Model):
    """classes: their names, in the order of what `probabilities` gives."""

    name = "classifier"
    config_type: ClassVar[type[Any]] = ClassifierConfig
    compares = False
    restores = False
    classifies = True
    defaults = departing(steps=2000, learning_rate=1e-3, schedule="cosine", warmup=100, batch_size=64)

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        c: ClassifierConfig = self.config
        self.classes = tuple(c.classes)
        if len(self.classes) < 2:
            raise SizeError(f"a classifier tells at least 2 classes apart, not {len(self.classes)}")
        width = c.width
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.GroupNorm(4, width), nn.SiLU()]
        for _ in range(DOUBLINGS):
            layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.GroupNorm(4, 2 * width), nn.SiLU()]
            width *= 2
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, len(self.classes))]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, S, S) in [0, 1]."""
        logits: Tensor = self.layers(x * 2 - 1)
        return logits

    def loss(self, network: Network, hr: Tensor, drawn: Draws, _: Compare) -> Tensor:
        """The cross-entropy of the classes that images are of."""
        return F.cross_entropy(network(hr, drawn.t), drawn.labels)

    def probabilities(self, images: Tensor) -> Tensor:
        """Of each class, float32 (N, classes), of images (N, 3, H, W) in [0, 1] of any size.

        They are reduced, or enlarged, until their shorter side is the one learned, then cut to the middle square.
        """
        height, width = images.shape[-2:]
        side, shorter = self.config.size, min(height, width)
        size = (max(side, round(height * side / shorter)), max(side, round(width * side / shorter)))
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        x = resize(images, size, "antialias").clamp(0, 1)[..., top : top + side, left : left + side]
        return self(x, torch.ones(len(x), device=x.device)).float().softmax(1)
