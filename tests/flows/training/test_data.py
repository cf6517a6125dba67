"""Training data as people have it: masks, validation shards, broken and small images, and trainings that are done."""

import tarfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor

from dtls.checkpoints.checkpoint import save_checkpoint
from dtls.errors import TrainingError
from flows.interface.outcome import NothingToDo
from flows.train import train
from flows.training.batches import Batches, load_batches
from flows.training.events import Logged, event_of
from flows.training.options import TrainOptions
from flows.training.process import Run
from flows.training.settings import Settings, states_in
from storage.images import decode
from storage.shards.read import LocalShard, ShardReader
from storage.stores.location import StorageError

SMALL: dict[str, Any] = {
    "dim": 8, "dim_mults": [1, 2], "size": 32, "lr_size": 8, "stride": 8, "batch_size": 1, "device": "cpu",
    "workers": 0,
}  # fmt: skip


def png(number: int, side: int = 40) -> bytes:
    """An image like no other."""
    return decode.encode_png(np.random.default_rng(number).integers(0, 255, (side, side, 3), dtype=np.uint8))


def broken(number: int) -> bytes:
    """A PNG with a sound header and a sound end, which does not decode."""
    data = png(number)
    return data[:1000] + bytes(1000) + data[2000:]


def write(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, BytesIO(data))


def tar(folder: Path, count: int, bad: Sequence[int] = (), make: Callable[[int], bytes] = broken) -> Path:
    """A shard of `count` images in a folder, of which the `bad` ones are made by `make`."""
    members = {f"{number:04}.png": (make if number in bad else png)(number) for number in range(count)}
    write(folder / "a.tar", members)
    return folder


def run(source: Path, target: Path, steps: int, **changes: Any) -> str:
    return train.fn(TrainOptions(source=str(source), target=str(target), steps=steps, **SMALL | changes))


def batches(folder: Path, **changes: Any) -> Batches:
    reader = ShardReader([LocalShard(folder / "a.tar", None)])
    return Batches(reader, **{"size": 32, "batch_size": 4, "seed": 0, **changes})


def images(batch: Tensor) -> list[bytes]:
    return [image.contiguous().numpy().tobytes() for image in batch]


@pytest.mark.slow
def test_the_next_readable_image_stands_in_the_place_of_a_broken_one_wherever_a_loader_starts(tmp_path: Path) -> None:
    folder = tar(tmp_path / "bad", 12, bad=(3, 4, 7))
    whole = list(load_batches(batches(folder), 0, 9, 0, pinned=False))
    for start, workers in ((0, 2), (4, 0), (7, 1)):
        made = batches(folder)
        again = list(load_batches(made, start, 9, workers, pinned=False))
        assert all(map(torch.equal, again, whole[start:]))
        assert set(made.failed) <= {3, 4, 7}
        assert all("broken image" in reason for reason in made.failed.values())
    shares = [batches(folder, rank=rank, processes=2) for rank in (0, 1)]
    for step in range(9):
        assert torch.equal(torch.cat([share[step] for share in shares]), whole[step])


def test_a_broken_image_changes_nothing_of_the_others(tmp_path: Path) -> None:
    sound = batches(tar(tmp_path / "sound", 12))
    damaged = batches(tar(tmp_path / "bad", 12, bad=(5,)))
    same = [
        one == other
        for step in range(3)
        for one, other in zip(images(sound[step]), images(damaged[step]), strict=True)
    ]
    assert same.count(False) == 1


def test_headers_tell_before_the_first_step_what_is_too_small_or_cut_off(tmp_path: Path) -> None:
    folder = tar(tmp_path, 6, bad=(1,), make=lambda number: png(number, side=24))
    made = batches(folder)
    made.look(60)
    assert list(made.failed) == [1]
    assert made.failed[1].endswith(
        "24×24 is smaller than the model's size 32; make shards with `dtls shard --size 32`"
    )
    made = batches(tar(tmp_path, 6, bad=(2, 3), make=lambda number: png(number)[:-200]))
    made.look(60)
    assert list(made.failed) == [2, 3]
    made = batches(folder)
    made.look(0)
    assert not made.failed


def test_none_that_can_be_used_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        StorageError, match=r"none of the 3 images can be used, such as \S+a\.tar, 000\d\.png: broken"
    ):
        batches(tar(tmp_path, 3, bad=range(3)))[0]


def settings(folder: Path, steps: int = 6, **changes: Any) -> Settings:
    """Those of a small training on a folder's shard, into the folder."""
    options = TrainOptions(source=str(folder), target=str(folder / "model"), steps=steps, **SMALL)
    settings = Settings(
        shards=[(str(folder / "a.tar"), None)],
        folder=str(folder / "model"),
        model={"method": "dtls", **asdict(options.model())},
        recipe=asdict(options.recipe()),
        batch_size=1,
        workers=0,
        save_every=5,
        keep=2,
        device="cpu",
        precision="fp32",
        compile=False,
        resume=False,
    )
    return replace(settings, **changes)


def go(settings: Settings, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is told by a training in this process."""
    Path(settings.folder).mkdir(exist_ok=True)
    capsys.readouterr()
    Run(settings).go()
    events = map(event_of, capsys.readouterr().out.splitlines())
    return [event.message for event in events if isinstance(event, Logged)]


def end(folder: Path) -> dict[str, bytes]:
    model = folder / "model"
    names = ("loss.csv", "model.safetensors", states_in(model)[0])
    return {name: (model / name).read_bytes() for name in names}


@pytest.mark.slow
def test_up_to_a_limit_what_cannot_be_used_is_skipped_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tar(tmp_path, 5, bad=(3, 4))
    told = go(settings(folder, max_failed=0.4), capsys)
    assert told[0] == "5 images in 1 shard"
    assert sorted(line[: line.index("broken image")] for line in told[1:3]) == [
        f"skipped: {folder}/a.tar, 000{number}.png: " for number in (3, 4)
    ]
    assert told[3:] == ["skipped 2 of 5 images, which cannot be used"]


@pytest.mark.slow
def test_over_the_limit_what_was_learned_is_saved_first_and_a_resumed_run_ends_as_an_undisturbed_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, stopped = (tar(tmp_path / name, 6, bad=(3,)) for name in ("whole", "stopped"))
    go(settings(whole, max_failed=1), capsys)
    with pytest.raises(TrainingError) as refused:
        go(settings(stopped, max_failed=0), capsys)
    assert str(refused.value).startswith(
        f"1 of 6 images cannot be used, more than --max-failed 0 allows; such as {stopped}/a.tar, 000"
    )
    assert 0 < int(load_file(states_in_folder(stopped))["done"]) < 6
    go(settings(stopped, max_failed=1, resume=True), capsys)
    assert end(stopped) == end(whole)


def states_in_folder(folder: Path) -> Path:
    """The newest state of a training."""
    return folder / "model" / states_in(folder / "model")[0]


@pytest.mark.slow
def test_a_shard_that_vanishes_costs_no_step_that_was_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tar(tmp_path, 4)
    read, left = ShardReader.read, iter(range(4 + 2))  # all are looked at, two are read

    def vanishing(reader: ShardReader, index: int) -> bytes:
        if next(left, None) is None:
            (folder / "a.tar").unlink(missing_ok=True)
        return read(reader, index)

    monkeypatch.setattr(ShardReader, "read", vanishing)
    with pytest.raises(StorageError, match=r"a\.tar, 000\d\.png: No such file"):
        go(settings(folder), capsys)
    assert int(load_file(states_in_folder(folder))["done"]) == 2


def test_too_many_that_their_headers_tell_of_end_it_before_the_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tar(tmp_path, 6, bad=(2, 5), make=lambda number: png(number, side=24))
    with pytest.raises(TrainingError, match=r"2 of 6 images cannot be used, .* 0002\.png: 24×24 is smaller than the"):
        go(settings(folder), capsys)
    assert not list((folder / "model").iterdir())


@pytest.mark.slow
def test_the_saved_model_has_the_last_step_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = []
    for steps in (1, 2):
        folder = tar(tmp_path / str(steps), 4)
        go(settings(folder, steps=steps), capsys)
        models.append(load_file(folder / "model" / "model.safetensors"))
        learned = load_file(states_in_folder(folder))
        assert all(torch.equal(tensor, learned[f"model.{name}"]) for name, tensor in models[-1].items())
    assert any(not torch.equal(tensor, models[1][name]) for name, tensor in models[0].items())


@pytest.mark.slow
def test_a_model_that_an_earlier_version_has_saved_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It saved the average as it stood after the last step that was averaged."""
    folder = tar(tmp_path, 4)
    go(settings(folder, steps=3), capsys)
    run = Run(settings(folder, steps=3, resume=True))
    run.resume()
    save_checkpoint(run.trainer.ema, folder / "model")
    before = end(folder)
    go(settings(folder, steps=3, resume=True), capsys)
    assert end(folder) == before


@pytest.mark.slow
def test_a_run_that_is_tried_again_goes_on_with_its_own_states_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tar(tmp_path, 4)
    go(settings(folder, steps=2, run="a"), capsys)
    before = end(folder)
    again = settings(folder, steps=4, resume=True, only_own=True)
    for run in ("b", None):
        with pytest.raises(StorageError, match="already contains a model; resume it with --resume"):
            go(replace(again, run=run), capsys)
        assert end(folder) == before
    go(replace(again, run="a"), capsys)
    assert int(load_file(states_in_folder(folder))["done"]) == 4


def test_a_flow_run_is_a_retry_from_its_second_time_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is handed over to the training process."""
    handed: list[Settings] = []

    def keep(settings: Settings, *_: object) -> str:
        handed.append(settings)
        return "done"

    monkeypatch.setattr("flows.training.run.training", keep)
    folder = tar(tmp_path, 4)
    (folder / "model").mkdir()
    (folder / "model" / "training-000000001.safetensors").touch()
    for retried, resume in ((True, False), (True, True), (False, True)):
        monkeypatch.setattr("flows.training.run.flow_run", lambda retried=retried: ("a", retried))
        run(folder, folder / "model", 1, resume=resume)
    assert [(s.run, s.resume, s.only_own) for s in handed] == [
        ("a", True, True),
        ("a", True, False),
        ("a", True, False),
    ]
    monkeypatch.setattr("flows.training.run.flow_run", lambda: ("a", False))
    with pytest.raises(StorageError, match="already contains a model"):
        run(folder, folder / "model", 1)


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_masks_and_validation_shards_are_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "shards"
    for name in ("train-0.tar", "val-0.tar"):
        members = {f"{n:04}.{ending}": png(n) for n in range(4) for ending in ("jpg", "mask.png")}
        write(source / name, members)
    assert run(source, tmp_path / "model", 1).startswith("1 steps, loss ")
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"{source}: left out: val-0.tar: of validation or test, by their names")
    assert "4 images in 1 shard" in said
    assert any(line.startswith("left out: other images of their samples: 4 .mask.png, such as ") for line in said)
    done = run(source, tmp_path / "model", 1, resume=True)
    assert isinstance(done, NothingToDo)
    assert done == "nothing left to do: 1 of 1 steps are done; a larger --steps trains on"


def test_extensions_are_named_as_webdataset_does(tmp_path: Path) -> None:
    def named(given: object) -> tuple[str, ...]:
        return TrainOptions(source="a", target="b", image_ext=given).image_ext

    assert named("jpg;JPEG;png") == named(".jpg, jpeg,png") == named(["jpg", "jpeg", "png"]) == ("jpg", "jpeg", "png")
    for nothing in ("", ["jpg", ""]):
        with pytest.raises(ValidationError):
            named(nothing)
