"""The consistency of the DTLS paper's tables, exactly as the authors' script computes it, to compare with them.

Their code takes HR and SR as saved, reduces both to the LR size by OpenCV's `INTER_CUBIC`, which has no antialias,
and sums `(hr − sr) ** 2` in uint8, where the difference and its square wrap modulo 256. It never reads LR images.
"""

from functools import lru_cache

import torch
from torch import Tensor

from reports.metrics.metric import SampleMetric
from reports.metrics.planes import check_images, in_groups

UNIT = 1e-5
"""Of the paper's tables: their 0.125 is a mean sum of 12,500."""


def authors_consistency(sr: Tensor, hr: Tensor, low: tuple[int, int]) -> Tensor:
    """What the DTLS paper's tables call consistency, on their scale (16→128: 0.125).

    No MSE, and no measure of consistency; only to be compared with those tables. sr, hr: uint8 (N, 3, H, W) of one
    shape; low: (h, w) of the LR images; returns float64 (N,).
    """
    check_images(sr, hr)
    return in_groups(lambda x, y: wrapped_squares(x, y, low), sr, hr)


def wrapped_squares(sr: Tensor, hr: Tensor, low: tuple[int, int]) -> Tensor:
    """The authors' sum over the reduced images, in units of 1e-5: float64 (N,).

    sr, hr: uint8 (N, 3, H, W) of one shape; low: (h, w) of the LR images.
    """
    difference = opencv_cubic(hr, low).int() - opencv_cubic(sr, low).int()
    return (difference * difference % 256).sum(dim=(1, 2, 3)).double() * UNIT


def opencv_cubic(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`cv2.resize(x, size[::-1], interpolation=cv2.INTER_CUBIC)` of uint8 images (N, C, H, W): uint8 (N, C, h, w).

    The cubic of a = −0.75 without antialias, the edge repeated. Equal to OpenCV 4.14 and 5.0 at whole scales; at
    others OpenCV's own ways differ from each other, and from this, by at most 1.
    """
    rows, columns = (_weights(n, low).to(x.device) for n, low in zip(x.shape[-2:], size, strict=True))
    return (rows @ x.double() @ columns.T).round().clamp(0, 255).byte()


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _weights(n_in: int, n_out: int) -> Tensor:
    """The resize of a side of n_in pixels, Keys' cubic of the four around: float64 (n_out, n_in), rows sum to 1."""
    place = (torch.arange(n_out, dtype=torch.float64) + 0.5) * n_in / n_out - 0.5
    first = place.floor()
    a, x = -0.75, place - first
    before = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a
    left = ((a + 2) * x - (a + 3)) * x * x + 1
    right = ((a + 2) * (1 - x) - (a + 3)) * (1 - x) * (1 - x) + 1
    taps = torch.stack((before, left, right, 1 - before - left - right), dim=1)
    pixels = (first.long()[:, None] + torch.arange(-1, 3)).clamp(0, n_in - 1)
    return torch.zeros(n_out, n_in, dtype=torch.float64).scatter_add(1, pixels, taps)


AUTHORS_CONSISTENCY = SampleMetric(
    name="authors_consistency",
    label="Consistency (authors')",
    decimals=3,
    lower_is_better=True,
    description=(
        "the DTLS authors' formula: squared differences that wrap modulo 256, to compare with their Table 3 only"
    ),
    needs=frozenset({"hr", "reduced"}),
    compute=lambda images: authors_consistency(images.sr, images.hr, (images.lr.shape[-2], images.lr.shape[-1])),
)
