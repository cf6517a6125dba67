"""SSIM: structural similarity (Wang et al. 2004, eq. 13), with a uniform window of 7×7 and a Gaussian one of 11×11.

`uniform_similarity` and `gaussian_similarity` take planes x, y (N, C, H, W) in 0…255 and the data range, L in
C1 = (0.01 L)² and C2 = (0.03 L)². They return the mean over planes and over the windows that are wholly inside,
float64 (N,).
"""

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from reports.metrics.metric import SampleMetric
from reports.metrics.planes import WHOLE, Measure, check_images, in_groups, no_numbers

Window = Literal["uniform", "gaussian"]

UNIFORM_WINDOW = 7
GAUSSIAN_WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03
MIDDLE = 128


def ssim(a: Tensor, b: Tensor, measure: Measure = WHOLE, window: Window = "uniform") -> Tensor:
    """Structural similarity in [−1, 1], the mean over pixels and planes.

    `uniform`: 7×7 pixels of one weight and the sample covariance (N − 1), as the DTLS authors take it: skimage's
    `structural_similarity(a, b, channel_axis=-1, data_range=255)`. `gaussian`: 11×11 pixels, σ = 1.5, the weighted
    covariance, as Wang, MATLAB and BasicSR: skimage's with `gaussian_weights=True, use_sample_covariance=False`. Both
    with K1 = 0.01, K2 = 0.03, and over the windows that are wholly inside (torchmetrics adds some over mirrored
    edges).
    a, b: uint8 (N, 3, H, W) of one shape; returns float64 (N,), NaN when a side is shorter than the window.
    """
    check_images(a, b)
    side, similarity = {
        "uniform": (UNIFORM_WINDOW, uniform_similarity),
        "gaussian": (GAUSSIAN_WINDOW, gaussian_similarity),
    }[window]
    if measure.side(a) < side:
        return no_numbers(a)
    return in_groups(lambda x, y: similarity(measure.planes(x), measure.planes(y), measure.data_range), a, b)


def uniform_similarity(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """With the sample covariance; x, y: int32 or float64.

    Every mean and covariance is multiplied by n², n = 49, so that integers stay integers, below 2³¹.
    """
    n = UNIFORM_WINDOW**2
    sx, sy, sxy, squares = _window_sums(torch.stack((x, y, x * y, x * x + y * y)))
    product, powers = sx * sy, sx * sx + sy * sy
    covariance, variances = sxy.mul_(n).sub_(product), squares.mul_(n).sub_(powers)
    return _similarity(product, powers, covariance, variances, data_range, unit=n**2, sample=n / (n - 1))


def gaussian_similarity(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """With the covariance as weighted, no sample's; x, y: of any type.

    Moments are taken of values less 128, which changes no covariance and keeps float32's rounding small.
    """
    x, y = (p.float() - MIDDLE for p in (x, y))
    mx, my, mxy, squares = _weighted(torch.stack((x, y, x * y, x * x + y * y)))
    covariance, variances = mxy.sub_(mx * my), squares.sub_(mx * mx + my * my)
    mx, my = mx.add_(MIDDLE), my.add_(MIDDLE)
    return _similarity(mx * my, mx * mx + my * my, covariance, variances, data_range)


def _similarity(
    product: Tensor,
    powers: Tensor,
    covariance: Tensor,
    variances: Tensor,
    data_range: float,
    unit: int = 1,
    sample: float = 1,
) -> Tensor:
    """Eq. 13 of the means' products and of the covariances, all times `unit`; `sample` makes these a sample's."""
    c1, c2 = unit * (K1 * data_range) ** 2, unit * (K2 * data_range) ** 2
    above = (_floating(product) * 2 + c1).mul_(_floating(covariance) * (2 * sample) + c2)
    below = (_floating(powers) + c1).mul_(_floating(variances) * sample + c2)
    return above.div_(below).mean(dim=(1, 2, 3), dtype=torch.float64)


def _floating(x: Tensor) -> Tensor:
    return x if x.is_floating_point() else x.double()


def _window_sums(x: Tensor) -> Tensor:
    """Sums over 7×7 windows of x (…, H, W): (…, H−6, W−6)."""
    for dim in (-1, -2):
        size = x.shape[dim] - UNIFORM_WINDOW + 1
        two = x.narrow(dim, 0, size + 5) + x.narrow(dim, 1, size + 5)  # x₀ + x₁ at each place
        four = two.narrow(dim, 0, size) + two.narrow(dim, 2, size)
        x = four.add_(two.narrow(dim, 4, size)).add_(x.narrow(dim, 6, size))
    return x


def _weighted(x: Tensor) -> Tensor:
    """Means under the Gaussian window of x (…, H, W): (…, H−10, W−10)."""
    rows, columns = (_band(n, x.device) for n in x.shape[-2:])
    return rows @ (x @ columns.T)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _band(n: int, device: torch.device) -> Tensor:
    """The window as a matrix over a side of n pixels: float32 (n − 10, n), rows sum to 1."""
    offsets = torch.arange(n)[None] - torch.arange(n - GAUSSIAN_WINDOW + 1)[:, None] - GAUSSIAN_WINDOW // 2
    weights = torch.exp(-0.5 * (offsets.double() / SIGMA) ** 2) * (offsets.abs() <= GAUSSIAN_WINDOW // 2)
    return (weights / weights.sum(dim=1, keepdim=True)).float().to(device)


SSIM = SampleMetric(
    name="ssim",
    label="SSIM",
    decimals=4,
    description="structural similarity, uniform 7×7 window, mean of the planes",
    is_primary=True,
    needs=frozenset({"hr"}),
    compute=lambda images: ssim(images.sr, images.hr, images.measure),
)
SSIM_GAUSSIAN = SampleMetric(
    name="ssim_gaussian",
    label="SSIM (Gaussian)",
    decimals=4,
    description="structural similarity, Gaussian 11×11, σ 1.5",
    needs=frozenset({"hr"}),
    compute=lambda images: ssim(images.sr, images.hr, images.measure, "gaussian"),
)
