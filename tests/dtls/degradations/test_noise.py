"""Noise is white, of the deviation that is asked for, and each image's own."""

import pytest
import torch

from dtls.degradations.noise import Noise
from dtls.degradations.operator import Info
from dtls.errors import DegradationError

X = torch.full((2, 3, 64, 64), 0.5, dtype=torch.float64)
SEEDS = Info(seeds=torch.tensor([3, 4]))


def test_noise_is_white_with_the_deviation_of_the_spec() -> None:
    noise = Noise(0.1).observe(X, SEEDS) - X
    assert noise.std().item() == pytest.approx(0.1, rel=0.03)
    assert noise.mean().item() == pytest.approx(0, abs=3e-3)
    assert (noise[..., 1:] * noise[..., :-1]).mean().abs() < 3e-4
    assert (noise[:, 0] * noise[:, 1]).mean().abs() < 3e-4
    assert (noise[0] * noise[1]).mean().abs() < 3e-4


def test_noise_grows_with_t_and_is_the_same_at_every_t() -> None:
    family = Noise(0.1, steps=4)
    torch.testing.assert_close((family(X, 1, SEEDS) - X) * 4, family(X, 4, SEEDS) - X, rtol=0, atol=1e-12)


def test_results_agree_with_a_noisy_image_within_three_deviations() -> None:
    y = X + torch.tensor([0.31, 0.29], dtype=torch.float64)[:, None, None, None]
    exact = Info(levels=None)
    near = Noise(0.1).nearest(X, y, exact)
    assert near[0].mean().item() == pytest.approx(0.51)
    assert torch.equal(near[1], X[1])
    assert Noise(0.1).misfit(X, y, exact).tolist() == pytest.approx([1e-4, 0])


def test_noise_without_seeds_is_refused() -> None:
    with pytest.raises(DegradationError, match="noise is drawn of a seed for each image, and there are none"):
        Noise(0.1).observe(X)
