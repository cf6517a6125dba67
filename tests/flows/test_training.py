"""Training runs: what they leave behind, that they resume exactly, and that stopping them is safe."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from dtls.checkpoint import CheckpointError, load_checkpoint
from dtls.degradation import SizeError
from dtls.training import TrainingError
from flows.shard import ShardOptions, shard
from flows.train import TrainOptions, train
from storage.locations import Location, StorageError
from tests.services import wait_until

SMALL: dict[str, Any] = {
    "dim": 8, "dim_mults": [1, 2], "size": 32, "lr_size": 8, "stride": 8, "batch_size": 2, "learning_rate": 1e-3,
    "device": "cpu", "workers": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def shards(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    target = str(tmp_path_factory.mktemp("shards"))
    shard.fn(ShardOptions(source=str(photographs), target=target, samples_per_shard=5))
    return target


def losses(folder: Path) -> list[tuple[int, float]]:
    with (folder / "loss.csv").open() as file:
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]


def test_a_run_leaves_a_checkpoint_a_loss_log_and_its_state(shards: str, tmp_path: Path) -> None:
    train.fn(TrainOptions(source=shards, target=str(tmp_path / "model"), steps=3, **SMALL))
    assert {p.name for p in (tmp_path / "model").iterdir()} == {
        "config.json", "model.safetensors", "training.safetensors", "loss.csv",
    }  # fmt: skip
    assert load_checkpoint(tmp_path / "model").config.lr_size == 8
    assert [step for step, _ in losses(tmp_path / "model")] == [1, 2, 3]


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_weights_and_losses_of_an_undisturbed_one(shards: str, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train.fn(TrainOptions(source=shards, target=str(whole), steps=5, **SMALL))
    train.fn(TrainOptions(source=shards, target=str(parts), steps=2, **SMALL))
    train.fn(TrainOptions(source=shards, target=str(parts), steps=5, resume=True, **SMALL))
    assert losses(whole) == losses(parts)
    assert (whole / "training.safetensors").read_bytes() == (parts / "training.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [False, True])
def test_sigterm_saves_and_the_run_goes_on_from_there(shards: str, tmp_path: Path, whole_group: bool) -> None:
    arguments = [
        "train",
        shards,
        str(tmp_path),
        "--steps",
        "100000",
        "--workers",
        "1",
        "--dim",
        "8",
        "--dim-mults",
        "1,2",
    ]
    sizes = [
        "--size",
        "32",
        "--lr-size",
        "8",
        "--stride",
        "8",
        "--batch-size",
        "2",
        "--save-every",
        "5",
        "--learning-rate",
        "1e-3",
    ]
    command = [sys.executable, "-m", "flows", *arguments, *sizes]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        assert wait_until((tmp_path / "training.safetensors").exists, timeout=60), run.poll()
        (os.killpg if whole_group else os.kill)(run.pid, signal.SIGTERM)
        _, said = run.communicate(timeout=30)
    assert run.returncode == 143
    done = int(load_file(tmp_path / "training.safetensors")["done"])
    assert done == len(losses(tmp_path)) > 0
    assert "Traceback" not in said
    train.fn(TrainOptions(source=shards, target=str(tmp_path), steps=done + 1, resume=True, **SMALL, save_every=1000))
    assert len(losses(tmp_path)) == done + 1


def test_a_model_in_the_target_is_never_overwritten(shards: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"precious")
    for resume in (False, True):
        with pytest.raises(CheckpointError, match="holds a model that cannot be trained on"):
            train.fn(TrainOptions(source=shards, target=str(tmp_path), steps=1, resume=resume, **SMALL))
    (tmp_path / "training.safetensors").write_bytes(b"precious, too")
    with pytest.raises(CheckpointError, match=r"holds a model already.*resume"):
        train.fn(TrainOptions(source=shards, target=str(tmp_path), steps=1, **SMALL))
    assert (tmp_path / "model.safetensors").read_bytes() == b"precious"


def test_a_run_is_not_resumed_with_other_options(shards: str, tmp_path: Path) -> None:
    train.fn(TrainOptions(source=shards, target=str(tmp_path), steps=1, **SMALL))
    with pytest.raises(TrainingError, match=r"learning_rate was 0\.001, not 0\.01"):
        train.fn(
            TrainOptions(source=shards, target=str(tmp_path), steps=2, resume=True, **SMALL | {"learning_rate": 0.01})
        )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"size": 33, "lr_size": 9, "stride": 8}, "size 33 is no multiple of 2"),
        ({"lr_size": 9}, "9→32 pixels is no whole number of strides of 8"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    shards: str, tmp_path: Path, changes: dict[str, int], complaint: str
) -> None:
    with pytest.raises(SizeError, match=complaint):
        train.fn(TrainOptions(source=shards, target=str(tmp_path), steps=1, **SMALL | changes))
    assert not list(tmp_path.iterdir())


def test_pictures_smaller_than_the_model_are_named(shards: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"shard-0.*64×64 is smaller than the model's size 128"):
        train.fn(TrainOptions(source=shards, target=str(tmp_path), steps=1, **SMALL | {"size": 128, "lr_size": 16}))


def test_a_folder_without_shards_is_refused(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no shard"):
        train.fn(TrainOptions(source=str(photographs), target=str(tmp_path), steps=1, **SMALL))


@pytest.mark.integration
def test_from_bucket_to_bucket(shards: str, s3: str, tmp_path: Path) -> None:
    bucket = Location.of(s3)
    for name in ("shard-000000.tar", "manifest.parquet"):
        bucket.upload(f"shards/{name}", Path(shards) / name)
    options = {"source": f"{s3}/shards", "target": f"{s3}/model", "cache": str(tmp_path), **SMALL}
    train.fn(TrainOptions(steps=1, **options))
    train.fn(TrainOptions(steps=2, resume=True, **options))
    assert len(bucket.read("model/loss.csv").splitlines()) == 3
    assert json.loads(bucket.read("model/config.json"))["size"] == 32
