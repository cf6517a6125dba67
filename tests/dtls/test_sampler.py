"""The sampler is the authors', and its two-call form is the same picture."""

import pytest
import torch
from torch import Tensor

from dtls.checkpoint import DTLS
from dtls.degradation import PROTOCOLS, Degradation, Protocol
from dtls.sampler import Sampler, step_by_step, two_call

SAMPLERS = (step_by_step, two_call)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sr_is_that_of_the_authors_code(sampler: Sampler, model: DTLS, expected: dict[str, Tensor]) -> None:
    sr = sampler(model, model.degradation, expected["lr_up"], 6)
    torch.testing.assert_close(sr, expected["sr"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("t", [1, 2, 3, 6])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_two_calls_give_what_all_steps_give(
    t: int, dtype: torch.dtype, bound: float, model: DTLS, expected: dict[str, Tensor]
) -> None:
    x = model.to(dtype).degradation(expected["x"].to(dtype), t)
    whole = step_by_step(model, model.degradation, x, t)
    torch.testing.assert_close(two_call(model, model.degradation, x, t), whole, rtol=0, atol=bound)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_two_calls_suffice_under_either_protocol_and_at_other_sizes(
    protocol: Protocol, model: DTLS, pictures: Tensor
) -> None:
    degrade = Degradation(32, 4, 6, protocol)
    x = degrade(pictures[:2, :, :48, :20].double() / 255, 5)
    whole = step_by_step(model.double(), degrade, x, 5)
    torch.testing.assert_close(two_call(model, degrade, x, 5), whole, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("sampler", "steps"), [(step_by_step, [6, 5, 4, 3, 2, 1]), (two_call, [6, 1])])
def test_the_callback_sees_every_prediction(
    sampler: Sampler, steps: list[int], model: DTLS, expected: dict[str, Tensor]
) -> None:
    seen: list[tuple[int, Tensor]] = []
    sr = sampler(model, model.degradation, expected["lr_up"], 6, lambda t, x: seen.append((t, x)))
    assert [t for t, _ in seen] == steps
    assert torch.equal(seen[-1][1], sr)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_step_is_one_call(sampler: Sampler, model: DTLS, expected: dict[str, Tensor]) -> None:
    x = model.degradation(expected["x"], 1)
    assert torch.equal(sampler(model, model.degradation, x, 1), model(x, torch.ones(4)))
