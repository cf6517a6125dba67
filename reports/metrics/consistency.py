"""Consistency: how far a result, degraded again, is from the LR or degraded image that it was made of."""

import torch
from torch import Tensor

from dtls.degradations.base import is_linear
from dtls.degradations.resize import resize
from dtls.errors import DegradationError
from reports.metrics.degraded import again
from reports.metrics.metric import Compared, SampleMetric
from reports.metrics.planes import PEAK, check_same_size, in_groups, mean_squared_error, reduced_size


def consistency(sr: Tensor, lr: Tensor, degradation: str, alpha: Tensor | None = None) -> Tensor:
    """Mean squared error between A·SR and LR on [0, 1]: does the result become, degraded again, what it came from?

    A is the degradation: the downscaling of a protocol, or the operator of a spec such as `blur:2` or `grey`, whose
    own `misfit` this is. A·SR is neither rounded nor clamped, so LR's own rounding leaves about 1.3e-6 even for the
    HR image. sr: uint8 (N, 3, H, W); lr: uint8 (N, 3, h, w) on the same device; alpha: uint8 (N, 1, h, w), of which
    255 is a pixel that is there, for degradations that make holes. Returns float64 (N,).
    SizeError where `reduced_size` has it, and where sizes differ though nothing was reduced. DegradationError where
    it is not known which results agree with degraded images.
    """
    if is_linear(degradation):
        low, protocol = reduced_size(sr, lr), degradation
        return in_groups(lambda x, y: mean_squared_error(resize(x.double(), low, protocol), y), sr, lr) / PEAK**2
    if (made := again(degradation)) is None:
        raise DegradationError(f"it is not known which images agree with those that {degradation} makes")
    check_same_size(sr, lr)
    held = lr if alpha is None else torch.cat([lr, alpha], dim=1)
    return in_groups(lambda x, y: made.misfit(x.double() / PEAK, y.double() / PEAK), sr, held)


def lr_psnr(consistency: Tensor) -> Tensor:
    """Consistency in dB, 10·log10(1 / consistency): the PSNR of A·SR and LR, inf where they are equal."""
    return -10 * torch.log10(consistency)


def _consistency(images: Compared) -> Tensor:
    given = images.given
    return images.kept.once("consistency", lambda: consistency(images.sr, images.lr, given.protocol, given.alpha))


CONSISTENCY = SampleMetric(
    name="consistency",
    label="Consistency",
    decimals=2,
    notation="e",
    lower_is_better=True,
    description="mean squared error on [0, 1] between the result, degraded again, and the image that it was made of",
    is_primary=True,
    needs=frozenset({"lr"}),
    compute=_consistency,
)
LR_PSNR = SampleMetric(
    name="lr_psnr",
    label="LR-PSNR",
    label_unreduced="Degraded-PSNR",
    unit="dB",
    decimals=2,
    description="the same as a peak signal-to-noise ratio",
    needs=frozenset({"lr"}),
    compute=lambda images: lr_psnr(_consistency(images)),
)
