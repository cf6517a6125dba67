"""Consistency of any degradation: HR agrees with what it was degraded to, and other images do not."""

import pytest
import torch
from torch import Tensor

from dtls.degradations.operator import Info
from dtls.degradations.registry import operator_of
from dtls.errors import DegradationError, SizeError
from reports.metrics.consistency import consistency
from reports.metrics.degraded import can_be_measured, needs_alpha
from reports.metrics.metric import References
from reports.metrics.score import score

SIDE = 16
ROUNDING = 1 / 255**2 / 12
"""The mean square of the error that rounding to 8 bits makes."""
TAILS = 4.07e-4
"""The mean of what is beyond 3 deviations of a normal distribution, squared: 2 (10 Q(3) − 3 φ(3))."""


@pytest.fixture(scope="module")
def hr() -> Tensor:
    """uint8 (2, 3, SIDE, SIDE), smooth and in colour."""
    waves = torch.sin(torch.linspace(0, 3, SIDE)[:, None] * torch.linspace(1, 2, SIDE)[None])
    shifts = torch.linspace(0.2, 0.5, 6).view(2, 3, 1, 1)
    return ((waves * shifts + 0.4) * 255).round().clamp(0, 255).byte()


def degraded(hr: Tensor, name: str) -> tuple[Tensor, Tensor | None]:
    """What a file of a degraded image holds, RGB, and its alpha channel, both uint8."""
    operator = operator_of(name)
    masks = torch.zeros(2, 1, SIDE, SIDE, dtype=torch.float64)
    masks[..., 4:10, 6:12] = 1
    y = operator.observe(hr.double() / 255, Info(masks=masks, seeds=torch.arange(2)))
    saved = (y.clamp(0, 1) * 255).round().byte()
    if operator.needs_mask:
        return saved[:, :3], saved[:, 3:]
    return saved.expand(-1, 3, -1, -1), None


@pytest.mark.parametrize("name", ["grey", "blur:2", "mask", "dark:0.25", "noise:0.1", "blur:1+grey", "dark:0.5+mask"])
def test_the_original_agrees_with_what_it_was_degraded_to_and_another_image_does_not(hr: Tensor, name: str) -> None:
    y, alpha = degraded(hr, name)
    assert (consistency(hr, y, name, alpha) <= 2 * (ROUNDING + TAILS * operator_of(name).noise ** 2)).all()
    brighter = hr.clamp(max=55) + 200
    assert (consistency(brighter, y, name, alpha) > 1e-3).all()
    assert consistency(hr, y, name, alpha).dtype == torch.float64


def test_an_image_agrees_with_a_part_of_the_degradation(hr: Tensor) -> None:
    operator = operator_of("dark:0.25")
    half = (operator(hr.double() / 255, operator.steps / 2).clamp(0, 1) * 255).round().byte()
    assert (consistency(hr, half, "dark:0.25*0.5") <= 2 * ROUNDING).all()
    assert (consistency(hr, half, "dark:0.25") > 1e-3).all()


def test_pixels_in_a_hole_count_for_nothing(hr: Tensor) -> None:
    y, alpha = degraded(hr, "mask")
    assert alpha is not None
    filled = torch.where(alpha == 0, 255 - hr, hr)
    assert consistency(filled, y, "mask", alpha).tolist() == [0, 0]


def test_what_is_not_known_is_not_measured(hr: Tensor) -> None:
    assert [can_be_measured(name) for name in ("antialias", "grey", "mask", "noise:0.1")] == [True] * 4
    assert [can_be_measured(name) for name in ("realworld", "noise:0.1*0.5", "blur:2+noise:0.1*0.5")] == [False] * 3
    with pytest.raises(DegradationError, match="not known which images agree with those that noise"):
        consistency(hr, hr, "noise:0.1*0.5")


def test_a_degraded_image_of_another_size_is_refused(hr: Tensor) -> None:
    with pytest.raises(SizeError, match="2 images of 8×8 is no 2 images of 16×16 that was degraded at its size"):
        consistency(hr, hr[..., ::2, ::2], "grey")


def test_the_authors_formula_is_for_lr_images_and_holes_need_their_alpha(hr: Tensor) -> None:
    y, alpha = degraded(hr, "mask")
    assert needs_alpha("mask")
    both = score({"x": hr}, References(hr, y, "mask", alpha=alpha))["x"]
    assert both.keys() == {"psnr", "ssim", "ssim_gaussian", "consistency", "lr_psnr"}
    assert score({"x": hr}, References(hr, y, "mask"))["x"].keys() == {"psnr", "ssim", "ssim_gaussian"}
