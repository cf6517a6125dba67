"""Batches of images as metrics take them: which planes and pixels count, and how many images are at work at a time.

Images come as they were saved, uint8 RGB tensors (N, 3, H, W) on any device, and numbers, float64 (N,), stay on that
device. A number that an image is too small for is NaN, which the Parquet table stores as null.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from dtls.degradations.scale import downscale_size
from dtls.errors import SizeError
from reports.metrics.choices import Colour

PEAK = 255.0
CPU_PIXELS = 2 * 128 * 128
"""Images' pixels (N·H·W) that a CPU works on at a time, measured; a GPU takes more to be busy."""
CUDA_PIXELS = 64 * 256 * 256


@dataclass(frozen=True)
class Measure:
    """What of the images PSNR and SSIM look at; record it with every number.

    colour: `rgb`, the mean over the channels; or `y`, the luma of ITU-R BT.601 in 16…235 as MATLAB's rgb2ycbcr has
    it, not rounded (BasicSR's, and that of most papers on ×2, ×3, ×4). border: pixels cropped from each side first,
    in papers often the scale. data_range: the peak of PSNR and the L of SSIM; 255 but in few papers (219 for Y).
    LPIPS and consistency always see the whole RGB image, as is customary.
    ValueError for another colour, a negative border, and a data range that is not above 0.
    """

    colour: Colour = "rgb"
    border: int = 0
    data_range: float = PEAK

    def __post_init__(self) -> None:
        if self.colour not in get_args(Colour):
            raise ValueError(f"unknown colour space {self.colour!r}; known: {', '.join(get_args(Colour))}")
        if self.border < 0:
            raise ValueError(f"a border of {self.border} pixels cannot be cropped")
        if not self.data_range > 0:
            raise ValueError(f"a data range of {self.data_range} is none")

    def planes(self, x: Tensor) -> Tensor:
        """What is measured of x, uint8 (N, 3, H, W): int32 (N, 3, h, w) for rgb, float64 (N, 1, h, w) for y."""
        inner = x[..., self.border : x.shape[-2] - self.border, self.border : x.shape[-1] - self.border]
        return inner.int() if self.colour == "rgb" else luma(inner)

    def side(self, x: Tensor) -> int:
        """The shorter side of what is left of x."""
        return max(0, min(x.shape[-2:]) - 2 * self.border)


WHOLE = Measure()


def luma(x: Tensor) -> Tensor:
    """Y of BT.601 of RGB in 0…255 (N, 3, H, W): float64 (N, 1, H, W) in 16…235."""
    weights = torch.tensor((65.481, 128.553, 24.966), dtype=torch.float64, device=x.device) / PEAK
    return 16 + (weights[:, None, None] * x.double()).sum(dim=1, keepdim=True)


def reduced_size(sr: Tensor, lr: Tensor) -> tuple[int, int]:
    """The (h, w) of LR images, uint8 (N, 3, h, w), which are as many as the SR images, uint8 (N, 3, H, W).

    SizeError when H/h and W/w are not one scale, at least 1, that divides.
    """
    check_images(sr)
    check_images(lr)
    size, low = (sr.shape[-2], sr.shape[-1]), (lr.shape[-2], lr.shape[-1])
    scale = size[0] / low[0]
    if len(sr) != len(lr) or scale < 1 or downscale_size(size, scale) != low:
        raise SizeError(f"{_named(lr)} is no downscaled {_named(sr)}")
    return low


def check_same_size(sr: Tensor, degraded: Tensor) -> None:
    """SizeError where degraded images, uint8 (N, 3, h, w), are not as many and as large as results."""
    check_images(sr)
    check_images(degraded)
    if sr.shape != degraded.shape:
        raise SizeError(f"{_named(degraded)} is no {_named(sr)} that was degraded at its size")


def groups(x: Tensor, cpu_pixels: int = CPU_PIXELS) -> list[slice]:
    """A few images at a time: that bounds memory, and keeps a CPU within its cache."""
    pixels = CUDA_PIXELS if x.is_cuda else cpu_pixels
    group = max(1, pixels // (x.shape[-1] * x.shape[-2]))
    return [slice(start, start + group) for start in range(0, len(x), group)]


def in_groups(metric: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """`metric` of images a and b, a few at a time: float64 (N,)."""
    values = [metric(a[part], b[part]) for part in groups(a)]
    return torch.cat(values) if values else no_numbers(a)


def mean_squared_error(a: Tensor, b: Tensor) -> Tensor:
    """The mean of (a − b)² over channels and pixels: float64 (N,)."""
    return (a.double() - b.double()).square().mean(dim=(1, 2, 3))


def check_images(a: Tensor, b: Tensor | None = None) -> None:
    """ValueError for what are no images, and SizeError where b's shape is not a's."""
    for x in (a,) if b is None else (a, b):
        if x.dtype != torch.uint8 or x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"images are uint8 (N, 3, H, W), not {x.dtype} {tuple(x.shape)}")
    if b is not None and a.shape != b.shape:
        raise SizeError(f"{_named(a)} cannot be compared with {_named(b)}")


def no_numbers(x: Tensor) -> Tensor:
    """NaN for each image of x: float64 (N,)."""
    return torch.full((len(x),), torch.nan, dtype=torch.float64, device=x.device)


def _named(x: Tensor) -> str:
    n, _, h, w = x.shape
    return f"{w}×{h}" if n == 1 else f"{n} images of {w}×{h}"
