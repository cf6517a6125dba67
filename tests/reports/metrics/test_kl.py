"""KL divergences from N(0, 1) are their closed forms, on draws within what the estimate is said to miss."""

import math

import numpy as np
import pytest

from reports.metrics.kl import kl_by_histogram, kl_by_moments, kl_of_exponential, noised_moments

DRAWS = 1_000_000


@pytest.fixture(scope="module")
def exponential() -> np.ndarray:
    """Draws of Exp(½)."""
    return np.random.default_rng(0).exponential(2, DRAWS)


def test_the_exponential_distribution_has_its_closed_form() -> None:
    assert kl_of_exponential(0.5) == pytest.approx(3.2258, abs=5e-5)
    x = np.linspace(0, 80, 800_001)[1:]
    density = np.exp(-x / 2) / 2
    integral = np.sum(density * (np.log(density) + x**2 / 2 + math.log(2 * math.pi) / 2)) * (x[1] - x[0])
    assert kl_of_exponential(0.5) == pytest.approx(integral, abs=1e-3)


def test_moments_see_less_of_the_exponential_distribution(exponential: np.ndarray) -> None:
    assert kl_by_moments(2, 4) == pytest.approx(2.8069, abs=5e-5)
    assert kl_by_moments(exponential.mean(), exponential.var()) == pytest.approx(2.807, abs=0.02)


@pytest.mark.slow
def test_the_histogram_of_a_million_draws_is_within_a_fiftieth(exponential: np.ndarray) -> None:
    assert kl_by_histogram(exponential) == pytest.approx(kl_of_exponential(0.5), abs=0.02)
    normal = np.random.default_rng(1).normal(0, 1, DRAWS)
    assert kl_by_histogram(normal) == pytest.approx(0, abs=0.005)
    assert kl_by_histogram(3 + 0.5 * normal) == pytest.approx(kl_by_moments(3, 0.25), abs=0.005)


def test_the_histogram_is_above_the_moments_by_the_negentropy() -> None:
    uniform = np.random.default_rng(2).uniform(-1, 1, 200_000)
    negentropy = math.log(2 * math.pi * math.e / 3) / 2 - math.log(2)
    found = kl_by_histogram(uniform) - kl_by_moments(uniform.mean(), uniform.var())
    assert found == pytest.approx(negentropy, abs=0.005)


def test_few_values_give_too_much_by_what_is_said() -> None:
    normal = np.random.default_rng(3).normal(0, 1, (64, 3072))
    mean = np.mean([kl_by_histogram(x) for x in normal])
    assert mean == pytest.approx(63 / (2 * 3072), abs=0.004)


def test_values_without_a_spread_are_infinitely_far_and_no_numbers_give_none() -> None:
    assert kl_by_moments(0, 0) == kl_by_histogram(np.zeros((2, 2))) == math.inf
    assert math.isnan(kl_by_histogram([0.0, math.inf]))


def test_noise_takes_mean_and_variance_to_those_of_noise() -> None:
    assert noised_moments(0.3, 0.2, 1) == pytest.approx((0.3, 0.2))
    assert noised_moments(0.3, 0.2, 0) == (0, 1)
    assert noised_moments(2, 4, 0.25) == (1, 1.75)
