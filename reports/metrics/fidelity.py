"""How near an image is to another: PSNR, SSIM, LPIPS, and consistency with the LR image, batched.

Images come as they were saved, uint8 RGB tensors (N, 3, H, W) on any device, and the numbers, float64 (N,), stay on
that device. A number that an image is too small for is NaN, which the Parquet table stores as null. The data range
is 255 unless a Measure says otherwise: results are judged as they were saved, in 8 bits. `windows` has SSIM's sums,
`perception` LPIPS's features, `authors` the consistency of the paper, and `scoring` all numbers of several methods.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dtls.degradations.resize import Protocol, SizeError, downscale_size, resize
from reports.metrics.authors_consistency import wrapped_squares
from reports.metrics.lpips import distance, features
from reports.metrics.ssim import GAUSSIAN_WINDOW, UNIFORM_WINDOW, gaussian_similarity, uniform_similarity

PEAK = 255.0
Colour = Literal["rgb", "y"]
Window = Literal["uniform", "gaussian"]
LPIPS_MIN_SIDE = 32
"""AlexNet's strides leave no pixel of a smaller image; VGG's would, but one limit holds for both."""
CPU_PIXELS = 2 * 128 * 128
"""Images' pixels (N·H·W) that a CPU works on at a time, measured; a GPU takes more to be busy."""
LPIPS_PIXELS = 32 * 128 * 128
"""The same for LPIPS on a CPU: convolutions of larger batches are faster."""
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


def psnr(a: Tensor, b: Tensor, measure: Measure = WHOLE) -> Tensor:
    """Peak signal-to-noise ratio in dB over all planes: 10·log10(L² / MSE), L the data range; inf for identical ones.

    a, b: uint8 (N, 3, H, W) of one shape; returns float64 (N,), NaN when the border leaves no pixel. SizeError when
    the shapes differ.
    """
    _check(a, b)
    if measure.side(a) < 1:
        return _nan(a)
    mse = _in_groups(lambda x, y: _mse(measure.planes(x), measure.planes(y)), a, b)
    return 10 * torch.log10(measure.data_range**2 / mse)


def ssim(a: Tensor, b: Tensor, measure: Measure = WHOLE, window: Window = "uniform") -> Tensor:
    """Structural similarity in [−1, 1] (Wang et al. 2004, eq. 13), the mean over pixels and planes.

    `uniform`: 7×7 pixels of one weight and the sample covariance (N − 1), as the DTLS authors take it: skimage's
    `structural_similarity(a, b, channel_axis=-1, data_range=255)`. `gaussian`: 11×11 pixels, σ = 1.5, the weighted
    covariance, as Wang, MATLAB and BasicSR: skimage's with `gaussian_weights=True, use_sample_covariance=False`. Both
    with K1 = 0.01, K2 = 0.03, and over the windows that lie wholly inside (torchmetrics adds some over mirrored
    edges).
    a, b: uint8 (N, 3, H, W) of one shape; returns float64 (N,), NaN when a side is shorter than the window.
    """
    _check(a, b)
    side, similarity = {
        "uniform": (UNIFORM_WINDOW, uniform_similarity),
        "gaussian": (GAUSSIAN_WINDOW, gaussian_similarity),
    }[window]
    if measure.side(a) < side:
        return _nan(a)
    return _in_groups(lambda x, y: similarity(measure.planes(x), measure.planes(y), measure.data_range), a, b)


def lpips(a: Tensor, b: Tensor, model: nn.Module) -> Tensor:
    """Learned perceptual distance, at least 0 (Zhang et al. 2018), by `model` from `load_lpips` or `load_lpips_vgg`.

    a, b: uint8 (N, 3, H, W) of one shape on the model's device; returns float64 (N,), NaN when a side is under 32
    pixels. Computed in float32, without TF32.
    """
    return lpips_to_one([a], b, model)[0]


def lpips_to_one(others: list[Tensor], reference: Tensor, model: nn.Module) -> list[Tensor]:
    """`lpips` of each of `others` and `reference`, whose features are computed once."""
    for x in others:
        _check(x, reference)
    if min(reference.shape[-2:]) < LPIPS_MIN_SIDE or not len(reference):
        return [_nan(reference) for _ in others]
    found: list[list[Tensor]] = [[] for _ in others]
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        for part in _groups(reference, LPIPS_PIXELS):
            one = features(reference[part], model)
            for values, x in zip(found, others, strict=True):
                values.append(distance(features(x[part], model), one))
    return [torch.cat(values) for values in found]


def consistency(sr: Tensor, lr: Tensor, protocol: Protocol) -> Tensor:
    """Mean squared error between A·SR and LR on [0, 1]: does the SR image shrink to the LR image it came from?

    A is the downscaling of `protocol`, neither rounded nor clamped, so LR's own rounding leaves about 1.3e-6 even for
    the HR image. sr: uint8 (N, 3, H, W); lr: uint8 (N, 3, h, w) on the same device; returns float64 (N,).
    SizeError where `reduced_size` has it.
    """
    low = reduced_size(sr, lr)
    return _in_groups(lambda x, y: _mse(resize(x.double(), low, protocol), y), sr, lr) / PEAK**2


def reduced_size(sr: Tensor, lr: Tensor) -> tuple[int, int]:
    """The (h, w) of LR images, uint8 (N, 3, h, w), which are as many as the SR images, uint8 (N, 3, H, W).

    SizeError when H/h and W/w are not one scale, at least 1, that divides.
    """
    _check(sr)
    _check(lr)
    size, low = (sr.shape[-2], sr.shape[-1]), (lr.shape[-2], lr.shape[-1])
    scale = size[0] / low[0]
    if len(sr) != len(lr) or scale < 1 or downscale_size(size, scale) != low:
        raise SizeError(f"{_named(lr)} is no downscaled {_named(sr)}")
    return low


def lr_psnr(consistency: Tensor) -> Tensor:
    """Consistency in dB, 10·log10(1 / consistency): the PSNR of A·SR and LR, inf where they are equal."""
    return -10 * torch.log10(consistency)


def authors_consistency(sr: Tensor, hr: Tensor, low: tuple[int, int]) -> Tensor:
    """What the DTLS paper's tables call consistency, on their scale (16→128: 0.125); see `authors` for its formula.

    No MSE, and no measure of consistency; only to be compared with those tables. sr, hr: uint8 (N, 3, H, W) of one
    shape; low: (h, w) of the LR images; returns float64 (N,).
    """
    _check(sr, hr)
    return _in_groups(lambda x, y: wrapped_squares(x, y, low), sr, hr)


def _groups(x: Tensor, cpu_pixels: int = CPU_PIXELS) -> list[slice]:
    """A few images at a time: that bounds memory, and keeps a CPU within its cache."""
    pixels = CUDA_PIXELS if x.is_cuda else cpu_pixels
    group = max(1, pixels // (x.shape[-1] * x.shape[-2]))
    return [slice(start, start + group) for start in range(0, len(x), group)]


def _in_groups(metric: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    values = [metric(a[part], b[part]) for part in _groups(a)]
    return torch.cat(values) if values else _nan(a)


def _mse(a: Tensor, b: Tensor) -> Tensor:
    return (a.double() - b.double()).square().mean(dim=(1, 2, 3))


def _check(a: Tensor, b: Tensor | None = None) -> None:
    for x in (a,) if b is None else (a, b):
        if x.dtype != torch.uint8 or x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"images are uint8 (N, 3, H, W), not {x.dtype} {tuple(x.shape)}")
    if b is not None and a.shape != b.shape:
        raise SizeError(f"{_named(a)} cannot be compared with {_named(b)}")


def _nan(x: Tensor) -> Tensor:
    return torch.full((len(x),), torch.nan, dtype=torch.float64, device=x.device)


def _named(x: Tensor) -> str:
    n, _, h, w = x.shape
    return f"{w}×{h}" if n == 1 else f"{n} images of {w}×{h}"
