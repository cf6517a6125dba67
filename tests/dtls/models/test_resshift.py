"""ResShift's chain is the paper's, in images of [0, 1], and its sampler goes back along it to what is predicted."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtls.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from dtls.degradations.resize import resize
from dtls.errors import SizeError
from dtls.inference.sampling import Sampling
from dtls.inference.trained import Trained
from dtls.models.base import Noise
from dtls.models.resshift import ResShift, ResShiftConfig, shifts
from dtls.training.recipe import Recipe
from dtls.training.trainer import Trainer, train
from tests.dtls import one_cpu
from tests.dtls.models.drawing import draws, seeds
from tests.dtls.weights import have_the_same_weights

KAPPA = 2.0


def made(**changes: Any) -> ResShift:
    """A small model whose network changes its input."""
    torch.manual_seed(0)
    model = ResShift(**{"size": 32, "lr_size": 8, "dim": 8, "levels": 2, "timesteps": 4, **changes})
    nn.init.normal_(model.unet.rgb.weight)
    return model.eval()


@pytest.fixture(scope="module")
def hr(crops: Tensor) -> Tensor:
    """Real images in [0, 1], (12, 3, 32, 32)."""
    return crops.float() / 255


@pytest.fixture(scope="module")
def lr(hr: Tensor) -> Tensor:
    """The same as the protocol makes them, (12, 3, 8, 8), in 8 bits."""
    return (resize(hr, (8, 8), "antialias").clamp(0, 1) * 255).round() / 255


@pytest.mark.parametrize(("timesteps", "power", "first_noise"), [(15, 0.3, 0.04), (4, 0.3, 0.2), (2, 2.0, 0.04)])
def test_the_shift_goes_from_its_first_noise_to_0_999_as_in_the_paper(
    timesteps: int, power: float, first_noise: float
) -> None:
    eta = shifts(ResShiftConfig(timesteps=timesteps, power=power, first_noise=first_noise)).tolist()
    assert len(eta) == timesteps + 1
    assert eta[0] == 0
    assert KAPPA * math.sqrt(eta[1]) == pytest.approx(first_noise)
    assert eta[-1] == pytest.approx(0.999)
    assert eta == sorted(eta)
    b = math.exp(math.log(0.999 / eta[1]) / (2 * (timesteps - 1)))
    for t in range(1, timesteps + 1):
        beta = ((t - 1) / (timesteps - 1)) ** power * (timesteps - 1)
        assert math.sqrt(eta[t]) == pytest.approx(math.sqrt(eta[1]) * b**beta)


def test_defaults_are_the_paper_s() -> None:
    config = ResShiftConfig()
    assert (config.timesteps, config.power, config.kappa, config.first_noise) == (15, 0.3, 2.0, 0.04)
    assert shifts(config)[1] == pytest.approx(min((0.04 / 2) ** 2, 0.001))


@pytest.mark.parametrize("t", [0, 1, 3, 4])
def test_x_t_has_the_mean_and_variance_of_the_paper(t: int) -> None:
    model, count = made(), 64
    x0, y0 = torch.full((count, 3, 16, 16), 0.2), torch.full((count, 3, 16, 16), 0.7)
    x = model.noised(x0, y0, torch.full((count,), t), Noise(torch.arange(count))(x0))
    eta, values = model.eta[t].item(), x.numel()
    paper = 2 * x.double() - 1
    mean, variance = -0.6 + eta * (0.4 + 0.6), KAPPA**2 * eta
    assert paper.mean().item() == pytest.approx(mean, abs=5 * math.sqrt(variance / values) + 1e-6)
    assert paper.var().item() == pytest.approx(variance, abs=5 * variance * math.sqrt(2 / values) + 1e-9)


@pytest.mark.parametrize("t", [2, 3, 4])
def test_the_posterior_is_what_bayes_makes_of_one_step_and_the_chain_before_it(t: int) -> None:
    model = made().double()
    x0, y0, x = 0.25, 0.6, 0.9  # in [−1, 1], as the paper has them
    before, now = model.eta[t - 1].item(), model.eta[t].item()
    grid = torch.linspace(-20, 20, 400_001, dtype=torch.float64)
    step = -((x - grid - (now - before) * (y0 - x0)) ** 2) / (2 * KAPPA**2 * (now - before))  # q(x_t | x_{t−1})
    chain = -((grid - x0 - before * (y0 - x0)) ** 2) / (2 * KAPPA**2 * before)  # q(x_{t−1} | x_0, y_0)
    bayes = (step + chain).softmax(0)
    mean = (bayes * grid).sum()
    deviation = (bayes * (grid - mean) ** 2).sum().sqrt()

    def drawn(noise: float) -> Tensor:
        x_t, x_0 = (torch.full((1, 3, 1, 1), (value + 1) / 2, dtype=torch.float64) for value in (x, x0))
        return 2 * model.posterior(x_t, x_0, t, torch.full_like(x_t, noise)).mean() - 1

    torch.testing.assert_close(drawn(0), mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(drawn(1), mean + deviation, rtol=0, atol=1e-6)
    torch.testing.assert_close(drawn(-1), mean - deviation, rtol=0, atol=1e-6)


def test_the_loss_is_between_the_image_and_what_the_network_makes_of_y_0_and_the_scaled_x_t(
    hr: Tensor, lr: Tensor
) -> None:
    model, drawn = made(), draws(1, 2, 3, 4)
    given: list[tuple[Tensor, Tensor]] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        given.append((x, t))
        return model(x, t)

    value = model.loss(network, hr[:4], drawn, F.mse_loss)
    ((seen, t),) = given
    assert torch.equal(t, drawn.t)
    y0 = resize(lr[:4], (32, 32), "antialias")
    x0_paper, y0_paper = 2 * hr[:4] - 1, 2 * y0 - 1
    eta = shifts(model.config).float()[t][:, None, None, None]
    noise = torch.stack([torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(100 + n)) for n in range(4)])
    paper = x0_paper + eta * (y0_paper - x0_paper) + KAPPA * eta.sqrt() * noise
    scaled = paper / (1 + 3 * KAPPA * eta.sqrt())
    torch.testing.assert_close(seen, torch.cat((y0, (scaled + 1) / 2), 1), rtol=0, atol=1e-5)
    torch.testing.assert_close(value, (model(seen, t) - hr[:4]).square().mean())


def test_the_loss_compares_images_as_it_is_told(hr: Tensor) -> None:
    model, drawn = made(), draws(1, 4)
    compared: list[tuple[Tensor, Tensor]] = []

    def compare(prediction: Tensor, target: Tensor) -> Tensor:
        compared.append((prediction, target))
        return torch.tensor(7.0)

    assert model.loss(model, hr[:2], drawn, compare) == 7
    assert torch.equal(compared[0][1], hr[:2])


def test_the_loss_of_a_batch_is_that_of_its_parts(hr: Tensor) -> None:
    model, drawn = made(), draws(1, 2, 3, 4)
    with torch.no_grad():
        whole = model.loss(model, hr[:4], drawn, F.mse_loss)
        parts = [model.loss(model, hr[n : n + 1], drawn.part(slice(n, n + 1)), F.mse_loss) for n in range(4)]
    torch.testing.assert_close(whole, torch.stack(parts).mean(), rtol=1e-5, atol=0)


def test_an_untrained_model_gives_the_enlarged_image(lr: Tensor) -> None:
    model = ResShift(size=32, lr_size=8, dim=8, levels=2, timesteps=4)
    y0 = model.enlarged(lr[:2], (32, 32))
    assert torch.equal(model.restore(model, y0, 4, seeds(0, 1), None), y0)


@pytest.mark.slow
@torch.no_grad()
def test_results_follow_from_their_seeds_and_not_from_the_other_images(lr: Tensor) -> None:
    model = made()
    y0 = model.enlarged(lr[:3], (32, 32))
    together = model.restore(model, y0, 4, seeds(5, 6, 7), None)
    assert torch.equal(model.restore(model, y0, 4, seeds(5, 6, 7), None), together)
    alone = model.restore(model, y0[1:2], 4, seeds(6), None)
    torch.testing.assert_close(alone[0], together[1], rtol=0, atol=1e-5)
    other = model.restore(model, y0[1:2], 4, seeds(8), None)
    assert (other - alone).abs().max() > 0.01


def test_with_a_perfect_network_the_chain_is_the_forward_one_and_ends_at_the_image() -> None:
    model, count = made(timesteps=15), 64
    x0, y0 = torch.full((count, 3, 16, 16), 0.2), torch.full((count, 3, 16, 16), 0.7)
    shown: list[tuple[int, Tensor]] = []
    told: list[float] = []

    def network(seen: Tensor, t: Tensor) -> Tensor:
        assert torch.equal(seen[:, :3], y0)
        shown.append((int(t[0]), seen[:, 3:]))
        return x0

    result = model.restore(network, y0, 4, torch.arange(count), lambda t, *_: told.append(t))
    assert torch.equal(result, x0)
    assert [*(t for t, _ in shown), 0] == told == list(range(15, -1, -1))
    for t, scaled in shown:
        eta, values = model.eta[t].item(), scaled.numel()
        x = 0.5 + (scaled.double() - 0.5) * (1 + 3 * KAPPA * math.sqrt(eta))
        variance = KAPPA**2 * eta / 4
        start = 0.001 * 0.5  # the chain starts around y_0, not around x_0 + η_T (y_0 − x_0)
        assert x.mean().item() == pytest.approx(0.2 + eta * 0.5, abs=5 * math.sqrt(variance / values) + start)
        assert x.var().item() == pytest.approx(variance, abs=5 * variance * math.sqrt(2 / values))


def test_what_the_network_is_shown_stays_between_black_and_white(hr: Tensor, lr: Tensor) -> None:
    model = made(timesteps=15)
    y0 = model.enlarged(lr[:1], (32, 32)).clamp(0, 1)
    for step in range(1, 16):
        t = torch.tensor([step])
        x = model.noised(hr[:1], y0, t, Noise(seeds(step))(y0))
        shown = model.seen(x, y0, t)[:, 3:]
        assert ((shown < 0) | (shown > 1)).float().mean() < 2 * 0.00135  # of a normal value, beyond three deviations


@pytest.mark.slow
@pytest.mark.parametrize("patch", [1, 2])
def test_a_checkpoint_comes_back_and_upscales_by_its_seed(patch: int, lr: Tensor, tmp_path: Path) -> None:
    model = made(patch=patch, levels=3)
    save_checkpoint(model, tmp_path)
    loaded = load_checkpoint(tmp_path, ResShift)
    assert loaded.config == model.config
    assert have_the_same_weights(loaded, model)
    first, again, other = (Trained(tmp_path, sampling=Sampling(seed=seed)) for seed in (0, 0, 1))
    assert (first.name, first.identity["seed"], other.identity["seed"]) == ("resshift", "0", "1")
    for side in (32, 30):
        sr = first(lr[:2], (side, side))
        assert sr.shape == (2, 3, side, side)
        assert torch.equal(sr, again(lr[:2], (side, side)))
        assert (sr - other(lr[:2], (side, side))).abs().max() > 0.01
    assert [step.t for step in first.trajectory(lr[:1], (32, 32))] == [4, 3, 2, 1, 0]


def test_samplers_and_steps_are_no_choice_of_it() -> None:
    with pytest.raises(ValueError, match="resshift has no sampler cold"):
        made().sampler("cold", None)
    with pytest.raises(ValueError, match=r"^resshift .* steps?\b"):
        made().sampler(None, 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"timesteps": 1}, "timesteps are at least 2, not 1"),
        ({"timesteps": 4.0}, "timesteps are at least 2, not 4.0"),
        ({"power": 0.0}, "power and kappa are larger than 0, not 0 and 2"),
        ({"kappa": -1.0}, "power and kappa are larger than 0, not 0.3 and -1"),
        ({"kappa": math.nan}, "power and kappa are larger than 0, not 0.3 and nan"),
        ({"first_noise": 2.0}, "first_noise lies between 0 and the last timestep's 1.999, not 2"),
        ({"first_noise": 0.0}, "first_noise lies between 0 and the last timestep's 1.999, not 0"),
        ({"dim": 7}, "dim must be even and at least 4, not 7"),
        ({"dim": 8.0}, "dim, levels and patch are whole numbers, not 8.0, 2 and 1"),
        ({"levels": 0}, "levels and patch are at least 1, not 0 and 1"),
        ({"patch": 0}, "levels and patch are at least 1, not 2 and 0"),
        ({"levels": 4, "patch": 8}, "size 32 is no multiple of 64: 4 levels of patches of 8"),
        ({"lr_size": 32}, "32→32 pixels is no whole scale of at least 2"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_in_a_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SizeError) as refused:
        made(**changes)
    assert str(refused.value) == words


def test_widths_double_from_level_to_level_up_to_eight_times() -> None:
    assert ResShiftConfig(levels=6).multipliers == (1, 2, 4, 8, 8, 8)
    assert made(levels=3, patch=2).multiple == 8


@pytest.mark.slow
def test_training_lowers_the_loss_and_a_batch_in_parts_is_a_whole_one(images: Tensor) -> None:
    crops = images[:4, :, 16:32, 16:32].contiguous()

    def running(accumulate: int) -> Trainer[ResShift]:
        torch.manual_seed(0)
        recipe = Recipe(steps=200, learning_rate=3e-3, warmup=10, loss="mse", accumulate=accumulate)
        return Trainer(ResShift(size=16, lr_size=4, dim=8, levels=2, timesteps=2), recipe, one_cpu.fabric())

    whole, parts = running(1), running(2)
    for _ in range(3):
        assert parts.step(crops) == pytest.approx(whole.step(crops), rel=1e-4)

    def loss() -> float:
        with torch.no_grad():
            return whole.model.loss(whole.model, crops.float() / 255, draws(1, 2, 1, 2), F.mse_loss).item()

    before = loss()
    train(whole, [crops] * 60, lambda _done, _loss: None)
    assert loss() < 0.7 * before
