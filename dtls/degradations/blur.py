"""`blur:σ`: the Gaussian blur of the heat equation, which multiplies each cosine of an image by a gain of its own.

D_t = Vᵀ exp(−Λ (σ t/T)² / 2) V, A = D_T. V is the orthonormal DCT-II, so nothing flows across the borders; Λ are the
squared frequencies. D_t is self-adjoint, and blurs add up as their σ² do.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dtls.degradations.operator import NOTHING, STEPS, Info, Operator
from dtls.degradations.resize import kept

LEAST_GAIN = 1e-3
"""Of cosines that are restored from an exact observation; weaker ones are left as they are."""
DEVIATION = 0.03
"""What results are taken to be off by, as a deviation: that of results of about 30 dB."""


@dataclass(frozen=True)
class Blur(Operator):
    """Images (N, C, H, W), blurred by σ pixels. Away from the borders it is the Gaussian blur."""

    sigma: float
    steps: int = field(default=STEPS, kw_only=True)
    inverts = True

    @property
    def spec(self) -> str:
        return f"blur:{self.sigma:g}"

    def degraded(self, x: Tensor, share: Tensor, info: Info) -> Tensor:
        return blurred(x, self.sigma * share.flatten())

    def observe(self, x: Tensor, info: Info = NOTHING) -> Tensor:
        return blurred(x, x.new_tensor([self.sigma]))

    def nearest(self, x: Tensor, y: Tensor, info: Info = NOTHING) -> Tensor:
        """x + Vᵀ G V (y − A x), with the gains g of A.

        G = 1/g where g > LEAST_GAIN, for an exact y. Where y has noise and rounding of the deviation n, that would
        sharpen them more than the image, so then G = g/(g² + n²/DEVIATION²), Wiener's filter.
        """
        decay = gains(x, x.new_tensor([self.sigma]))
        noise = info.deviation / DEVIATION
        inverse = decay / (decay.square() + noise**2) if noise else torch.where(decay > LEAST_GAIN, 1 / decay, 0)
        return x + filtered(y - self.observe(x), inverse)


def blurred(x: Tensor, sigma: Tensor) -> Tensor:
    """Images x (N, C, H, W), each blurred by its sigma (N or 1,) in pixels: Vᵀ exp(−σ² Λ / 2) V x (2206.13397, §3).

    The heat equation up to the time σ² / 2.
    """
    return filtered(x, gains(x, sigma))


def gains(x: Tensor, sigma: Tensor) -> Tensor:
    """exp(−σ² Λ / 2), how much is left of each cosine of images like x (N, C, H, W): (N or 1, 1, H, W)."""
    down, across = (math.pi / n * torch.arange(n, device=x.device, dtype=x.dtype) for n in x.shape[-2:])
    squares = down[:, None].square() + across.square()  # (H, W)
    return torch.exp(-sigma.to(x)[:, None, None, None].square() / 2 * squares)


def filtered(x: Tensor, gain: Tensor) -> Tensor:
    """x (N, C, H, W) with each of its cosines multiplied: Vᵀ (gain · V x)."""
    rows, columns = (cosines(n, x.dtype, x.device) for n in x.shape[-2:])
    return rows.T @ (gain * (rows @ x @ columns.T)) @ columns


@kept
@torch.inference_mode(False)
def cosines(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """V of a side of n pixels, the orthonormal DCT-II: (n, n), its row k a cosine of π k / n a pixel."""
    k = torch.arange(n, dtype=torch.float64)
    modes = torch.cos(math.pi / n * k[:, None] * (k + 0.5)) * math.sqrt(2 / n)
    modes[0] /= math.sqrt(2)
    return modes.to(device, dtype)
