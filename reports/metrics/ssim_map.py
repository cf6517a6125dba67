"""Where an image differs from the ground truth: SSIM pixel by pixel, in colours that all eyes can order.

The map is drawn with matplotlib's magma, which is perceptually uniform and safe for the colour-blind, on a scale
that is the same for every image: dark where the two are alike, bright where they differ. The page's style has the
same colours as its legend.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from dtls.errors import SizeError
from reports.metrics.ssim import K1, K2, UNIFORM_WINDOW

COLOURS = "magma"
C1, C2 = (K1 * 255) ** 2, (K2 * 255) ** 2

Pixels = NDArray[np.uint8]


def ssim_map(sr: Pixels, hr: Pixels) -> Pixels:
    """`local_ssim` in colours: 1 is dark; 0, and what is negative, bright. RGB uint8 (H, W, 3)."""
    return _coloured(1 - local_ssim(sr, hr))


def local_ssim(sr: Pixels, hr: Pixels) -> NDArray[np.float64]:
    """SSIM of the 7×7 pixels around each pixel, the mean over the channels: float64 (H, W) in [−1, 1].

    As skimage's `structural_similarity(…, full=True)`: the images are mirrored at their sides. Three pixels away
    from them its mean is `metrics.ssim`. sr, hr: RGB uint8 (H, W, 3). SizeError when the shapes differ, ValueError
    for other arrays.
    """
    _check(sr, hr)
    n = UNIFORM_WINDOW**2
    x, y = (np.ascontiguousarray(image.transpose(2, 0, 1), np.float64) for image in (sr, hr))
    mx, my, mxy, mxx, myy = (_window_means(p) for p in (x, y, x * y, x * x, y * y))
    covariance, variances = n / (n - 1) * (mxy - mx * my), n / (n - 1) * (mxx - mx * mx + myy - my * my)
    similarity = (2 * mx * my + C1) * (2 * covariance + C2) / ((mx * mx + my * my + C1) * (variances + C2))
    mean: NDArray[np.float64] = similarity.mean(axis=0)
    return mean


def _check(sr: Pixels, hr: Pixels) -> None:
    for image in (sr, hr):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
            raise ValueError(f"images are uint8 (H, W, 3), not {image.dtype} {image.shape}")
    if sr.shape != hr.shape:
        raise SizeError(f"SR is {sr.shape[1]}×{sr.shape[0]}, HR is {hr.shape[1]}×{hr.shape[0]}")


def _window_means(planes: NDArray[np.float64]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = uniform_filter(planes, size=(1, UNIFORM_WINDOW, UNIFORM_WINDOW))
    return means


def _coloured(share: NDArray[np.float64]) -> Pixels:
    """0…1 as a colour; values outside have the colour of the nearer end."""
    return _table()[np.rint(share.clip(0, 1) * 255).astype(np.uint8)]


@lru_cache(maxsize=1)
def _table() -> Pixels:
    """256 colours: uint8 (256, 3)."""
    import matplotlib

    return matplotlib.colormaps[COLOURS](np.arange(256), bytes=True)[:, :3].astype(np.uint8)
