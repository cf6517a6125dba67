"""Upscaling, downscaling and sharding as runs: what is done stays done, what changed is redone, names stay."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from prefect.artifacts import Artifact
from pydantic import ValidationError

from dtls.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from dtls.errors import CheckpointError, ProtocolError, SamplingError, SizeError
from dtls.models.dtls import DTLS
from flows.downscale import DownscaleOptions, downscale
from flows.interface.errors import RunError
from flows.shard import ShardOptions, shard
from flows.upscale import UpscaleOptions, upscale
from storage.stores.location import StorageError


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


def dtls(source: Path, target: Path, checkpoint: Path, **options: Any) -> str:
    settings = {"scale": 2, "device": "cpu", **options}
    return upscale.fn(UpscaleOptions(source=str(source), target=str(target), checkpoint=str(checkpoint), **settings))


def images(folder: Path) -> dict[str, int]:
    """The images below a folder and when each was written."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in sorted(folder.rglob("*.png"))}


def test_results_lie_under_the_same_names_and_have_the_right_size(source: Path, target: Path) -> None:
    assert bicubic(source, target) == "6 done"
    assert set(images(target)) == set(images(source))
    assert {Image.open(target / name).size for name in images(target)} == {(128, 128)}
    manifest = pd.read_parquet(target / "manifest.parquet")
    assert list(manifest.status) == ["ok"] * 6
    assert set(manifest.method) == {"bicubic"}


@pytest.mark.slow
def test_a_second_run_does_nothing(source: Path, target: Path) -> None:
    bicubic(source, target)
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    assert bicubic(source, target) == "6 already done"
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before


def test_a_new_image_is_added_and_others_stay(source: Path, target: Path) -> None:
    bicubic(source, target, unit_size=1000)
    before = images(target)
    Image.new("RGB", (8, 8)).save(source / "0" / "a-new-one.png")
    assert bicubic(source, target, unit_size=1000) == "1 done, 6 already done"
    after = images(target)
    assert after.pop("0/a-new-one.png")
    assert after == before
    assert len(pd.read_parquet(target / "manifest.parquet")) == 7


@pytest.mark.parametrize("harm", ["delete", "cut"])
def test_an_output_that_is_gone_or_cut_short_is_made_again(source: Path, target: Path, harm: str) -> None:
    bicubic(source, target, unit_size=1000)
    victim = next(target.rglob("*.png"))
    whole = victim.read_bytes()
    victim.unlink()
    others = images(target)
    if harm == "cut":
        victim.write_bytes(whole[:100])
    assert bicubic(source, target, unit_size=1000) == "1 done, 5 already done"
    assert victim.read_bytes() == whole
    assert others.items() <= images(target).items()


def test_an_image_that_changed_is_made_again_alone(source: Path, target: Path) -> None:
    bicubic(source, target, unit_size=1000)
    Image.new("RGB", (8, 8), "teal").save(source / "0" / "00000.png")
    assert bicubic(source, target, unit_size=1000) == "1 done, 5 already done"
    assert Image.open(target / "0" / "00000.png").size == (16, 16)


@pytest.mark.slow
def test_other_options_redo_everything(source: Path, target: Path) -> None:
    bicubic(source, target)
    assert bicubic(source, target, scale=3, overwrite=True) == "6 done"
    assert {Image.open(target / name).size for name in images(target)} == {(192, 192)}


def test_only_failed_samples_are_tried_again(source: Path, target: Path) -> None:
    broken = source / "0" / "broken.png"
    broken.write_bytes(b"not yet")
    options = {"unit_size": 1000, "max_failed": 0.5}
    assert bicubic(source, target, **options) == "6 done, 1 failed"
    assert bicubic(source, target, **options) == "6 already done, 1 failed"
    before = images(target)
    assert bicubic(source, target, **options, retry_failed=True) == "6 already done, 1 failed"
    assert images(target) == before
    assert list(pd.read_parquet(target / "manifest.parquet").status).count("failed") == 1


def test_the_run_fails_when_too_many_samples_do_after_doing_the_rest(source: Path, target: Path) -> None:
    (source / "0" / "broken.png").write_bytes(b"no image")
    with pytest.raises(RunError, match="1 of 7 images failed"):
        bicubic(source, target)
    assert len(images(target)) == 6


@pytest.mark.slow
def test_a_trained_model_upscales_to_a_scale_or_to_a_size(source: Path, target: Path, checkpoint: Path) -> None:
    options = {"source": str(source), "checkpoint": str(checkpoint), "device": "cpu"}
    upscale.fn(UpscaleOptions(target=str(target / "scale"), scale=2, project=True, **options))
    upscale.fn(UpscaleOptions(target=str(target / "size"), size=128, project=True, **options))
    for name in images(source):
        assert (target / "scale" / name).read_bytes() == (target / "size" / name).read_bytes()
    manifest = pd.read_parquet(target / "scale" / "manifest.parquet")
    assert set(manifest.protocol) == {"reference"}
    assert manifest.checkpoint.str.len().eq(64).all()


def test_a_scale_beyond_the_model_is_refused_and_a_size_is_the_reason_of_each_failure(
    source: Path, target: Path, checkpoint: Path
) -> None:
    says = "this checkpoint (8→32) upscales by more than ×1 and at most ×4, not ×5"
    with pytest.raises(SizeError, match=re.escape(says)):
        dtls(source, target, checkpoint, scale=5)
    assert not target.exists()
    with pytest.raises(RunError, match="6 of 6 images failed"):
        dtls(source, target, checkpoint, scale=None, size=320)
    assert set(pd.read_parquet(target / "manifest.parquet").reason) == {says}


@pytest.mark.slow
def test_any_scale_up_to_the_largest_takes_images_of_any_sides(source: Path, target: Path, checkpoint: Path) -> None:
    sides = {"odd.png": (67, 45), "dot.png": (1, 1)}
    for name, size in sides.items():
        Image.effect_noise(size, 64).convert("RGB").save(source / name)
    assert dtls(source, target / "3", checkpoint, scale=3) == "8 done"
    for name, (width, height) in sides.items():
        assert Image.open(target / "3" / name).size == (3 * width, 3 * height)
    assert dtls(source, target / "1.6", checkpoint, scale=1.6, project=True, ensemble=True) == "8 done"
    made = {name: Image.open(target / "1.6" / name).size for name in sides}
    assert made == {"odd.png": (107, 72), "dot.png": (2, 2)}


@pytest.mark.slow
def test_a_size_is_the_longer_side_of_every_result(source: Path, target: Path, checkpoint: Path) -> None:
    Image.new("RGB", (67, 45), "teal").save(source / "wide.png")
    Image.new("RGB", (45, 67), "teal").save(source / "tall.png")
    dtls(source, target, checkpoint, scale=None, size=100)
    assert Image.open(target / "wide.png").size == (100, 67)
    assert Image.open(target / "tall.png").size == (67, 100)
    assert {max(Image.open(target / name).size) for name in images(target)} == {100}


@pytest.mark.slow
def test_a_result_larger_than_a_tile_is_made(source: Path, target: Path, checkpoint: Path) -> None:
    folder = source / "large"
    folder.mkdir()
    with Image.open(source / "0" / "00000.png") as photograph:
        photograph.resize((61, 30)).save(folder / "wide.png")
    assert dtls(folder, target / "tiles", checkpoint, scale=4, tile=128) == "1 done"
    assert dtls(folder, target / "whole", checkpoint, scale=4) == "1 done"
    tiles, whole = (np.asarray(Image.open(target / how / "wide.png"), dtype=int) for how in ("tiles", "whole"))
    assert tiles.shape == whole.shape == (120, 244, 3)
    assert 0 < abs(tiles - whole).mean() < 1


@pytest.mark.parametrize("option", [{"sampler": "current"}, {"ensemble": True}, {"seed": 1}])
@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic"])
def test_options_of_a_model_are_refused_for_interpolations(method: str, option: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=f"{next(iter(option))} goes with a trained model"):
        UpscaleOptions(source="a", target="b", method=method, scale=2, **option)


@pytest.mark.parametrize("tile", [0, 127])
def test_tiles_too_small_to_overlap_are_refused(tile: int) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 128"):
        UpscaleOptions(source="a", target="b", checkpoint="c", scale=2, tile=tile)


@pytest.mark.slow
def test_another_way_of_sampling_redoes_the_images_and_what_gives_the_same_does_not(
    source: Path, target: Path, checkpoint: Path
) -> None:
    assert dtls(source, target, checkpoint) == "6 done"
    assert dtls(source, target, checkpoint, sampler="two-call", precision="fp32") == "6 already done"
    options: dict[str, Any] = {}
    for name, value in {"sampler": "one-call", "ensemble": True, "project": True, "precision": "bf16"}.items():
        options[name] = value
        assert dtls(source, target, checkpoint, **options, overwrite=True) == "6 done", name
        assert dtls(source, target, checkpoint, **options) == "6 already done", name


def test_a_sampler_that_the_checkpoint_cannot_serve_is_refused_before_any_work(
    source: Path, target: Path, checkpoint: Path
) -> None:
    with pytest.raises(SamplingError, match="its network predicts x0, so the sampler previous cannot use it"):
        dtls(source, target, checkpoint, sampler="previous")
    assert not target.exists()


@pytest.mark.slow
def test_images_made_by_another_protocol_are_refused_unless_asked_for(
    source: Path, target: Path, checkpoint: Path
) -> None:
    lr, sr = str(target / "lr"), str(target / "sr")
    downscale.fn(DownscaleOptions(source=str(source), target=lr, scale=4, protocol="antialias"))
    options = {"source": lr, "target": sr, "checkpoint": str(checkpoint), "scale": 4}
    with pytest.raises(ProtocolError, match=r"made for reference, .* made by antialias"):
        upscale.fn(UpscaleOptions(**options))
    assert upscale.fn(UpscaleOptions(**options, any_protocol=True)) == "6 done"


def test_downscaling_refuses_sizes_that_do_not_divide_and_keeps_the_protocol(source: Path, target: Path) -> None:
    Image.new("RGB", (9, 16)).save(source / "odd.png")
    downscale.fn(
        DownscaleOptions(source=str(source), target=str(target), scale=4, protocol="antialias", max_failed=0.5)
    )
    manifest = pd.read_parquet(target / "manifest.parquet").set_index("key")
    assert (
        manifest.loc["odd.png"].reason == "9×16 is no multiple of the scale 4; --crop cuts such images to a multiple"
    )
    assert set(manifest.protocol.dropna()) == {"antialias"}
    name = next(iter(images(target)))
    with Image.open(source / name) as file:
        channels = [np.asarray(c.convert("F").resize((16, 16), Image.Resampling.BICUBIC)) for c in file.split()]
    expected = np.stack(channels, axis=2).clip(0, 255)
    assert abs(np.asarray(Image.open(target / name)) - expected).max() < 0.501


def test_fewer_shards_leave_no_old_ones_behind(source: Path, target: Path) -> None:
    shard.fn(ShardOptions(source=str(source), target=str(target), samples_per_shard=2))
    assert len(list(target.glob("*.tar"))) == 3
    shard.fn(ShardOptions(source=str(source), target=str(target), samples_per_shard=4, overwrite=True))
    assert sorted(p.name for p in target.glob("*.tar")) == ["shard-000000.tar", "shard-000001.tar"]
    assert len(list((target / ".dtls" / "receipts" / "shard").iterdir())) == 2


def test_a_folder_with_the_results_of_another_flow_is_left_alone(source: Path, target: Path) -> None:
    bicubic(source, target)
    before = images(target)
    with pytest.raises(StorageError, match="holds the results of upscale; choose another folder"):
        shard.fn(ShardOptions(source=str(source), target=str(target)))
    assert images(target) == before


@pytest.mark.slow
def test_a_sample_that_now_fails_leaves_no_old_result(source: Path, target: Path) -> None:
    bicubic(source, target)
    (source / "0" / "00000.png").write_bytes(b"broken since")
    bicubic(source, target, max_failed=0.5)
    assert "0/00000.png" not in images(target)
    assert len(images(target)) == 5


@pytest.mark.slow
def test_linked_images_count_and_broken_links_are_recorded(source: Path, target: Path) -> None:
    (source / "linked.png").symlink_to(source / "0" / "00000.png")
    (source / "again").symlink_to(source / "1")
    (source / "round").symlink_to(source)
    (source / "broken.png").symlink_to(source / "gone.png")
    bicubic(source, target, max_failed=0.5)
    manifest = pd.read_parquet(target / "manifest.parquet").set_index("key")
    assert manifest.loc["linked.png"].status == "ok"
    assert "broken link" in manifest.loc["broken.png"].reason
    assert manifest.status.value_counts().to_dict() == {"ok": 7, "failed": 1}


@pytest.mark.slow
def test_pixels_that_are_no_numbers_are_failures(source: Path, target: Path, checkpoint: Path) -> None:
    model = load_checkpoint(checkpoint, DTLS)
    for name, weight in model.unet.named_parameters():
        if name.endswith("expand.weight"):
            weight.fill_(3e38)  # a number, but what it is multiplied with is none
    save_checkpoint(model, target / "model")
    with pytest.raises(RunError, match="6 of 6"):
        dtls(source, target / "sr", target / "model")
    assert set(pd.read_parquet(target / "sr" / "manifest.parquet").reason) == {"dtls gave pixels that are no numbers"}


def test_a_checkpoint_of_no_numbers_is_refused_before_any_work(source: Path, target: Path, checkpoint: Path) -> None:
    model = load_checkpoint(checkpoint, DTLS)
    model.unet.rgb.weight.fill_(float("nan"))
    save_checkpoint(model, target / "model")
    with pytest.raises(CheckpointError, match=r"unet\.rgb\.weight holds values that are no numbers"):
        dtls(source, target / "sr", target / "model")
    assert not (target / "sr").exists()


def test_other_files_are_left_out_and_hidden_ones_not_mentioned(
    source: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "LICENSE.txt").write_text("CC0")
    (source / ".DS_Store").write_text("")
    assert bicubic(source, target) == "6 done"
    said = capsys.readouterr().err
    assert "left out: 1 file, such as LICENSE.txt, without an image's suffix" in said
    assert ".DS_Store" not in said


@pytest.mark.parametrize("below", [".", "large"])
def test_results_never_go_among_their_sources(source: Path, below: str) -> None:
    before = images(source)
    with pytest.raises(StorageError, match="is inside the source"):
        bicubic(source, source / below)
    assert images(source) == before


def test_a_target_that_cannot_be_written_is_named(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"file"):
        bicubic(source, tmp_path / "file" / "target")


def test_in_a_prefect_flow_run_the_results_are_the_same(source: Path, target: Path, flow_runs: None) -> None:
    bicubic(source, target / "plain")
    upscale(
        UpscaleOptions(
            source=str(source), target=str(target / "prefect"), method="bicubic", scale=2, unit_size=2, in_flight=2
        )
    )
    for name in images(source):
        assert (target / "plain" / name).read_bytes() == (target / "prefect" / name).read_bytes()


def test_a_prefect_flow_run_leaves_a_page_of_how_it_ended(source: Path, target: Path, flow_runs: None) -> None:
    (source / "0" / "broken.png").write_bytes(b"no image")
    upscale(UpscaleOptions(source=str(source), target=str(target), method="nearest", scale=2, max_failed=0.5))
    artifact: Any = Artifact.get("dtls-upscale-run")
    page = artifact.data
    assert "**6 done, 1 failed**" in page
    assert re.search(r"[\d.,]+ images/s in .*; thread time: \d+% read, \d+% compute, \d+% write", page)
    assert "* `0/broken.png: not an image (8 bytes)`" in page
    assert str(target / "manifest.parquet") in page


@pytest.mark.slow
def test_what_of_the_images_could_not_be_kept_is_told(
    source: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        deep = Image.fromarray(np.full((8, 8), 40_000, np.uint16))
        deep.save(source / f"deep-{number}.png")
    bicubic(source, target, format="jpeg")
    assert "\n  not kept: 16 bits became 8 (2)\n" in capsys.readouterr().err
    bicubic(source, target, format="jpeg")
    assert "not kept" not in capsys.readouterr().err
