"""The blur is the heat equation's, and what is restored of it is no more than an observation holds."""

import math

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import torch
from torch import Tensor

from dtls.degradations.blur import Blur, blurred, cosines
from dtls.degradations.operator import Info


@pytest.fixture(scope="module")
def hr(crops: Tensor) -> Tensor:
    """Real images in [0, 1], (12, 3, 32, 32)."""
    return crops.float() / 255


@pytest.mark.parametrize("n", [1, 2, 7, 32])
def test_the_cosines_are_the_orthonormal_dct_of_type_two(n: int) -> None:
    modes = cosines(n, torch.float64, torch.device("cpu"))
    expected = scipy.fft.dct(np.eye(n), type=2, norm="ortho", axis=0)
    np.testing.assert_allclose(modes.numpy(), expected, rtol=0, atol=1e-12)


def test_no_blur_is_the_image_itself(hr: Tensor) -> None:
    oblong = hr[:2, :, :20].double()
    torch.testing.assert_close(blurred(oblong, torch.zeros(2)), oblong, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("k", "m", "sigma"), [(0, 0, 5.0), (1, 0, 0.5), (3, 7, 1.7), (11, 23, 0.8)])
def test_a_cosine_fades_as_the_heat_equation_says(k: int, m: int, sigma: float) -> None:
    height, width = 16, 24
    down, across = math.pi * k / height, math.pi * m / width
    mode = torch.outer(
        torch.cos(down * (torch.arange(height, dtype=torch.float64) + 0.5)),
        torch.cos(across * (torch.arange(width, dtype=torch.float64) + 0.5)),
    ).expand(1, 3, height, width)
    time = sigma**2 / 2
    faded = mode * math.exp(-time * (down**2 + across**2))
    torch.testing.assert_close(blurred(mode, torch.tensor([sigma])), faded, rtol=0, atol=1e-7)


@pytest.mark.parametrize("sigma", [2.0, 3.0])
def test_the_blur_is_gaussian_with_a_deviation_of_sigma_pixels(sigma: float, hr: Tensor) -> None:
    ours = blurred(hr[:1].double(), torch.tensor([sigma]))[0]
    gaussian = scipy.ndimage.gaussian_filter(hr[0].double().numpy(), sigma, mode="reflect", truncate=8, axes=(1, 2))
    np.testing.assert_allclose(ours.numpy(), gaussian, rtol=0, atol=1e-6)


def test_each_image_is_blurred_by_its_own_sigma(hr: Tensor) -> None:
    sigma = torch.tensor([0.0, 0.7, 3.0])
    together = blurred(hr[:3], sigma)
    for n in range(3):
        torch.testing.assert_close(together[n], blurred(hr[n : n + 1], sigma[n : n + 1])[0], rtol=0, atol=1e-6)


def test_blurs_add_up_as_their_squares_do(hr: Tensor) -> None:
    x = hr[:2].double()
    twice = Blur(4.0).observe(Blur(3.0).observe(x))
    torch.testing.assert_close(twice, Blur(5.0).observe(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(Blur(4.0, steps=4)(x, 3), Blur(3.0).observe(x), rtol=0, atol=1e-12)


def test_an_exact_observation_restores_what_is_left_of_an_image(hr: Tensor) -> None:
    x = hr[:2].double()
    near = Blur(0.7).nearest(torch.zeros_like(x), Blur(0.7).observe(x), Info(levels=None))
    torch.testing.assert_close(near, x, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("sigma", "levels", "noise"), [(1.0, 255, 0.0), (2.0, 255, 0.0), (2.0, 255, 0.05)])
def test_rounding_and_noise_are_not_sharpened(sigma: float, levels: int, noise: float, hr: Tensor) -> None:
    x = hr.double()
    y = Blur(sigma).observe(x)
    y = ((y + noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))) * levels).round() / levels
    given, exact = Info(levels=levels, noise=noise), Info(levels=None)
    before = (y - x).square().mean()
    assert (Blur(sigma).project(y, y, given) - x).square().mean() < before
    assert (Blur(sigma).nearest(y, y, exact) - x).square().mean() > 2 * before  # which sharpens all that y holds
