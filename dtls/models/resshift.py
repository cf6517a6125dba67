"""ResShift (2307.12348) in pixel space: a short chain from the HR image x_0 to the noisy enlarged LR image y_0.

The paper's images are in [−1, 1] and ours in [0, 1], so that its noise of κ√η_t is κ√η_t / 2 here; everything else
of the chain is the same in both ranges. There is no autoencoder.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from dtls.errors import SizeError
from dtls.models.base import Callback, Compare, Draws, Network, Noise, check_timesteps, departing
from dtls.models.unet_based import UNetConfig, UNetModel

LAST_ETA = 0.999


@dataclass(frozen=True)
class ResShiftConfig(UNetConfig):
    """timesteps: T; 15 in the paper, 4 with a first_noise of 0.2 in the authors' later code.

    power: p of the schedule, larger for a slower shift at first. kappa: κ, the strength of the noise, which at T has
    a deviation of κ√η_T. first_noise: κ√η_1, the deviation at t = 1. Deviations are those of images in [−1, 1].
    """

    timesteps: int = 15
    power: float = 0.3
    kappa: float = 2.0
    first_noise: float = 0.04

    def validate(self) -> Self:
        if type(self.timesteps) is not int or self.timesteps < 2:
            raise SizeError(f"timesteps are at least 2, not {self.timesteps}")
        check_timesteps(self.timesteps)
        if not (0 < self.power < math.inf and 0 < self.kappa < math.inf):
            raise SizeError(f"power and kappa are larger than 0, not {self.power:g} and {self.kappa:g}")
        last = self.kappa * math.sqrt(LAST_ETA)
        if not 0 < self.first_noise < last:
            raise SizeError(f"first_noise lies between 0 and the last timestep's {last:g}, not {self.first_noise:g}")
        return super().validate()


def shifts(config: ResShiftConfig) -> Tensor:
    """η_0 … η_T (§2.2), float64 (T + 1,): √η_t = √η_1 b^β_t, β_t = ((t − 1) / (T − 1))^p (T − 1), η_0 = 0.

    b is such that η_T is 0.999; η_1 is (first_noise / κ)². The paper's further bound of η_1 ≤ 0.001 holds for its
    own κ anyway, and not for the authors' four steps.
    """
    first, last = config.first_noise / config.kappa, math.sqrt(LAST_ETA)
    place = torch.linspace(0, 1, config.timesteps, dtype=torch.float64) ** config.power
    return torch.cat([place.new_zeros(1), (first * (last / first) ** place) ** 2])


class ResShift(UNetModel):
    """U(y_0, x_t, t) → x_0. It learns what to add to y_0, so that it starts as the enlarged image."""

    name = "resshift"
    config_type = ResShiftConfig
    conditions = 3
    defaults = departing(learning_rate=1e-3, schedule="cosine", warmup=500, clip=1.0, loss="mse")
    eta: Tensor

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.register_buffer("eta", shifts(self.config).float(), persistent=False)

    def noised(self, x0: Tensor, y0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = x_0 + η_t (y_0 − x_0) + κ√η_t / 2 ε (§2.1), of timesteps (N,); t = 0 is x_0."""
        eta = self.eta[t][:, None, None, None]
        return x0 + eta * (y0 - x0) + self.config.kappa / 2 * eta.sqrt() * noise

    def seen(self, x: Tensor, y0: Tensor, t: Tensor) -> Tensor:
        """What the network is given: y_0, then x_t drawn towards grey by 1 + 3κ√η_t, as the authors' code does it.

        That holds it in [0, 1], but for a few pixels whose noise is larger than three deviations.
        """
        width = 1 + 3 * self.config.kappa * self.eta[t].sqrt()[:, None, None, None]
        return torch.cat((y0, 0.5 + (x - 0.5) / width), dim=1)

    def loss(self, network: Network, hr: Tensor, drawn: Draws, compare: Compare) -> Tensor:
        """Between x_0 and U(y_0, x_t, t) (§2.1; without its weights, as in the paper's experiments)."""
        y0 = self.enlarged(self.lr(hr, drawn), (hr.shape[-2], hr.shape[-1]))
        x = self.noised(hr, y0, drawn.t, Noise(drawn.seeds)(hr))
        return compare(network(self.seen(x, y0, drawn.t), drawn.t), hr)

    def posterior(self, x: Tensor, x0: Tensor, t: int, noise: Tensor) -> Tensor:
        """A draw of q(x_{t−1} | x_t, x_0, y_0) (§2.1); at t = 1 it is x_0 itself.

        Its mean is η_{t−1}/η_t x_t + α_t/η_t x_0 with α_t = η_t − η_{t−1}, its variance κ² η_{t−1}/η_t α_t / 4.
        """
        before, now = self.eta[t - 1], self.eta[t]
        kept = before / now
        return kept * x + (1 - kept) * x0 + self.config.kappa / 2 * (kept * (now - before)).sqrt() * noise

    def restore(self, network: Network, x: Tensor, _: float, seeds: Tensor, callback: Callback | None, /) -> Tensor:
        """From x_T = y_0 + κ√η_T / 2 ε in T calls, y_0 being x, the enlarged images."""
        noise, y0 = Noise(seeds), x
        x = y0 + self.config.kappa / 2 * self.eta[-1].sqrt() * noise(y0)
        for s in range(self.timesteps, 0, -1):
            t = torch.full((len(x),), s, device=x.device)
            x0 = network(self.seen(x, y0, t), t)
            if callback is not None:
                callback(s, x, x0)
            x = self.posterior(x, x0, s, noise(x))
        if callback is not None:
            callback(0, x, x)
        return x
