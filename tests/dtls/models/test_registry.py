"""What the one training loop and the one checkpoint format promise of every model of the registry."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dtls.checkpoints.checkpoint import load_checkpoint, make_model, save_checkpoint
from dtls.inference.sampling import Sampling
from dtls.inference.trained import Trained
from dtls.models.base import Model
from dtls.registry import GENERATORS, MODELS, model_class, trained
from dtls.training.recipe import Recipe
from dtls.training.trainer import Trainer
from tests.dtls import one_cpu
from tests.dtls.weights import have_the_same_weights

DTLS_TINY: dict[str, Any] = {
    "dim": 8, "multipliers": (1, 2), "stride": 8, "steps": 3, "size": 32, "protocol": "antialias",
}  # fmt: skip
TINY: dict[str, Any] = {"size": 32, "lr_size": 8}
NETWORKS: dict[str, dict[str, Any]] = {
    "dtls": DTLS_TINY,
    "cold": DTLS_TINY,
    "edsr": {**TINY, "features": 8, "blocks": 1},
    "rrdb": {**TINY, "features": 8, "blocks": 1},
    "sr3": {**TINY, "width": 8, "levels": 2, "timesteps": 20},
    "vae-ddpm": {**TINY, "width": 8, "levels": 1, "timesteps": 20},
    "vqvae-ddpm": {**TINY, "width": 8, "levels": 1, "timesteps": 20},
    "resshift": {**TINY, "dim": 8, "levels": 2},
    "heat": {**TINY, "dim": 8, "levels": 2, "timesteps": 6},
    "lr-flow": {"size": 32, "width": 8, "blocks": 1},
    "ddpm": {"size": 32, "width": 8, "levels": 2, "timesteps": 20},
    "dcgan": {"size": 32, "width": 8},
    "classifier": {"size": 32, "width": 8, "classes": ["a", "b"]},
    "vae-gen": {"size": 32, "width": 8, "ae_width": 8, "levels": 1, "timesteps": 20},
    "vqvae-gen": {"size": 32, "width": 8, "ae_width": 8, "levels": 1, "timesteps": 20, "channels": 1},
}
LEARNING_ALONE = {**MODELS, **GENERATORS}
"""Those that learn from images alone; a classifier does from their classes, too."""
RECIPE = Recipe(steps=4, learning_rate=1e-3)


def made(name: str) -> Model:
    torch.manual_seed(0)
    return make_model({"method": name, **NETWORKS.get(name, TINY)})


def trainer(name: str, **changes: Any) -> Trainer[Model]:
    return Trainer(made(name), replace(RECIPE, **changes), one_cpu.fabric())


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNING_ALONE)
def test_a_run_that_stopped_goes_on_with_the_same_bits(name: str, crops: Tensor) -> None:
    whole, first = trainer(name), trainer(name)
    losses = [whole.step(crops[i : i + 1]) for i in range(4)]
    for i in range(2):
        first.step(crops[i : i + 1])
    state = {key: tensor.clone() for key, tensor in first.state().items()}
    second = trainer(name)
    second.load_state(state, "state")
    assert [second.step(crops[i : i + 1]) for i in range(2, 4)] == losses[2:]
    assert have_the_same_weights(second.model, whole.model)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LEARNING_ALONE if name != "dcgan"])  # it normalises over a batch
def test_a_batch_in_parts_has_the_loss_of_a_whole_one(name: str, crops: Tensor) -> None:
    whole, parts = (trainer(name, accumulate=n).step(crops[:4]) for n in (1, 2))
    assert whole == pytest.approx(parts, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNING_ALONE)
def test_bf16_trains(name: str, crops: Tensor) -> None:
    fabric = one_cpu.fabric(bf16=True)
    running = Trainer(made(name), RECIPE, fabric)
    exact = trainer(name).step(crops[:4])
    assert running.step(crops[:4]) == pytest.approx(exact, rel=0.1, abs=0.01)
    assert {weight.dtype for weight in running.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", trained())
def test_a_checkpoint_comes_back_as_it_went(name: str, tmp_path: Path) -> None:
    model = made(name)
    save_checkpoint(model, tmp_path)
    loaded: Model = load_checkpoint(tmp_path)
    assert (loaded.name, asdict(loaded.config)) == (name, asdict(model.config))
    assert have_the_same_weights(loaded, model)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [(32, 32), (31, 43)])
def test_results_have_the_size_that_is_wanted_whatever_is_beside_them(
    name: str, size: tuple[int, int], images: Tensor, tmp_path: Path
) -> None:
    save_checkpoint(made(name), tmp_path)
    steps = 4 if name in ("sr3", "vae-ddpm", "vqvae-ddpm") else None
    method = Trained(tmp_path, sampling=Sampling(steps=steps))
    lr = images[:3, :, : -(-size[0] // 4), : -(-size[1] // 4)].float() / 255
    sr = method(lr, size)
    assert sr.shape == (3, 3, *size)
    assert sr.min() >= 0
    assert sr.max() <= 1
    torch.testing.assert_close(method(lr[1:2], size), sr[1:2], rtol=0, atol=1e-3)  # a chain adds up rounding
    assert method(lr[:1, :1], size).shape == (1, 1, *size)


@pytest.mark.parametrize("name", [name for name in MODELS if model_class(name).walks])
def test_a_chain_is_shown_from_its_first_step_to_the_result(name: str, images: Tensor, tmp_path: Path) -> None:
    save_checkpoint(made(name), tmp_path)
    sampler = made(name).shows
    steps = 4 if name in ("sr3", "vae-ddpm", "vqvae-ddpm") else None
    method = Trained(tmp_path, sampling=Sampling(sampler=sampler, steps=steps))
    lr = images[:1, :, :8, :8].float() / 255
    shown = method.trajectory(lr, (32, 32))
    times = [step.t for step in shown]
    assert times == sorted(times, reverse=True)
    assert (len(times) > 3, times[-1]) == (True, 0)
    assert all(step.images.shape == (1, 3, 32, 32) for step in shown)
    assert len({step.x.shape for step in shown}) == 1
    torch.testing.assert_close(shown[-1].images, method(lr, (32, 32)), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_bf16_gives_whole_numbers_near_those_of_fp32(name: str, images: Tensor, tmp_path: Path) -> None:
    save_checkpoint(made(name), tmp_path)
    steps = 4 if name in ("sr3", "vae-ddpm", "vqvae-ddpm") else None
    lr = images[:2, :, :7, :9].float() / 255
    exact, fast = (
        Trained(tmp_path, sampling=Sampling(steps=steps, precision=precision, projected=True))(lr, (25, 33))
        for precision in ("fp32", "bf16")
    )
    assert fast.dtype == torch.float32
    assert (fast - exact).abs().mean() < 0.05
