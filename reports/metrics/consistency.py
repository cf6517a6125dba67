"""LR consistency: how far the SR image, downscaled again, is from the LR image that it was made of."""

import torch
from torch import Tensor

from dtls.degradations.base import Protocol
from dtls.degradations.resize import resize
from reports.metrics.metric import Compared, SampleMetric
from reports.metrics.planes import PEAK, in_groups, mean_squared_error, reduced_size


def consistency(sr: Tensor, lr: Tensor, protocol: Protocol) -> Tensor:
    """Mean squared error between A·SR and LR on [0, 1]: does the SR image shrink to the LR image it came from?

    A is the downscaling of `protocol`, neither rounded nor clamped, so LR's own rounding leaves about 1.3e-6 even for
    the HR image. sr: uint8 (N, 3, H, W); lr: uint8 (N, 3, h, w) on the same device; returns float64 (N,).
    SizeError where `reduced_size` has it.
    """
    low = reduced_size(sr, lr)
    return in_groups(lambda x, y: mean_squared_error(resize(x.double(), low, protocol), y), sr, lr) / PEAK**2


def lr_psnr(consistency: Tensor) -> Tensor:
    """Consistency in dB, 10·log10(1 / consistency): the PSNR of A·SR and LR, inf where they are equal."""
    return -10 * torch.log10(consistency)


def _consistency(images: Compared) -> Tensor:
    return images.kept.once("consistency", lambda: consistency(images.sr, images.lr, images.downscaling))


CONSISTENCY = SampleMetric(
    name="consistency",
    label="Consistency",
    decimals=2,
    notation="e",
    lower_is_better=True,
    description="mean squared error between A·SR and LR on [0, 1]",
    is_primary=True,
    needs=frozenset({"lr"}),
    compute=_consistency,
)
LR_PSNR = SampleMetric(
    name="lr_psnr",
    label="LR-PSNR",
    unit="dB",
    decimals=2,
    description="the same as a peak signal-to-noise ratio",
    needs=frozenset({"lr"}),
    compute=lambda images: lr_psnr(_consistency(images)),
)
