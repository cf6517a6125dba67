"""DDPM (2006.11239): images of noise, in 50 steps of DDIM or in the T of the chain."""

from dataclasses import dataclass

from torch import Tensor

from dtls.models.base import departing
from dtls.models.generative import GenerativeChain, GenerativeChainConfig


@dataclass(frozen=True)
class DDPMConfig(GenerativeChainConfig):
    """The configuration of a DDPM of pixels."""


class DDPM(GenerativeChain):
    """x_0 is the image in [−1, 1]."""

    name = "ddpm"
    config_type = DDPMConfig
    defaults = departing(learning_rate=2e-4, schedule="cosine", warmup=500, clip=1.0, batch_size=32)

    def encoded(self, images: Tensor) -> Tensor:
        return self.with_edges(images) * 2 - 1

    def decoded(self, x0: Tensor) -> Tensor:
        return self.without_edges(x0 + 1) / 2
