"""D_t, the downscaling A and the upscaling B behind it, as 1-D matrices.

A separable linear resize of an image X (H, W) is `R_H X R_Wᵀ`, R being a small (n_out, n_in) matrix. So the
degradation of DTLS §2.2, `D(x, t)` (down to `S − t·stride` pixels and up again), the making of LR images and
their consistency are each two small matrix products, exact and differentiable, and all use one protocol.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from cachetools import LRUCache, cached
from torch import Tensor

Protocol = Literal["reference", "antialias"]
"""Which linear downscaling makes LR images.

`reference`: torch's bilinear without antialias, as the authors of DTLS do it.
`antialias`: Pillow's bicubic (a = −0.5, support widened by the scale), on which the literature's ×2/×3/×4 and SR3
stand.
"""
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
LRProtocol = Literal["reference", "antialias", "realworld"]
"""How LR images are made: by a linear downscaling, or as in `dtls.degradations.realworld`, which is not linear."""


class SizeError(ValueError):
    """An image, scale or model size that does not fit the others."""


CACHE_BYTES = 2**27
"""Of matrices of each kind that are kept: an archive has images of any size, and large ones have large matrices."""


def _kept() -> "LRUCache[object, Tensor]":
    return LRUCache(CACHE_BYTES, getsizeof=lambda matrix: matrix.nbytes)


@cached(_kept(), lock=Lock())
@torch.inference_mode(False)
def resize_matrix(n_in: int, n_out: int, protocol: Protocol) -> Tensor:
    """The 1-D resize from `n_in` to `n_out` samples: float64 (n_out, n_in), rows sum to 1."""
    if n_in < 1 or n_out < 1:
        raise SizeError(f"cannot resize {n_in} to {n_out} pixels")
    identity = torch.eye(n_in, dtype=torch.float64)[None, None]
    antialias = protocol == "antialias"
    mode = "bicubic" if antialias else "bilinear"
    return F.interpolate(identity, (n_out, n_in), mode=mode, antialias=antialias, align_corners=False)[0, 0]


def resize(x: Tensor, size: tuple[int, int], protocol: Protocol) -> Tensor:
    """Resize x (N, C, H, W) to `size` (h, w): A when it shrinks, B when it grows. Not clamped."""
    rows = resize_matrix(x.shape[-2], size[0], protocol).to(x)
    columns = resize_matrix(x.shape[-1], size[1], protocol).to(x)
    return rows @ x @ columns.T  # (N, C, h, w)


@cached(_kept(), lock=Lock())
@torch.inference_mode(False)
def pseudo_inverse(n_in: int, n_out: int, protocol: Protocol) -> Tensor:
    """A⁺ of `resize_matrix(n_in, n_out)`: float64 (n_in, n_out)."""
    return torch.linalg.pinv(resize_matrix(n_in, n_out, protocol))


def project(x: Tensor, y: Tensor, protocol: Protocol) -> Tensor:
    """The image nearest to x (N, C, H, W) that A reduces to y (N, C, h, w): x + A⁺(y − A x). Not clamped."""
    size = (y.shape[-2], y.shape[-1])
    rows = pseudo_inverse(x.shape[-2], size[0], protocol).to(x)
    columns = pseudo_inverse(x.shape[-1], size[1], protocol).to(x)
    return x + rows @ (y - resize(x, size, protocol)) @ columns.T


def downscale_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """The (h, w) of the LR image of an HR image of `size` (H, W); refuses what does not divide."""
    low = tuple(n / scale for n in size)
    if any(n < 1 or abs(n - round(n)) > 1e-6 for n in low):
        raise SizeError(f"{size[1]}×{size[0]} is no multiple of the scale {scale:g}")
    return round(low[0]), round(low[1])


def scale_between(low: tuple[int, int], high: tuple[int, int]) -> float:
    """The one scale from (h, w) to (H, W); SizeError where the sides differ by more than rounding."""
    longer = low.index(max(low))  # where rounding moves the scale least
    scale = high[longer] / low[longer]
    if any(abs(n * scale - m) > 1 for n, m in zip(low, high, strict=True)):
        across, down = high[1] / low[1], high[0] / low[0]
        raise SizeError(f"×{across:g} across and ×{down:g} down: one scale is needed")
    return scale


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


@cached(_kept(), lock=Lock())
@torch.inference_mode(False)
def _matrix(degradation: Degradation, n: int, t: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """D_t for a side of n pixels, (n, n)."""
    return degradation.matrix(n, t).to(device, dtype)


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _matrices(degradation: Degradation, n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """All of D_0 … D_T for a side of n pixels, (T + 1, n, n)."""
    return torch.stack([degradation.matrix(n, t) for t in range(degradation.steps + 1)]).to(device, dtype)
