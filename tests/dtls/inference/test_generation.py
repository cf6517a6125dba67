"""A generator's images depend on z and a seed alone, not on what else is made, and z on a seed alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dtls.checkpoints.checkpoint import make_model, save_checkpoint
from dtls.errors import CheckpointError, SamplingError
from dtls.inference.generation import BATCH, Generator, Start, load_generator
from dtls.inference.sampling import DEFAULT
from dtls.inference.trained import Trained
from dtls.models.ddpm import DDPM

SEEDS = 2**61 + torch.arange(20) * 2**33
"""Whose lowest 32 bits are the same."""
TINY: dict[str, dict[str, Any]] = {
    "ddpm": {"size": 12, "width": 8, "levels": 2, "timesteps": 8},
    "lr-flow": {},
    "vae-gen": {"size": 18, "width": 8, "ae_width": 8, "levels": 1, "timesteps": 4, "channels": 1},
    "dcgan": {"size": 28, "width": 8, "channels": 1},
    "vqvae-gen": {"size": 16, "width": 8, "ae_width": 8, "levels": 1, "timesteps": 4},
}


def saved(name: str, folder: Path, **changes: Any) -> Path:
    torch.manual_seed(0)
    model = make_model({"method": name, **TINY[name], **changes})
    for weight in model.parameters():  # those that begin as 0, too
        nn.init.normal_(weight, std=0.05)
    save_checkpoint(model, folder)
    return folder


@pytest.fixture(params=TINY)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Generator:
    return load_generator(saved(request.param, tmp_path))


def test_z_is_standard_normal_and_follows_from_all_of_its_seed(made: Generator) -> None:
    z = made.z(SEEDS)
    assert z.shape == (20, *made.z_shape)
    assert z.dtype == torch.float32
    assert len({part.numpy().tobytes() for part in z}) == 20
    assert torch.equal(made.z(SEEDS[3:5].flip(0)), z[3:5].flip(0))
    values = made.z(torch.arange(200))
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.02


def test_z_starts_as_it_is_asked_for(made: Generator) -> None:
    assert torch.equal(made.z(SEEDS, Start(truncate=0.5)), made.z(SEEDS) / 2)
    drawn = made.z(torch.arange(200), Start("exponential", rate=0.5))
    assert drawn.min() >= 0
    assert abs(drawn.mean() - 2) < 0.06


def test_an_image_depends_on_nothing_beside_it(made: Generator) -> None:
    z = made.z(SEEDS)
    whole = made.images(z, SEEDS)
    assert whole.shape == (20, made.channels, made.size, made.size)
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert not torch.equal(whole[0], whole[1])
    alone = torch.cat([made.images(z[i : i + 1], SEEDS[i : i + 1]) for i in (0, 7, 17, 19)])
    assert torch.equal(alone, whole[[0, 7, 17, 19]])
    assert torch.equal(made.images(z.flip(0), SEEDS.flip(0)), whole.flip(0))


def test_a_chain_is_shown_without_its_padding(tmp_path: Path) -> None:
    made = load_generator(saved("ddpm", tmp_path), sampling_steps=4)
    z, shown = made.z(SEEDS[:3]), []
    images = made.images(z, SEEDS[:3], lambda t, x, x0: shown.append((t, x, x0)))
    assert [t for t, _, _ in shown] == [8, 6, 4, 2, 0]
    assert {tuple(x.shape) for _, x, _ in shown} == {(3, *made.z_shape)}
    assert torch.equal(shown[0][1], z)
    torch.testing.assert_close(shown[-1][2].clamp(0, 1), images, rtol=0, atol=0)


def test_images_that_begin_as_others_are_nearer_the_weaker_the_noise(tmp_path: Path) -> None:
    made = load_generator(saved("ddpm", tmp_path))
    given = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    distances = [(made.partly(given, s, SEEDS[:4]) - given).abs().mean() for s in (0.13, 0.5, 1.0)]
    assert distances == sorted(distances)
    assert distances[0] < 0.5 * distances[2]
    assert torch.equal(made.partly(given, 0.5, SEEDS[:4])[2:3], made.partly(given[2:3], 0.5, SEEDS[2:3]))
    with pytest.raises(SamplingError, match="a strength is above 0 and at most 1, not 0"):
        made.partly(given, 0.0, SEEDS[:4])


@pytest.mark.parametrize(("size", "side"), [(12, 12), (11, 12), (10, 12), (9, 12)])
def test_sides_that_cannot_be_halved_are_given_edges(size: int, side: int, tmp_path: Path) -> None:
    made = load_generator(saved("ddpm", tmp_path, size=size, channels=1, levels=3))
    assert made.z_shape == (1, side, side)
    given = torch.rand(2, 1, size, size)
    assert isinstance(made.model, DDPM)
    torch.testing.assert_close(made.model.decoded(made.model.encoded(given)), given)


def test_what_generates_nothing_is_refused(tmp_path: Path) -> None:
    save_checkpoint(make_model({"method": "edsr", "size": 32, "lr_size": 8, "features": 8, "blocks": 1}), tmp_path)
    with pytest.raises(CheckpointError, match="the method edsr makes no images of noise; see dtls upscale"):
        load_generator(tmp_path)
    reader = make_model({"method": "classifier", "size": 32, "classes": ("a", "b")})
    save_checkpoint(reader, tmp_path / "reader")
    with pytest.raises(CheckpointError, match=r"the method classifier makes no images of noise$"):
        load_generator(tmp_path / "reader")
    generative = saved("ddpm", tmp_path / "ddpm")
    with pytest.raises(CheckpointError, match="ddpm neither enlarges nor restores images; see dtls generate"):
        Trained(generative, "cpu", DEFAULT)
    with pytest.raises(SamplingError, match="the steps of ddim are a divisor of 8, not 3"):
        load_generator(generative, sampling_steps=3)
    with pytest.raises(SamplingError, match="ddpm has no sampler magic; there are ddim, ddpm"):
        load_generator(generative, sampler="magic")


def test_batches_are_of_one_size(tmp_path: Path) -> None:
    made, sizes = load_generator(saved("ddpm", tmp_path), sampling_steps=1), set()
    network = made.network

    def counted(x: Tensor, t: Tensor) -> Tensor:
        sizes.add(len(x))
        return network(x, t)

    made.network = counted
    made.images(made.z(SEEDS), SEEDS)
    assert sizes == {BATCH["cpu"]}


def test_large_images_pass_a_few_at_a_time(tmp_path: Path) -> None:
    made = load_generator(saved("ddpm", tmp_path, size=512, levels=1))
    assert made.batch == 4


def test_an_infinite_pixel_is_no_number(tmp_path: Path) -> None:
    made = load_generator(saved("dcgan", tmp_path))
    made.network = lambda z, _: torch.full((len(z), 1, 28, 28), torch.inf)
    assert made.images(made.z(SEEDS[:1]), SEEDS[:1]).isnan().all()


def test_z_of_images_makes_them_again(tmp_path: Path) -> None:
    made = load_generator(saved("lr-flow", tmp_path, width=64))
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    z = made.invert(images)
    again = made.images(z, SEEDS[:3])
    assert (made.invert(again)[0] - z[0]).abs().max() < 1e-3
    assert torch.equal(made.invert(images[1:2]), z[1:2])
    chain = load_generator(saved("ddpm", tmp_path / "ddpm"))
    with pytest.raises(SamplingError, match="ddpm with the sampler ddim has no way back from images to z"):
        chain.invert(images)
    with pytest.raises(SamplingError, match="lr-flow with the sampler heun does not begin with images"):
        made.partly(images, 0.5, SEEDS[:3])
