"""`dtls train --task`: a model for every task, from scratch or from a bundled one; one line for what does not fit."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dtls.checkpoints.bundled import BUNDLED
from dtls.checkpoints.checkpoint import load_checkpoint
from dtls.degradations.registry import operator_of, spec_of_task, tasks
from dtls.errors import CheckpointError, SizeError, TrainingError
from dtls.models.dtls import DTLS
from flows.shard import ShardOptions, shard
from flows.train import train
from flows.training.options import TrainOptions
from flows.training.run import network_of

SMALL: dict[str, Any] = {"dim": 4, "dim_mults": [1], "size": 16, "batch_size": 2, "device": "cpu", "workers": 0}

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture(scope="module")
def shards(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    target = str(tmp_path_factory.mktemp("shards"))
    shard.fn(ShardOptions(source=str(photographs), target=target))
    return target


def run(shards: str, target: Path, **options: Any) -> DTLS:
    train.fn(TrainOptions(source=shards, target=str(target), steps=2, **options))
    return load_checkpoint(target, DTLS)


@pytest.mark.slow
@pytest.mark.parametrize("task", [task for task in tasks() if not task.startswith("sr")])
def test_a_model_is_trained_for_a_task(task: str, shards: str, tmp_path: Path) -> None:
    model = run(shards, tmp_path, task=task, **SMALL)
    assert model.undoes == operator_of(spec_of_task(task)).spec
    assert len((tmp_path / "loss.csv").read_text().splitlines()) == 3


@pytest.mark.slow
def test_a_bundled_model_goes_on_with_another_task_and_not_with_a_third_one(shards: str, tmp_path: Path) -> None:
    options = {"start": "faces-x8", "task": "colourise", "size": 16, "batch_size": 1, "device": "cpu", "workers": 0}
    model, started = run(shards, tmp_path, **options), load_checkpoint(BUNDLED["faces-x8"].folder, DTLS)
    assert model.undoes == "grey"
    before, after = started.state_dict(), model.state_dict()
    assert before.keys() == after.keys()
    change = max((after[name] - before[name]).abs().max() for name in before)
    assert 0 < change < 1e-3
    with pytest.raises(TrainingError, match="degradation was 'grey', not 'blur:2'"):
        run(shards, tmp_path, resume=True, **options | {"task": "deblur:2"})


@pytest.mark.parametrize("task", ["colourise", "deblur:2"])
def test_a_model_that_learns_super_resolution_alone_is_no_start_for_a_task(task: str) -> None:
    options = TrainOptions(source="shards", target="model", start="photo-x4", task=task)
    with pytest.raises(
        CheckpointError, match=rf"a model of the method edsr, .*; for --task {task}, --start .* faces-x8"
    ):
        network_of(options)
    with pytest.raises(CheckpointError, match=r"a model of the method edsr, not dtls; say --method edsr"):
        network_of(options.model_copy(update={"task": "sr:4"}))


def configuration(**options: Any) -> Any:
    return TrainOptions(source="shards", target="model", **options).model()


def test_super_resolution_is_a_task_whose_scale_says_the_size_of_lr_images() -> None:
    assert configuration(task="sr:4") == configuration(lr_size=32)
    assert configuration(task="sr:2", method="edsr") == configuration(lr_size=64, method="edsr")
    assert configuration(task="sr:8", preset="32-512", size=256) == configuration(
        lr_size=32, preset="32-512", size=256
    )


def test_a_task_of_a_model_is_kept_or_changed_by_the_next_training() -> None:
    grey = configuration(task="colourise")
    options = TrainOptions(source="shards", target="model", start="model", size=64)
    assert options.model(grey).degradation == "grey"
    reduced = TrainOptions(source="shards", target="model", start="model", lr_size=16)
    with pytest.raises(SizeError, match=r"--lr-size is for super-resolution, .* undoes grey; --task sr:4"):
        reduced.model(grey)
    back = TrainOptions(source="shards", target="model", start="model", task="sr:4").model(grey)
    assert (back.degradation, back.lr_size) == (None, 32)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"task": "colorize"}, "no task is called 'colorize'; did you mean 'colourise'?"),
        ({"task": "grey"}, "no task is called 'grey': the task of 'grey' is 'colourise'"),
        ({"task": "deblur"}, "deblur needs σ in pixels, 0.1 to 100, like deblur:2, not deblur"),
        ({"task": "colourise", "protocol": "antialias"}, "protocol does not go with the task colourise"),
        ({"task": "inpaint", "lr_size": 16}, "lr-size does not go with the task inpaint"),
        ({"task": "lowlight:0.25", "stride": 4}, "stride does not go with the task lowlight:0.25"),
        ({"task": "sr:4", "lr_size": 32}, "lr-size does not go with the task sr:4"),
        ({"task": "deblur:1+sr:4"}, "super-resolution alone, or tasks without it, not deblur:1+sr:4"),
        ({"task": "colourise+denoise:0.1"}, "grey changes the size or channels, so it has to come last"),
        ({"task": "deblur:1+inpaint"}, "inpaint stands alone, as it keeps what is known"),
        ({"task": "colourise", "method": "edsr"}, "edsr learns super-resolution; colourise goes with dtls and cold"),
        ({"task": "denoise:0.1", "inputs": "sampled"}, "not with noise:0.1; say --inputs degraded"),
    ],
)
def test_what_does_not_go_with_a_task_is_refused_in_one_line(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TrainOptions(source="shards", target="model", **options)
    assert complaint in str(refused.value)


def test_a_scale_that_leaves_a_part_of_a_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="128×128 is no multiple of the scale 3"):
        configuration(task="sr:3")
