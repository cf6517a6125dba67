"""D_t, the degradation of DTLS §2.2: down to `S − t·stride` pixels, and up again, as two small matrix products."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from dtls.degradations.base import PROTOCOLS, Protocol
from dtls.degradations.resize import kept, resize_matrix
from dtls.errors import SizeError


@dataclass(frozen=True)
class Degradation:
    """D_t for one model: `size` S of its HR images, `stride` in pixels, steps T, and the protocol.

    D_T is what the model's LR images look like at HR size: S − T·stride pixels, enlarged.
    Other sizes follow by ratio: a side of n pixels goes through n·(S − t·stride)/S.
    """

    size: int
    stride: int
    steps: int
    protocol: Protocol = "reference"

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise SizeError(f"unknown protocol {self.protocol!r}; known: {', '.join(PROTOCOLS)}")
        if min(self.size, self.stride, self.steps) < 1 or self.lr_size < 1:
            raise SizeError(f"size {self.size}, stride {self.stride} and {self.steps} steps leave no LR pixel")

    @property
    def lr_size(self) -> int:
        """The side in pixels of the smallest LR image the model learns from, S − T·stride."""
        return self.size - self.steps * self.stride

    def low(self, n: int, t: int) -> int:
        """The side, in pixels, that n HR pixels are reduced to at t."""
        return max(1, round(n * (self.size - t * self.stride) / self.size))

    def timestep(self, scale: float) -> int:
        """The t in 1…T whose D_t reduces most nearly by `scale`; SizeError for scales beyond the model's."""
        largest = self.size / self.lr_size
        if not 1 < scale <= largest * (1 + 1e-6):
            raise SizeError(
                f"this checkpoint ({self.lr_size}→{self.size}) upscales by more than ×1 and at most ×{largest:g}, "
                f"not ×{scale:g}"
            )
        return max(1, round((self.size - self.size / scale) / self.stride))

    def matrix(self, n: int, t: int) -> Tensor:
        """D_t for a side of n pixels: float64 (n, n)."""
        low = self.low(n, t)
        return resize_matrix(low, n, self.protocol) @ resize_matrix(n, low, self.protocol)

    def __call__(self, x: Tensor, t: int | Sequence[int] | Tensor) -> Tensor:
        """D(x, t) of x (N, C, H, W), with one t for all or N of them; t = 0 is the identity."""
        steps = [t] if isinstance(t, int) else t.tolist() if isinstance(t, Tensor) else list(t)
        if len(steps) not in (1, len(x)):
            raise SizeError(f"{len(steps)} timesteps for {len(x)} images")
        if any(not 0 <= s <= self.steps for s in steps):
            raise SizeError(f"timesteps are 0…{self.steps}, not {min(steps)}…{max(steps)}")
        if isinstance(t, int):
            rows, columns = (_matrix(self, n, t, x.dtype, x.device) for n in x.shape[-2:])
        else:
            index = torch.tensor(steps, device=x.device)
            rows, columns = (_matrices(self, n, x.dtype, x.device)[index, None] for n in x.shape[-2:])
        return rows @ x @ columns.mT


@kept
@torch.inference_mode(False)
def _matrix(degradation: Degradation, n: int, t: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """D_t for a side of n pixels, (n, n)."""
    return degradation.matrix(n, t).to(device, dtype)


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _matrices(degradation: Degradation, n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """All of D_0 … D_T for a side of n pixels, (T + 1, n, n)."""
    return torch.stack([degradation.matrix(n, t) for t in range(degradation.steps + 1)]).to(device, dtype)
