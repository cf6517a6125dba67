"""Inverse heat dissipation (2206.13397) for super-resolution: a network that undoes a blur step by step.

u_t is the image after so much of the heat equation as blurs it by σ_t pixels. The paper makes images of almost
nothing, from a blur as wide as the image; here the sampler starts from the enlarged LR image, as the u_t that is
about as blurred. The network never sees an LR image in training.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from dtls.degradations.base import is_linear
from dtls.degradations.blur import blurred
from dtls.errors import SizeError
from dtls.models.base import Callback, Compare, Draws, Network, Noise, check_timesteps, departing
from dtls.models.unet_based import UNetConfig, UNetModel

SMALLEST = 0.5
"""σ_1 in pixels, as in the paper's experiments."""
PER_SCALE = 0.43
"""σ of the Gaussian blur nearest to making an image smaller and enlarging it again, in pixels, by the scale.

Nearest in mean squared error, on photographs: 0.415 to 0.445 for ×2 to ×32 by the protocol antialias, by reference
0.435 to 0.455, and 0.515 for ×2.
"""
NOISE, DELTA = 0.01, 0.0125
"""Deviations of the noise, σ in training and δ = 1.25 σ in sampling, for images in [0, 1]; the paper's."""


@dataclass(frozen=True)
class HeatConfig(UNetConfig):
    """timesteps: T. sigma_max: the widest blur σ_T in pixels; 0 for what the scale takes."""

    timesteps: int = 50
    sigma_max: float = 0.0

    @property
    def widest(self) -> float:
        return self.sigma_max or PER_SCALE * self.scale

    def validate(self) -> Self:
        super().validate()
        if not is_linear(self.protocol):
            raise SizeError("heat learns from blurred images, never from LR images: there is no realworld for it")
        if type(self.timesteps) is not int or self.timesteps < 2:
            raise SizeError(f"timesteps are at least 2, not {self.timesteps}")
        check_timesteps(self.timesteps)
        if not PER_SCALE * self.scale <= self.widest < math.inf:
            raise SizeError(f"×{self.scale} blurs by {PER_SCALE * self.scale:g} pixels, not by {self.sigma_max:g}")
        return self


def blurs(config: HeatConfig) -> Tensor:
    """σ_0 … σ_T in pixels, float64 (T + 1,): σ_0 = 0, then evenly in log σ from SMALLEST to the widest."""
    steps = torch.linspace(math.log(SMALLEST), math.log(config.widest), config.timesteps, dtype=torch.float64)
    return torch.cat([steps.new_zeros(1), steps.exp()])


class Heat(UNetModel):
    """U(u_t + σ ε, t) → u_{t−1}; the network learns what to add (§3), and starts as the identity."""

    name = "heat"
    config_type = HeatConfig
    takes_any_protocol = False
    defaults = departing(learning_rate=2e-4, schedule="cosine", warmup=500, clip=1.0, loss="mse")
    sigma: Tensor

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.register_buffer("sigma", blurs(self.config).float(), persistent=False)

    def loss(self, network: Network, hr: Tensor, drawn: Draws, compare: Compare) -> Tensor:
        """Between u_{t−1} and U(u_t + σ ε, t) (algorithm 1)."""
        noisy = blurred(hr, self.sigma[drawn.t]) + NOISE * Noise(drawn.seeds)(hr)
        return compare(network(noisy, drawn.t), blurred(hr, self.sigma[(drawn.t - 1).clamp(min=0)]))

    def check_scale(self, scale: float) -> None:
        largest = self.config.widest / PER_SCALE
        if not 1 < scale <= largest * (1 + 1e-6):
            raise SizeError(f"this checkpoint upscales by more than ×1 and at most ×{largest:g}, not ×{scale:g}")

    def timestep(self, scale: float) -> int:
        """The t in 1…T whose blur is nearest to that of the scale, by its logarithm."""
        wanted = math.log(PER_SCALE * scale)
        return 1 + int((self.sigma[1:].log() - wanted).abs().argmin())

    def restore(
        self, network: Network, x: Tensor, scale: float, seeds: Tensor, callback: Callback | None, /
    ) -> Tensor:
        """u_{s−1} = U(u_s + δ ε, s) from the t of the scale on, u_t being x, the enlarged images (algorithm 2).

        Noise comes before every call, so to x, too (the prior has it in the paper, not in the authors' code), and not
        after the last.
        """
        noise = Noise(seeds)
        for s in range(self.timestep(scale), 0, -1):
            before, x = x, network(x + DELTA * noise(x), torch.full((len(x),), s, device=x.device))
            if callback is not None:
                callback(s, before, x)
        if callback is not None:
            callback(0, x, x)
        return x
