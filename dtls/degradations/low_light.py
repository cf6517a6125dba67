"""`dark:g`: an exposure with a share g of the light.

D_t = g^(t/T) in linear light, A = D_T. In sRGB's code this is no linear function, so what needs one, such as the sums
of the paper's sampler, goes by `Operator.linearised`.
"""

from dataclasses import dataclass, field

from torch import Tensor

from dtls.degradations.light import to_encoded, to_light
from dtls.degradations.operator import NOTHING, STEPS, Info, Operator


@dataclass(frozen=True)
class LowLight(Operator):
    """Images (N, C, H, W) whose light is multiplied by g < 1."""

    g: float
    steps: int = field(default=STEPS, kw_only=True)
    pixelwise = True
    inverts = True
    in_light = True

    @property
    def spec(self) -> str:
        return f"dark:{self.g:g}"

    def degraded(self, x: Tensor, share: Tensor, info: Info) -> Tensor:
        return to_encoded(self.g**share * to_light(x))

    def observe(self, x: Tensor, info: Info = NOTHING) -> Tensor:
        return to_encoded(self.g * to_light(x))

    def nearest(self, x: Tensor, y: Tensor, info: Info = NOTHING) -> Tensor:
        """x, cut to what becomes y by darkening and rounding.

        Dividing y by g would bring its rounding back larger, and nothing of what a network has restored.
        """
        slack = info.slack
        return x.clamp(self._brightened(y - slack), self._brightened(y + slack))

    def inverse(self, y: Tensor, info: Info = NOTHING) -> Tensor:
        """The middle of what becomes y, not its nearest end."""
        return self._brightened(y).clamp(0, 1)

    def _brightened(self, y: Tensor) -> Tensor:
        return to_encoded(to_light(y) / self.g)
