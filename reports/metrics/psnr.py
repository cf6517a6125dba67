"""PSNR: the peak signal-to-noise ratio of an image against the ground truth."""

import torch
from torch import Tensor

from reports.metrics.metric import SampleMetric
from reports.metrics.planes import WHOLE, Measure, check_images, in_groups, mean_squared_error, no_numbers


def psnr(a: Tensor, b: Tensor, measure: Measure = WHOLE) -> Tensor:
    """Peak signal-to-noise ratio in dB over all planes: 10·log10(L² / MSE), L the data range; inf for identical ones.

    a, b: uint8 (N, 3, H, W) of one shape; returns float64 (N,), NaN when the border leaves no pixel. SizeError when
    the shapes differ.
    """
    check_images(a, b)
    if measure.side(a) < 1:
        return no_numbers(a)
    mse = in_groups(lambda x, y: mean_squared_error(measure.planes(x), measure.planes(y)), a, b)
    return 10 * torch.log10(measure.data_range**2 / mse)


PSNR = SampleMetric(
    name="psnr",
    label="PSNR",
    unit="dB",
    decimals=2,
    description="peak signal-to-noise ratio, by the mean squared error of all planes",
    is_primary=True,
    needs=frozenset({"hr"}),
    compute=lambda images: psnr(images.sr, images.hr, images.measure),
)
