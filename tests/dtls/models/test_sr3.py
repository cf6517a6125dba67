"""SR3 learns the noise that was added, and its samplers are diffusers', each image with noise of its own."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtls.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from dtls.degradations.resize import resize
from dtls.errors import SamplingError, SizeError
from dtls.inference.sampling import Sampling
from dtls.inference.trained import Trained
from dtls.models.base import Draws, Noise
from dtls.models.diffusion import SCHEDULES, Schedule, betas, diffusers
from dtls.models.sr3 import SR3
from dtls.training.recipe import Recipe, check_recipe, draw

T = 20
SEEDS = torch.tensor([5, 6])


def made(**config: Any) -> SR3:
    torch.manual_seed(0)
    return SR3(**{"size": 16, "lr_size": 4, "width": 8, "levels": 2, "timesteps": T, **config})


def drawn(count: int, step: int = 0) -> Draws:
    return draw(Recipe(), step, count, T)


def unused(_: Tensor, __: Tensor) -> Tensor:
    raise AssertionError("no images are compared")


def learn(model: SR3, hr: Tensor, steps: int, rate: float) -> list[float]:
    """The losses of so many steps on the same images, the rate falling to 0."""
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=rate), []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        loss = model.loss(model, hr, drawn(len(hr), step), unused)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def psnr(sr: Tensor, hr: Tensor) -> float:
    return -10 * math.log10(F.mse_loss(sr.clamp(0, 1), hr).item())


@torch.inference_mode()
def restored(model: SR3, x: Tensor, seeds: Tensor, sampler: str | None = None, steps: int | None = None) -> Tensor:
    return model.eval().sampler(sampler, steps)[0](model, x, 4.0, seeds, None)


@pytest.mark.slow
def test_loss_goes_down_on_real_images(hr: Tensor) -> None:
    losses = learn(made(), hr[:4], 30, 8e-3)
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])


@pytest.mark.parametrize("loss", ["l1", "mse", "smooth-l1"])
def test_the_loss_is_between_the_noise_of_the_seeds_and_what_is_predicted_from_both_images(
    loss: str, hr: Tensor
) -> None:
    model, draws = made(schedule="linear", noise_loss=loss), drawn(12)
    signal = (1 - torch.linspace(0.1, 0.999, T)).cumprod(0)[draws.t - 1][:, None, None, None]
    noise = torch.stack(
        [torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(int(s))) for s in draws.seeds]
    )
    noisy = signal.sqrt() * (2 * hr - 1) + (1 - signal).sqrt() * noise
    lr = (resize(hr, (4, 4), "antialias").clamp(0, 1) * 255).round() / 255
    x = torch.cat((2 * resize(lr, (16, 16), "antialias") - 1, noisy), dim=1)
    with torch.no_grad():
        error = model.unet(x, draws.t - 1).sample - noise
        value = model.loss(model, hr, draws, unused)
    size = error.abs()
    expected = {"l1": size, "mse": size**2, "smooth-l1": torch.where(size < 1, size**2 / 2, size - 0.5)}[loss]
    torch.testing.assert_close(value, expected.mean(), rtol=1e-5, atol=0)


def test_the_loss_of_a_batch_is_the_mean_of_its_parts(hr: Tensor) -> None:
    model, draws = made(), drawn(12)
    with torch.no_grad():
        whole = model.loss(model, hr, draws, unused)
        parts = [model.loss(model, hr[p], draws.part(p), unused) for p in (slice(0, 4), slice(4, 8), slice(8, 12))]
    torch.testing.assert_close(torch.stack(parts).mean(), whole, rtol=1e-5, atol=0)


def test_the_network_sees_t_and_its_0_is_1(enlarged: Tensor) -> None:
    model, x = made(), torch.cat((enlarged, enlarged), dim=1)
    with torch.no_grad():
        first, second, last = (model(x, torch.full((2,), t)) for t in (1, 2, T))
        assert torch.equal(model(x, torch.zeros(2, dtype=torch.long)), first)
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, last)


def test_on_patches_the_network_sees_each_as_a_pixel(enlarged: Tensor) -> None:
    model, x = made(patch=2), torch.cat((enlarged, enlarged), dim=1)
    sizes = []
    model.unet.register_forward_hook(lambda _, given, made: sizes.extend([given[0].shape, made[0].shape]))
    with torch.no_grad():
        assert model(x, torch.ones(2)).shape == (2, 3, 16, 16)
    assert sizes == [(2, 24, 8, 8), (2, 12, 8, 8)]
    assert model.multiple == 4


@pytest.mark.parametrize("steps", [2, 20, 1000, 2000])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_ends_in_noise(schedule: Schedule, steps: int) -> None:
    signal = (1 - betas(schedule, steps)).cumprod(0)
    assert signal.shape == (steps,)
    assert (signal.diff() < 0).all()
    assert signal[-1] < 1e-3
    if steps >= 20:
        assert signal[0] > 0.7


def test_schedules_are_what_their_names_say() -> None:
    steps = torch.linspace(0, 1, 2000)
    torch.testing.assert_close(betas("linear", 2000), 0.001 + steps * 0.019)
    torch.testing.assert_close(betas("quadratic", 2000).sqrt(), 0.001**0.5 + steps * (0.02**0.5 - 0.001**0.5))
    torch.testing.assert_close(betas("sigmoid", 2000), 0.001 + 0.019 * (steps * 12 - 6).sigmoid())
    angle = (torch.arange(1, 2001, dtype=torch.float64) / 2000 + 0.008) / 1.008 * math.pi / 2
    signal = angle.cos() ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    torch.testing.assert_close(
        (1 - betas("cosine", 2000).double()).cumprod(0)[:-1], signal[:-1], rtol=1e-3, atol=1e-6
    )


class Conditioned(nn.Module):
    """The U-Net with its condition, for diffusers' pipelines of networks that have none."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, model: SR3, condition: Tensor) -> None:
        super().__init__()
        self.unet, self.condition = model.unet, condition
        self.config = SimpleNamespace(sample_size=16, in_channels=3)

    def forward(self, x: Tensor, index: Tensor) -> Any:
        return self.unet(torch.cat((self.condition, x), dim=1), index)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["cosine", "sigmoid"])
@pytest.mark.parametrize(("name", "steps"), [("ddim", 5), ("ddim", 20), ("ddpm", 20), ("ddpm", 4)])
def test_samplers_give_what_diffusers_pipelines_give(
    name: str, steps: int, schedule: Schedule, enlarged: Tensor
) -> None:
    model = made(schedule=schedule).eval()
    told = {"num_train_timesteps": T, "trained_betas": betas(schedule, T).tolist(), "timestep_spacing": "trailing"}
    kinds = {
        "ddim": (diffusers.DDIMPipeline, diffusers.DDIMScheduler),
        "ddpm": (diffusers.DDPMPipeline, diffusers.DDPMScheduler),
    }
    pipeline, scheduler = kinds[name]
    run = pipeline(unet=Conditioned(model, 2 * enlarged - 1), scheduler=scheduler(**told))
    run.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(int(seed)) for seed in SEEDS]
    images = run(batch_size=2, generator=generators, num_inference_steps=steps, output_type="np").images
    ours = restored(model, enlarged, SEEDS, name, steps).clamp(0, 1)
    assert ours.std() > 0.1
    torch.testing.assert_close(ours, torch.from_numpy(images).permute(0, 3, 1, 2), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_results_follow_from_their_own_seed_and_image_alone(name: str, enlarged: Tensor) -> None:
    model = made()
    both = restored(model, enlarged, SEEDS, name)
    assert torch.equal(restored(model, enlarged, SEEDS, name), both)
    torch.testing.assert_close(restored(model, enlarged[1:], SEEDS[1:], name), both[1:], rtol=0, atol=1e-4)
    other = restored(model, enlarged, torch.tensor([5, 7]), name)
    torch.testing.assert_close(other[0], both[0], rtol=0, atol=1e-4)
    assert (other[1] - both[1]).abs().mean() > 0.01


def test_the_callback_sees_each_prediction_of_the_image(enlarged: Tensor) -> None:
    model, seen = made().eval(), list[tuple[float, Tensor, Tensor]]()
    sample, told = model.sampler("ddim", 4)
    with torch.inference_mode():
        sr = sample(model, enlarged, 4.0, SEEDS, lambda *step: seen.append(step))
    assert told == {"sampler": "ddim", "steps": "4"}
    assert [t for t, *_ in seen] == [20, 15, 10, 5, 0]
    assert all(image.min() >= 0 and image.max() <= 1 for *_, image in seen)
    torch.testing.assert_close(seen[-2][2], sr)
    torch.testing.assert_close(model.decoded(seen[-1][1]), sr)
    torch.testing.assert_close(seen[0][1], Noise(SEEDS)(enlarged))


@pytest.mark.parametrize(
    ("timesteps", "name", "steps", "count"),
    [
        (2000, None, None, 50),
        (2000, "ddpm", None, 2000),
        (20, None, None, 20),
        (60, None, None, 30),
        (2000, "ddpm", 100, 100),
    ],
)
def test_ddim_takes_about_50_steps_and_ddpm_all_unless_said(
    timesteps: int, name: str | None, steps: int | None, count: int
) -> None:
    told = made(timesteps=timesteps).sampler(name, steps)[1]
    assert told == {"sampler": name or "ddim", "steps": str(count)}


@pytest.mark.parametrize(
    ("name", "steps", "message"),
    [
        ("two-call", None, "sr3 has no sampler two-call; there are ddim, ddpm"),
        ("ddim", 0, "the steps of ddim are a divisor of 20, not 0"),
        ("ddpm", 21, "the steps of ddpm are a divisor of 20, not 21"),
        (None, 3, "the steps of ddim are a divisor of 20, not 3"),
    ],
)
def test_unknown_samplers_and_steps_are_refused_in_one_line(
    name: str | None, steps: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        made().sampler(name, steps)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"width": 12}, "width is a multiple of 8, not 12"),
        ({"levels": 0}, "levels is at least 1, not 0"),
        ({"timesteps": 0}, "timesteps is at least 1, not 0"),
        ({"schedule": "cubic"}, "unknown schedule 'cubic'; known: linear, cosine, quadratic, sigmoid"),
        ({"noise_loss": "l0"}, "unknown noise_loss 'l0'; known: l1, mse, smooth-l1"),
        ({"levels": 6}, "size 16 is no multiple of 32, as 6 levels need"),
        ({"patch": 0}, "patch is at least 1, not 0"),
        ({"levels": 4, "patch": 4}, "size 16 is no multiple of 32, as 4 levels of patches of 4 need"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(SizeError, match=message):
        made(**config)


def test_it_learns_by_its_own_loss_so_no_perceptual_one_applies() -> None:
    with pytest.raises(ValueError, match="sr3 learns by its own loss"):
        check_recipe(SR3, Recipe(perceptual=0.1))


@pytest.mark.slow
def test_a_checkpoint_comes_back_and_upscales(enlarged: Tensor, images: Tensor, tmp_path: Path) -> None:
    model = made(size=32, lr_size=8, schedule="quadratic")
    save_checkpoint(model, tmp_path)
    loaded = load_checkpoint(tmp_path, SR3)
    assert loaded.config == model.config
    assert torch.equal(restored(loaded, enlarged, SEEDS), restored(model, enlarged, SEEDS))
    lr = resize(images[:2].float() / 255, (8, 8), "antialias").clamp(0, 1)
    method = Trained(tmp_path, sampling=Sampling(steps=2, seed=7))
    sr = method(lr, (32, 32))
    assert sr.shape == (2, 3, 32, 32)
    assert sr.min() >= 0
    assert sr.max() <= 1
    assert (method.identity["sampler"], method.identity["steps"], method.identity["seed"]) == ("ddim", "2", "7")
    alone = Trained(tmp_path, sampling=Sampling(steps=2, seed=7))(lr[1:], (32, 32))
    torch.testing.assert_close(alone, sr[1:], rtol=0, atol=1e-4)
    assert not torch.allclose(Trained(tmp_path, sampling=Sampling(steps=2, seed=8))(lr, (32, 32)), sr)
    assert method(lr, (30, 30)).shape == (2, 3, 30, 30)
    assert [step.t for step in method.trajectory(lr, (32, 32))] == [20, 10, 0]
    with pytest.raises(SamplingError, match="the steps of ddim are a divisor of 20, not 3"):
        Trained(tmp_path, sampling=Sampling(steps=3))


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 200), pytest.param("ddim", 300, marks=pytest.mark.nightly)])
def test_learning_one_image_by_heart_restores_it_better_than_bicubic(sampler: str, steps: int, hr: Tensor) -> None:
    model, image = made(width=16), hr[:1]
    learn(model, image.expand(4, -1, -1, -1), steps, 4e-3)
    x = model.enlarged(model.lr(image, drawn(1)), (16, 16))
    assert psnr(restored(model, x, SEEDS[:1], sampler), image) > psnr(x, image) + 3


@pytest.mark.parametrize(
    ("config", "thousands"),
    [({}, 10_728), ({"width": 136, "levels": 5}, 306_493)],
    ids=["default", "thesis"],
)
def test_parameters(config: dict[str, int], thousands: int) -> None:
    with torch.device("meta"):
        model = SR3(**config)
    assert round(sum(p.numel() for p in model.parameters()) / 1000) == thousands
    if config:
        assert thousands == pytest.approx(308_569, rel=0.01)  # the thesis, Table 5.1
