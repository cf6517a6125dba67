"""A sum is its parts, one after the other; what cannot be combined or projected on says why."""

import pytest
import torch
from torch import Tensor

from dtls.degradations.operator import Info
from dtls.degradations.registry import operator_of
from dtls.errors import DegradationError


@pytest.fixture
def x(images: Tensor) -> Tensor:
    """Images in [0, 1], (2, 3, 32, 32), float64."""
    return images[:2, :, :32, :32].double() / 255


INFO = Info(seeds=torch.tensor([5, 6]))


def test_one_comes_after_the_other(x: Tensor) -> None:
    both, blur, noise = (operator_of(spec) for spec in ("blur:2+noise:0.1", "blur:2", "noise:0.1"))
    assert torch.equal(both(x, 7, INFO), noise(blur(x, 7), 7, INFO))
    assert torch.equal(both.observe(x, INFO), noise.observe(blur.observe(x), INFO))
    assert torch.equal(both.expected(x), blur.observe(x))


@pytest.mark.parametrize(
    ("spec", "is_linear", "projects"),
    [
        ("blur:2+antialias:4", True, False),
        ("blur:2+mask", True, False),
        ("blur:2+noise:0.1", False, True),
        ("dark:0.25+grey", False, False),  # linear in light, and in the code: not in one space
        ("dark:0.25+mask", False, True),
        ("noise:0.1+dark:0.5+mask", False, True),
        ("noise:0.1+realworld:2", False, False),
    ],
)
def test_what_a_sum_can_do_follows_from_its_parts(spec: str, is_linear: bool, projects: bool) -> None:
    operator = operator_of(spec)
    assert (operator.is_linear, operator.projects) == (is_linear, projects)
    assert operator.draws == ("noise" in spec or "realworld" in spec)
    assert operator.needs_mask == ("mask" in spec)


def test_a_noisy_observation_pulls_less_than_an_exact_one(x: Tensor) -> None:
    exact = Info(seeds=INFO.seeds, levels=None)
    for spec, alone in (("noise:0.1+grey", "grey"), ("blur:1+noise:0.1", "blur:1")):
        noisy = operator_of(spec)
        y = noisy.observe(x, exact)
        steps = [(operator_of(each).nearest(x, y, exact) - x).norm() for each in (spec, alone)]
        assert steps[0] < 0.5 * steps[1]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("grey+noise:0.1", "grey+noise:0.1: grey changes the size or channels, so it has to come last"),
        ("blur:1+antialias:2+mask", "antialias:2 changes the size or channels, so it has to come last"),
        ("blur:1+blur:2", "blur:1+blur:2: each degradation can be part of a sum once"),
        ("antialias:2+reference:2", "each degradation can be part of a sum once"),
    ],
)
def test_what_cannot_be_combined_is_refused(spec: str, message: str) -> None:
    with pytest.raises(DegradationError) as refused:
        operator_of(spec)
    assert message in str(refused.value)


@pytest.mark.parametrize("spec", ["blur:2+mask", "realworld:2"])
def test_a_projection_that_there_is_not_is_refused(spec: str, x: Tensor) -> None:
    with pytest.raises(DegradationError, match="there is no projection on images of the degradation"):
        operator_of(spec).project(x, x)
