"""Chains of noise are exact where they can be: what they make by the best network of normal data is that data."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dtls.checkpoints.checkpoint import make_model
from dtls.errors import SizeError
from dtls.models.base import Draws
from dtls.models.ddpm import DDPM
from dtls.models.diffusion import SCHEDULES, Schedule, betas
from dtls.training.recipe import Recipe, draw

MEAN, DEVIATION = 0.3, 0.5
SEEDS = torch.arange(16)


def made(**config: Any) -> DDPM:
    torch.manual_seed(0)
    return DDPM(**{"size": 16, "width": 8, "levels": 1, **config}).eval()


def best_network(schedule: Schedule) -> Any:
    """ε that is expected of x_t, where x_0 ~ N(0.3, 0.5²)."""
    signal = (1 - betas(schedule, 1000, DDPM.config_type.beta_times_t).double()).cumprod(0)

    def network(x: Tensor, t: Tensor) -> Tensor:
        a = signal[t.long() - 1].float()[:, None, None, None]
        return (1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * DEVIATION**2 + 1 - a)

    return network


def divergence(schedule: Schedule, sampler: str, steps: int | None) -> float:
    """KL, by moments, of what the chain makes of noise from what its network was made for."""
    model = made(schedule=schedule)
    model.limit = 10.0  # normal data have none
    z = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    x = model.way(sampler, steps).images(best_network(schedule), z, SEEDS, None).double() * 2 - 1
    variance = x.var().item() / DEVIATION**2
    return (variance + ((x.mean().item() - MEAN) / DEVIATION) ** 2 - 1 - math.log(variance)) / 2


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_whole_chain_makes_normal_data_of_noise(schedule: Schedule) -> None:
    assert divergence(schedule, "ddpm", None) <= 1e-3


def test_fifty_steps_of_ddim_make_normal_data_of_noise() -> None:
    assert divergence("cosine", "ddim", None) <= 2e-3
    assert divergence("cosine", "ddim", 10) > 2e-3


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_ends_in_noise(schedule: Schedule) -> None:
    signal = (1 - betas(schedule, 1000, DDPM.config_type.beta_times_t)).cumprod(0)
    assert signal[-1] < 1e-3
    assert signal[0] > 0.999


def test_betas_of_the_slides_are_linear_from_1e_4_to_0_02() -> None:
    model = made(schedule="linear")
    torch.testing.assert_close(model.chain.betas, torch.linspace(1e-4, 0.02, 1000))


def test_one_step_leads_from_noise_to_the_predicted_image_directly() -> None:
    model, z = made(timesteps=10), torch.randn(2, 3, 16, 16)
    seen: list[Tensor] = []
    images = model.way("ddim", 1).images(model, z, SEEDS[:2], lambda _, __, images: seen.append(images))
    assert len(seen) == 2
    assert torch.equal(images, seen[0])


def test_the_loss_is_between_the_noise_of_the_seeds_and_what_is_predicted(hr: Tensor) -> None:
    model, drawn = made(channels=1, timesteps=20), draw(Recipe(), 0, 12, 20)
    luma = (hr * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    noise = torch.stack(
        [torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(int(s))) for s in drawn.seeds]
    )
    signal = (1 - model.chain.betas).cumprod(0)[drawn.t - 1][:, None, None, None]
    noisy = signal.sqrt() * (2 * luma - 1) + (1 - signal).sqrt() * noise
    with torch.no_grad():
        expected = (model.unet(noisy, drawn.t - 1).sample - noise).square().mean()
        torch.testing.assert_close(model.loss(model, hr, drawn, lambda *_: torch.zeros(())), expected)


@pytest.mark.parametrize("name", ["vae-gen", "vqvae-gen"])
def test_latents_are_learned_first_of_grey_images_with_edges(name: str, hr: Tensor) -> None:
    torch.manual_seed(0)
    model: Any = make_model({"method": name, "size": 14, "channels": 1, "width": 8, "ae_width": 8, "levels": 1})
    drawn = Draws(*(part[:4] for part in draw(Recipe(), 0, 12, 1000)))
    compared: list[tuple[Tensor, Tensor]] = []

    def compare(reconstructed: Tensor, true: Tensor) -> Tensor:
        compared.append((reconstructed, true))
        return (reconstructed - true).abs().mean()

    images = hr[:4, :, 1:15, 1:15]
    model.loss(model, images, drawn, compare).backward()
    ((reconstructed, true),) = compared
    assert reconstructed.shape == true.shape == (4, 3, 16, 16)  # in colour, as a critic wants them
    assert torch.equal(true[:, :1], true[:, 2:])
    assert model.unet.conv_in.weight.grad is None
    model.progress = 0.5
    model.loss(model, images, drawn, compare).backward()
    assert len(compared) == 1
    assert model.unet.conv_in.weight.grad is not None


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"channels": 2}, "channels are 1, for grey images, or 3, not 2"),
        ({"size": 0}, "size is a whole number of pixels, at least 1, not 0"),
        ({"size": 2.5}, "size is a whole number of pixels, at least 1, not 2.5"),
        ({"size": 2048}, "size is at most 1,024 pixels, not 2,048; an upscaler makes more of them"),
        ({"timesteps": 1_000_000}, "1,000,000 timesteps are more than 100,000"),
        ({"schedule": "magic"}, "unknown schedule 'magic'"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SizeError, match=complaint):
        made(**config)
