"""Base of the models that make images of a vector or an array z of noise, and of those whose z is x_T of a chain.

They learn from whole images, in colour or grey, and know nothing of LR images. `dtls.inference.generation.Generator`
uses them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from dtls.degradations.grayscale import luma
from dtls.errors import SizeError
from dtls.models.base import Callback, Compare, Draws, Model, Network, Noise, Sized
from dtls.models.diffusion import ChainConfig, Diffusion, NoiseLoss

MAX_SIZE = 1024
"""Pixels of a side: more are made by an upscaler."""


@dataclass(frozen=True)
class GenerativeConfig(Sized):
    """size: side in pixels of the images. channels: 3 for colour, 1 for grey."""

    size: int = 32
    channels: int = 3

    @property
    def image_channels(self) -> int:
        return self.channels

    @property
    def summary(self) -> str:
        return f"{self.size}×{self.size} pixels in {'colour' if self.channels == 3 else 'grey'}"

    def validate(self) -> Self:
        if self.channels not in (1, 3):
            raise SizeError(f"channels are 1, for grey images, or 3, not {self.channels!r}")
        super().validate()
        if self.size > MAX_SIZE:
            raise SizeError(f"size is at most {MAX_SIZE:,} pixels, not {self.size:,}; an upscaler makes more of them")
        return self


@dataclass(frozen=True)
class Way:
    """How a generative model is used, by the sampler that is chosen.

    images: from network, z, the images' seeds (N,) and a callback that sees each step, to images (N, C, S, S), not
    clamped.
    z: from network and images in [0, 1] to the z that these are made of; None where the sampler has no way back.
    partly: from network, images, strength in (0, 1], seeds and a callback to images that begin as those; None where
    it cannot.
    made_with: what of it identifies results.
    """

    images: Callable[[Network, Tensor, Tensor, Callback | None], Tensor]
    z: Callable[[Network, Tensor], Tensor] | None
    partly: Callable[[Network, Tensor, float, Tensor, Callback | None], Tensor] | None
    made_with: Mapping[str, str]


class Generative(Model):
    """Makes images (N, C, S, S) of z (N, *z_shape), which is standard normal."""

    generates = True
    restores = False
    draws = True
    z_shape: tuple[int, ...]

    def way(self, sampler: str | None, steps: int | None) -> Way:
        """How images are made, by a sampler's name and its number of steps; ValueError for what it does not have."""
        raise NotImplementedError

    def of_colour(self, images: Tensor) -> Tensor:
        """Images (N, 3, S, S) as the model knows them: their luma, (N, 1, S, S), where it is of grey ones."""
        return luma(images) if self.config.channels == 1 else images


@dataclass(frozen=True)
class GenerativeChainConfig(GenerativeConfig, ChainConfig):
    """The first and last β are the slides', 1e-4 and 0.02 at T = 1000, as in 2006.11239; other T scale them."""

    beta_times_t: ClassVar[tuple[float, float]] = (0.1, 20.0)
    size: int = 32
    levels: int = 3
    timesteps: int = 1000
    noise_loss: NoiseLoss = "mse"


class GenerativeChain(Generative, Diffusion):
    """z is x_T, and images are what the chain makes of it.

    Images whose sides the network cannot halve often enough are given edges, which are cut off again: with four
    levels it sees 32 pixels of 28.
    """

    is_conditional = False
    config_type: ClassVar[type[ChainConfig]] = GenerativeChainConfig

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        c: GenerativeChainConfig = self.config
        self.side = -(-c.size // self.multiple) * self.multiple
        self.z_shape = (c.state_channels, self.side // c.reduction, self.side // c.reduction)

    def encoded(self, images: Tensor) -> Tensor:
        return super().encoded(self.with_edges(images))

    def decoded(self, x0: Tensor) -> Tensor:
        before, size = (self.side - self.config.size) // 2, self.config.size
        return super().decoded(x0)[..., before : before + size, before : before + size]

    def with_edges(self, images: Tensor) -> Tensor:
        """Images as the network sees them: what they lack is the nearest pixel there is, half of it on each side."""
        lack = self.side - images.shape[-1]
        return F.pad(images, (lack // 2, lack - lack // 2) * 2, mode="replicate")

    def loss(self, network: Network, hr: Tensor, drawn: Draws, compare: Compare) -> Tensor:
        """Between ε and ε_θ(x_t, t) (2006.11239, eq. 14), or, in its stage, that of the autoencoder."""

        def in_colour(made: Tensor, true: Tensor) -> Tensor:
            return compare(made.expand(-1, 3, -1, -1), true.expand(-1, 3, -1, -1))

        return super().loss(network, self.with_edges(self.of_colour(hr)), drawn, in_colour)

    def way(self, sampler: str | None, steps: int | None) -> Way:
        """`ddim` in 50 steps unless said, or `ddpm` in T."""
        scheduler, chosen = self.scheduled(sampler, steps)
        timesteps = [index + 1 for index in scheduler.timesteps.tolist()]

        def images(network: Network, z: Tensor, seeds: Tensor, callback: Callback | None) -> Tensor:
            return self.walked(network, scheduler, None, z, Noise(seeds), callback)

        def partly(
            network: Network, given: Tensor, strength: float, seeds: Tensor, callback: Callback | None
        ) -> Tensor:
            """SDEdit (2108.01073): noised to the step of the sampler nearest below strength · T, then as ever."""
            t = max((t for t in timesteps if t <= strength * self.timesteps), default=timesteps[-1])
            noise, x0 = Noise(seeds), self.encoded(given)
            state = self.noised(x0, torch.full((len(x0),), t, device=x0.device), noise(x0))
            return self.walked(network, scheduler, None, state, noise, callback, start=t)

        return Way(images, None, partly, chosen)
