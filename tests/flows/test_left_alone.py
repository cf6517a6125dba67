"""Links that lead out, and folders that cannot be listed: named, counted, and nothing is lost by them."""

import os
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flows.shard import ShardOptions, shard
from flows.train import train
from flows.training.options import TrainOptions
from flows.upscale import UpscaleOptions, upscale
from flows.verify import VerifyOptions, verify
from storage.receipts.receipts import MANIFEST, SKIPPED
from storage.stores.location import StorageError


@pytest.fixture
def source(photographs: Path, tmp_path: Path) -> Path:
    """Two folders of two images each."""
    folder = tmp_path / "source"
    for number, path in enumerate(sorted(photographs.rglob("*.png"))[:4]):
        (folder / "ab"[number // 2]).mkdir(parents=True, exist_ok=True)
        (folder / "ab"[number // 2] / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def outside(photographs: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "x.png").write_bytes(next(photographs.rglob("*.png")).read_bytes())
    return folder


def upscaled(source: Path, target: Path, **options: Any) -> str:
    given = {"source": str(source), "target": str(target), "method": "nearest", "scale": 2}
    return upscale.fn(UpscaleOptions.model_validate({**given, **options}))


def sharded(source: Path, target: Path, **options: Any) -> str:
    given = {"source": str(source), "target": str(target), "samples_per_shard": 2}
    return shard.fn(ShardOptions.model_validate({**given, **options}))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".dtls" not in path.parts and path.name != MANIFEST
    }


def close(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a folder be one that this user may not list; for root, whom no mode keeps out, by the system call."""
    scandir = os.scandir

    def closed(path: str) -> Any:
        if str(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)


@pytest.mark.parametrize("make", [upscaled, sharded])
def test_links_that_lead_out_of_a_source_are_told_counted_and_followed_where_asked_to(
    make: Any, source: Path, outside: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "linked").symlink_to(outside)
    (source / "one.png").symlink_to(outside / "x.png")
    (source / "within").symlink_to("a")
    assert make(source, tmp_path / "kept") == "4 done"
    told = "left out: 2 links, such as linked, which lead out of it; --follow-links takes them"
    assert told in capsys.readouterr().err
    skipped = pq.read_schema(tmp_path / "kept" / MANIFEST).metadata[SKIPPED.encode()]
    assert skipped == b'{"link": {"count": 2, "example": "linked"}}'
    assert make(source, tmp_path / "followed", follow_links=True) == "6 done"


def test_a_target_with_a_folder_link_is_refused_before_anything_is_written(
    source: Path, outside: Path, tmp_path: Path
) -> None:
    before = contents(outside)
    sharded(source, tmp_path / "shards")
    for name in ("a", ".dtls"):
        target = tmp_path / f"target-{name}"
        target.mkdir()
        (target / name).symlink_to(outside)
        for make in (upscaled, sharded):
            with pytest.raises(StorageError, match=f"{name}: a link to another folder"):
                make(source, target)
        with pytest.raises(StorageError, match="a link to another folder"):
            train.fn(TrainOptions(source=str(tmp_path / "shards"), target=str(target)))
        with pytest.raises(StorageError, match="a link to another folder"):
            verify(VerifyOptions(target=str(target)))
    assert contents(outside) == before
    (tmp_path / "link").symlink_to(outside)
    assert upscaled(source, tmp_path / "link") == "4 done"  # what the user names may be one


@pytest.mark.slow
@pytest.mark.parametrize(("make", "name"), [(upscaled, "large"), (upscaled, "large.zip"), (sharded, "shards")])
def test_a_folder_that_cannot_be_listed_is_told_and_what_was_made_of_it_stays(
    make: Any,
    name: str,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = tmp_path / name
    assert make(source, target) == "4 done"
    before = contents(tmp_path / name) if target.is_dir() else zipfile.ZipFile(target).namelist()
    close(source / "b", monkeypatch)
    assert make(source, target) == "4 already done"
    assert "left out: 1 folder, such as b, which cannot be listed (Permission denied)" in capsys.readouterr().err
    assert (contents(tmp_path / name) if target.is_dir() else zipfile.ZipFile(target).namelist()) == before
    (source / "a" / "00009.png").write_bytes((source / "a" / "00000.png").read_bytes())
    if make is sharded:
        with pytest.raises(StorageError, match="b readable"):  # its shards would be cut anew
            make(source, target)
        assert contents(target) == before
    else:
        assert make(source, target) == "1 done, 4 already done"
    monkeypatch.undo()
    assert "done" in make(source, target)
    assert verify(VerifyOptions(target=str(target)))


def test_a_source_with_a_folder_that_cannot_be_listed_is_done_but_for_that(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close(source / "b", monkeypatch)
    assert upscaled(source, tmp_path / "large") == "2 done"
    monkeypatch.undo()
    assert upscaled(source, tmp_path / "large") == "2 done, 2 already done"
    close(source, monkeypatch)
    with pytest.raises(StorageError, match="cannot be listed: Permission denied; make it readable"):
        upscaled(source, tmp_path / "large")
    monkeypatch.undo()
    close(tmp_path / "large" / "b", monkeypatch)
    with pytest.raises(StorageError, match="large/b: cannot be listed"):
        upscaled(source, tmp_path / "large")
