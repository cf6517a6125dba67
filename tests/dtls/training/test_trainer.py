"""Training lowers the loss that is promised, averages as the authors do, and goes on exactly where it stopped."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from dtls.checkpoints.checkpoint import save_tensors
from dtls.errors import CheckpointError, TrainingError
from dtls.models.base import Draws
from dtls.models.dtls import DTLS, ModelConfig
from dtls.training.recipe import Recipe, draw
from dtls.training.trainer import Trainer, train
from tests.dtls import one_cpu

SMALL = ModelConfig(dim=8, multipliers=(1, 2), size=32, stride=8, steps=3)
RECIPE = Recipe(steps=12, learning_rate=1e-3)


class Distance(nn.Module):
    """Stands in for LPIPS: a number an image, (N, 1, 1, 1), of two batches in [−1, 1]."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().mean(dim=(1, 2, 3), keepdim=True)


def trainer(recipe: Recipe = RECIPE, seed: int = 0, *, bf16: bool = False, **changes: Any) -> Trainer[DTLS]:
    torch.manual_seed(seed)
    fabric = one_cpu.fabric(bf16=bf16)
    perceptual = Distance() if recipe.perceptual else None
    return Trainer(DTLS(**asdict(replace(SMALL, **changes))), recipe, fabric, perceptual)


def shown(crops: Tensor, drawn: Draws) -> Tensor:
    """The images of a step as the loss knows them: in [0, 1], those mirrored that are drawn to be."""
    mirrored = [crop.flip(-1) if flip else crop for crop, flip in zip(crops, drawn.mirrored, strict=True)]
    return torch.stack(mirrored).float() / 255


def batches(crops: Tensor, start: int = 0) -> Iterator[Tensor]:
    """A crop for each step from `start` on, without end."""
    while True:
        yield crops[[start % len(crops)]]
        start += 1


def ignore(done: int, loss: float) -> None:
    pass


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.fixture(scope="module")
def losses(crops: Tensor) -> dict[bool, list[float]]:
    """Those of forty steps on one real image, with bf16 and without."""
    seen: dict[bool, list[float]] = {False: [], True: []}
    for bf16, values in seen.items():
        running = trainer(Recipe(steps=40, learning_rate=2e-3), bf16=bf16)
        values += [running.step(crops[:1]) for _ in range(40)]
        assert {tensor.dtype for tensor in running.model.state_dict().values()} == {torch.float32}
    return seen


@pytest.mark.slow
def test_loss_goes_down_on_a_real_image(losses: dict[bool, list[float]]) -> None:
    assert sum(losses[False][-7:]) < 0.5 * sum(losses[False][:7])


@pytest.mark.parametrize(("loss", "distance"), [("l1", F.l1_loss), ("mse", F.mse_loss)])
def test_the_loss_is_between_the_image_and_what_the_model_makes_of_its_degradation(
    loss: Literal["l1", "mse"], distance: Callable[[Tensor, Tensor], Tensor], crops: Tensor
) -> None:
    running = trainer(replace(RECIPE, loss=loss))
    drawn = draw(running.recipe, 0, 12, 3)
    x0, t = shown(crops, drawn), drawn.t
    with torch.no_grad():
        expected = distance(running.model(running.model.degradation(x0, t), t), x0).item()
    assert running.step(crops) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("first_timestep", [0, 1])
def test_a_model_of_the_previous_step_learns_the_degradation_one_step_before(
    first_timestep: Literal[0, 1], crops: Tensor
) -> None:
    running = trainer(replace(RECIPE, first_timestep=first_timestep), predicts="previous")
    drawn = draw(running.recipe, 0, 12, 3)
    assert drawn.t.min() == first_timestep
    x0, t, degrade = shown(crops, drawn), drawn.t, running.model.degradation
    with torch.no_grad():
        prediction = running.model(degrade(x0, t), t)
    before = torch.cat([degrade(x0[n : n + 1], max(0, int(t[n]) - 1)) for n in range(12)])
    assert running.step(crops) == pytest.approx(F.l1_loss(prediction, before).item(), rel=1e-5)


def test_half_the_sampled_inputs_are_d1_of_the_models_own_prediction(crops: Tensor) -> None:
    running, untouched = trainer(replace(RECIPE, inputs="sampled")), trainer().model
    drawn = draw(running.recipe, 0, 12, 3)
    x0, t, degrade = shown(crops, drawn), drawn.t, running.model.degradation
    with torch.no_grad():
        degraded = degrade(x0, t)
        own = degrade(running.model(degraded, t), 1)
    seen: list[tuple[Tensor, Tensor]] = []
    running.model.unet.register_forward_pre_hook(lambda _unet, given: seen.append(given))
    value = running.step(crops)
    x, steps = seen[-1]  # the call that the network learns from
    from_own = [torch.allclose(x[n], own[n], atol=1e-6) for n in range(12)]
    assert sum(from_own) == 6
    chosen = torch.tensor(from_own)
    expected_x, expected_t = torch.where(chosen[:, None, None, None], own, degraded), torch.where(chosen, 1, t)
    torch.testing.assert_close(x, expected_x)
    assert torch.equal(steps, expected_t)
    with torch.no_grad():
        assert value == pytest.approx(F.l1_loss(untouched(expected_x, expected_t), x0).item(), rel=1e-5)


def test_only_a_model_of_the_image_learns_from_what_it_sampled() -> None:
    with pytest.raises(TrainingError, match="no two-call sampler to learn from"):
        trainer(replace(RECIPE, inputs="sampled"), predicts="previous")


def test_a_perceptual_weight_adds_so_much_of_its_distance_in_minus_one_to_one(crops: Tensor) -> None:
    plain, running = trainer(), trainer(replace(RECIPE, perceptual=0.3))
    drawn = draw(running.recipe, 0, 12, 3)
    x0, t = shown(crops, drawn), drawn.t
    with torch.no_grad():
        prediction = running.model(running.model.degradation(x0, t), t)
    expected = plain.step(crops) + 0.3 * 4 * F.mse_loss(prediction, x0).item()
    assert running.step(crops) == pytest.approx(expected, rel=1e-5)


def test_a_perceptual_weight_and_a_perceptual_model_go_together() -> None:
    fabric, model = one_cpu.fabric(), DTLS(**asdict(SMALL))
    for recipe, perceptual in ((RECIPE, Distance()), (replace(RECIPE, perceptual=0.1), None)):
        with pytest.raises(ValueError, match="a perceptual weight and a perceptual model go together"):
            Trainer(model, recipe, fabric, perceptual)


def test_the_drawn_images_are_mirrored_and_the_others_are_not(crops: Tensor) -> None:
    running = trainer()
    seen: list[tuple[Tensor, Tensor]] = []
    running.model.unet.register_forward_pre_hook(lambda _unet, given: seen.append(given))
    running.step(crops)
    ((x, t),) = seen
    drawn = draw(running.recipe, 0, 12, 3)
    assert 0 < drawn.mirrored.sum() < 12
    for n, crop in enumerate(crops.float() / 255):
        as_drawn = crop.flip(-1) if drawn.mirrored[n] else crop
        expected = running.model.degradation(as_drawn[None], int(t[n]))[0]
        other = running.model.degradation(as_drawn.flip(-1)[None], int(t[n]))[0]
        torch.testing.assert_close(x[n], expected, rtol=0, atol=1e-6)
        assert (x[n] - other).abs().max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("accumulate", "inputs"), [(2, "degraded"), (4, "sampled")])
def test_a_batch_in_parts_gives_the_loss_and_weights_of_a_whole_one(
    accumulate: int, inputs: Literal["degraded", "sampled"], crops: Tensor
) -> None:
    recipe = replace(RECIPE, steps=3, inputs=inputs, perceptual=0.1, clip=1.0)
    whole, parts = trainer(recipe), trainer(replace(recipe, accumulate=accumulate))
    for batch in (crops[:7], crops[3:]):  # 7 and 9 leave a part smaller than the others
        assert parts.step(batch) == pytest.approx(whole.step(batch), rel=1e-5)
    for name, tensor in weights(whole.model).items():  # AdamW makes steps of 1e-3 even of the smallest gradients
        torch.testing.assert_close(weights(parts.model)[name], tensor, rtol=0, atol=1e-5)


def test_clipping_limits_the_norm_of_the_gradient_and_keeps_its_direction(crops: Tensor) -> None:
    plain, tiny, wide = (trainer(replace(RECIPE, clip=clip)) for clip in (None, 1e-3, 1e3))
    gradients: list[Tensor] = []
    for running in (plain, tiny, wide):
        running.step(crops[:4])
        moments = running.optimizer.state_dict()["state"].values()
        gradients.append(torch.cat([10 * moment["exp_avg"].flatten() for moment in moments]))  # 1 / (1 − 0.9)
    free, clipped, unclipped = gradients
    assert free.norm() > 0.01
    torch.testing.assert_close(clipped, free * (1e-3 / free.norm()), rtol=1e-4, atol=1e-9)
    assert torch.equal(unclipped, free)


def test_a_gradient_that_is_not_finite_stops_at_the_step_it_names_and_changes_no_weight(crops: Tensor) -> None:
    running = trainer(replace(RECIPE, clip=1.0))
    running.step(crops[:2])
    before = weights(running.model)
    running.model.unet.rgb.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingError, match=r"the norm of the gradient is (nan|inf) at step 2; try a lower"):
        running.step(crops[:2])
    assert same(weights(running.model), before)
    assert running.done == 1


@pytest.mark.slow
def test_bf16_trains_and_its_loss_is_close_to_that_of_fp32(losses: dict[bool, list[float]]) -> None:
    assert losses[True] != losses[False]
    assert losses[True][:2] == pytest.approx(losses[False][:2], rel=0.004)  # later on, the runs drift apart
    assert sum(losses[True][-7:]) < 0.5 * sum(losses[True][:7])


@pytest.mark.slow
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


@pytest.mark.slow
def test_one_seed_gives_one_run_and_another_another(crops: Tensor) -> None:
    runs = [trainer(replace(RECIPE, steps=4, seed=seed)) for seed in (0, 0, 1)]
    for running in runs:
        train(running, batches(crops), ignore)
    assert same(runs[0].state(), runs[1].state())
    assert not same(weights(runs[0].model), weights(runs[2].model))


@pytest.mark.slow
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


def test_the_average_that_is_used_has_the_last_step_in_it_and_changes_nothing(crops: Tensor) -> None:
    running = trainer(Recipe(steps=9, learning_rate=1e-2, ema_every=3, ema_start=6, ema_decay=0.75))
    assert same(weights(running.averaged()), weights(running.model))
    raw = weights(running.model)

    def follow(done: int, loss: float) -> None:
        nonlocal raw
        now, average = weights(running.model), weights(running.averaged())
        if done <= 6:
            assert same(average, now)
        else:  # the share that a whole interval would have, by the steps of it that are done
            if done == 7:
                raw = weights(running.ema)
            share = {7: 1.0, 8: 0.75 ** (1 / 3), 9: 0.75 ** (2 / 3)}[done]
            for name, tensor in average.items():
                torch.testing.assert_close(tensor, share * raw[name] + (1 - share) * now[name], rtol=1e-6, atol=1e-7)

    train(running, batches(crops), follow)
    assert same(weights(running.ema), raw)


def test_recipe_is_the_paper_s_with_the_average_of_the_authors_code() -> None:
    recipe = Recipe()
    assert (recipe.learning_rate, recipe.loss, recipe.schedule) == (2e-5, "l1", "constant")
    assert (recipe.ema_decay, recipe.ema_every, recipe.ema_start) == (0.995, 10, 2000)
    (group,) = trainer(recipe).optimizer.param_groups
    assert (group["betas"], group["eps"], group["lr"]) == ((0.9, 0.999), 1e-8, 2e-5)
    assert (recipe.warmup, recipe.inputs, recipe.first_timestep) == (0, "degraded", 1)
    assert (recipe.perceptual, recipe.clip, recipe.accumulate) == (0, None, 1)


def test_a_constant_rate_stays_a_cosine_falls_and_either_rises_while_it_warms_up() -> None:
    assert {Recipe(steps=50, learning_rate=3e-4).rate(step) for step in range(50)} == {3e-4}
    rising = Recipe(steps=50, learning_rate=1e-3, warmup=4)
    assert [rising.rate(step) for step in range(7)] == pytest.approx([2e-4, 4e-4, 6e-4, 8e-4, 1e-3, 1e-3, 1e-3])
    recipe = Recipe(steps=200, learning_rate=1e-3, schedule="cosine", warmup=9)
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
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step 2; try a lower learning rate"):
        train(running, batches(crops), lambda step, _loss: done.append(step))
    assert done == [1]


def test_a_bad_step_changes_no_weight(crops: Tensor) -> None:
    running = trainer()
    with torch.no_grad():
        running.model.unet.rgb.weight.fill_(float("nan"))
    before = weights(running.model)
    with pytest.raises(TrainingError, match="the loss is nan at step 1"):
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


@pytest.mark.parametrize("first", [0, 1])
def test_timesteps_are_drawn_evenly_from_the_first_to_t(first: Literal[0, 1]) -> None:
    recipe = Recipe(first_timestep=first, seed=3)
    drawn = draw(recipe, 5, 1000 * (29 - first), 28)
    counts = torch.bincount(drawn.t, minlength=29)
    assert counts[:first].sum() == 0
    assert counts[first:].min() > 850
    assert counts[first:].max() < 1150
    assert drawn.mirrored.float().mean() == pytest.approx(0.5, abs=0.02)
    for seed, step, same_draws in ((3, 5, True), (3, 6, False), (4, 5, False)):
        other = draw(replace(recipe, seed=seed), step, len(drawn.t), 28)
        assert torch.equal(drawn.t, other.t) == same_draws
        assert torch.equal(drawn.mirrored, other.mirrored) == same_draws


def test_of_the_sampled_inputs_half_are_at_t_and_the_others_anywhere() -> None:
    t = draw(Recipe(inputs="sampled"), 0, 28_000, 28).t
    counts = torch.bincount(t, minlength=29)
    assert counts[28] / 28_000 == pytest.approx(0.5 + 0.5 / 28, abs=0.02)
    assert counts[0] == 0
    assert counts[1:28].min() > 400
    assert counts[1:28].max() < 600
