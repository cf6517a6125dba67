"""`dtls status` tells how far a run is by what lies at its target: before, during and after it, without Prefect."""

import json
import shutil
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from flows.report import ReportOptions, report
from flows.shard import ShardOptions, shard
from flows.status import StatusOptions, status
from flows.train import train
from flows.training.options import TrainOptions
from flows.transform import pipeline
from flows.upscale import UpscaleOptions, upscale
from storage.archives.writer import Packing
from storage.receipts.owners import LEASE, Owner
from storage.receipts.receipts import PLANNED
from storage.stores.location import Location, StorageError, UnavailableError


@pytest.fixture
def source(photographs: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(photographs, tmp_path / "source"))
    (folder / "broken.png").write_bytes(b"none")
    return folder


def told(target: Path | str) -> str:
    return status(StatusOptions(target=str(target)))


def enlarge(source: Path, target: Path | str, **options: Any) -> None:
    settings = {"source": str(source), "target": str(target), "method": "nearest", "scale": 2, "unit_size": 4}
    upscale.fn(UpscaleOptions.model_validate({**settings, **options}))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["large", "large.zip"])
def test_a_finished_run_is_told_with_its_failures(
    name: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enlarge(source, tmp_path / name)
    capsys.readouterr()
    assert "100% of 13 images: 12 done, 1 failed, in " in told(tmp_path / name)
    assert told(tmp_path / name).endswith("; finished")
    assert "failed: broken.png: not an image (4 bytes)" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_failures_of_one_reason_are_counted_with_one_of_their_names(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(7):
        (source / f"b{number}.png").write_bytes(b"none" * (1 + number // 2))
    enlarge(source, tmp_path / "large", max_failed=1)
    capsys.readouterr()
    assert told(tmp_path / "large").endswith("; finished")
    said = " ".join(capsys.readouterr().err.split())
    assert "failed: b0.png and 2 more: not an image (4 bytes)" in said
    assert "failed: b2.png and 1 more: not an image (8 bytes)" in said


def test_a_run_that_works_is_told_by_what_is_done_so_far_and_who_does_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, going_on = Event(), Event()
    fetch = pipeline.Transform._fetch

    def waits(self: pipeline.Transform, entry: Any) -> Any:
        if entry.key.endswith("00011.png"):
            reached.set()
            going_on.wait(60)
        return fetch(self, entry)

    monkeypatch.setattr(pipeline.Transform, "_fetch", waits)
    run = Thread(target=enlarge, args=(source, tmp_path / "large"), kwargs={"in_flight": 1, "workers": 1})
    run.start()
    try:
        assert reached.wait(60)
        said = told(tmp_path / "large")
    finally:
        going_on.set()
        run.join()
    assert said.partition(": ")[2].startswith("85% of 13 images: 11 done, 2 left, in ")
    assert "; active run: upscale on " in said


def test_what_a_run_replaces_does_not_count_before_it_is_replaced(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "large"
    enlarge(source, target, unit_size=1000)
    fetch = pipeline.Transform._fetch

    def fails(self: pipeline.Transform, entry: Any) -> Any:
        if entry.key.endswith("00003.png"):
            raise UnavailableError("the network is gone")
        return fetch(self, entry)

    with monkeypatch.context() as patched:
        patched.setattr(pipeline.Transform, "_fetch", fails)
        with pytest.raises(StorageError, match="stopped"):
            enlarge(source, target, unit_size=1000, scale=3, overwrite=True, workers=1)
    assert ": 0% of 13 images: 13 left, in 0 of 1 unit; no active run" in told(target)


def test_an_archive_is_told_of_until_it_is_packed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "broken.png").unlink()

    def fails(*_: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Packing, "pack", fails)
        with pytest.raises(StorageError, match="the disk is full"):
            enlarge(source, tmp_path / "large.zip")
    said = told(tmp_path / "large.zip")
    assert "100% of 12 images: 12 done, in " in said
    assert said.endswith("; to be packed; no active run; run it again to resume")


@pytest.mark.parametrize("record", [b"", b"[1]", b'{"made_with": {"format": ["png"], "suffix": 1}}', b"[" * 100_000])
def test_a_strange_record_costs_no_more_than_what_it_would_have_told(
    record: bytes, source: Path, tmp_path: Path
) -> None:
    target = Location.of(str(tmp_path / "large"))
    enlarge(source, tmp_path / "large")
    next((tmp_path / "large/.dtls/receipts/upscale").iterdir()).unlink()
    target.write(".dtls/source.json", record)
    target.write(".dtls/unfinished", record)
    assert "left, in " in told(tmp_path / "large")


@pytest.mark.slow
def test_a_run_that_was_killed_is_gone_and_can_go_on(source: Path, tmp_path: Path) -> None:
    target = Location.of(str(tmp_path / "large"))
    enlarge(source, tmp_path / "large")
    next((tmp_path / "large/.dtls/receipts/upscale").iterdir()).unlink()
    target.write(".dtls/unfinished", b"[]")
    assert told(tmp_path / "large").endswith("; no active run; run it again to resume")
    assert " left, in " in told(tmp_path / "large")  # the next run makes the whole unit again
    target.write(LEASE, Owner.here("upscale").until(0.0))
    assert told(tmp_path / "large").endswith(") has ended early; run it again to resume")


@pytest.mark.slow
def test_only_receipts_of_the_plan_count(source: Path, tmp_path: Path) -> None:
    enlarge(source, tmp_path / "large")
    old = next((tmp_path / "large/.dtls/receipts/upscale").iterdir())
    shutil.copy(old, old.with_name(f"{old.stem.rpartition('-')[0]}-0123456789abcdef.parquet"))
    old.with_name("unit-fedcba9876543210-0123456789abcdef.parquet").write_bytes(old.read_bytes())
    assert "100% of 13 images: 12 done, 1 failed" in told(tmp_path / "large")
    old.write_bytes(old.read_bytes()[:-20])
    assert "left, in " in told(tmp_path / "large")


@pytest.mark.slow
def test_shards_reports_and_trainings_are_told_too(source: Path, tmp_path: Path) -> None:
    (source / "broken.png").unlink()
    shards, lr = tmp_path / "shards", tmp_path / "lr"
    shard.fn(ShardOptions(source=str(source), target=str(shards), samples_per_shard=5))
    assert "100% of 12 images: 12 done, in 3 of 3 units; finished" in told(shards)
    enlarge(source, lr)
    options = {"hr": str(lr), "sr": {"a": str(lr)}, "out": str(tmp_path / "report"), "lpips": "none", "gallery": 0}
    report.fn(ReportOptions.model_validate(options))
    assert "100% of 12 images: 12 done" in told(tmp_path / "report")
    small: dict[str, Any] = {"dim": 8, "dim_mults": (1, 2), "size": 32, "lr_size": 8, "stride": 8, "batch_size": 2}
    train.fn(TrainOptions(source=str(shards), target=str(tmp_path / "model"), steps=2, device="cpu", **small))
    assert ": 2 steps saved, loss 0." in told(tmp_path / "model")


def test_units_in_folders_and_strange_files_among_the_receipts_are_told_apart(source: Path, tmp_path: Path) -> None:
    (source / "broken.png").unlink()
    shard.fn(ShardOptions(source=str(source), target=str(tmp_path / "in/some"), samples_per_shard=5))
    shutil.rmtree(tmp_path / "in/some/.dtls")
    (tmp_path / "in/some/manifest.parquet").unlink()
    enlarge(tmp_path / "in", tmp_path / "large", samples_per_shard=5)
    (tmp_path / "large/.dtls/receipts/.DS_Store").write_bytes(b"")
    assert "100% of 12 images: 12 done, in 3 of 3 units; finished" in told(tmp_path / "large")


def test_where_no_run_was_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in ("empty", "nowhere", "none.zip"):
        with pytest.raises(StorageError, match="no run has planned anything there"):
            told(tmp_path / place)
    target = Location.of(str(tmp_path / "new"))
    target.write(LEASE, Owner.here("train").until(2e9))
    assert ": nothing is done yet; active run: train on " in told(tmp_path / "new")
    target.delete(LEASE)
    target.write(PLANNED, json.dumps("no table").encode())
    with pytest.raises(StorageError, match="not a readable plan"):
        told(tmp_path / "new")
