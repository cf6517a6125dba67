"""Base of the models beside DTLS that have our U-Net, and its configuration."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor

from dtls.errors import SizeError
from dtls.models.base import Config, Model
from dtls.networks.unet import UNet


@dataclass(frozen=True)
class UNetConfig(Config):
    """A configuration of a model that has our U-Net.

    dim: width of the first level; each of the next has twice that of the one before, at most 8 · dim. levels: how
    many there are, each with half the resolution. patch: side in pixels of what the network sees as one.
    """

    dim: int = 64
    levels: int = 4
    patch: int = 1

    @property
    def multipliers(self) -> tuple[int, ...]:
        return tuple(min(2**level, 8) for level in range(self.levels))

    def validate(self) -> Self:
        if any(type(n) is not int for n in (self.dim, self.levels, self.patch)):
            raise SizeError(
                f"dim, levels and patch are whole numbers, not {self.dim}, {self.levels} and {self.patch}"
            )
        if self.dim < 4 or self.dim % 2:
            raise SizeError(f"dim must be even and at least 4, not {self.dim}")
        if min(self.levels, self.patch) < 1:
            raise SizeError(f"levels and patch are at least 1, not {self.levels} and {self.patch}")
        multiple = self.patch * 2 ** (self.levels - 1)
        if self.size % multiple:
            raise SizeError(
                f"size {self.size} is no multiple of {multiple}: {self.levels} levels of patches of {self.patch}"
            )
        return super().validate()


class UNetModel(Model):
    """A chain of T timesteps with noise, and a network that learns what to add to the first three channels.

    conditions: channels of its input behind those.
    """

    draws = True
    walks = True
    conditions: ClassVar[int] = 0

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        c = self.config
        self.unet = UNet(c.dim, c.multipliers, residual=True, patch=c.patch, conditions=self.conditions)
        self.timesteps, self.multiple = c.timesteps, self.unet.multiple

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """U of (N, 3 + conditions, H, W) and timesteps (N,) → (N, 3, H, W)."""
        prediction: Tensor = self.unet(x, t)
        return prediction
