"""A degradation that loses nothing but by rounding is undone by its equations."""

import pytest
import torch
from torch import Tensor

from dtls.degradations.registry import operator_of
from dtls.errors import SamplingError
from dtls.inference.method import load_method
from dtls.inference.sampling import Sampling


def psnr(x: Tensor, y: Tensor) -> float:
    return float(-10 * torch.log10((x - y).square().mean()))


@pytest.mark.parametrize(("spec", "gain"), [("dark:0.25", 30), ("blur:1", 5)])
def test_what_was_degraded_comes_back_but_for_rounding(spec: str, gain: float, images: Tensor) -> None:
    x = images[:, :, :61].float() / 255
    operator = operator_of(spec)
    y = (operator.observe(x) * 255).round() / 255
    method = load_method("inverse", sampling=Sampling(made_by=spec))
    made = method(y, (61, x.shape[-1]))
    assert operator.inverts
    assert psnr(made, x) >= psnr(y, x) + gain
    assert made.min() >= 0
    assert made.max() <= 1
    assert method.identity == {"method": "inverse", "protocol": spec}


@pytest.mark.parametrize(
    "spec", ["grey", "mask", "noise:0.1", "antialias:4", "realworld:2", "blur:2+noise:0.1", "blur:1+dark:0.5"]
)
def test_what_loses_more_says_so(spec: str) -> None:
    assert not operator_of(spec).inverts


def test_nothing_is_undone_that_nothing_names() -> None:
    with pytest.raises(SamplingError, match="inverse undoes a known degradation, and nothing says which"):
        load_method("inverse")
