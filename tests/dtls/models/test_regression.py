"""The models that predict the image in one step, cold, and the GAN stage that any model of images can have."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from dtls.checkpoints.checkpoint import CONFIG, load_checkpoint, make_model, save_checkpoint, save_tensors
from dtls.degradations.resize import resize
from dtls.errors import CheckpointError, SamplingError, SizeError
from dtls.inference.method import load_method
from dtls.inference.sampling import Sampling
from dtls.inference.spandrel import SpandrelModel
from dtls.inference.trained import Trained
from dtls.models.base import Model
from dtls.models.dtls import DTLS
from dtls.models.edsr import EDSR
from dtls.models.fsrcnn import FSRCNN
from dtls.models.regression import Regression
from dtls.models.rrdb import RRDB
from dtls.models.srcnn import SRCNN
from dtls.networks.critic import PatchCritic
from dtls.registry import model_class
from dtls.training.recipe import Recipe, check_recipe, draw
from dtls.training.trainer import Trainer, train
from tests.dtls import one_cpu
from tests.dtls.weights import have_the_same_weights

SMALL: dict[str, dict[str, int]] = {
    "srcnn": {},
    "fsrcnn": {},
    "edsr": {"features": 8, "blocks": 1},
    "rrdb": {"features": 8, "blocks": 1},
}
DEGRADING: dict[str, Any] = {
    "dim": 8,
    "multipliers": (1, 2),
    "size": 32,
    "stride": 8,
    "steps": 3,
    "protocol": "antialias",
}
GAN = Recipe(steps=12, learning_rate=1e-3, adversarial=0.01)


def made(name: str, **changes: Any) -> Model:
    """A small model ×4 by its name."""
    torch.manual_seed(0)
    return model_class(name)(**{"size": 32, "lr_size": 8, **SMALL[name], **changes}).eval()


def degrading(method: str) -> Model:
    """A small model, with the same weights each time."""
    torch.manual_seed(0)
    return make_model({"method": method, **DEGRADING})


def parameters(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


@pytest.fixture(scope="module")
def lr(crops: Tensor) -> Tensor:
    """The same as the protocol antialias makes them, (12, 3, 8, 8) in [0, 1]."""
    return resize(crops.float() / 255, (8, 8), "antialias").clamp(0, 1)


@pytest.mark.parametrize(
    ("model", "config", "count"),
    [
        (SRCNN, {}, 69_251),
        (FSRCNN, {}, 24_683),
        (FSRCNN, {"size": 32}, 24_683),
        (EDSR, {}, 740_352),
        (RRDB, {"size": 64}, 16_697_987),
        (RRDB, {"size": 64, "blocks": 8}, 5_906_627),
    ],
)
def test_models_have_as_many_parameters_as_their_papers_or_readmes_say(
    model: type[Model], config: dict[str, int], count: int
) -> None:
    with torch.device("meta"):
        assert parameters(model(**config)) == count


@pytest.mark.parametrize("name", SMALL)
def test_a_checkpoint_comes_back_and_its_config_names_its_method(name: str, tmp_path: Path) -> None:
    model = made(name)
    save_checkpoint(model, tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    assert (config["method"], config["size"], config["lr_size"]) == (name, 32, 8)
    loaded = load_checkpoint(tmp_path, Regression)
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert have_the_same_weights(loaded, model)


@pytest.mark.parametrize("name", SMALL)
def test_results_have_the_size_wanted_and_other_scales_are_bicubic_of_its_own(
    name: str, lr: Tensor, tmp_path: Path
) -> None:
    model = made(name)
    save_checkpoint(model, tmp_path)
    method = Trained(tmp_path)
    with torch.no_grad():
        x = lr[:2] if model.scale == 4 else model.enlarged(lr[:2], (32, 32))
        own = model(x, torch.ones(2))
    assert own.shape == (2, 3, 32, 32)
    torch.testing.assert_close(method(lr[:2], (32, 32)), own.clamp(0, 1), rtol=0, atol=1e-5)
    for size in ((16, 16), (20, 20)):
        sr = method(lr[:2], size)
        assert sr.shape == (2, 3, *size)
        if model.scale == 4:
            expected = F.interpolate(own, size, mode="bicubic", antialias=True).clamp(0, 1)
            torch.testing.assert_close(sr, expected, rtol=0, atol=1e-5)
    with pytest.raises(SizeError, match="upscales by at most ×4, not ×8"):
        method(lr[:2], (64, 64))
    oblong = method(lr[:1, :, :5], (20, 32))
    assert oblong.shape == (1, 3, 20, 32)
    grey = method(lr[:2, :1], (32, 32))
    assert grey.shape == (2, 1, 32, 32)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("name", ["fsrcnn", "edsr", "rrdb"])
def test_models_enlarge_by_the_scale_of_their_config(name: str, scale: int) -> None:
    config = {"size": 8 * scale, "lr_size": 8}
    if name == "rrdb" and scale == 3:
        with pytest.raises(SizeError, match="rrdb enlarges by 2, 4 or 8, not by 3"):
            made(name, **config)
        return
    model = made(name, **config)
    assert model.scale == scale
    with torch.no_grad():
        assert model(torch.rand(1, 3, 5, 7), torch.ones(1)).shape == (1, 3, 5 * scale, 7 * scale)


@pytest.mark.parametrize("protocol", ["antialias", "reference"])
def test_an_untrained_residual_dtls_gives_the_enlarged_image(
    protocol: Literal["antialias", "reference"], lr: Tensor, tmp_path: Path
) -> None:
    save_checkpoint(DTLS(**{**DEGRADING, "protocol": protocol}, residual=True), tmp_path)
    method = Trained(tmp_path, sampling=Sampling(sampler="one-call"))
    expected = resize(lr, (32, 32), protocol).clamp(0, 1)
    torch.testing.assert_close(method(lr, (32, 32)), expected, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_the_loss_is_between_the_image_and_what_comes_of_its_lr_image_in_8_bits(crops: Tensor) -> None:
    for name in SMALL:
        running = trainer(name, Recipe(steps=1, learning_rate=1e-3, loss="mse"))
        hr = crops.float() / 255
        lr = (resize(hr, (8, 8), "antialias").clamp(0, 1) * 255).round() / 255
        x = lr if running.model.scale == 4 else resize(lr, (32, 32), "antialias")
        running.recipe = replace(running.recipe, seed=unmirrored(12))
        with torch.no_grad():
            expected = F.mse_loss(running.model(x, torch.ones(12)), hr).item()
        assert running.step(crops) == pytest.approx(expected, rel=1e-5), name


def test_rrdb_s_weights_are_esrgan_s_for_spandrel(lr: Tensor, tmp_path: Path) -> None:
    model = made("rrdb")
    assert isinstance(model, RRDB)
    save_checkpoint(model, tmp_path)
    save_tensors(dict(model.network.state_dict()), tmp_path / "esrgan.safetensors")
    theirs = SpandrelModel(tmp_path / "esrgan.safetensors")
    assert (theirs.name, theirs.scale) == ("spandrel-ESRGAN", 4)
    ours = Trained(tmp_path)(lr, (32, 32))
    assert ours.std() > 0.001
    torch.testing.assert_close(theirs(lr, (32, 32)), ours, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_cold_uses_its_sampler_on_dtls_checkpoints_and_its_own(lr: Tensor, tmp_path: Path) -> None:
    save_checkpoint(degrading("dtls"), tmp_path / "dtls")
    save_checkpoint(degrading("cold"), tmp_path / "cold")
    expected = Trained(tmp_path / "dtls", sampling=Sampling(sampler="cold"))(lr[:2], (32, 32))
    for folder in ("dtls", "cold"):
        method = load_method("cold", tmp_path / folder)
        assert isinstance(method, Trained)
        assert (method.identity["method"], method.identity["sampler"]) == ("cold", "cold")
        assert torch.equal(method(lr[:2], (32, 32)), expected)
    two_call = load_method("dtls", tmp_path / "dtls")
    assert (two_call.identity["method"], two_call.identity["sampler"]) == ("dtls", "two-call")
    assert (two_call(lr[:2], (32, 32)) - expected).abs().max() > 0.001
    assert json.loads((tmp_path / "cold" / CONFIG).read_text())["method"] == "cold"


def test_a_checkpoint_of_another_method_is_refused(tmp_path: Path) -> None:
    save_checkpoint(degrading("cold"), tmp_path / "cold")
    save_checkpoint(made("srcnn"), tmp_path / "srcnn")
    for requested, folder in (("dtls", "srcnn"), ("srcnn", "cold"), ("edsr", "srcnn")):
        with pytest.raises(CheckpointError) as refused:
            load_method(requested, tmp_path / folder)
        expected = f"{tmp_path / folder}: a model of the method {folder}, not {requested}; say --method {folder}"
        assert str(refused.value) == expected


def test_dtls_and_cold_serve_as_each_other(tmp_path: Path) -> None:
    for name, requested in (("cold", "dtls"), ("dtls", "cold")):
        save_checkpoint(degrading(name), tmp_path / requested)
        assert load_method(requested, tmp_path / requested).name == requested


def test_cold_of_a_network_that_predicts_the_previous_step_has_its_sampler(tmp_path: Path) -> None:
    save_checkpoint(make_model({"method": "cold", **DEGRADING, "predicts": "previous"}), tmp_path)
    assert load_method("cold", tmp_path).identity["sampler"] == "previous"


def test_an_unknown_method_in_a_config_is_refused_in_a_line(tmp_path: Path) -> None:
    save_checkpoint(made("srcnn"), tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config | {"method": "magic"}))
    with pytest.raises(CheckpointError) as refused:
        Trained(tmp_path)
    start = (
        f"{tmp_path / CONFIG}: not the configuration of a model (no model is called 'magic'; there are dtls, cold, "
    )
    assert str(refused.value).startswith(start)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("srcnn", {"lr_size": 0}, "0→32 pixels is no whole scale of at least 2"),
        ("fsrcnn", {"size": 33}, "8→33 pixels is no whole scale of at least 2"),
        ("edsr", {"blocks": 0}, "features and blocks are at least 1, not 8 and 0"),
        ("rrdb", {"features": 0}, "features and blocks are at least 1, not 0 and 1"),
        ("srcnn", {"protocol": "magic"}, "unknown protocol 'magic'; known: reference, antialias, realworld"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_in_a_line(name: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SizeError) as refused:
        made(name, **changes)
    assert str(refused.value) == words


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (Sampling(sampler="cold"), "srcnn has no sampler cold"),
        (Sampling(steps=3), r"srcnn .* steps?\b"),
        (Sampling(seed=1), "srcnn draws nothing, so that a seed changes nothing"),
    ],
)
def test_choices_that_it_does_not_have_are_refused(how: Sampling, words: str, tmp_path: Path) -> None:
    save_checkpoint(made("srcnn"), tmp_path)
    with pytest.raises(SamplingError, match=words):
        Trained(tmp_path, sampling=how)


def trainer(name: str, recipe: Recipe, seed: int = 0) -> Trainer[Any]:
    torch.manual_seed(seed)
    model = model_class(name)(size=32, lr_size=8, **SMALL[name])
    return Trainer(model, recipe, one_cpu.fabric())


def gradients(of: nn.Module) -> list[Tensor | None]:
    return [weight.grad for weight in of.parameters()]


def test_neither_loss_of_a_gan_moves_the_other_s_weights() -> None:
    torch.manual_seed(0)
    model, critic = made("edsr"), PatchCritic()
    x, true = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32)
    of_model, of_critic = critic.losses(model(x, torch.ones(2)), true)
    of_model.backward()
    assert gradients(critic) == [None] * len(gradients(critic))
    assert any(grad is not None and grad.abs().max() > 0 for grad in gradients(model))
    model.zero_grad()
    of_critic.backward()
    assert gradients(model) == [None] * len(gradients(model))
    assert all(grad is not None and grad.abs().max() > 0 for grad in gradients(critic)[:-1])


def test_the_losses_of_a_gan_are_esrgan_s() -> None:
    torch.manual_seed(0)
    critic, predicted, true = PatchCritic(), torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        of_model, of_critic = critic.losses(predicted, true)
        logits_true, logits_predicted = critic(true), critic(predicted)
    assert logits_true.shape == (2, 1, 4, 4)
    truer = torch.sigmoid(logits_true - logits_predicted.mean())
    less_true = torch.sigmoid(logits_predicted - logits_true.mean())
    torch.testing.assert_close(of_critic, -(truer.log().mean() + (1 - less_true).log().mean()) / 2)
    torch.testing.assert_close(of_model, -((1 - truer).log().mean() + less_true.log().mean()) / 2)


@pytest.mark.slow
def test_an_adversarial_weight_adds_both_losses_and_training_lowers_the_critic_s(crops: Tensor) -> None:
    running = trainer("fsrcnn", replace(GAN, learning_rate=2e-4))
    critic = running.objective.critic
    assert isinstance(critic, PatchCritic)
    crops = crops[:4]
    hr = crops.float() / 255

    def parts() -> tuple[float, float, float]:
        with torch.no_grad():
            lr = (resize(hr, (8, 8), "antialias").clamp(0, 1) * 255).round() / 255
            predicted = running.model(lr, torch.ones(4))
            fooled, told_apart = critic.losses(predicted, hr)
            return F.l1_loss(predicted, hr).item(), fooled.item(), told_apart.item()

    distance, fooled, told_apart = parts()
    running.recipe = replace(running.recipe, seed=unmirrored(4))
    assert running.step(crops) == pytest.approx(distance + 0.01 * fooled + told_apart, rel=1e-4)
    train(running, [crops] * 11, lambda _done, _loss: None)
    assert parts()[2] < 0.8 * told_apart


def test_a_recipe_without_an_adversarial_weight_has_no_critic() -> None:
    running = trainer("srcnn", replace(GAN, adversarial=0.0))
    assert running.objective.critic is None
    assert not any(name.startswith("critic.") for name in running.state())


@pytest.mark.slow
def test_a_gan_stage_that_stopped_and_went_on_ends_with_the_same_bits(crops: Tensor, tmp_path: Path) -> None:
    def batches(start: int) -> list[Tensor]:
        return [crops[[step % 12, (5 * step + 1) % 12]] for step in range(start, 12)]

    whole, first, second = trainer("edsr", GAN), trainer("edsr", GAN), trainer("edsr", GAN, seed=1)
    ignore: Callable[[int, float], None] = lambda _done, _loss: None  # noqa: E731
    train(whole, batches(0), ignore)
    train(first, batches(0), ignore, stop=lambda: first.done == 5)
    save_tensors(first.state(), tmp_path / "state.safetensors")
    second.load_state(load_file(tmp_path / "state.safetensors"), "state")
    train(second, batches(5), ignore)
    ends, resumed = whole.state(), second.state()
    assert ends.keys() == resumed.keys()
    assert any(name.startswith("critic.") for name in ends)
    assert [name for name in ends if not torch.equal(ends[name], resumed[name])] == []


def test_the_state_of_a_run_without_a_critic_does_not_go_on_with_one(crops: Tensor) -> None:
    plain, gan = trainer("edsr", replace(GAN, adversarial=0.0)), trainer("edsr", GAN)
    with pytest.raises(CheckpointError, match=r"^state: does not fit its config: critic\.\S+ should be"):
        gan.load_state(plain.state(), "state")
    with pytest.raises(CheckpointError, match=r"^state: does not fit its config: critic\.\S+ should be nothing"):
        plain.load_state(gan.state(), "state")


def test_recipes_that_want_what_a_model_does_not_have_are_refused() -> None:
    class Own(SRCNN):
        name = "own"
        compares = False

    for recipe in (Recipe(perceptual=0.1), Recipe(adversarial=0.1)):
        with pytest.raises(ValueError, match="own learns by its own loss, not between images: no perceptual, no adv"):
            check_recipe(Own, recipe)
        check_recipe(SRCNN, recipe)
    with pytest.raises(
        ValueError, match="inputs sampled goes with dtls, whose sampler takes two calls, not with srcnn"
    ):
        check_recipe(SRCNN, Recipe(inputs="sampled"))
    check_recipe(DTLS, Recipe(inputs="sampled"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_training_lowers_the_loss(name: str, crops: Tensor) -> None:
    running = trainer(name, Recipe(steps=60, learning_rate=2e-3))
    if name == "edsr":  # away from the enlarged image, which is hard to better in so few steps
        nn.init.constant_(running.model.tail.bias, 0.1)
    losses: list[float] = []
    train(running, [crops[:2]] * 60, lambda _done, loss: losses.append(loss))
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def unmirrored(count: int) -> int:
    """A seed of a run whose first step mirrors none of so many images."""
    return next(seed for seed in range(2**20) if not draw(Recipe(seed=seed), 0, count, 1).mirrored.any())
