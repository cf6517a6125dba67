"""Upscaling, downscaling and sharding as runs: what is done stays done, what changed is redone, names stay."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dtls.checkpoint import DTLS, CheckpointError, load_checkpoint, save_checkpoint
from dtls.degradation import SizeError
from flows.downscale import DownscaleOptions, downscale
from flows.fanout import RunError
from flows.shard import ShardOptions, shard
from flows.upscale import UpscaleOptions, upscale
from storage.locations import StorageError


@pytest.fixture
def source(tmp_path: Path, photographs: Path) -> Path:
    """Six photographs of one's own, in two folders."""
    for index, path in enumerate(sorted(photographs.rglob("*.png"))[:6]):
        folder = tmp_path / "source" / str(index % 2)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).write_bytes(path.read_bytes())
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint(DTLS(dim=8, multipliers=(1, 2), residual=True, size=32, stride=8, steps=3), folder)
    return folder


def bicubic(source: Path, target: Path, **options: object) -> str:
    settings = {"method": "bicubic", "scale": 2, "unit_size": 2, **options}
    return upscale.fn(UpscaleOptions(source=str(source), target=str(target), **settings))


def pictures(folder: Path) -> dict[str, int]:
    """The pictures below a folder and when each was written."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in sorted(folder.rglob("*.png"))}


def test_results_lie_under_the_same_names_and_have_the_right_size(source: Path, target: Path) -> None:
    assert bicubic(source, target) == "6 done"
    assert set(pictures(target)) == set(pictures(source))
    assert {Image.open(target / name).size for name in pictures(target)} == {(128, 128)}
    manifest = pd.read_parquet(target / "manifest.parquet")
    assert list(manifest.status) == ["ok"] * 6
    assert set(manifest.method) == {"bicubic"}


def test_a_second_run_does_nothing(source: Path, target: Path) -> None:
    bicubic(source, target)
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    assert bicubic(source, target) == "6 already done"
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before


def test_a_new_picture_is_added_and_others_stay(source: Path, target: Path) -> None:
    bicubic(source, target, unit_size=1000)
    before = pictures(target)
    Image.new("RGB", (8, 8)).save(source / "0" / "a-new-one.png")
    assert bicubic(source, target, unit_size=1000) == "1 done, 6 already done"
    after = pictures(target)
    assert after.pop("0/a-new-one.png")
    assert after == before
    assert len(pd.read_parquet(target / "manifest.parquet")) == 7


@pytest.mark.parametrize("harm", ["delete", "cut"])
def test_an_output_that_is_gone_or_cut_short_is_made_again(source: Path, target: Path, harm: str) -> None:
    bicubic(source, target, unit_size=1000)
    victim = next(target.rglob("*.png"))
    whole = victim.read_bytes()
    victim.unlink()
    others = pictures(target)
    if harm == "cut":
        victim.write_bytes(whole[:100])
    assert bicubic(source, target, unit_size=1000) == "1 done, 5 already done"
    assert victim.read_bytes() == whole
    assert others.items() <= pictures(target).items()


def test_a_picture_that_changed_is_made_again_alone(source: Path, target: Path) -> None:
    bicubic(source, target, unit_size=1000)
    Image.new("RGB", (8, 8), "teal").save(source / "0" / "00000.png")
    assert bicubic(source, target, unit_size=1000) == "1 done, 5 already done"
    assert Image.open(target / "0" / "00000.png").size == (16, 16)


def test_other_options_redo_everything(source: Path, target: Path) -> None:
    bicubic(source, target)
    assert bicubic(source, target, scale=3) == "6 done"
    assert {Image.open(target / name).size for name in pictures(target)} == {(192, 192)}


def test_only_failed_samples_are_tried_again(source: Path, target: Path) -> None:
    broken = source / "0" / "broken.png"
    broken.write_bytes(b"not yet")
    options = {"unit_size": 1000, "max_failed": 0.5}
    assert bicubic(source, target, **options) == "6 done, 1 failed"
    assert bicubic(source, target, **options) == "6 already done, 1 failed"
    before = pictures(target)
    assert bicubic(source, target, **options, retry_failed=True) == "6 already done, 1 failed"
    assert pictures(target) == before
    assert list(pd.read_parquet(target / "manifest.parquet").status).count("failed") == 1


def test_the_run_fails_when_too_many_samples_do_after_doing_the_rest(source: Path, target: Path) -> None:
    (source / "0" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(RunError, match="1 of 7 images failed"):
        bicubic(source, target)
    assert len(pictures(target)) == 6


def test_a_trained_model_upscales_to_a_scale_or_to_a_size(source: Path, target: Path, checkpoint: Path) -> None:
    options = {"source": str(source), "checkpoint": str(checkpoint), "device": "cpu"}
    upscale.fn(UpscaleOptions(target=str(target / "scale"), scale=2, project=True, **options))
    upscale.fn(UpscaleOptions(target=str(target / "size"), size=128, project=True, **options))
    for name in pictures(source):
        assert (target / "scale" / name).read_bytes() == (target / "size" / name).read_bytes()
    manifest = pd.read_parquet(target / "scale" / "manifest.parquet")
    assert set(manifest.protocol) == {"reference"}
    assert manifest.checkpoint.str.len().eq(64).all()


def test_a_scale_the_model_cannot_do_is_refused_and_a_size_is_the_reason_of_each_failure(
    source: Path, target: Path, checkpoint: Path
) -> None:
    with pytest.raises(SizeError, match=r"\(8→32, stride 8\) cannot do ×3; it does ×2, 4"):
        upscale.fn(UpscaleOptions(source=str(source), target=str(target), checkpoint=str(checkpoint), scale=3))
    with pytest.raises(RunError, match="6 of 6 images failed"):
        upscale.fn(UpscaleOptions(source=str(source), target=str(target), checkpoint=str(checkpoint), size=192))
    assert pd.read_parquet(target / "manifest.parquet").reason.str.contains("cannot do ×3").all()


def test_pictures_made_by_another_protocol_are_refused_unless_asked_for(
    source: Path, target: Path, checkpoint: Path
) -> None:
    lr, sr = str(target / "lr"), str(target / "sr")
    downscale.fn(DownscaleOptions(source=str(source), target=lr, scale=4, protocol="antialias"))
    options = {"source": lr, "target": sr, "checkpoint": str(checkpoint), "scale": 4}
    with pytest.raises(CheckpointError, match=r"made for reference, .* made by antialias"):
        upscale.fn(UpscaleOptions(**options))
    assert upscale.fn(UpscaleOptions(**options, any_protocol=True)) == "6 done"


def test_downscaling_refuses_sizes_that_do_not_divide_and_keeps_the_protocol(source: Path, target: Path) -> None:
    Image.new("RGB", (9, 16)).save(source / "odd.png")
    downscale.fn(
        DownscaleOptions(source=str(source), target=str(target), scale=4, protocol="antialias", max_failed=0.5)
    )
    manifest = pd.read_parquet(target / "manifest.parquet").set_index("key")
    assert manifest.loc["odd.png"].reason == "9×16 is no multiple of the scale 4"
    assert set(manifest.protocol.dropna()) == {"antialias"}
    name = next(iter(pictures(target)))
    with Image.open(source / name) as file:
        channels = [np.asarray(c.convert("F").resize((16, 16), Image.Resampling.BICUBIC)) for c in file.split()]
    expected = np.stack(channels, axis=2).clip(0, 255)
    assert abs(np.asarray(Image.open(target / name)) - expected).max() < 0.501


def test_fewer_shards_leave_no_old_ones_behind(source: Path, target: Path) -> None:
    shard.fn(ShardOptions(source=str(source), target=str(target), samples_per_shard=2))
    assert len(list(target.glob("*.tar"))) == 3
    shard.fn(ShardOptions(source=str(source), target=str(target), samples_per_shard=4))
    assert sorted(p.name for p in target.glob("*.tar")) == ["shard-000000.tar", "shard-000001.tar"]
    assert len(list((target / ".dtls" / "receipts" / "shard").iterdir())) == 2


def test_a_folder_with_the_results_of_another_flow_is_left_alone(source: Path, target: Path) -> None:
    bicubic(source, target)
    before = pictures(target)
    with pytest.raises(StorageError, match="holds the results of upscale; choose another folder"):
        shard.fn(ShardOptions(source=str(source), target=str(target)))
    assert pictures(target) == before


def test_a_sample_that_now_fails_leaves_no_old_result(source: Path, target: Path) -> None:
    bicubic(source, target)
    (source / "0" / "00000.png").write_bytes(b"broken since")
    bicubic(source, target, max_failed=0.5)
    assert "0/00000.png" not in pictures(target)
    assert len(pictures(target)) == 5


def test_linked_pictures_count_and_broken_links_are_recorded(source: Path, target: Path) -> None:
    (source / "linked.png").symlink_to(source / "0" / "00000.png")
    (source / "again").symlink_to(source / "1")
    (source / "round").symlink_to(source)
    (source / "broken.png").symlink_to(source / "gone.png")
    bicubic(source, target, max_failed=0.5)
    manifest = pd.read_parquet(target / "manifest.parquet").set_index("key")
    assert manifest.loc["linked.png"].status == "ok"
    assert "no such file" in manifest.loc["broken.png"].reason
    assert manifest.status.value_counts().to_dict() == {"ok": 7, "failed": 1}


def test_pixels_that_are_no_numbers_are_failures(source: Path, target: Path, checkpoint: Path) -> None:
    model = load_checkpoint(checkpoint)
    model.unet.rgb.weight.fill_(float("nan"))
    save_checkpoint(model, target / "model")
    options = {"source": str(source), "target": str(target / "sr"), "checkpoint": str(target / "model"), "scale": 2}
    with pytest.raises(RunError, match="6 of 6"):
        upscale.fn(UpscaleOptions(**options))
    assert set(pd.read_parquet(target / "sr" / "manifest.parquet").reason) == {"dtls gave pixels that are no numbers"}


def test_other_files_are_left_out_and_hidden_ones_not_mentioned(
    source: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "LICENSE.txt").write_text("CC0")
    (source / ".DS_Store").write_text("")
    assert bicubic(source, target) == "6 done"
    said = capsys.readouterr().err
    assert "left out, as no pictures by their names: 1, such as LICENSE.txt" in said
    assert ".DS_Store" not in said


@pytest.mark.parametrize("below", [".", "large"])
def test_results_never_go_among_their_sources(source: Path, below: str) -> None:
    before = pictures(source)
    with pytest.raises(StorageError, match="lies in the source"):
        bicubic(source, source / below)
    assert pictures(source) == before


def test_a_target_that_cannot_be_written_is_named(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"file"):
        bicubic(source, tmp_path / "file" / "target")


def test_in_a_prefect_flow_run_the_results_are_the_same(source: Path, target: Path, flows_harness: None) -> None:
    bicubic(source, target / "plain")
    upscale(
        UpscaleOptions(
            source=str(source), target=str(target / "prefect"), method="bicubic", scale=2, unit_size=2, in_flight=2
        )
    )
    for name in pictures(source):
        assert (target / "plain" / name).read_bytes() == (target / "prefect" / name).read_bytes()
