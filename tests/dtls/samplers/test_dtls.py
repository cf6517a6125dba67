"""Every sampler is its formula in the paper, the default is the authors', and two calls give the same image."""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dtls.choices import SamplerName
from dtls.degradations.base import PROTOCOLS, Protocol
from dtls.degradations.path import Degradation
from dtls.models.dtls import DTLS
from dtls.samplers.dtls import SAMPLERS, current, previous, two_call

STEP_BY_STEP: tuple[SamplerName, ...] = (
    *("none", "last", "hr", "current", "undegraded"),  # i to v of the paper's Table 4
    *("written", "cold", "previous"),
)

D = Degradation(32, 4, 6)


def waves(x: Tensor, t: Tensor) -> Tensor:
    """In a network's place, exact in float64: what each pixel, one beside it and the timestep make together."""
    return torch.sin(x + x.roll((1, 2), (-2, -1)) - t[:, None, None, None] / 4)


def bilinear(x: Tensor, t: int) -> Tensor:
    """D of the fixture (8→32, stride 4) as the authors write it: down to 32 − 4t pixels and up again."""
    if t == 0:
        return x
    low = F.interpolate(x, 32 - 4 * t, mode="bilinear", align_corners=False)
    return F.interpolate(low, 32, mode="bilinear", align_corners=False)


def of_the_paper(name: SamplerName, x: Tensor, t: int) -> tuple[dict[int, Tensor], Tensor]:
    """The predictions x_{s,0} by s, and the SR image, with M as the sum it stands for instead of a running one.

    SR is x_{1,0}; of the three whose formula gives another x_0 at s = 1, it is that.
    """
    made: dict[int, Tensor] = {}
    for s in range(t, 0, -1):
        made[s] = waves(x, torch.full((len(x),), s))
        changes = [made[k + 1] - made[k] for k in range(s, t)]
        momentum = sum(changes, torch.zeros_like(x))
        latest = changes[0] if changes else torch.zeros_like(x)
        x = {
            "none": bilinear(made[s], s - 1),
            "last": bilinear(made[s], s - 1) + bilinear(latest, s - 1),
            "hr": bilinear(made[s] + momentum, s - 1),
            "current": bilinear(made[s], s - 1) + bilinear(momentum, s - 1),
            "undegraded": bilinear(made[s], s - 1) + momentum,
            "written": bilinear(made[s], s - 1) + bilinear(momentum, s),
            "cold": x - bilinear(made[s], s) + bilinear(made[s], s - 1),
            "previous": made[s],
        }[name]
    return made, x if name in ("hr", "written", "cold") else made[1]


def sampled(name: SamplerName, x: Tensor, t: int) -> tuple[list[tuple[float, Tensor]], Tensor]:
    """What the sampler called `name` shows its callback, in order, and what it gives."""
    seen: list[tuple[float, Tensor]] = []
    sr = SAMPLERS[name](waves, D, x, t, lambda s, _, prediction: seen.append((s, prediction)))
    return seen, sr


def test_there_is_a_sampler_for_every_name() -> None:
    assert tuple(SAMPLERS) == get_args(SamplerName)
    assert len(set(SAMPLERS.values())) == len(SAMPLERS)
    assert set(STEP_BY_STEP) == {*SAMPLERS} - {"two-call", "one-call"}


@pytest.mark.parametrize("name", ["current", "two-call"])
def test_sr_is_that_of_the_authors_code(name: SamplerName, model: DTLS, expected: dict[str, Tensor]) -> None:
    sr = SAMPLERS[name](model, model.degradation, expected["lr_up"], 6)
    torch.testing.assert_close(sr, expected["sr"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("t", [2, 3, 6])
@pytest.mark.parametrize("name", STEP_BY_STEP)
def test_every_sampler_is_its_formula_and_shows_each_prediction_in_order(
    name: SamplerName, t: int, expected: dict[str, Tensor]
) -> None:
    x = bilinear(expected["x"][:2].double(), t)
    predictions, sr = of_the_paper(name, x, t)
    seen, ours = sampled(name, x, t)
    torch.testing.assert_close(ours, sr, rtol=0, atol=1e-12)
    assert [s for s, _ in seen] == list(predictions) == list(range(t, 0, -1))
    for s, prediction in seen:
        torch.testing.assert_close(prediction, predictions[int(s)], rtol=0, atol=1e-12)


def test_the_step_by_step_samplers_are_told_apart(expected: dict[str, Tensor]) -> None:
    results = [sampled(name, expected["lr_up"][:2].double(), 6)[1] for name in STEP_BY_STEP]
    for i, one in enumerate(results):
        assert all((one - other).abs().max() > 1e-4 for other in results[:i])


def test_two_calls_are_the_first_and_the_last_of_the_paper_s(expected: dict[str, Tensor]) -> None:
    x = expected["lr_up"].double()
    predictions, sr = of_the_paper("current", x, 6)
    seen, ours = sampled("two-call", x, 6)
    assert [s for s, _ in seen] == [6, 1]
    for s, prediction in seen:
        torch.testing.assert_close(prediction, predictions[int(s)], rtol=0, atol=1e-12)
    torch.testing.assert_close(ours, sr, rtol=0, atol=1e-12)


@pytest.mark.parametrize("t", [2, 3, 6])
def test_momentum_in_the_hr_domain_comes_back_to_the_one_call(t: int, expected: dict[str, Tensor]) -> None:
    x = bilinear(expected["x"].double(), t)
    seen, sr = sampled("one-call", x, t)
    assert [s for s, _ in seen] == [t]
    assert torch.equal(sr, waves(x, torch.full((4,), t)))
    torch.testing.assert_close(sampled("hr", x, t)[1], sr, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("t", "dtype", "bound"), [*((t, torch.float32, 1e-5) for t in (1, 2, 3, 6)), (3, torch.float64, 1e-13)]
)
def test_two_calls_give_what_all_steps_give(
    t: int, dtype: torch.dtype, bound: float, model: DTLS, expected: dict[str, Tensor]
) -> None:
    x = model.to(dtype).degradation(expected["x"].to(dtype), t)
    whole = current(model, model.degradation, x, t)
    torch.testing.assert_close(two_call(model, model.degradation, x, t), whole, rtol=0, atol=bound)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_two_calls_suffice_under_either_protocol_and_at_other_sizes(protocol: Protocol, images: Tensor) -> None:
    degrade = Degradation(32, 4, 6, protocol)
    x = degrade(images[:2, :, :48, :20].double() / 255, 5)
    whole = current(waves, degrade, x, 5)
    torch.testing.assert_close(two_call(waves, degrade, x, 5), whole, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "cold"])
def test_one_step_is_one_call(name: SamplerName, model: DTLS, expected: dict[str, Tensor]) -> None:
    x = model.degradation(expected["x"], 1)
    assert torch.equal(SAMPLERS[name](model, model.degradation, x, 1), model(x, torch.ones(4)))


def test_one_step_of_cold_diffusion_keeps_what_its_prediction_does_not_explain(expected: dict[str, Tensor]) -> None:
    x = bilinear(expected["x"].double(), 1)
    prediction = waves(x, torch.ones(4))
    unexplained = x - bilinear(prediction, 1)
    assert unexplained.abs().max() > 1e-3
    torch.testing.assert_close(sampled("cold", x, 1)[1], prediction + unexplained, rtol=0, atol=1e-12)


def test_the_previous_step_is_walked_without_degrading(expected: dict[str, Tensor]) -> None:
    def refused(*_: object) -> Tensor:
        raise AssertionError("D is not for this sampler")

    x = expected["lr_up"].double()
    walked = previous(waves, refused, x, 3)
    by_hand = x
    for t in (3, 2, 1):
        by_hand = waves(by_hand, torch.full((4,), t))
    assert torch.equal(walked, by_hand)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_timestep_comes_once_for_each_image_and_the_input_stays(
    name: SamplerName, expected: dict[str, Tensor]
) -> None:
    steps: list[Tensor] = []

    def doubled(x: Tensor, t: Tensor) -> Tensor:
        steps.append(t)
        return 2 * x

    x = expected["lr_up"].clone()
    SAMPLERS[name](doubled, D, x, 6)
    assert all(t.shape == (4,) and len(set(t.tolist())) == 1 for t in steps)
    assert torch.equal(x, expected["lr_up"])
