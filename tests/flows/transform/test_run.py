"""Any source to any target: folders, archives, shards; what is made once is not made again, wherever it lies."""

import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import webdataset
from PIL import Image

from dtls.errors import SizeError
from flows.interface.errors import RunError
from flows.shard import ShardOptions, shard
from flows.upscale import UpscaleOptions, upscale
from storage.archives.source import open_source
from storage.archives.writer import Packing
from storage.stores.location import StorageError

ARCHIVES = ("large.zip", "large.tar", "large.tar.gz")


@pytest.fixture
def source(photographs: Path, tmp_path: Path) -> Path:
    """Twelve photographs of one's own."""
    return Path(shutil.copytree(photographs, tmp_path / "source"))


def run(source: Path | str, target: Path | str, **options: object) -> str:
    settings = {"source": str(source), "target": str(target), "method": "bicubic", "scale": 2, **options}
    return upscale.fn(UpscaleOptions.model_validate(settings))


def contents(address: Path | str) -> dict[str, bytes]:
    """The images of a folder or an archive by their keys."""
    opened = open_source(str(address))
    return {entry.key: opened.fetch(entry) for entry in opened.list() if entry.key.endswith(".png")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_holds_what_a_folder_would(name: str, source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "large")
    assert run(source, tmp_path / name) == "12 done"
    assert contents(tmp_path / name) == contents(tmp_path / "large")
    beside = tmp_path / f"{name}.dtls"
    assert [path.name for path in beside.glob("*.*") if path.is_file()] == ["manifest.parquet"]
    assert not list(beside.rglob("*.png"))
    assert len(pd.read_parquet(beside / "manifest.parquet")) == 12


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHIVES)
def test_a_second_run_leaves_an_archive_alone_and_a_third_adds_what_is_new(
    name: str, source: Path, tmp_path: Path
) -> None:
    run(source, tmp_path / name)
    before, stamp = contents(tmp_path / name), (tmp_path / name).stat().st_mtime_ns
    assert run(source, tmp_path / name) == "12 already done"
    assert (tmp_path / name).stat().st_mtime_ns == stamp
    Image.new("RGB", (8, 8), "teal").save(source / "new.png")
    assert run(source, tmp_path / name) == "1 done, 12 already done"
    after = contents(tmp_path / name)
    assert after.pop("new.png")
    assert after == before


@pytest.mark.slow
def test_what_was_made_before_the_archive_was_packed_is_not_made_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Packing, "pack", fails)
        with pytest.raises(StorageError, match="the disk is full"):
            run(source, tmp_path / "large.zip")
    assert not (tmp_path / "large.zip").exists()
    assert run(source, tmp_path / "large.zip") == "12 already done"
    assert len(contents(tmp_path / "large.zip")) == 12


@pytest.mark.slow
def test_an_archive_that_is_gone_is_made_again(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "large.zip")
    before = (tmp_path / "large.zip").read_bytes()
    (tmp_path / "large.zip").unlink()
    assert run(source, tmp_path / "large.zip", provenance=True) == "12 done"
    assert (tmp_path / "large.zip").read_bytes() == before


@pytest.mark.slow
def test_an_image_that_now_fails_leaves_the_archive(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "large.zip")
    (source / "00000" / "00003.png").write_bytes(b"broken since")
    assert run(source, tmp_path / "large.zip") == "11 already done, 1 failed"
    assert len(contents(tmp_path / "large.zip")) == 11


def test_an_archive_of_somebody_else_is_left_alone(source: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "large.zip", "w") as archive:
        archive.writestr("mine.txt", "mine")
    before = (tmp_path / "large.zip").read_bytes()
    with pytest.raises(StorageError, match="choose another name"):
        run(source, tmp_path / "large.zip")
    assert (tmp_path / "large.zip").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_every_kind_of_archive_is_a_source(kind: str, source: Path, tmp_path: Path) -> None:
    archive = tmp_path / f"small.{kind}"
    if kind == "zip":
        shutil.make_archive(str(tmp_path / "small"), "zip", source)
    else:
        with tarfile.open(archive, "w:gz" if kind == "tar.gz" else "w") as tar:
            tar.add(source, ".")
    run(source, tmp_path / "large")
    assert run(archive, tmp_path / "from-archive") == "12 done"
    assert contents(tmp_path / "from-archive") == contents(tmp_path / "large")


@pytest.mark.integration
@pytest.mark.parametrize("name", ["large", "large.zip", "large.tar.gz"])
def test_s3_to_s3_is_the_same_as_on_a_disk(name: str, source: Path, tmp_path: Path, s3: str) -> None:
    from storage.stores.location import Location

    for path in sorted(source.rglob("*.png")):
        Location.of(f"{s3}/small").write(str(path.relative_to(source)), path.read_bytes())
    assert run(f"{s3}/small", f"{s3}/{name}") == "12 done"
    assert run(f"{s3}/small", f"{s3}/{name}") == "12 already done"
    run(source, tmp_path / "large")
    assert contents(f"{s3}/{name}") == contents(tmp_path / "large")


def samples(folder: Path) -> dict[str, tuple[bytes, dict[str, object]]]:
    """What webdataset's own reader finds in the shards of a folder."""
    shards = sorted(str(path) for path in folder.glob("*.tar"))
    dataset = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False)
    return {f"{Path(s['__url__']).stem}/{s['__key__']}": (s["png"], json.loads(s["json"])) for s in dataset}


@pytest.mark.slow
def test_results_can_go_into_shards_that_webdataset_reads(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "large")
    assert run(source, tmp_path / "shards", samples_per_shard=4) == "12 done"
    found = samples(tmp_path / "shards")
    assert {str(facts["key"]): data for data, facts in found.values()} == contents(tmp_path / "large")
    assert {(facts["width"], facts["height"]) for _, facts in found.values()} == {(128, 128)}
    assert len(list((tmp_path / "shards").glob("*.tar"))) > 1
    assert run(source, tmp_path / "shards", samples_per_shard=4) == "12 already done"


@pytest.mark.slow
def test_shards_become_shards_of_the_same_names_and_keep_their_facts(source: Path, tmp_path: Path) -> None:
    shard.fn(ShardOptions(source=str(source), target=str(tmp_path / "small"), samples_per_shard=5))
    assert run(tmp_path / "small", tmp_path / "large", samples_per_shard=5) == "12 done"
    before, after = samples(tmp_path / "small"), samples(tmp_path / "large")
    assert before.keys() == after.keys()
    for key, (_, facts) in before.items():
        assert after[key][1] == {**facts, "width": 128, "height": 128}


@pytest.mark.slow
def test_a_new_image_changes_one_shard_alone(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "shards", samples_per_shard=3)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "shards").glob("*.tar")}
    shutil.copy(source / "00000" / "00000.png", source / "00000" / "00000-again.png")
    run(source, tmp_path / "shards", samples_per_shard=3)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "shards").glob("*.tar")}
    assert sum(before.get(name) != stamp for name, stamp in after.items()) <= 2
    assert len(samples(tmp_path / "shards")) == 13


def test_shards_do_not_go_into_an_archive(source: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"large\.zip: shards go into a folder, not into an archive"):
        run(source, tmp_path / "large.zip", samples_per_shard=4)


@pytest.mark.slow
def test_two_images_that_differ_in_their_endings_both_have_a_result(source: Path, tmp_path: Path) -> None:
    assert run(source, tmp_path / "large") == "12 done"
    with Image.open(source / "00000" / "00000.png") as image:
        image.transpose(Image.Transpose.ROTATE_180).save(source / "00000" / "00000.bmp")
    assert run(source, tmp_path / "large") == "1 done, 12 already done"
    upright, turned = (np.asarray(Image.open(tmp_path / "large/00000" / n)) for n in ("00000.png", "00000.bmp.png"))
    np.testing.assert_allclose(turned[::-1, ::-1].astype(int), upright.astype(int), atol=1)


@pytest.mark.slow
def test_a_first_one_that_gets_a_better_claim_to_its_name_moves(source: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "teal").save(source / "a.bmp")
    run(source, tmp_path / "large")
    Image.new("RGB", (8, 8), "red").save(source / "a.png")
    assert run(source, tmp_path / "large") == "2 done, 12 already done"
    colours = {name: Image.open(tmp_path / "large" / name).getpixel((0, 0)) for name in ("a.png", "a.bmp.png")}
    assert colours == {"a.png": (255, 0, 0), "a.bmp.png": (0, 128, 128)}


def test_one_result_that_cannot_be_written_fails_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "large" / "00000" / "00003.png").mkdir(parents=True)
    assert run(source, tmp_path / "large") == "11 done, 1 failed"
    rows = pd.read_parquet(tmp_path / "large" / "manifest.parquet").set_index("key")
    assert "00003.png" in rows.loc["00000/00003.png"].reason


def test_rows_say_where_the_time_went_and_what_was_not_kept(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(source / "moving.gif", save_all=True, append_images=frames[1:])
    run(source, tmp_path / "large")
    rows = pd.read_parquet(tmp_path / "large" / "manifest.parquet").set_index("key")
    assert "2 frames" in rows.loc["moving.gif"].note
    assert rows.note.isna().sum() == 12
    parts = rows[["read_seconds", "compute_seconds", "write_seconds"]]
    assert (parts > 0).all(axis=None)
    np.testing.assert_allclose(parts.sum(axis=1), rows.seconds)
    assert "images/s in" in capsys.readouterr().err


def edited(kind: str, source: Path) -> Path:
    """An image with something that a careless pipeline loses."""
    rng = np.random.default_rng(0)
    if kind == "alpha":
        pixels = np.zeros((16, 16, 4), np.uint8)
        pixels[4:12, 4:12] = (255, 0, 0, 255)
        Image.fromarray(pixels).save(source / "a.png")
    elif kind == "16 bits":
        Image.fromarray(rng.integers(0, 65536, (16, 16), np.uint16)).save(source / "a.png")
    else:
        Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(source / "a.png")
    return source / "a.png"


@pytest.mark.parametrize(("kind", "mode"), [("alpha", "RGBA"), ("16 bits", "I;16"), ("grey", "L")])
@pytest.mark.parametrize("method", ["nearest", "lanczos"])
def test_what_an_image_is_it_stays(kind: str, mode: str, method: str, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    small = np.asarray(Image.open(edited(kind, tmp_path / "one")))
    assert run(tmp_path / "one", tmp_path / "large", method=method) == "1 done"
    with Image.open(tmp_path / "large" / "a.png") as image:
        assert image.mode == mode
        large = np.asarray(image)
    if method == "nearest":
        np.testing.assert_array_equal(large[::2, ::2], small if kind != "alpha" else large[::2, ::2])
    if kind == "alpha":
        seen = large[..., 3] > 0
        assert (large[seen][:, :3] == (255, 0, 0)).all()
        assert seen[8:24, 8:24].all()


@pytest.mark.slow
def test_a_checkpoint_takes_every_kind_of_image(tmp_path: Path, source: Path) -> None:
    from dtls.checkpoints.checkpoint import save_checkpoint
    from dtls.models.dtls import DTLS

    save_checkpoint(DTLS(dim=8, multipliers=(1, 2), residual=True, size=32, stride=8, steps=3), tmp_path / "model")
    for kind in ("alpha", "16 bits", "grey"):
        (tmp_path / kind).mkdir()
        shutil.copy(edited(kind, tmp_path / kind), source / f"{kind}.png")
    checkpoint = {"method": "dtls", "checkpoint": str(tmp_path / "model"), "device": "cpu", "scale": 4}
    assert run(source, tmp_path / "large", **checkpoint) == "15 done"
    modes = {kind: Image.open(tmp_path / "large" / f"{kind}.png").mode for kind in ("alpha", "16 bits", "grey")}
    assert modes == {"alpha": "RGBA", "16 bits": "I;16", "grey": "L"}


def compact(folder: Path, scale: int = 2) -> Path:
    """A small model of another project's architecture, with random weights."""
    from safetensors.torch import save_file

    from dtls.compat import allow_torchvision_import

    allow_torchvision_import()
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    model = SRVGGNetCompact(num_feat=8, num_conv=2, upscale=scale)
    save_file(model.state_dict(), folder / "compact.safetensors")
    return folder / "compact.safetensors"


@pytest.mark.slow
def test_a_model_of_spandrel_s_enlarges_by_its_own_scale_or_to_another(source: Path, tmp_path: Path) -> None:
    method = f"spandrel:{compact(tmp_path)}"
    assert run(source, tmp_path / "own", method=method, scale=None, device="cpu") == "12 done"
    assert run(source, tmp_path / "other", method=method, scale=2.5, device="cpu") == "12 done"
    assert run(source, tmp_path / "size", method=method, scale=None, size=100, device="cpu") == "12 done"
    sizes = {kind: Image.open(tmp_path / kind / "00000" / "00000.png").size for kind in ("own", "other", "size")}
    assert sizes == {"own": (128, 128), "other": (160, 160), "size": (100, 100)}
    rows = pd.read_parquet(tmp_path / "own" / "manifest.parquet")
    assert rows.checkpoint.str.len().eq(64).all()


@pytest.mark.parametrize("far", [{"scale": None}, {"scale": 2}, {"scale": None, "size": 100}])
def test_a_model_that_restores_is_refused_before_any_work(far: dict[str, Any], source: Path, tmp_path: Path) -> None:
    method = f"spandrel:{compact(tmp_path, scale=1)}"
    with pytest.raises(
        SizeError, match=r"^the method spandrel-Compact restores images at their own size, .* dtls restore$"
    ):
        run(source, tmp_path / "out", method=method, device="cpu", **far)
    assert not (tmp_path / "out").exists()


@pytest.mark.integration
def test_a_model_may_lie_on_s3(source: Path, tmp_path: Path, s3: str) -> None:
    from storage.stores.location import Location

    Location.of(s3).write("compact.safetensors", compact(tmp_path).read_bytes())
    method = f"spandrel:{s3}/compact.safetensors"
    assert run(source, tmp_path / "large", method=method, scale=None, device="cpu") == "12 done"


@pytest.mark.slow
@pytest.mark.parametrize(("form", "ending", "kind"), [("jpeg", "jpg", "JPEG"), ("webp", "webp", "WEBP")])
def test_a_format_and_its_quality_are_chosen(form: str, ending: str, kind: str, source: Path, tmp_path: Path) -> None:
    sizes = {}
    for quality in (30, 95):
        target = tmp_path / str(quality)
        assert run(source, target, format=form, quality=quality) == "12 done"
        sizes[quality] = (target / "00000" / f"00000.{ending}").stat().st_size
        assert Image.open(target / "00000" / f"00000.{ending}").format == kind
    assert sizes[30] < 0.7 * sizes[95]


def test_a_result_says_what_made_it_unless_told_not_to(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    run(source, tmp_path / "told", limit=1)
    run(source, tmp_path / "untold", limit=1, provenance=False)
    stamps = []
    for name in ("told", "untold"):
        data = (tmp_path / name / "00000" / "00000.png").read_bytes()
        stamps.append(str(Image.open(io.BytesIO(data)).getexif().get(0x000B)))
    assert stamps[0].startswith("dtls 0.")
    assert stamps[0].endswith("; method bicubic; 1970-01-02")
    assert stamps[1] == "None"


def test_results_that_are_too_large_for_a_format_fail_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    Image.new("L", (9000, 2)).save(tmp_path / "one" / "long.png")
    with pytest.raises(RunError):
        run(tmp_path / "one", tmp_path / "large", method="nearest", format="webp")
    reason = pd.read_parquet(tmp_path / "large" / "manifest.parquet").reason[0]
    assert "16,383" in reason


def test_masks_in_shards_are_told_as_they_are_taken_too(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = photographs / "00000" / "00000.png"
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards" / "a.tar", "w") as tar:
        for name in ("1.png", "1.mask.png", "2.png", "2.mask.png"):
            tar.add(image, name)
    assert run(tmp_path / "shards", tmp_path / "large") == "4 done"
    told = "2 images beside the image of the same sample, such as a/1.mask.png: taken, too; --exclude '*.mask.png'"
    assert f"{tmp_path / 'shards'}: {told} leaves them out" in capsys.readouterr().err
    assert run(tmp_path / "shards", tmp_path / "few", exclude=["*.mask.png"]) == "2 done"
    assert "same sample" not in capsys.readouterr().err
