"""`grey`: colour fades to luma, and a degraded file has one channel.

D_t = (1 − t/T) I + (t/T) 1wᵀ in each pixel, A = wᵀ, w the weights of BT.601 luma: those of JPEG and of Pillow's `L`.
As w·1 = 1, the luma of D_t x is that of x.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dtls.degradations.operator import NOTHING, PASSES, STEPS, Info, Operator
from dtls.errors import SizeError

WEIGHTS = (0.299, 0.587, 0.114)
"""w of BT.601, for red, green and blue."""


@dataclass(frozen=True)
class Grey(Operator):
    """Images (N, 3, H, W), observed as luma (N, 1, H, W)."""

    steps: int = field(default=STEPS, kw_only=True)
    channels = 1
    changes_shape = True

    @property
    def spec(self) -> str:
        return "grey"

    def degraded(self, x: Tensor, share: Tensor, info: Info) -> Tensor:
        return (1 - share) * x + share * luma(x)

    def observe(self, x: Tensor, info: Info = NOTHING) -> Tensor:
        return luma(x)

    def lift(self, y: Tensor, info: Info = NOTHING) -> Tensor:
        return y.expand(-1, 3, -1, -1)

    def nearest(self, x: Tensor, y: Tensor, info: Info = NOTHING) -> Tensor:
        """x + w (y − wᵀ x) / (w·w)."""
        w = _weights(x)
        return x + w * (y - luma(x)) / w.square().sum()

    def project(self, x: Tensor, y: Tensor, info: Info = NOTHING, passes: int = PASSES) -> Tensor:
        """The nearest image in [0, 1] with this luma, at once: clip(x + λ w) with the λ of each pixel that gives y.

        wᵀ clip(x + λ w) rises with λ, in straight lines between the λ at which a channel meets 0 or 1.
        """
        w, y = _weights(x), y.clamp(0, 1)

        def cut(step: Tensor) -> Tensor:
            return (x + step * w).clamp(0, 1)

        meets = torch.cat([-x / w, (1 - x) / w], dim=1)
        below, above = meets.amin(1, keepdim=True), meets.amax(1, keepdim=True)  # all channels are 0, or 1
        y_below, y_above = torch.zeros_like(y), torch.ones_like(y)
        for step in meets.split(1, dim=1):
            reached = luma(cut(step))
            is_below, is_above = (reached <= y) & (step > below), (reached >= y) & (step < above)
            below, y_below = torch.where(is_below, step, below), torch.where(is_below, reached, y_below)
            above, y_above = torch.where(is_above, step, above), torch.where(is_above, reached, y_above)
        share = torch.where(y_above > y_below, (y - y_below) / (y_above - y_below), 0)
        return cut(below + share * (above - below))


def luma(x: Tensor) -> Tensor:
    """wᵀ x: (N, 1, H, W) of (N, 3, H, W); SizeError for other numbers of channels."""
    if x.shape[1] != 3:
        raise SizeError(f"luma is of images of 3 channels, not of {x.shape[1]}")
    return (_weights(x) * x).sum(1, keepdim=True)


def _weights(x: Tensor) -> Tensor:
    """w as (3, 1, 1), of the type and device of x."""
    return x.new_tensor(WEIGHTS)[:, None, None]
