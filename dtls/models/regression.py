"""Base of the models that predict the SR image in one step and learn by its distance from the HR image."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from dtls.errors import SizeError
from dtls.models.base import Compare, Config, Draws, Model, Network


@dataclass(frozen=True)
class BlocksConfig(Config):
    """features: width of every layer. blocks: how many blocks there are one after the other."""

    features: int = 64
    blocks: int = 8

    def validate(self) -> Self:
        if min(self.features, self.blocks) < 1:
            raise SizeError(f"features and blocks are at least 1, not {self.features} and {self.blocks}")
        return super().validate()


class Regression(Model):
    """x ↦ SR by one network. Where `scale` is 1, x is the enlarged LR image, else the LR image itself."""

    network: nn.Module

    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        made: Tensor = self.network(x)
        return made

    def loss(self, network: Network, hr: Tensor, drawn: Draws, compare: Compare) -> Tensor:
        lr = self.lr(hr, drawn)
        x = lr if self.scale > 1 else self.enlarged(lr, (hr.shape[-2], hr.shape[-1]))
        return compare(network(x, drawn.t), hr)

    def restore(self, network: Network, x: Tensor, *_: object) -> Tensor:
        return network(x, torch.ones(len(x), device=x.device))
