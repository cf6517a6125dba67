"""`noise:σ`: white Gaussian noise.

D_t x = x + (t/T) σ ε, with one ε for all t, drawn of each image's seed. It is not linear: of a sum of images, each
brings the noise with it.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dtls.degradations.operator import NOTHING, STEPS, WIDTH, Info, Operator
from dtls.degradations.seeds import generators
from dtls.errors import DegradationError


@dataclass(frozen=True)
class Noise(Operator):
    """Images (N, C, H, W) with noise of the deviation σ, on the scale of [0, 1], from `Info.seeds`."""

    sigma: float
    steps: int = field(default=STEPS, kw_only=True)
    is_linear = False
    draws = True
    pixelwise = True

    @property
    def spec(self) -> str:
        return f"noise:{self.sigma:g}"

    @property
    def noise(self) -> float:
        return self.sigma

    def degraded(self, x: Tensor, share: Tensor, info: Info) -> Tensor:
        return x + share * self.sigma * _white(x, info)

    def observe(self, x: Tensor, info: Info = NOTHING) -> Tensor:
        return x + self.sigma * _white(x, info)

    def expected(self, x: Tensor, info: Info = NOTHING) -> Tensor:
        return x

    def nearest(self, x: Tensor, y: Tensor, info: Info = NOTHING) -> Tensor:
        """x, cut to y ± WIDTH σ."""
        width = WIDTH * self.sigma + info.slack
        return x.clamp(y - width, y + width)

    def misfit(self, x: Tensor, y: Tensor, info: Info = NOTHING) -> Tensor:
        """The mean square of what lies beyond y ± WIDTH σ: (N,)."""
        return (x - self.nearest(x, y, info)).square().mean((1, 2, 3))


def _white(x: Tensor, info: Info) -> Tensor:
    """ε like images x (N, C, H, W), each image's by its own seed: the same in any batch, on any device."""
    if info.seeds is None:
        raise DegradationError("noise is drawn of a seed for each image, and there are none")
    drawn = [torch.randn(x.shape[1:], generator=generator) for generator in generators("noise", info.seeds)]
    return torch.stack(drawn).to(x)
