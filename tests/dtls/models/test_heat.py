"""Heat's blur is the heat equation's, its network learns one step back, its sampler starts where the scale says."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtls.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from dtls.degradations.base import Protocol
from dtls.degradations.blur import blurred
from dtls.degradations.resize import resize
from dtls.errors import SizeError
from dtls.inference.sampling import Sampling
from dtls.inference.trained import Trained
from dtls.models.heat import DELTA, NOISE, PER_SCALE, Heat, HeatConfig, blurs
from dtls.training.recipe import Recipe
from dtls.training.trainer import Trainer, train
from tests.dtls import one_cpu
from tests.dtls.models.drawing import draws, seeds
from tests.dtls.weights import have_the_same_weights


def made(**changes: Any) -> Heat:
    """A small model whose network changes its input."""
    torch.manual_seed(0)
    model = Heat(**{"size": 32, "lr_size": 8, "dim": 8, "levels": 2, "timesteps": 6, **changes})
    nn.init.normal_(model.unet.rgb.weight, std=0.1)
    return model.eval()


@pytest.fixture(scope="module")
def hr(crops: Tensor) -> Tensor:
    """Real images in [0, 1], (12, 3, 32, 32)."""
    return crops.float() / 255


@pytest.fixture(scope="module")
def lr(hr: Tensor) -> Tensor:
    """The same as the protocol makes them, (12, 3, 8, 8)."""
    return resize(hr, (8, 8), "antialias").clamp(0, 1)


def test_blurs_go_evenly_by_their_logarithm_from_half_a_pixel_to_the_widest() -> None:
    for config, widest in ((HeatConfig(), 8 * PER_SCALE), (HeatConfig(timesteps=200, sigma_max=20.0), 20)):
        sigma = blurs(config)
        assert len(sigma) == config.timesteps + 1
        assert sigma[:2].tolist() == pytest.approx([0, 0.5])
        assert sigma[-1].item() == pytest.approx(widest)
        ratios = sigma[2:] / sigma[1:-1]
        assert ratios.min() > 1
        torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios))


def test_the_network_learns_the_step_before_from_the_noisy_one(hr: Tensor) -> None:
    model, drawn = made(), draws(1, 2, 4, 6)
    given: list[tuple[Tensor, Tensor]] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        given.append((x, t))
        return model(x, t)

    value = model.loss(network, hr[:4], drawn, F.mse_loss)
    ((seen, t),) = given
    assert torch.equal(t, drawn.t)
    sigma = blurs(model.config).float()
    noise = torch.stack([torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(100 + n)) for n in range(4)])
    torch.testing.assert_close(seen, blurred(hr[:4], sigma[t]) + 0.01 * noise, rtol=0, atol=1e-5)
    before = torch.cat([hr[:1], blurred(hr[1:4], sigma[t[1:] - 1])])
    torch.testing.assert_close(value, (model(seen, t) - before).square().mean(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("t", [0, 1, 6])
def test_u_t_has_the_blur_for_a_mean_and_noise_of_a_hundredth(t: int) -> None:
    model, count = made(), 256
    hr = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)).expand(count, -1, -1, -1)
    given: list[Tensor] = []
    model.loss(lambda x, _: given.append(x) or x, hr, draws(*[t] * count), F.mse_loss)  # type: ignore[func-returns-value]
    noise = (given[0] - blurred(hr[:1], model.sigma[t : t + 1])).double()
    assert NOISE == 0.01
    assert noise.mean().item() == pytest.approx(0, abs=5 * NOISE / math.sqrt(noise.numel()))
    assert noise.mean(0).abs().max() < 6 * NOISE / math.sqrt(count)
    assert noise.var().item() == pytest.approx(NOISE**2, rel=5 * math.sqrt(2 / noise.numel()))


def test_the_loss_compares_images_as_it_is_told(hr: Tensor) -> None:
    model = made()
    compared: list[tuple[Tensor, Tensor]] = []

    def compare(prediction: Tensor, target: Tensor) -> Tensor:
        compared.append((prediction, target))
        return torch.tensor(7.0)

    assert model.loss(model, hr[:2], draws(0, 1), compare) == 7
    torch.testing.assert_close(compared[0][1], hr[:2], rtol=0, atol=1e-5)


def test_the_loss_of_a_batch_is_that_of_its_parts(hr: Tensor) -> None:
    model, drawn = made(), draws(1, 2, 5, 6)
    with torch.no_grad():
        whole = model.loss(model, hr[:4], drawn, F.mse_loss)
        parts = [model.loss(model, hr[n : n + 1], drawn.part(slice(n, n + 1)), F.mse_loss) for n in range(4)]
    torch.testing.assert_close(whole, torch.stack(parts).mean(), rtol=1e-5, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize(("protocol", "apart"), [("antialias", 0.1), ("reference", 0.25)])
def test_a_scale_blurs_photographs_by_about_per_scale_times_itself(
    protocol: Protocol, apart: float, scale: int, images: Tensor
) -> None:
    hr = images.double() / 255
    degraded = resize(resize(hr, (64 // scale, 64 // scale), protocol), (64, 64), protocol)
    candidates = torch.linspace(0.2, 0.8, 61, dtype=torch.float64)
    errors = [(blurred(hr, (c * scale).expand(len(hr))) - degraded).square().mean() for c in candidates]
    best = candidates[int(torch.stack(errors).argmin())].item()
    assert best == pytest.approx(PER_SCALE, rel=apart)


def test_the_timestep_of_a_scale_is_the_one_whose_blur_is_nearest() -> None:
    model = made(timesteps=50, size=32, lr_size=4)
    assert model.timestep(8) == 50
    assert model.timestep(1.01) == 1
    for scale in (1.5, 2, 3, 4, 7.5):
        t, sigma = model.timestep(scale), model.sigma.tolist()
        away = [abs(math.log(s / (PER_SCALE * scale))) for s in sigma[1:]]
        assert away[t - 1] == min(away)
        assert min(away) < math.log(sigma[2] / sigma[1])


def test_scales_beyond_its_widest_blur_are_refused() -> None:
    made().check_scale(4)
    made(sigma_max=8 * PER_SCALE).check_scale(8)
    for scale in (1.0, 0.5, 4.1):
        with pytest.raises(SizeError, match=f"more than ×1 and at most ×4, not ×{scale:g}"):
            made().check_scale(scale)


@pytest.mark.parametrize("scale", [2.0, 4.0])
def test_a_perfect_network_leads_back_to_the_image_but_for_the_noise_of_each_step(scale: float, hr: Tensor) -> None:
    model = made(timesteps=20)
    count, started = 64, model.timestep(scale)
    one = hr[:1].expand(count, -1, -1, -1)
    told: list[float] = []

    def less_blurred(t: int) -> Tensor:
        return blurred(hr[:1], model.sigma[t : t + 1])

    def keeps_noise(x: Tensor, t: Tensor) -> Tensor:
        return x + less_blurred(int(t[0]) - 1) - less_blurred(int(t[0]))

    def denoises(x: Tensor, t: Tensor) -> Tensor:
        return less_blurred(int(t[0]) - 1).expand_as(x)

    start = less_blurred(started).expand_as(one)
    result = model.restore(keeps_noise, start, scale, torch.arange(count), lambda t, *_: told.append(t))
    assert told == list(range(started, -1, -1))
    left = (result - one).double()
    variance = DELTA**2 * started
    assert left.mean().item() == pytest.approx(0, abs=5 * math.sqrt(variance / left.numel()))
    assert left.var().item() == pytest.approx(variance, rel=5 * math.sqrt(2 / left.numel()))
    result = model.restore(denoises, start, scale, torch.arange(count), None)
    torch.testing.assert_close(result, one, rtol=0, atol=1e-5)  # none after the last step


@pytest.mark.slow
@torch.no_grad()
def test_results_follow_from_their_seeds_and_not_from_the_other_images(lr: Tensor) -> None:
    model = made()
    x = model.enlarged(lr[:3], (32, 32))
    together = model.restore(model, x, 4, seeds(5, 6, 7), None)
    assert torch.equal(model.restore(model, x, 4, seeds(5, 6, 7), None), together)
    alone = model.restore(model, x[1:2], 4, seeds(6), None)
    torch.testing.assert_close(alone[0], together[1], rtol=0, atol=1e-5)
    other = model.restore(model, x[1:2], 4, seeds(8), None)
    assert (other - alone).abs().max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("patch", [1, 2])
def test_a_checkpoint_comes_back_and_upscales_by_its_seed(patch: int, lr: Tensor, tmp_path: Path) -> None:
    model = made(patch=patch, levels=3)
    save_checkpoint(model, tmp_path)
    loaded = load_checkpoint(tmp_path, Heat)
    assert loaded.config == model.config
    assert have_the_same_weights(loaded, model)
    first, again, other = (Trained(tmp_path, sampling=Sampling(seed=seed)) for seed in (0, 0, 1))
    assert (first.name, first.identity["seed"], other.identity["seed"]) == ("heat", "0", "1")
    for side in (32, 22):
        sr = first(lr[:2], (side, side))
        assert sr.shape == (2, 3, side, side)
        assert torch.equal(sr, again(lr[:2], (side, side)))
        assert (sr - other(lr[:2], (side, side))).abs().max() > 0.01
    with pytest.raises(SizeError, match="at most ×4, not ×8"):
        first(lr[:1], (64, 64))


def test_samplers_and_steps_are_no_choice_of_it() -> None:
    with pytest.raises(ValueError, match="heat has no sampler cold"):
        made().sampler("cold", None)
    with pytest.raises(ValueError, match=r"^heat .* steps?\b"):
        made().sampler(None, 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"timesteps": 1}, "timesteps are at least 2, not 1"),
        ({"timesteps": 4.0}, "timesteps are at least 2, not 4.0"),
        ({"sigma_max": 1.0}, "×4 blurs by 1.72 pixels, not by 1"),
        ({"sigma_max": -3.0}, "×4 blurs by 1.72 pixels, not by -3"),
        ({"sigma_max": math.inf}, "×4 blurs by 1.72 pixels, not by inf"),
        ({"sigma_max": math.nan}, "×4 blurs by 1.72 pixels, not by nan"),
        ({"dim": 7}, "dim must be even and at least 4, not 7"),
        ({"lr_size": 0}, "0→32 pixels is no whole scale of at least 2"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_in_a_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SizeError) as refused:
        made(**changes)
    assert str(refused.value) == words


@pytest.mark.slow
def test_training_lowers_the_loss_and_a_batch_in_parts_is_a_whole_one(images: Tensor) -> None:
    crops = images[:4, :, 16:32, 16:32].contiguous()

    def running(accumulate: int) -> Trainer[Heat]:
        torch.manual_seed(0)
        recipe = Recipe(steps=200, learning_rate=3e-3, warmup=10, loss="mse", accumulate=accumulate)
        return Trainer(
            Heat(size=16, lr_size=4, dim=8, levels=1, timesteps=2),
            recipe,
            one_cpu.fabric(),
        )

    whole, parts = running(1), running(2)
    for _ in range(3):
        assert parts.step(crops) == pytest.approx(whole.step(crops), rel=1e-4)

    def loss() -> float:
        with torch.no_grad():
            return whole.model.loss(whole.model, crops.float() / 255, draws(1, 2, 1, 2), F.mse_loss).item()

    before = loss()
    train(whole, [crops] * 120, lambda _done, _loss: None)
    assert loss() < 0.7 * before
