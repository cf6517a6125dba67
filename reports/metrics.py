"""How near a picture is to another: PSNR, SSIM, LPIPS, and consistency with the LR picture, batched.

Pictures come as they were saved, uint8 RGB tensors (N, 3, H, W) on any device, and the numbers, float64 (N,), stay on
that device. A number that a picture is too small for is NaN, which the Parquet table stores as null.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dtls.degradation import Protocol, SizeError, downscale_size, resize

PEAK = 255.0
SSIM_WINDOW = 7
LPIPS_MIN_SIDE = 32
"""AlexNet's strides leave no pixel of a smaller picture."""
CPU_PIXELS = 4 * 128 * 128
"""Pictures' pixels (N·H·W) that a CPU works on at a time, measured; a GPU takes more to be busy."""
CUDA_PIXELS = 64 * 256 * 256


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB over all three channels: 10·log10(255² / MSE); inf for identical pictures.

    a, b: uint8 (N, 3, H, W) of one shape; returns float64 (N,). SizeError when the shapes differ.
    """
    _check(a, b)
    return 10 * torch.log10(PEAK**2 / _in_groups(_mse, a, b))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity in [−1, 1] (Wang et al. 2004, eq. 13) as the DTLS authors take it.

    That is skimage's `structural_similarity(a, b, channel_axis=-1, data_range=255)`: a uniform 7×7 window, the sample
    covariance (N − 1), K1 = 0.01, K2 = 0.03, windows that leave the picture left out, the mean over channels.
    a, b: uint8 (N, 3, H, W) of one shape; returns float64 (N,), NaN when a side is under 7 pixels.
    """
    _check(a, b)
    if min(a.shape[-2:]) < SSIM_WINDOW:
        return _nan(a)
    return _in_groups(_ssim, a, b)


def _ssim(a: Tensor, b: Tensor) -> Tensor:
    """The formula of `ssim`, every mean and covariance multiplied by n² so that sums of integers stay exact."""
    x, y = a.float(), b.float()
    n = SSIM_WINDOW**2
    c1, c2 = (n * 0.01 * PEAK) ** 2, (n * 0.03 * PEAK) ** 2
    sx, sy, sxy, squares = (_window_sums(p) for p in (x, y, x * y, x * x + y * y))
    product, powers = sx * sy, sx * sx + sy * sy
    sample = n / (n - 1)
    covariance, variances = sample * (n * sxy - product), sample * (n * squares - powers)
    similarity = (2 * product + c1) * (2 * covariance + c2) / ((powers + c1) * (variances + c2))
    return similarity.mean(dim=(1, 2, 3))


def lpips(a: Tensor, b: Tensor, model: nn.Module) -> Tensor:
    """Learned perceptual distance, at least 0 (Zhang et al. 2018), by `model` from `load_lpips`.

    a, b: uint8 (N, 3, H, W) of one shape on the model's device; returns float64 (N,), NaN when a side is under 32
    pixels. Computed in float32, without TF32.
    """
    _check(a, b)
    if min(a.shape[-2:]) < LPIPS_MIN_SIDE:
        return _nan(a)
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        return _in_groups(lambda x, y: model(_signed(x), _signed(y)).double().flatten(), a, b)


def consistency(sr: Tensor, lr: Tensor, protocol: Protocol) -> Tensor:
    """Mean squared error between A·SR and LR on [0, 1]: does the SR picture shrink to the LR picture it came from?

    A is the downscaling of `protocol`, neither rounded nor clamped, so LR's own rounding leaves about 1.3e-6 even for
    the HR picture. sr: uint8 (N, 3, H, W); lr: uint8 (N, 3, h, w) on the same device; returns float64 (N,).
    SizeError when H/h and W/w are not one scale, at least 1, that divides.
    """
    _check(sr)
    _check(lr)
    size, low = (sr.shape[-2], sr.shape[-1]), (lr.shape[-2], lr.shape[-1])
    scale = size[0] / low[0]
    if len(sr) != len(lr) or scale < 1 or downscale_size(size, scale) != low:
        raise SizeError(f"{_named(lr)} is no downscaled {_named(sr)}")
    return _in_groups(lambda x, y: _mse(resize(x.double(), low, protocol), y), sr, lr) / PEAK**2


def _in_groups(metric: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """`metric` of a few pictures at a time: that bounds memory, and keeps a CPU within its cache."""
    pixels = CUDA_PIXELS if a.is_cuda else CPU_PIXELS
    group = max(1, pixels // (a.shape[-1] * a.shape[-2]))
    values = [metric(x, y) for x, y in zip(a.split(group), b.split(group), strict=True)]
    return torch.cat(values) if len(a) else _nan(a)


def _mse(a: Tensor, b: Tensor) -> Tensor:
    return (a.double() - b.double()).square().mean(dim=(1, 2, 3))


def _signed(x: Tensor) -> Tensor:
    """0…255 to [−1, 1], float32."""
    return x.float() / (PEAK / 2) - 1


def _window_sums(x: Tensor) -> Tensor:
    """Sums over 7×7 windows of x (N, C, H, W): float64 (N, C, H−6, W−6).

    Additions in float32 are exact: 49 · 2 · 255² is below 2²⁴.
    """
    for dim in (-1, -2):
        size = x.shape[dim] - SSIM_WINDOW + 1
        two = x.narrow(dim, 0, size + 5) + x.narrow(dim, 1, size + 5)  # x₀ + x₁ at each place
        four = two.narrow(dim, 0, size + 2) + two.narrow(dim, 2, size + 2)
        x = four.narrow(dim, 0, size) + two.narrow(dim, 4, size) + x.narrow(dim, 6, size)
    return x.double()


def _check(a: Tensor, b: Tensor | None = None) -> None:
    for x in (a,) if b is None else (a, b):
        if x.dtype != torch.uint8 or x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"pictures are uint8 (N, 3, H, W), not {x.dtype} {tuple(x.shape)}")
    if b is not None and a.shape != b.shape:
        raise SizeError(f"{_named(a)} cannot be compared with {_named(b)}")


def _nan(x: Tensor) -> Tensor:
    return torch.full((len(x),), torch.nan, dtype=torch.float64, device=x.device)


def _named(x: Tensor) -> str:
    n, _, h, w = x.shape
    return f"{w}×{h}" if n == 1 else f"{n} pictures of {w}×{h}"
