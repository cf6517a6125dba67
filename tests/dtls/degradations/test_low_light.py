"""Light is sRGB's, an exposure has a share of it, and rounding is not brightened."""

import pytest
import torch
from torch import Tensor

from dtls.degradations.light import to_encoded, to_light
from dtls.degradations.low_light import LowLight
from dtls.degradations.operator import Info


@pytest.mark.parametrize(("code", "light"), [(0, 0), (10, 0.003035), (128, 0.215861), (200, 0.577580), (255, 1)])
def test_light_is_that_of_the_srgb_standard(code: int, light: float) -> None:
    assert to_light(torch.tensor(code / 255, dtype=torch.float64)).item() == pytest.approx(light, abs=1e-6)


def test_light_goes_there_and_back_beyond_the_range_of_images_too() -> None:
    x = torch.linspace(-2, 2, 8001, dtype=torch.float64)
    torch.testing.assert_close(to_encoded(to_light(x)), x, rtol=0, atol=1e-14)
    torch.testing.assert_close(to_light(-x), -to_light(x), rtol=0, atol=0)
    assert (to_light(x).diff() > 0).all()


def test_an_exposure_of_a_quarter_holds_a_quarter_of_the_light(images: Tensor) -> None:
    x = images[:2].double() / 255
    y = LowLight(0.25).observe(x)
    torch.testing.assert_close(to_light(y), to_light(x) / 4, rtol=0, atol=1e-12)
    torch.testing.assert_close(LowLight(0.25)(x, 14), LowLight(0.5).observe(x), rtol=0, atol=1e-12)


def test_what_a_network_restored_of_the_rounding_stays(images: Tensor) -> None:
    x = images[:2].double() / 255
    y = (LowLight(0.1).observe(x) * 255).round() / 255
    family = LowLight(0.1)
    torch.testing.assert_close(family.nearest(x, y), x, rtol=0, atol=1e-9)
    brightened = family.nearest(torch.zeros_like(x), y, Info(levels=None))
    assert (brightened - x).abs().max() > 2 / 255
    deeper = (LowLight(0.1).observe(x) * 65535).round() / 65535
    near = family.project((x + 0.02).clamp(0, 1), deeper, Info(levels=65535))
    assert (near - x).abs().max() < 1 / 255
