"""Latent models learn an autoencoder first and the noise in its latents after that, in one training run."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, distributed

from dtls.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from dtls.degradations.resize import resize
from dtls.errors import SizeError
from dtls.inference.sampling import Sampling
from dtls.inference.trained import Trained
from dtls.models.base import Draws
from dtls.models.latent import Latent
from dtls.models.vae_ddpm import VAEDDPM
from dtls.models.vqvae_ddpm import VQVAEDDPM
from dtls.training.recipe import Recipe, draw
from dtls.training.trainer import Trainer, train
from tests.dtls import one_cpu

T = 20
SEEDS = torch.tensor([5, 6])
BOTH = pytest.mark.parametrize("kind", [VAEDDPM, VQVAEDDPM])


def made(kind: type[Latent], **config: Any) -> Latent:
    torch.manual_seed(0)
    small = {"size": 16, "lr_size": 4, "width": 8, "levels": 2, "timesteps": T, "ae_width": 8}
    return kind(**{**small, **config})


def drawn(count: int, step: int = 0) -> Draws:
    return draw(Recipe(), step, count, T)


def loss_of(model: Latent, hr: Tensor, draws: Draws, progress: float) -> Tensor:
    model.progress = progress
    return model.loss(model, hr, draws, F.l1_loss)


def learn(model: Latent, hr: Tensor, steps: int, rate: float, start: float, end: float) -> list[float]:
    """The losses of so many steps on the same images, the progress going from start to end."""
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=rate), []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        loss = loss_of(model, hr, drawn(len(hr), step), start + (end - start) * step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def psnr(sr: Tensor, hr: Tensor) -> float:
    return -10 * math.log10(F.mse_loss(sr.clamp(0, 1), hr).item())


def changed(before: dict[str, Tensor], model: Latent) -> set[str]:
    """The parts of a model that are no longer what they were."""
    return {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(before[name], value)}


@torch.inference_mode()
def restored(model: Latent, x: Tensor, seeds: Tensor, sampler: str | None = None) -> Tensor:
    return model.eval().sampler(sampler, None)[0](model, x, 4.0, seeds, None)


@pytest.mark.slow
@BOTH
def test_the_loss_goes_down_in_both_stages(kind: type[Latent], hr: Tensor) -> None:
    model = made(kind)
    for start, end in ((0, 0.4), (0.4, 1)):
        losses = learn(model, hr[:4], 30, 8e-3, start, end)
        assert sum(losses[-5:]) < 0.85 * sum(losses[:5])


@pytest.mark.slow
@BOTH
def test_a_run_learns_the_autoencoder_then_the_unet_with_its_optimiser(kind: type[Latent], images: Tensor) -> None:
    """The switch comes with the step of which the share of steps before it is first_stage."""
    crops = images[:, :, :16, :16].contiguous()
    recipe = Recipe(steps=5, learning_rate=1e-3, ema_start=0, ema_every=1, ema_decay=0.5)
    trainer = Trainer(made(kind), recipe, one_cpu.fabric())
    seen: list[set[str]] = []

    def batches() -> Iterator[Tensor]:
        while True:
            before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
            yield crops[:2]
            seen.append(changed(before, trainer.model))

    train(trainer, batches(), lambda _done, _loss: None)
    trained = {"autoencoder", "latent_moments"}
    assert seen == [trained, trained, {"unet"}, {"unet"}]  # and one more, after which no batch is asked for
    assert not torch.equal(trainer.ema.latent_moments, made(kind).latent_moments)


@pytest.mark.slow
def test_the_first_loss_of_the_vae_is_the_reconstructions_and_a_little_kl(hr: Tensor) -> None:
    model, draws = made(VAEDDPM), drawn(12)
    with torch.no_grad():
        mean, spread = model.autoencoder.encode(2 * hr - 1).latent_dist.parameters.chunk(2, dim=1)
        noise = [torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(int(seed))) for seed in draws.seeds]
        x = model.autoencoder.decode(mean + (spread / 2).exp() * torch.stack(noise)).sample
        kl = (mean**2 + spread.exp() - 1 - spread).sum() / 2
        expected = F.l1_loss(x / 2 + 0.5, hr) + 1e-6 * kl / hr.numel()
        value = loss_of(model, hr, draws, 0.0)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)


def test_the_kl_divergence_counts() -> None:
    model, hr = made(VAEDDPM), torch.zeros(1, 3, 16, 16)
    with torch.no_grad():
        model.autoencoder.quant_conv.bias[:3] = 100.0
        value = model.reconstructed(hr, drawn(1))[2]
    assert value.item() == pytest.approx(1e-6 * 3 * 16 * 100**2 / 2 / hr.numel(), rel=0.05)


def test_the_first_loss_of_the_vqvae_is_the_reconstructions_and_the_codebooks(hr: Tensor) -> None:
    model, draws = made(VQVAEDDPM), drawn(12)
    with torch.no_grad():
        z = model.autoencoder.encode(2 * hr - 1).latents
        pixels, codes = z.permute(0, 2, 3, 1).reshape(-1, 3), model.autoencoder.quantize.embedding.weight
        nearest = codes[(pixels[:, None] - codes).square().sum(-1).argmin(1)]
        quantised = nearest.view(12, 4, 4, 3).permute(0, 3, 1, 2)
        x = model.autoencoder.decode(quantised, force_not_quantize=True).sample
        expected = F.l1_loss(x / 2 + 0.5, hr) + 1.25 * F.mse_loss(pixels, nearest)
        value = loss_of(model, hr, draws, 0.0)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=0)


@BOTH
def test_the_second_loss_is_of_the_noise_in_standardised_latents(kind: type[Latent], hr: Tensor) -> None:
    model, draws = made(kind, schedule="linear"), drawn(12)
    mean, std = torch.tensor([0.1, 0.2, -0.3])[:, None, None], torch.tensor([0.5, 1.5, 2.0])[:, None, None]
    model.latent_moments.copy_(torch.stack((mean, std**2 + mean**2)))
    lr = (resize(hr, (4, 4), "antialias").clamp(0, 1) * 255).round() / 255
    signal = (1 - torch.linspace(0.1, 0.999, T)).cumprod(0)[draws.t - 1][:, None, None, None]
    noise = torch.stack([torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(int(s))) for s in draws.seeds])
    with torch.no_grad():
        clean, condition = ((model.latents(2 * x - 1) - mean) / std for x in (hr, resize(lr, (16, 16), "antialias")))
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        predicted = model.unet(torch.cat((condition, noisy), dim=1), draws.t - 1).sample
        value = loss_of(model, hr, draws, 0.4)
    torch.testing.assert_close(value, F.smooth_l1_loss(predicted, noise), rtol=1e-5, atol=0)


@BOTH
@pytest.mark.parametrize("progress", [0.0, 0.4])
def test_the_loss_of_a_batch_is_the_mean_of_its_parts(kind: type[Latent], progress: float, hr: Tensor) -> None:
    model, draws = made(kind), drawn(12)
    with torch.no_grad():
        whole = loss_of(model, hr, draws, progress)
        parts = [loss_of(model, hr[p], draws.part(p), progress) for p in (slice(0, 4), slice(4, 8), slice(8, 12))]
    torch.testing.assert_close(torch.stack(parts).mean(), whole, rtol=1e-5, atol=0)


@pytest.mark.slow
@BOTH
def test_statistics_come_to_be_those_of_the_latents_and_x0_is_standard(kind: type[Latent], hr: Tensor) -> None:
    model = made(kind)
    for _ in range(150):
        loss_of(model, hr, drawn(12), 0.0)
    with torch.no_grad():
        z, x0 = model.latents(2 * hr - 1), model.encoded(hr)
    torch.testing.assert_close(model.latent_moments[0].flatten(), z.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(model.latent_moments[1].flatten(), z.square().mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(x0.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=0.01)
    torch.testing.assert_close(x0.std((0, 2, 3)), torch.ones(3), rtol=0, atol=0.01)
    with torch.no_grad():
        torch.testing.assert_close(2 * model.decoded(x0) - 1, model.autoencoder.decode(z).sample, rtol=0, atol=1e-3)
    before = model.latent_moments.clone()
    loss_of(model, hr[:2], drawn(2), 0.4)
    loss_of(model.eval(), hr[:2], drawn(2), 0.0)
    assert torch.equal(model.latent_moments, before)


def test_processes_have_one_estimate_of_the_statistics(hr: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, share = made(VAEDDPM), made(VAEDDPM)
    loss_of(whole, hr, drawn(12), 0.0)
    other = torch.stack([getattr(share.latents(2 * hr[6:] - 1), f)().detach() for f in ("clone", "square")])

    def all_reduce(seen: Tensor) -> None:
        seen += other.mean((1, 3, 4))[..., None, None]

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_reduce", all_reduce)
    loss_of(share, hr[:6], drawn(12).part(slice(0, 6)), 0.0)
    torch.testing.assert_close(share.latent_moments, whole.latent_moments)


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_results_follow_from_their_own_seed_and_image_alone(kind: type[Latent], name: str, enlarged: Tensor) -> None:
    model = made(kind)
    if kind is VQVAEDDPM:
        model.autoencoder.quantize.embedding.weight.data.normal_()  # at first, all codes are nearly the same
    both = restored(model, enlarged, SEEDS, name)
    assert both.shape == enlarged.shape
    assert torch.equal(restored(model, enlarged, SEEDS, name), both)
    torch.testing.assert_close(restored(model, enlarged[1:], SEEDS[1:], name), both[1:], rtol=0, atol=1e-4)
    other = restored(model, enlarged, torch.tensor([5, 7]), name)
    torch.testing.assert_close(other[0], both[0], rtol=0, atol=1e-4)
    assert (other[1] - both[1]).abs().mean() > 1e-3


@pytest.mark.slow
@BOTH
def test_a_checkpoint_comes_back_and_upscales(kind: type[Latent], hr: Tensor, images: Tensor, tmp_path: Path) -> None:
    model = made(kind, size=32, lr_size=8)
    loss_of(model, hr, drawn(12), 0.0)
    save_checkpoint(model, tmp_path)
    loaded = load_checkpoint(tmp_path, kind)
    assert loaded.config == model.config
    assert torch.equal(loaded.latent_moments, model.latent_moments)
    torch.testing.assert_close(restored(loaded, hr[:2], SEEDS), restored(model, hr[:2], SEEDS), rtol=0, atol=1e-4)
    method = Trained(tmp_path, sampling=Sampling(sampler="ddpm", steps=4, seed=7))
    lr = resize(images[:2].float() / 255, (8, 8), "antialias").clamp(0, 1)
    sr = method(lr, (32, 32))
    assert sr.shape == (2, 3, 32, 32)
    assert sr.min() >= 0
    assert sr.max() <= 1
    assert (method.identity["method"], method.identity["sampler"], method.identity["steps"]) == (
        kind.name,
        "ddpm",
        "4",
    )
    assert method(lr, (30, 30)).shape == (2, 3, 30, 30)
    assert [(t, tuple(x.shape), tuple(made.shape)) for t, x, made in method.trajectory(lr[:1], (32, 32))] == [
        (t, (1, 3, 8, 8), (1, 3, 32, 32)) for t in (20, 15, 10, 5, 0)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param(VAEDDPM, marks=pytest.mark.nightly), VQVAEDDPM])
def test_learning_one_image_by_heart_restores_it_better_than_bicubic(kind: type[Latent], hr: Tensor) -> None:
    model, image = made(kind, width=16), hr[:1]
    batch = image.expand(8, -1, -1, -1)
    learn(model, batch, 100, 4e-3, 0, 0.4)
    learn(model, batch, 150, 4e-3, 0.4, 1)
    x = model.enlarged(model.lr(image, drawn(1)), (16, 16))
    for sampler in ("ddim", "ddpm"):
        assert psnr(restored(model, x, SEEDS[:1], sampler), image) > psnr(x, image) + 2


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        (VAEDDPM, {"latent_channels": 0}, "latent_channels is at least 1, not 0"),
        (VAEDDPM, {"ae_width": 12}, "ae_width is a multiple of 8, not 12"),
        (VQVAEDDPM, {"codebook": 0}, "codebook is at least 1, not 0"),
        (VQVAEDDPM, {"first_stage": 1.5}, "first_stage is a share of the steps, from 0 to 1, not 1.5"),
        (VAEDDPM, {"levels": 4}, "size 16 is no multiple of 32, as 4 levels need"),
        (VAEDDPM, {"width": 4}, "width is a multiple of 8, not 4"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(kind: type[Latent], config: dict[str, Any], message: str) -> None:
    with pytest.raises(SizeError, match=message):
        made(kind, **config)


@BOTH
@pytest.mark.parametrize(
    ("config", "thousands"),
    [({}, 13_484), ({"width": 104, "levels": 4}, 115_688)],
    ids=["default", "thesis"],
)
def test_parameters(kind: type[Latent], config: dict[str, int], thousands: int) -> None:
    with torch.device("meta"):
        model = kind(**config)
    assert sum(p.numel() for p in model.parameters()) / 1000 == pytest.approx(thousands, abs=2)
    if config:
        assert thousands == pytest.approx(114_446, rel=0.02)  # the thesis, Table 5.1
