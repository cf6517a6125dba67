"""`dcgan` (1511.06434): images of a vector z in one step, by a generator that is trained against a critic.

The baseline of generation: it has no way back from images to z, and is not as diverse as what diffusion makes.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from dtls.errors import SizeError
from dtls.models.base import Callback, Compare, Draws, Network, Noise, departing
from dtls.models.generative import Generative, GenerativeConfig, Way
from dtls.networks.critic import ImageCritic, small

FIRST = 4
"""Side in pixels of what the first layer makes of z."""


@dataclass(frozen=True)
class DCGANConfig(GenerativeConfig):
    """numbers: of z. width: of the layer before the image, and of the critic's first; those away from the image have
    twice the width of the one before."""

    numbers: int = 100
    width: int = 64

    @property
    def doublings(self) -> int:
        """Layers that double the side of what the first one makes, until it is no smaller than the image."""
        return max(1, (-(-self.size // FIRST) - 1).bit_length())

    def validate(self) -> Self:
        super().validate()
        for name in ("numbers", "width"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise SizeError(f"{name} is a whole number, at least 1, not {getattr(self, name)!r}")
        if self.size < 2 * FIRST:
            raise SizeError(f"size is at least {2 * FIRST} pixels, not {self.size}")
        return self


class DCGAN(Generative):
    """z (N, 100) is standard normal; of the square that the layers make, the middle is the image."""

    name = "dcgan"
    config_type: ClassVar[type[Any]] = DCGANConfig
    compares = False
    defaults = departing(learning_rate=2e-4, beta1=0.5, batch_size=128)

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        c: DCGANConfig = self.config
        self.z_shape = (c.numbers,)
        width = c.width * 2 ** (c.doublings - 1)
        layers = [nn.ConvTranspose2d(c.numbers, width, FIRST, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        for _ in range(c.doublings - 1):
            layers += [nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(width // 2), nn.ReLU()]
            width //= 2
        last = nn.ConvTranspose2d(width, c.channels, 4, stride=2, padding=1)
        self.layers = nn.Sequential(*layers, last, nn.Tanh())
        self.layers.apply(small)

    def critic(self) -> ImageCritic:
        return ImageCritic(self.config.size, self.config.channels, self.config.width)

    def forward(self, z: Tensor, _: Tensor) -> Tensor:
        """Images (N, C, S, S) in [0, 1] of z (N, 100)."""
        made, size = self.layers(z[:, :, None, None]), self.config.size
        before = (made.shape[-1] - size) // 2
        return (made[..., before : before + size, before : before + size] + 1) / 2

    def loss(self, network: Network, hr: Tensor, drawn: Draws, compare: Compare) -> Tensor:
        """What the critic says of images of new z beside these."""
        z = Noise(drawn.seeds)(hr.new_empty(len(hr), *self.z_shape))
        return compare(network(z, drawn.t), self.of_colour(hr))

    def way(self, sampler: str | None, steps: int | None) -> Way:
        """In one step; ValueError for a sampler, or a number of steps."""
        if sampler is not None or steps is not None:
            raise ValueError(f"{self.name} makes images in one step, by no sampler: give neither sampler nor steps")

        def images(network: Network, z: Tensor, _: Tensor, __: Callback | None) -> Tensor:
            return network(z, torch.zeros(len(z), device=z.device))

        return Way(images, None, None, {})
