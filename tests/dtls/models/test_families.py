"""DTLS of any degradation: what it learns from, that two calls are the walk, and which samplers it has."""

from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from dtls.checkpoints.bundled import BUNDLED
from dtls.checkpoints.checkpoint import CONFIG, config_json, load_checkpoint, save_checkpoint
from dtls.choices import SamplerName
from dtls.degradations.holes import random_masks
from dtls.degradations.operator import Info
from dtls.degradations.registry import operator_of, specs
from dtls.errors import CheckpointError, SizeError, TrainingError
from dtls.models.base import Sample
from dtls.models.dtls import DTLS, ModelConfig
from dtls.samplers.dtls import current, two_call
from dtls.training.recipe import Recipe
from dtls.training.trainer import Trainer
from tests.dtls.models.drawing import draws

FAMILIES = [spec for spec in specs() if operator_of(spec).scale == 1]
LINEAR = [spec for spec in FAMILIES if operator_of(spec).is_linear]
SEEDS = torch.arange(100, 102)


@lru_cache
def made(spec: str) -> DTLS:
    """A small model of a family, in float64, whose network changes its input."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = DTLS(dim=4, multipliers=(1,), residual=True, size=16, steps=6, degradation=spec)
        nn.init.normal_(model.unet.rgb.weight, std=0.2)
    return model.double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def x(images: Tensor) -> Tensor:
    """Images in [0, 1], (2, 3, 12, 16), float64."""
    return images[:2, :, 20:32, 20:36].double() / 255


def info(x: Tensor) -> Info:
    return Info(random_masks((x.shape[-2], x.shape[-1]), SEEDS), SEEDS)


def sampler(model: DTLS, name: SamplerName | None = None) -> Sample:
    return model.sampler(name, None)[0]


@pytest.mark.parametrize("spec", LINEAR)
@pytest.mark.parametrize("strength", [1, 0.55])
def test_two_calls_are_the_walk_of_every_linear_family(spec: str, strength: float, x: Tensor) -> None:
    model = made(spec)
    y = model.degradation.observe(x, info(x))
    names: tuple[SamplerName, ...] = ("current", "two-call", "one-call")
    walk, two, one = (sampler(model, name)(model, y, strength, SEEDS, None) for name in names)
    torch.testing.assert_close(two, walk, rtol=0, atol=1e-12)
    assert (one - walk).abs().max() > 1e-3
    assert walk.shape == x.shape


@pytest.mark.parametrize("spec", ["noise:0.2", "dark:0.1"])
def test_two_calls_are_not_the_walk_where_images_are_added_up_that_d_is_not_linear_in(spec: str, x: Tensor) -> None:
    model = made(spec)  # of low light, here in sRGB's code
    degrade = partial(model.degradation, info=info(x))
    start = degrade(x, 6)
    assert (two_call(model, degrade, start, 6) - current(model, degrade, start, 6)).abs().max() > 1e-3


def test_two_calls_are_refused_where_d_is_not_linear() -> None:
    model = made("noise:0.1")
    assert model.sampler(None, None)[1] == {"sampler": "one-call"}
    assert {"one-call", "current", "cold"} < {*model.samplers}
    with pytest.raises(ValueError, match=r"noise:0.1 is not linear, .* choose current"):
        model.sampler("two-call", None)


@pytest.mark.parametrize("spec", FAMILIES)
def test_an_image_is_restored_as_if_it_were_alone(spec: str, x: Tensor) -> None:
    model, own = made(spec), info(x)
    y = model.degradation.observe(x, own)
    restore = sampler(model, "current")
    together = restore(model, y, 1, SEEDS, None)
    for n in range(2):
        alone = restore(model, y[n : n + 1], 1, SEEDS[n : n + 1], None)
        torch.testing.assert_close(alone, together[n : n + 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("spec", FAMILIES)
def test_the_network_learns_from_what_a_file_of_its_degradation_holds(spec: str, images: Tensor) -> None:
    model, hr, drawn = made(spec), images[:3, :, :16, :16].double() / 255, draws(0, 2, 6)
    given: list[tuple[Tensor, Tensor]] = []

    def network(seen: Tensor, t: Tensor) -> Tensor:
        given.append((seen, t))
        return model(seen, t)

    value = model.loss(network, hr, drawn, F.mse_loss)
    ((seen, t),) = given
    assert torch.equal(t, drawn.t)
    torch.testing.assert_close(seen * 255, (seen * 255).round(), rtol=0, atol=1e-9)
    for n in range(3):
        own = Info(random_masks((16, 16), drawn.seeds[n : n + 1]), drawn.seeds[n : n + 1])
        alone = model.degradation(hr[n : n + 1], int(t[n]), own).clamp(0, 1)
        torch.testing.assert_close(seen[n : n + 1], alone, rtol=0, atol=0.5001 / 255)
    torch.testing.assert_close(value, (model(seen, t) - hr).square().mean())


def test_what_two_calls_show_has_the_hole_of_its_image(images: Tensor) -> None:
    model, hr, drawn = made("mask"), images[:3, :, :16, :16].double() / 255, draws(6, 2, 6)
    drawn = drawn._replace(own=torch.tensor([True, False, True]))
    given: list[tuple[Tensor, Tensor]] = []

    def network(seen: Tensor, t: Tensor) -> Tensor:
        given.append((seen, t))
        return model(seen, t)

    model.loss(network, hr, drawn, F.mse_loss)
    (first, at), (second, then) = given
    own = Info(random_masks((16, 16), drawn.seeds[drawn.own]))
    assert (at.tolist(), then.tolist()) == ([6, 6], [1, 2, 1])
    expected = model.degradation(model(first, at), 1, own)
    torch.testing.assert_close(second[drawn.own], expected, rtol=0, atol=1e-12)


def test_strength_is_the_timestep_at_which_sampling_starts(x: Tensor) -> None:
    model, seen = made("grey"), list[float]()
    for strength, t in ((1, 6), (0.5, 3), (0.75, 4.5)):
        sampler(model)(model, model.degradation.observe(x), strength, SEEDS, lambda s, *_: seen.append(s))
        assert seen == [t, 1, 0]
        seen.clear()
    sampler(model, "current")(model, x, 0.4, SEEDS, lambda s, *_: seen.append(s))
    assert seen == pytest.approx([2.4, 2, 1, 0])
    with pytest.raises(SizeError, match="the strength of grey is 0 to 1, not 2"):
        sampler(model)(model, x, 2, SEEDS, None)
    with pytest.raises(SizeError, match=r"this checkpoint \(grey\) restores images at the size they have, not ×2"):
        model.check_scale(2)


@pytest.mark.parametrize("spec", FAMILIES)
def test_a_checkpoint_keeps_its_family(spec: str, tmp_path: Path) -> None:
    save_checkpoint(made(spec), tmp_path)
    loaded = load_checkpoint(tmp_path, DTLS)
    assert loaded.undoes == loaded.config.undoes == made(spec).degradation.spec
    assert loaded.config == made(spec).config
    assert loaded.config.lr_size == loaded.config.size


def test_models_of_lr_images_are_described_as_ever(tmp_path: Path) -> None:
    faces = BUNDLED["faces-x8"].folder
    model = load_checkpoint(faces, DTLS)
    assert config_json(model.name, model.config) == (faces / CONFIG).read_bytes()
    assert model.undoes == "antialias"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"degradation": "gray"}, "did you mean 'grey'"),
        ({"degradation": "antialias:4"}, "antialias:4 makes images smaller; a model that enlarges"),
        ({"degradation": "blur:1+antialias:2"}, "makes images smaller"),
        ({"degradation": "grey", "steps": 0}, "steps are at least 1, not 0"),
        ({"degradation": "grey", "steps": 10**6}, "are more than 100,000"),
        ({"degradation": 5}, "a degradation is a text like grey or blur:2, not 5"),
    ],
)
def test_a_configuration_of_no_family_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_checkpoint(made("grey"), tmp_path)
    (tmp_path / CONFIG).write_bytes(config_json("dtls", ModelConfig(**asdict(made("grey").config) | changes)))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path)


def test_what_two_calls_show_is_not_learned_where_there_are_none() -> None:
    with pytest.raises(TrainingError, match=r"noise:0.1 is not linear, so there is no two-call sampler"):
        Trainer(made("noise:0.1"), Recipe(inputs="sampled"), Fabric(accelerator="cpu", devices=1))
