"""`grey`: colour fades to luma, and a degraded file has one channel.

D_t = (1 − t/T) I + (t/T) 1wᵀ in each pixel, A = wᵀ, w the weights of BT.601 luma: those of JPEG and of Pillow's `L`.
As w·1 = 1, the luma of D_t x is that of x.
"""

from dataclasses import dataclass, field

from torch import Tensor

from dtls.degradations.operator import NOTHING, STEPS, Info, Operator
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


def luma(x: Tensor) -> Tensor:
    """wᵀ x: (N, 1, H, W) of (N, 3, H, W); SizeError for other numbers of channels."""
    if x.shape[1] != 3:
        raise SizeError(f"luma is of images of 3 channels, not of {x.shape[1]}")
    return (_weights(x) * x).sum(1, keepdim=True)


def _weights(x: Tensor) -> Tensor:
    """w as (3, 1, 1), of the type and device of x."""
    return x.new_tensor(WEIGHTS)[:, None, None]
