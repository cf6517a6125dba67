"""D_t, the degradation of DTLS §2.2: down to `S − t·stride` pixels, and up again, as two small matrix products."""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

from dtls.degradations.base import PROTOCOLS, Protocol
from dtls.degradations.operator import NOTHING, STEPS, Info, Operator, Timestep
from dtls.degradations.resize import kept, project, resize, resize_matrix
from dtls.errors import SizeError


@dataclass(frozen=True)
class Degradation(Operator):
    """D_t for one model: `size` S of its HR images, `stride` in pixels, steps T, and the protocol.

    D_T is what the model's LR images look like at HR size: S − T·stride pixels, enlarged.
    Other sizes follow by ratio: a side of n pixels goes through n·(S − t·stride)/S.
    """

    size: int
    stride: int
    steps: int
    protocol: Protocol = "reference"
    changes_shape = True

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise SizeError(f"unknown protocol {self.protocol!r}; known: {', '.join(PROTOCOLS)}")
        if min(self.size, self.stride, self.steps) < 1 or self.lr_size < 1:
            raise SizeError(f"size {self.size}, stride {self.stride} and {self.steps} steps leave no LR pixel")

    @property
    def lr_size(self) -> int:
        """The side in pixels of the smallest LR image the model learns from, S − T·stride."""
        return self.size - self.steps * self.stride

    @property
    def spec(self) -> str:
        return f"{self.protocol}:{self.scale:g}"

    @property
    def scale(self) -> float:
        return self.size / self.lr_size

    def low(self, n: int, t: float) -> int:
        """The side, in pixels, that n HR pixels are reduced to at t."""
        return max(1, round(n * (self.size - t * self.stride) / self.size))

    def timestep(self, scale: float) -> int:
        """The t in 1…T whose D_t reduces most nearly by `scale`; SizeError for scales beyond the model's."""
        largest = self.scale
        if not 1 < scale <= largest * (1 + 1e-6):
            raise SizeError(
                f"this checkpoint ({self.lr_size}→{self.size}) upscales by more than ×1 and at most ×{largest:g}, "
                f"not ×{scale:g}"
            )
        return max(1, round((self.size - self.size / scale) / self.stride))

    def matrix(self, n: int, t: float) -> Tensor:
        """D_t for a side of n pixels: float64 (n, n)."""
        low = self.low(n, t)
        return resize_matrix(low, n, self.protocol) @ resize_matrix(n, low, self.protocol)

    def __call__(self, x: Tensor, t: Timestep, info: Info = NOTHING) -> Tensor:
        steps = [t] if isinstance(t, int | float) else t.tolist() if isinstance(t, Tensor) else list(t)
        if len(steps) not in (1, len(x)):
            raise SizeError(f"{len(steps)} timesteps for {len(x)} images")
        if not all(0 <= s <= self.steps for s in steps):
            raise SizeError(f"timesteps are 0…{self.steps}, not {min(steps)}…{max(steps)}")
        if isinstance(t, int | float):
            rows, columns = (_matrix(self, n, t, x.dtype, x.device) for n in x.shape[-2:])
        elif all(s == int(s) for s in steps):
            index = torch.tensor(steps, device=x.device).long()
            rows, columns = (_matrices(self, n, x.dtype, x.device)[index, None] for n in x.shape[-2:])
        else:
            each = steps * (len(x) // len(steps))
            return torch.cat([self(image, s) for image, s in zip(x.split(1), each, strict=True)])
        return rows @ x @ columns.mT

    def degraded(self, x: Tensor, share: Tensor, info: Info) -> Tensor:
        return self(x, (share.flatten() * self.steps).tolist())

    def observe(self, x: Tensor, info: Info = NOTHING) -> Tensor:
        height, width = (self.low(n, self.steps) for n in x.shape[-2:])
        return resize(x, (height, width), self.protocol)

    def lift(self, y: Tensor, info: Info = NOTHING) -> Tensor:
        """y enlarged to `Info.size`, or by the model's scale."""
        height, width = info.size or (round(n * self.size / self.lr_size) for n in y.shape[-2:])
        return resize(y, (height, width), self.protocol)

    def nearest(self, x: Tensor, y: Tensor, info: Info = NOTHING) -> Tensor:
        """x + A⁺ (y − A x), y as if exact."""
        return project(x, y, self.protocol)

    def misfit(self, x: Tensor, y: Tensor, info: Info = NOTHING) -> Tensor:
        """The mean of (A x − y)² for each image (N,), A reducing to the size of y."""
        return (resize(x, (y.shape[-2], y.shape[-1]), self.protocol) - y).square().mean((1, 2, 3))


def antialias(scale: float, steps: int = STEPS) -> Degradation:
    """The family that ends in downscaling by `scale` with the protocol antialias."""
    return _scaled(scale, steps, "antialias")


def reference(scale: float, steps: int = STEPS) -> Degradation:
    """The family that ends in downscaling by `scale` with the protocol reference."""
    return _scaled(scale, steps, "reference")


def _scaled(scale: float, steps: int, protocol: Protocol) -> Degradation:
    """With the smallest sides that T whole strides reduce by `scale`."""
    ratio = Fraction(f"{scale:g}")
    return Degradation(ratio.numerator * steps, ratio.numerator - ratio.denominator, steps, protocol)


@kept
@torch.inference_mode(False)
def _matrix(degradation: Degradation, n: int, t: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """D_t for a side of n pixels, (n, n)."""
    return degradation.matrix(n, t).to(device, dtype)


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _matrices(degradation: Degradation, n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """All of D_0 … D_T for a side of n pixels, (T + 1, n, n)."""
    return torch.stack([degradation.matrix(n, t) for t in range(degradation.steps + 1)]).to(device, dtype)
