"""Results that were made with other options are replaced only with --overwrite; what is new, or stopped, goes on."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flows.downscale import DownscaleOptions, downscale
from flows.interface.errors import RunError
from flows.shard import ShardOptions, shard
from flows.transform import pipeline
from flows.upscale import UpscaleOptions, upscale
from storage.stores.location import StorageError, UnavailableError

Flow = Callable[..., str]


def upscaled(source: Path, target: Path, **options: Any) -> str:
    given = {"method": "nearest", "scale": 4, "unit_size": 2, **options}
    return upscale.fn(UpscaleOptions.model_validate({"source": str(source), "target": str(target), **given}))


def sharded(source: Path, target: Path, **options: Any) -> str:
    given = {"samples_per_shard": 4, **options}
    return shard.fn(ShardOptions.model_validate({"source": str(source), "target": str(target), **given}))


def downscaled(source: Path, target: Path, **options: Any) -> str:
    given = {"scale": 2, **options}
    return downscale.fn(DownscaleOptions.model_validate({"source": str(source), "target": str(target), **given}))


@pytest.fixture
def source(photographs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(photographs, tmp_path / "source"))


def contents(*places: Path) -> dict[str, bytes]:
    """Every file of a target, hidden ones too."""
    files = (path for place in places for path in (place.rglob("*") if place.is_dir() else [place]))
    return {str(path): path.read_bytes() for path in files if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "first", "then", "says"),
    [
        (upscaled, {}, {"scale": 2}, "holds 12 results made with other options (scale 4 → 2), which"),
        (upscaled, {}, {"scale": None, "size": 99}, "(scale 4 → none, size none → 99)"),
        (upscaled, {}, {"method": "bicubic"}, "(method nearest → bicubic)"),
        (upscaled, {}, {"format": "jpeg"}, "(format png → jpeg)"),
        (upscaled, {"format": "jpeg"}, {"format": "jpeg", "quality": 80}, "(quality 95 → 80)"),
        (upscaled, {}, {"suffix": "_x4"}, "(suffix none → _x4)"),
        (upscaled, {}, {"samples_per_shard": 5}, "(samples per shard none → 5)"),
        (upscaled, {"samples_per_shard": 5}, {"samples_per_shard": 5, "scale": 3}, "(scale 4 → 3)"),
        (downscaled, {}, {"protocol": "antialias"}, "(method downscale-reference → downscale-antialias, protocol"),
        (sharded, {}, {"size": 16}, "holds 3 results made with other options (size none → 16)"),
        (sharded, {}, {"samples_per_shard": 6}, "(samples per shard 4 → 6)"),
        (sharded, {}, {"split": "hash"}, "(split none → hash)"),
    ],
)
def test_other_options_are_told_before_anything_is_replaced(
    source: Path, tmp_path: Path, run: Flow, first: dict[str, Any], then: dict[str, Any], says: str
) -> None:
    target = tmp_path / "target"
    run(source, target, **first)
    before = contents(target)
    with pytest.raises(StorageError, match=re.escape(says)) as refused:
        run(source, target, **then)
    assert str(refused.value).startswith(f"{target}: holds ")
    assert str(refused.value).endswith("--overwrite replaces them, or choose another target")
    assert contents(target) == before
    run(source, target, **then, overwrite=True)
    assert run(source, target, **then) == "12 already done"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["large.zip", "large.tar.gz"])
def test_an_archive_is_not_replaced_either(source: Path, tmp_path: Path, name: str) -> None:
    archive, beside = tmp_path / name, tmp_path / f"{name}.dtls"
    upscaled(source, archive)
    before = contents(archive, beside)
    with pytest.raises(StorageError, match=re.escape(f"{name}: holds 12 results made with other options (sc")):
        upscaled(source, archive, scale=2)
    assert contents(archive, beside) == before
    assert upscaled(source, archive, scale=2, overwrite=True) == "12 done"


@pytest.mark.slow
@pytest.mark.parametrize("run", [upscaled, sharded])
def test_images_that_come_change_or_go_need_no_leave(source: Path, tmp_path: Path, run: Flow) -> None:
    target = tmp_path / "target"
    run(source, target)
    Image.new("RGB", (8, 8), "teal").save(source / "00000" / "00000a.png")
    assert "done" in run(source, target)
    Image.new("RGB", (9, 9), "red").save(source / "00000" / "00000a.png")
    (source / "00000" / "00011.png").unlink()
    assert "done" in run(source, target)
    for number in range(3, 11):
        (source / "00000" / f"{number:05}.png").unlink()
    assert "already done" in run(source, target)


@pytest.mark.slow
def test_results_that_nobody_would_replace_are_no_reason_to_stop(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    upscaled(source, target)
    for path in target.rglob("*.png"):
        path.unlink()
    assert upscaled(source, target, scale=2) == "12 done"
    for path in source.rglob("*.png"):
        path.rename(path.with_stem(f"new-{path.stem}"))
    assert upscaled(source, target, scale=3) == "12 done"
    assert len(list(target.rglob("*.png"))) == 24


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Has the next runs end when they come to the sixth image."""
    fetch = pipeline.Transform._fetch

    def stops(self: pipeline.Transform, entry: Any) -> Any:
        if entry.key.endswith("00006.png"):
            raise UnavailableError("the network is gone")
        return fetch(self, entry)

    return lambda: monkeypatch.setattr(pipeline.Transform, "_fetch", stops)


@pytest.mark.slow
def test_a_stopped_replacement_goes_on_and_is_not_undone_without_a_word(
    source: Path, tmp_path: Path, stopping: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    one = {"in_flight": 1, "workers": 1}
    upscaled(source, target)
    stopping()
    with pytest.raises(StorageError, match="stopped, run it again"):
        upscaled(source, target, scale=2, overwrite=True, **one)
    monkeypatch.undo()
    before = contents(target)
    with pytest.raises(StorageError, match=r"made with other options \(scale 2 → 4\)"):
        upscaled(source, target)
    assert contents(target) == before
    assert "already done" in upscaled(source, target, scale=2)
    assert {Image.open(path).size for path in target.rglob("*.png")} == {(128, 128)}


def test_what_a_stopped_run_has_made_without_a_receipt_counts_as_well(
    source: Path, tmp_path: Path, stopping: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    stopping()
    with pytest.raises(StorageError, match="stopped, run it again"):
        upscaled(source, target, in_flight=1, workers=1, unit_size=1000)
    monkeypatch.undo()
    assert list(target.rglob("*.png"))
    assert not list(target.rglob(".dtls/receipts/*"))
    with pytest.raises(StorageError, match=r"holds \d+ results made with other options \(scale 4 → 2\)"):
        upscaled(source, target, scale=2, unit_size=1000)
    assert upscaled(source, target, unit_size=1000) == "12 done"


@pytest.mark.slow
def test_targets_of_versions_that_did_not_keep_their_options_are_protected_too(source: Path, tmp_path: Path) -> None:
    for run, other in ((upscaled, {"scale": 2}), (sharded, {"size": 16})):
        target = tmp_path / run.__name__
        run(source, target)
        record = target / ".dtls" / "source.json"
        record.write_text(json.dumps({"source": str(source)}))
        with pytest.raises(StorageError, match="results made with other options, which would be replaced"):
            run(source, target, **other)
        assert run(source, target) == "12 already done"
        Image.new("RGB", (64, 64), "teal").save(source / "new.png")
        assert "done" in run(source, target)
        record.write_text("[]")
        (source / "new.png").unlink()
        assert "12 already done" in run(source, target)


@pytest.mark.slow
def test_a_record_of_somebody_else_is_no_way_in(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    upscaled(source, target)
    record = {"source": str(source), "made_with": {"scale": "x" * 10_000 + "\n", "method": ["nearest"]}}
    (target / ".dtls" / "source.json").write_text(json.dumps(record))
    with pytest.raises(StorageError, match="made with other options") as refused:
        upscaled(source, target, scale=2)
    assert len(str(refused.value)) < 400
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_a_dry_run_says_what_would_be_replaced(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upscaled(source, tmp_path / "target")
    before = contents(tmp_path / "target")
    upscaled(source, tmp_path / "target", scale=2, dry_run=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "holds 12 results made with other options (scale 4 → 2): the run will need --overwrite" in said
    assert contents(tmp_path / "target") == before


@pytest.mark.slow
def test_units_that_came_to_nothing_leave_the_rest_to_be_replaced(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    upscaled(source, target)
    with monkeypatch.context() as patched:
        patched.setattr("flows.transform.targets._complete", lambda _: 1 / 0)
        with pytest.raises(RunError, match="came to nothing"):
            upscaled(source, target, scale=2, overwrite=True)
    assert upscaled(source, target, scale=2) == "12 done"
