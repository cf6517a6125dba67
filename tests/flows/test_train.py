"""Training runs: what they leave behind, that they resume exactly, and that stopping or killing them is safe."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dtls.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from dtls.errors import CheckpointError, SizeError, TrainingError
from dtls.models.dtls import DTLS
from flows.shard import ShardOptions, shard
from flows.train import train
from flows.training.options import TrainOptions
from flows.training.settings import states
from flows.training.supervisor import states_to_resume
from storage.receipts.owners import LEASE
from storage.stores.location import Location, StorageError
from tests.services import descendants, free_ports, is_running, wait_until
from tests.warm import Starter
from tests.workers import ONE_THREAD

SMALL: dict[str, Any] = {
    "dim": 8, "dim_mults": [1, 2], "size": 32, "lr_size": 8, "stride": 8, "batch_size": 2, "learning_rate": 1e-3,
    "device": "cpu", "workers": 0,
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture(scope="module")
def shards(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    target = str(tmp_path_factory.mktemp("shards"))
    shard.fn(ShardOptions(source=str(photographs), target=target, samples_per_shard=5))
    return target


def run(shards: str, target: Path, steps: int, **changes: Any) -> str:
    return train.fn(TrainOptions(source=shards, target=str(target), steps=steps, **SMALL | changes))


def command(shards: str, target: Path, *more: str) -> list[str]:
    """The command line of a run as `SMALL` as the others, which would go on for hours."""
    options = {**SMALL, "dim_mults": "1,2", "steps": 1_000_000}
    named = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    return [sys.executable, "-m", "flows", "train", shards, str(target), *named, *more]


def losses(folder: Path) -> list[tuple[int, float]]:
    with (folder / "loss.csv").open() as file:
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]


def kept(folder: Path) -> list[int]:
    """The steps after which there is a state, the newest first."""
    return [int(name.split("-")[1].split(".")[0]) for name in states(path.name for path in folder.iterdir())]


def has_saved_after(folder: Path, step: int) -> bool:
    return folder.exists() and any(saved > step for saved in kept(folder))


def newest(folder: Path) -> Path:
    return folder / states(path.name for path in folder.iterdir())[0]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def end(folder: Path) -> dict[str, bytes]:
    """What a run ends with: its log, its model, and its last state."""
    return {name: (folder / name).read_bytes() for name in ("loss.csv", "model.safetensors", newest(folder).name)}


@pytest.mark.slow
def test_a_run_leaves_a_checkpoint_a_loss_log_and_its_last_state(shards: str, tmp_path: Path) -> None:
    run(shards, tmp_path / "model", 3)
    names = ("loss.csv", "training-000000003.safetensors", "model.safetensors")  # in the order of their saving
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"config.json", *names}
    times = [(tmp_path / "model" / name).stat().st_mtime_ns for name in names]
    assert times == sorted(times)
    assert load_checkpoint(tmp_path / "model").config.lr_size == 8
    assert [step for step, _ in losses(tmp_path / "model")] == [1, 2, 3]


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_weights_and_losses_of_an_undisturbed_one(
    shards: str, tmp_path: Path, warm: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It resumes in an interpreter of its own, as forks of one process also have its order of sets in common."""
    for name, value in ONE_THREAD.items():  # as forks have; sums of several threads are others
        monkeypatch.setenv(name, value)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(shards, whole, 5)
    run(shards, parts, 2)
    with warm.paused():
        run(shards, parts, 5, resume=True)
    assert losses(whole) == losses(parts)
    assert end(whole) == end(parts)


@pytest.mark.slow
def test_the_newest_states_are_kept_and_no_others(shards: str, tmp_path: Path) -> None:
    run(shards, tmp_path, 7, save_every=2, keep=3)
    assert kept(tmp_path) == [7, 6, 4]
    run(shards, tmp_path, 9, save_every=2, keep=1, resume=True)
    assert kept(tmp_path) == [9]


@pytest.mark.slow
def test_a_state_that_is_cut_short_is_skipped_and_the_run_ends_the_same(shards: str, tmp_path: Path) -> None:
    whole, mended = tmp_path / "whole", tmp_path / "mended"
    run(shards, whole, 7)
    run(shards, mended, 6, save_every=2)
    assert kept(mended) == [6, 4]
    cut(newest(mended))
    run(shards, mended, 5, keep=1, resume=True)
    assert kept(mended) == [5]  # what is cut does not count, however new
    run(shards, mended, 7, resume=True)
    assert end(mended) == end(whole)


@pytest.mark.slow
def test_where_every_state_is_cut_short_the_run_says_so_and_changes_nothing(shards: str, tmp_path: Path) -> None:
    run(shards, tmp_path, 2, save_every=1)
    for step in kept(tmp_path):
        cut(tmp_path / f"training-{step:09d}.safetensors")
    before = content(tmp_path)
    with pytest.raises(TrainingError, match="none of its 2 training states can be read"):
        run(shards, tmp_path, 4, resume=True)
    assert content(tmp_path) == before


@pytest.mark.slow
def test_a_model_that_is_not_that_of_the_last_state_is_replaced(shards: str, tmp_path: Path) -> None:
    run(shards, tmp_path, 2)
    before, model = content(tmp_path), tmp_path / "model.safetensors"
    torch.manual_seed(7)
    save_checkpoint(DTLS(**asdict(load_checkpoint(tmp_path).config)), tmp_path)
    assert content(tmp_path) != before
    assert run(shards, tmp_path, 2, resume=True).startswith("nothing left to do: 2 of 2 steps are done; ")
    assert content(tmp_path) == before
    cut(model)
    run(shards, tmp_path, 2, resume=True)
    assert content(tmp_path) == before


@pytest.mark.slow
@pytest.mark.parametrize("inputs", ["degraded", "sampled"])
def test_two_processes_train_as_one_does(inputs: Literal["degraded", "sampled"], shards: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, processes in ((one, 1), (two, 2)):
        run(shards, folder, 4, processes=processes, batch_size=4, clip=1.0, inputs=inputs, accumulate=2)
    assert [step for step, _ in losses(two)] == [1, 2, 3, 4]
    assert [loss for _, loss in losses(two)] == pytest.approx([loss for _, loss in losses(one)], abs=1e-5)
    tensors = load_file(newest(one))
    for name, tensor in load_file(newest(two)).items():
        torch.testing.assert_close(tensor, tensors[name], rtol=1e-3, atol=1e-5)


def two_machines(
    shards: str, target: Path, *more: str, seeds: tuple[str, str] = ("0", "0")
) -> list[subprocess.Popen[str]]:
    """Two runs of the command, which find each other as they would from machine to machine."""
    there = ("--batch-size", "4", "--machines", "2", "--rendezvous", f"127.0.0.1:{free_ports()}", *more)
    arguments = [
        [*command(shards, target, *there), "--machine", str(machine), "--seed", seed]
        for machine, seed in enumerate(seeds)
    ]
    return [subprocess.Popen(each, stderr=subprocess.PIPE, text=True) for each in arguments]


@pytest.mark.slow
def test_two_machines_train_as_one_does(shards: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    run(shards, one, 4, batch_size=4)
    machines = two_machines(shards, two, "--steps", "4")
    said = [machine.communicate(timeout=120)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    assert "done, as machine 1 of 2" in said[1]
    assert [loss for _, loss in losses(two)] == pytest.approx([loss for _, loss in losses(one)], abs=1e-5)
    assert end(two).keys() == end(one).keys()
    assert not (two / ".dtls").exists()


@pytest.mark.slow
def test_machines_with_different_options_do_not_train(shards: str, tmp_path: Path) -> None:
    machines = two_machines(shards, tmp_path, seeds=("0", "7"))
    said = [machine.communicate(timeout=120)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [1, 1]
    assert "the machines were started with different options; give all of them the same" in said[0]


@pytest.mark.slow
def test_machines_that_are_stopped_save_together_and_go_on_together(shards: str, tmp_path: Path) -> None:
    machines = two_machines(shards, tmp_path, "--save-every", "5")
    assert wait_until(lambda: has_saved_after(tmp_path, 0), timeout=120)
    machines[1].send_signal(signal.SIGTERM)  # any of them
    said = [machine.communicate(timeout=60)[1] for machine in machines]
    assert 0 not in [machine.returncode for machine in machines], said
    done = kept(tmp_path)[0]
    assert done == len(losses(tmp_path)) > 0
    machines = two_machines(shards, tmp_path, "--resume", "--steps", str(done + 2))
    said = [machine.communicate(timeout=120)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    assert len(losses(tmp_path)) == done + 2


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"batch_size": 6, "processes": 2, "machines": 2, "rendezvous": "a:1"}, "6 cannot be shared by 4 processes"),
        ({"machines": 2}, "--machines and --rendezvous HOST:PORT go together"),
        ({"machines": 2, "machine": 2, "rendezvous": "a:1"}, "of 2 machines the last is --machine 1"),
        ({"machines": 2, "rendezvous": "nowhere"}, "rendezvous"),
        ({"batch_size": 3, "processes": 2}, "a batch of 3 cannot be shared by 2 processes"),
        ({"device": "cuda:1", "processes": 2}, "2 processes take the first devices of their kind, not cuda:1"),
        ({"inputs": "sampled", "predicts": "previous"}, "--inputs sampled goes with --predicts x0"),
        ({"inputs": "sampled", "batch_size": 1}, "inputs sampled needs a batch of at least 2"),
        ({"perceptual": 0.1, "size": 16, "lr_size": 8}, "perceptual needs a size of at least 32"),
    ],
)
def test_options_that_do_not_fit_each_other_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        TrainOptions(source="shards", target="model", **SMALL | changes)


def test_a_short_run_has_a_short_warm_up_unless_it_is_said() -> None:
    def warmup(**chosen: Any) -> int:
        return TrainOptions(source="shards", target="model", **chosen).recipe().warmup

    assert warmup(preset="16-128-plus") == 500
    assert warmup(preset="16-128-plus", steps=100) == 5
    assert warmup(preset="16-128-plus", steps=100, warmup=50) == 50
    assert warmup(preset="16-128-plus", steps=100, schedule="constant") == 500  # its steps may grow


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_used_is_one_line_whoever_decodes_it(
    shards: str, tmp_path: Path, workers: int
) -> None:
    with pytest.raises(
        TrainingError,
        match=r"12 of 12 .*such as \S+/shard-\d+\.tar, \S+: 64×64 is smaller than the model's size 96; ",
    ):
        run(shards, tmp_path, 1, size=96, lr_size=24, workers=workers)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("whole_group", "processes", "started"), [(False, 1, False), (True, 1, False), (False, 2, True)]
)
def test_sigterm_saves_and_the_run_goes_on_from_there(
    shards: str, tmp_path: Path, whole_group: bool, processes: int, started: bool, warm: Starter
) -> None:
    """started: by an interpreter of its own, as are torchrun and the training processes."""
    arguments = command(shards, tmp_path, "--save-every", "5", "--workers", "1", "--processes", str(processes))
    with (
        warm.paused() if started else nullcontext(),
        subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True) as process,
    ):
        assert wait_until(lambda: bool(kept(tmp_path)), timeout=60), process.poll()
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 143
    done = int(load_file(newest(tmp_path))["done"])
    assert done == len(losses(tmp_path)) == kept(tmp_path)[0] > 0
    assert "Traceback" not in said
    run(shards, tmp_path, done + 1, resume=True)
    assert len(losses(tmp_path)) == done + 1


@pytest.mark.slow
def test_a_second_signal_ends_a_training_that_does_not_stop_with_its_workers_and_the_next_goes_on(
    shards: str, tmp_path: Path
) -> None:
    arguments = command(shards, tmp_path, "--save-every", "5", "--workers", "1")
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert wait_until(lambda: bool(kept(tmp_path)), timeout=60), process.poll()
        started = descendants(process.pid)
        assert len(started) > 1
        for pid in started:
            os.kill(pid, signal.SIGSTOP)  # as within a library's call, they do not hear of the first
        process.send_signal(signal.SIGTERM)
        assert any("what is in hand is waited for" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert said == "dtls: ended at once; run it again to resume\n"
    assert wait_until(lambda: not any(map(is_running, started)), timeout=60)
    assert (tmp_path / LEASE).exists()
    done = kept(tmp_path)[0]
    run(shards, tmp_path, done + 1, resume=True)
    assert len(losses(tmp_path)) == done + 1
    assert not (tmp_path / LEASE).exists()


@pytest.mark.slow
def test_a_run_killed_three_times_at_random_moments_ends_with_the_bytes_of_an_undisturbed_one(
    shards: str, tmp_path: Path
) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201, pytest shows it where the test fails
    moments = random.Random(seed)
    done = 0
    for kill in range(3):
        more = ["--resume"] if kill else []
        with subprocess.Popen(command(shards, killed, "--save-every", "3", *more), start_new_session=True) as process:
            try:
                assert wait_until(partial(has_saved_after, killed, done), timeout=60)
                time.sleep(moments.uniform(0, 0.5))  # anywhere between two saves, or in one
                assert process.poll() is None
            finally:
                os.killpg(process.pid, signal.SIGKILL)
        done = kept(killed)[0]
    run(shards, killed, done + 4, save_every=3, resume=True)
    run(shards, whole, done + 4)
    assert end(killed) == end(whole)


def test_a_model_in_the_target_is_never_overwritten(shards: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"precious")
    for resume in (False, True):
        with pytest.raises(StorageError, match="holds a model that cannot be trained on"):
            run(shards, tmp_path, 1, resume=resume)
    (tmp_path / "training-000000001.safetensors").write_bytes(b"precious, too")
    with pytest.raises(StorageError, match=r"already contains a model.*resume"):
        run(shards, tmp_path, 1)
    assert (tmp_path / "model.safetensors").read_bytes() == b"precious"


@pytest.mark.slow
def test_a_run_of_an_earlier_version_goes_on(shards: str, tmp_path: Path) -> None:
    """Its state does not say what it did not know yet: other methods, patches, a GAN stage."""
    run(shards, tmp_path / "whole", 4)
    run(shards, tmp_path / "old", 2)
    state = newest(tmp_path / "old")
    with safe_open(state, "pt") as file:
        options = json.loads(file.metadata()["options"])
    del options["model"]["method"], options["model"]["patch"], options["recipe"]["adversarial"]
    save_file(load_file(state), state, metadata={"options": json.dumps(options)})
    run(shards, tmp_path / "old", 4, resume=True)
    assert end(tmp_path / "old")["loss.csv"] == end(tmp_path / "whole")["loss.csv"]


@pytest.mark.slow
def test_a_run_is_not_resumed_with_other_options(shards: str, tmp_path: Path) -> None:
    run(shards, tmp_path, 2, schedule="cosine")
    before = content(tmp_path)
    refused: list[tuple[dict[str, Any], str]] = [
        (
            {"dim": 16, "learning_rate": 0.01, "batch_size": 4},
            r"dim was 8, not 16, learning-rate was 0\.001, not 0\.01, batch-size was 2, not 4; use the same options",
        ),
        ({"lr_size": 16}, "timesteps was 3, not 2; use the same options"),
        ({"preset": "16-128-plus"}, "residual was False, not True, .*inputs was 'degraded', not 'sampled'"),
        (
            {"steps": 3},
            r"options: steps was 2, not 3 \(the learning rate's cosine ends with the last step\); use the",
        ),
    ]
    for changes, complaint in refused:
        with pytest.raises(TrainingError, match=f"{tmp_path}: trained with other .*{complaint}"):
            run(shards, tmp_path, **{"steps": 2, "schedule": "cosine", "resume": True, **changes})
        assert content(tmp_path) == before


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
        run(shards, tmp_path, 1, **changes)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_images_smaller_than_the_model_are_named(shards: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"shard-0.*64×64 is smaller than the model's size 128"):
        run(shards, tmp_path, 1, size=128, lr_size=16)


def test_a_folder_without_shards_is_refused(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no shard"):
        run(str(photographs), tmp_path, 1)


@pytest.mark.integration
def test_from_bucket_to_bucket(shards: str, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Location.of(s3)
    for name in ("shard-000000.tar", "manifest.parquet"):
        bucket.upload(f"shards/{name}", Path(shards) / name)
    uploaded: list[str] = []
    upload = Location.upload

    def noted(location: Location, key: str, file: Path) -> None:
        uploaded.append(key)
        upload(location, key, file)

    monkeypatch.setattr(Location, "upload", noted)
    options = {"source": f"{s3}/shards", "target": f"{s3}/model", "cache": str(tmp_path), "keep": 1, **SMALL}
    train.fn(TrainOptions(steps=1, **options))
    assert uploaded == ["loss.csv", "training-000000001.safetensors", "config.json", "model.safetensors"]
    train.fn(TrainOptions(steps=2, resume=True, **options))
    assert len(bucket.read("model/loss.csv").splitlines()) == 3
    assert json.loads(bucket.read("model/config.json"))["size"] == 32
    assert states(entry.key for entry in (bucket / "model").list()) == ["training-000000002.safetensors"]


@pytest.mark.parametrize("left", ["", '{"method": "dtls", '], ids=["empty", "cut"])
def test_what_a_power_cut_leaves_of_a_training_is_never_begun_anew_without_a_word(
    left: str, shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(left)
    with pytest.raises(
        CheckpointError, match=r"config\.json: empty or damaged, and there is no training state .*remove it"
    ):
        run(shards, tmp_path, 1, resume=True)
    assert (tmp_path / "config.json").read_text() == left
    target, state = Location.of(tmp_path), "training-000000001.safetensors"
    assert states_to_resume(target, {"config.json", state}, resume=True) == [state]
    assert "config.json: empty or damaged; it is made again" in capsys.readouterr().err
    (tmp_path / "config.json").unlink()
    assert states_to_resume(target, set(), resume=True) == []
    assert "there is no training state to resume from; training starts from the beginning" in capsys.readouterr().err
