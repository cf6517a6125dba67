"""A source that was changed is made again though size and time are as they were; one that was only touched is not."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from flows.downscale import DownscaleOptions, downscale
from flows.shard import ShardOptions, shard
from flows.upscale import UpscaleOptions, upscale
from storage.stores.looks import LOOKS

NAMES = ("a", "b", "c")


def draw(path: Path, colour: str) -> None:
    """An image whose size in bytes is that of any other colour, with the time of writing of what was there."""
    before = path.stat() if path.exists() else None
    Image.new("RGB", (16, 16), colour).save(path, "BMP")
    if before is not None:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def upscaled(source: Path, target: Path) -> str:
    return upscale.fn(UpscaleOptions(source=str(source), target=str(target), method="nearest", scale=2, unit_size=1))


def downscaled(source: Path, target: Path) -> str:
    return downscale.fn(DownscaleOptions(source=str(source), target=str(target), scale=2))


def copied(source: Path, target: Path) -> str:
    return shard.fn(ShardOptions(source=str(source), target=str(target), samples_per_shard=1))


def reduced(source: Path, target: Path) -> str:
    return shard.fn(ShardOptions(source=str(source), target=str(target), samples_per_shard=1, size=8))


Make = Callable[[Path, Path], str]
FLOWS: tuple[Make, ...] = (upscaled, downscaled, copied, reduced)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    for name in NAMES:
        draw(source / f"{name}.bmp", "red")
    return source


def results(target: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in target.glob("*.*") if path.suffix in (".png", ".tar")}


@pytest.mark.slow
@pytest.mark.parametrize("make", FLOWS)
def test_a_change_is_noticed_though_size_and_time_are_as_they_were(make: Make, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    make(source, target)
    red = results(target)
    draw(source / "b.bmp", "blue")
    assert make(source, target).startswith("1 done")
    blue = results(target)
    assert len({name for name in red if red[name] != blue[name]}) == 1
    assert make(source, target) == "3 already done"
    draw(source / "b.bmp", "green")
    assert make(source, target).startswith("1 done")
    draw(source / "b.bmp", "red")
    assert make(source, target).startswith("1 done")
    assert results(target) == red
    make(source, tmp_path / "anew")
    assert results(tmp_path / "anew") == red


@pytest.mark.slow
@pytest.mark.parametrize("make", FLOWS)
def test_what_was_only_touched_is_not_made_again(make: Make, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    make(source, target)
    draw(source / "c.bmp", "blue")
    make(source, target)
    looks = (target / LOOKS).read_bytes()
    for path in source.iterdir():
        path.chmod(0o600)
        path.rename(path.with_suffix(".tmp")).rename(path)
    assert make(source, target) == "3 already done"
    assert (target / LOOKS).read_bytes() != looks  # so that they are not hashed again
    (target / LOOKS).write_bytes(b'{"newest": Infinity, "tags": {}}')
    assert make(source, target).startswith("1 done")  # c.bmp, as nothing tells of its change any more


@pytest.mark.slow
def test_an_image_dated_before_1970_is_one_like_others(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in source.iterdir():
        os.utime(path, (-1e9, -1e9))
    assert upscaled(source, tmp_path / "target") == "3 done"
    draw(source / "b.bmp", "blue")
    for made in ("1 done", "3 already done"):
        assert upscaled(source, tmp_path / "target").startswith(made)
    assert "warning" not in capsys.readouterr().err


@pytest.mark.slow
def test_results_of_a_version_that_kept_no_hashes_are_not_made_again(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    upscaled(source, target)
    for receipt in target.glob(".dtls/receipts/*/*.parquet"):
        pq.write_table(pq.read_table(receipt).drop_columns(["source_sha256"]), receipt)
    (target / LOOKS).unlink()
    for path in source.iterdir():
        path.chmod(0o600)
    assert upscaled(source, target) == "3 already done"
    assert (target / LOOKS).exists()
    for path in source.iterdir():
        path.chmod(0o644)
    assert upscaled(source, target) == "3 already done"


@pytest.mark.slow
def test_a_run_that_ended_before_its_work_leaves_the_change_to_the_next(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    upscaled(source, target)
    draw(source / "b.bmp", "blue")
    monkeypatch.setattr("flows.engine.run._work", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        upscaled(source, target)
    monkeypatch.undo()
    assert upscaled(source, target).startswith("1 done")
