"""What every degradation promises, checked on each that is registered: a new one is tested by being there."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dtls.degradations.operator import Info, Operator
from dtls.degradations.registry import operator_of, specs
from dtls.errors import SizeError

STEPS = 5
SUMS = ("blur:2+antialias:4", "dark:0.25+mask", "dark:0.5+noise:0.05", "blur:1+noise:0.1", "noise:0.1+grey")
OPERATORS = {spec: operator_of(spec, STEPS) for spec in (*specs(), *SUMS)}
every = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
projecting = pytest.mark.parametrize(
    "operator", [operator for operator in OPERATORS.values() if operator.projects], ids=lambda each: each.spec
)
LEFT = {"blur:2": 1e-7, "blur:1+noise:0.1": 1, "noise:0.1+grey": 1}
"""The misfit after projection where it is not rounding: a blur leaves cosines alone that it has all but erased, and
noise is only followed half."""
sides = st.tuples(st.integers(4, 19), st.integers(4, 19))


def images(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Images (N, 3, H, W) in [0, 1], float64, of large and small patches."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, *(-(-n // 3) for n in size), generator=generator, dtype=torch.float64)
    fine = torch.rand(count, 3, *size, generator=generator, dtype=torch.float64)
    patches = coarse.repeat_interleave(3, -1).repeat_interleave(3, -2)[..., : size[0], : size[1]]
    return (0.7 * patches + 0.3 * fine).clamp(0, 1)


def of_their_own(count: int, size: tuple[int, int]) -> Info:
    """A hole in another place of each image, another seed, and the size."""
    masks = torch.zeros(count, 1, *size, dtype=torch.float64)
    for index, mask in enumerate(masks[:, 0]):
        mask[index % 2 : size[0] - 2, 1 : 2 + index] = 1
    return Info(masks, torch.arange(7, 7 + count), size)


def alone(operator: Operator, x: Tensor, t: float, info: Info) -> Tensor:
    return torch.cat([operator(x[i : i + 1], t, info.part(slice(i, i + 1))) for i in range(len(x))])


@every
def test_nothing_happens_at_t_0(operator: Operator) -> None:
    x = images(2, (9, 12))
    assert torch.equal(operator(x, 0, of_their_own(2, (9, 12))), x)


@every
def test_the_last_step_is_what_an_observation_shows(operator: Operator) -> None:
    x, info = images(2, (9, 12)), of_their_own(2, (9, 12))
    y = operator.observe(x, info)
    torch.testing.assert_close(operator.lift(y, info), operator(x, STEPS, info), rtol=0, atol=1e-12)
    assert (y.shape[1:] != x.shape[1:]) == operator.changes_shape
    assert operator.channels in (None, y.shape[1])


@every
def test_every_step_changes_an_image_and_the_last_one_more_than_the_first(operator: Operator) -> None:
    x, info = images(1, (12, 12)), of_their_own(1, (12, 12))
    small, first, last = ((operator(x, t, info) - x).norm() for t in (0.5, 1, STEPS))
    assert 0 < small <= first < last


@every
def test_an_image_is_degraded_as_if_it_were_alone(operator: Operator) -> None:
    x, info = images(3, (8, 11)), of_their_own(3, (8, 11))
    torch.testing.assert_close(operator(x, 3, info), alone(operator, x, 3, info), rtol=0, atol=1e-15)
    each = operator(x, torch.tensor([1, 0, 5]), info)
    torch.testing.assert_close(operator(x, [1, 0, 5], info), each, rtol=0, atol=0)
    for i, t in enumerate((1, 0, 5)):
        one = operator(x[i : i + 1], t, info.part(slice(i, i + 1)))
        torch.testing.assert_close(one, each[i : i + 1], rtol=0, atol=1e-12)


@every
def test_a_linear_family_is_linear(operator: Operator) -> None:
    info = of_their_own(2, (8, 9))
    a, b = images(2, (8, 9), 1), images(2, (8, 9), 2)

    def degraded(x: Tensor) -> Tensor:
        return operator.linearised(operator(operator.encoded(x), 3, info))

    off = (degraded(0.5 * a - 2 * b) - (0.5 * degraded(a) - 2 * degraded(b))).abs().max()
    assert (off < 1e-12) == operator.is_linear


@every
def test_timesteps_beyond_the_family_s_are_refused(operator: Operator) -> None:
    x, info = images(2, (8, 8)), of_their_own(2, (8, 8))
    for t in (-0.1, 5.1, float("nan"), [1, 6]):
        with pytest.raises(SizeError, match="timesteps are 0…5, not "):
            operator(x, t, info)
    with pytest.raises(SizeError, match="3 timesteps for 2 images"):
        operator(x, [1, 2, 3], info)


@projecting
@settings(max_examples=15, deadline=None)
@given(size=sides, seed=st.integers(0, 99))
def test_projecting_reaches_the_observation_and_comes_no_further_from_the_truth(
    operator: Operator, size: tuple[int, int], seed: int
) -> None:
    truth, guess, info = images(2, size, seed), images(2, size, seed + 1), of_their_own(2, size)
    y, info = operator.expected(truth, info), replace(info, levels=None)
    near = operator.nearest(guess, y, info)
    assert operator.misfit(truth, y, info).max() < 1e-24
    assert (operator.misfit(near, y, info) <= operator.misfit(guess, y, info)).all()
    assert operator.misfit(near, y, info).max() < LEFT.get(operator.spec, 1e-20)
    before, after = ((x - truth).square().sum((1, 2, 3)) for x in (guess, operator.project(guess, y, info)))
    assert (after <= before + 1e-12).all()
    torch.testing.assert_close(operator.nearest(truth, y, info), truth, rtol=0, atol=1e-9)


@projecting
def test_a_misfit_shows_what_does_not_agree(operator: Operator) -> None:
    x, info = images(2, (8, 8)), of_their_own(2, (8, 8))
    y = operator.expected(x, info)
    wrong = x.clone()
    wrong[1] = 1 - wrong[1]
    misfit = operator.misfit(wrong, y, info)
    assert misfit.shape == (2,)
    assert misfit[0] < 1e-24
    assert misfit[1] > 1e-4
