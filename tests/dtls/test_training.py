"""Training lowers the loss, averages as the authors do, and goes on exactly where it stopped."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from dtls.checkpoint import DTLS, CheckpointError, ModelConfig, save_tensors
from dtls.training import Recipe, Trainer, TrainingError, generator_for, random_timesteps, train

SMALL = ModelConfig(dim=8, multipliers=(1, 2), size=32, stride=8, steps=3)
RECIPE = Recipe(steps=12, learning_rate=1e-3)


def trainer(recipe: Recipe = RECIPE, seed: int = 0, **changes: Any) -> Trainer:
    torch.manual_seed(seed)
    return Trainer(DTLS(**asdict(replace(SMALL, **changes))), recipe)


@pytest.fixture(scope="module")
def crops(pictures: Tensor) -> Tensor:
    """Real pictures, uint8 (12, 3, 32, 32)."""
    return pictures[:, :, 16:48, 16:48].contiguous()


def batches(crops: Tensor, start: int = 0) -> Iterator[Tensor]:
    """Two crops for each step from `start` on, without end."""
    while True:
        yield crops[[start % len(crops), (5 * start + 1) % len(crops)]]
        start += 1


def ignore(done: int, loss: float) -> None:
    pass


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_loss_goes_down_on_a_real_picture(crops: Tensor) -> None:
    running = trainer(Recipe(steps=60, learning_rate=2e-3))
    losses: list[float] = []
    train(running, iter([crops[:2]] * 60), lambda _done, loss: losses.append(loss))
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


@pytest.mark.parametrize(("loss", "distance"), [("l1", F.l1_loss), ("mse", F.mse_loss)])
def test_the_loss_is_between_the_picture_and_what_the_model_makes_of_its_degradation(
    loss: Literal["l1", "mse"], distance: Callable[[Tensor, Tensor], Tensor], crops: Tensor
) -> None:
    running = trainer(replace(RECIPE, loss=loss))
    x0 = crops[:4].float() / 255
    t = random_timesteps(4, 3, generator_for(0, 0))
    with torch.no_grad():
        expected = distance(running.model(running.model.degradation(x0, t), t), x0).item()
    assert running.step(crops[:4]) == pytest.approx(expected, rel=1e-5)


def test_training_that_stopped_and_went_on_ends_with_the_same_bits(crops: Tensor, tmp_path: Path) -> None:
    recipe = replace(RECIPE, schedule="cosine", ema_every=2, ema_start=4, ema_decay=0.9)
    whole, first, second = trainer(recipe), trainer(recipe), trainer(recipe, seed=1)
    train(whole, batches(crops), ignore)
    train(first, batches(crops), ignore, stop=lambda: first.done == 5)
    save_tensors(first.state(), tmp_path / "state.safetensors")
    second.load_state(load_file(tmp_path / "state.safetensors"), "state.safetensors")
    assert second.done == 5
    train(second, batches(crops, start=5), ignore)
    assert same(whole.state(), second.state())
    assert int(second.state()["done"]) == 12


def test_a_state_from_before_the_first_step_loads(crops: Tensor) -> None:
    first, second = trainer(), trainer(seed=1)
    second.load_state({k: v.clone() for k, v in first.state().items()}, "state")
    assert first.step(crops[:2]) == second.step(crops[:2])


def test_one_seed_gives_one_run_and_another_another(crops: Tensor) -> None:
    runs = [trainer(replace(RECIPE, steps=4, seed=seed)) for seed in (0, 0, 1)]
    for running in runs:
        train(running, batches(crops), ignore)
    assert same(runs[0].state(), runs[1].state())
    assert not same(weights(runs[0].model), weights(runs[2].model))


def test_the_average_is_a_copy_until_its_start_and_then_moves_every_few_steps(crops: Tensor) -> None:
    running = trainer(Recipe(steps=12, learning_rate=1e-2, ema_every=3, ema_start=6, ema_decay=0.75))
    expected = weights(running.model)

    def follow(done: int, loss: float) -> None:
        nonlocal expected
        step, now = done - 1, weights(running.model)  # the authors count from 0, and average before they count
        if step in (0, 3):
            expected = now
        elif step in (6, 9):
            expected = {k: 0.75 * expected[k] + 0.25 * now[k] for k in now}
        for name, tensor in running.ema.state_dict().items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-7)

    train(running, batches(crops), follow)
    assert not same(weights(running.ema), weights(running.model))


def test_recipe_is_the_paper_s_with_the_average_of_the_authors_code() -> None:
    recipe = Recipe()
    assert (recipe.learning_rate, recipe.loss, recipe.schedule) == (2e-5, "l1", "constant")
    assert (recipe.ema_decay, recipe.ema_every, recipe.ema_start) == (0.995, 10, 2000)
    (group,) = trainer(recipe).optimizer.param_groups
    assert (group["betas"], group["eps"], group["lr"]) == ((0.9, 0.999), 1e-8, 2e-5)


def test_a_constant_rate_stays_and_a_cosine_rises_and_falls(crops: Tensor) -> None:
    assert {Recipe(steps=50, learning_rate=3e-4).rate(step) for step in range(50)} == {3e-4}
    recipe = Recipe(steps=200, learning_rate=1e-3, schedule="cosine")
    rates = [recipe.rate(step) for step in range(200)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[0] == pytest.approx(1e-4)
    assert rates[9] == pytest.approx(1e-3, rel=0.01)
    assert rates[100] == pytest.approx(5e-4)
    assert 0 < rates[199] < 1e-7
    for steps in (1, 2, 19):
        assert all(0 < replace(recipe, steps=steps).rate(step) <= 1e-3 for step in range(steps))


def test_the_optimiser_gets_the_rate_of_each_step(crops: Tensor) -> None:
    running = trainer(replace(RECIPE, schedule="cosine"))
    rates: list[float] = []
    train(running, batches(crops), lambda _done, _loss: rates.append(running.optimizer.param_groups[0]["lr"]))
    assert rates == [running.recipe.rate(step) for step in range(12)]


def test_a_loss_that_is_not_finite_stops_at_the_step_it_names(crops: Tensor) -> None:
    running = trainer(replace(RECIPE, learning_rate=1e30))
    done: list[int] = []
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step 1; try a lower learning rate"):
        train(running, batches(crops), lambda step, _loss: done.append(step))
    assert done == [1]


def test_a_bad_step_changes_no_weight(crops: Tensor) -> None:
    running = trainer()
    with torch.no_grad():
        running.model.unet.rgb.weight.fill_(float("nan"))
    before = weights(running.model)
    with pytest.raises(TrainingError, match="the loss is nan at step 0"):
        running.step(crops[:2])
    after = running.model.state_dict()
    assert all(torch.equal(before[k].nan_to_num(7), after[k].nan_to_num(7)) for k in before)
    assert running.done == 0


def test_the_state_of_another_model_is_refused_by_name(crops: Tensor) -> None:
    state = trainer(dim=16).state()
    with pytest.raises(CheckpointError, match=r"^run/state: does not fit its config: \S+ should be .* is .*$"):
        trainer().load_state(state, "run/state")
    with pytest.raises(CheckpointError, match="run/weights: not the state of a training run"):
        trainer().load_state(dict(trainer().model.state_dict()), "run/weights")


def test_training_ends_with_its_steps_its_batches_or_when_told(crops: Tensor) -> None:
    running = trainer()
    train(running, batches(crops), ignore, stop=lambda: running.done == 3)
    assert running.done == 3
    train(running, iter([crops[:1]] * 2), ignore)
    assert running.done == 5
    train(running, batches(crops), ignore)
    assert running.done == 12
    train(running, batches(crops), lambda _done, _loss: pytest.fail("trained beyond its steps"))
    assert running.done == 12


def test_timesteps_are_drawn_evenly_from_one_to_t() -> None:
    drawn = random_timesteps(28_000, 28, generator_for(3, 5))
    counts = torch.bincount(drawn, minlength=29)
    assert counts[0] == 0
    assert counts[1:].min() > 850
    assert counts[1:].max() < 1150
    assert torch.equal(drawn, random_timesteps(28_000, 28, generator_for(3, 5)))
    assert not torch.equal(drawn[:100], random_timesteps(100, 28, generator_for(3, 6)))
    assert not torch.equal(drawn[:100], random_timesteps(100, 28, generator_for(4, 5)))
