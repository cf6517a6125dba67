"""Restoring as runs: what is known of an image stays bit by bit, holes are filled, and what changed is redone."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from dtls.checkpoints import bundled
from dtls.checkpoints.checkpoint import save_checkpoint
from dtls.errors import ProtocolError, SizeError
from dtls.models.dtls import DTLS
from flows.degrade import DegradeOptions, degrade
from flows.interface.errors import RunError
from flows.restore import RestoreOptions, restore
from flows.shard import ShardOptions, shard
from flows.upscale import UpscaleOptions, upscale
from storage.archives.source import open_source
from storage.images.formats import is_image, stem
from storage.images.photo import open_photo
from storage.stores.location import Location, StorageError

SIZE = (20, 24)
"""(H, W) of the images."""
KINDS = ("plain.png", "grey.png", "deep.png", "palette.gif", "cmyk.tif")


@pytest.fixture
def source(tmp_path: Path, photographs: Path) -> Path:
    """A photograph in colours of 8 bits, in grey, in 16 bits, with a palette, and in colours of print."""
    folder = tmp_path / "source"
    folder.mkdir()
    with Image.open(sorted(photographs.rglob("*.png"))[0]) as photograph:
        small = photograph.convert("RGB").resize(SIZE[::-1])
    small.save(folder / "plain.png")
    small.convert("L").save(folder / "grey.png")
    Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 211 + 7).save(folder / "deep.png")
    small.convert("P").save(folder / "palette.gif")
    small.convert("CMYK").save(folder / "cmyk.tif")
    return folder


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """A mask of its own for each of these."""
    folder = tmp_path / "masks"
    folder.mkdir()
    for place, name in enumerate(KINDS):
        Image.fromarray(hole(place)).save(folder / Path(name).with_suffix(".png"))
    return folder


def hole(place: int = 0) -> NDArray[np.uint8]:
    """A mask: white in a rectangle."""
    white = np.zeros(SIZE, np.uint8)
    white[2 + place : 9 + place, 3 + 2 * place : 12 + place] = 255
    return white


def restored(source: Path | str, target: Path | str, **options: Any) -> str:
    given = {"source": str(source), "target": str(target), "task": "inpaint", "method": "membrane", **options}
    if "masks" in given:
        given["masks"] = str(given["masks"])
    return restore.fn(RestoreOptions.model_validate(given))


def pixels(data: bytes) -> tuple[NDArray[Any], NDArray[Any] | None]:
    found = open_photo(data)
    return found.pixels, found.alpha


def contents(address: Path | str) -> dict[str, bytes]:
    """The images at an address by their names without endings."""
    opened = open_source(str(address))
    entries = [entry for entry in opened.list() if is_image(entry.key)]
    return {stem(entry.key): opened.fetch(entry) for entry in entries}


def rows(target: Path) -> pd.DataFrame:
    return pd.read_parquet(target / "manifest.parquet").set_index("key")


def test_what_is_known_stays_bit_by_bit_and_holes_are_filled(source: Path, masks: Path, tmp_path: Path) -> None:
    assert restored(source, tmp_path / "whole", masks=masks) == "5 done"
    for place, name in enumerate(KINDS):
        before, _ = pixels((source / name).read_bytes())
        after, _ = pixels((tmp_path / "whole" / name).with_suffix(".png").read_bytes())
        known = hole(place) == 0
        assert (after.shape, after.dtype) == (before.shape, before.dtype)
        assert np.array_equal(after[known], before[known])
        assert not np.array_equal(after[~known], before[~known])
    found = rows(tmp_path / "whole")
    assert set(found.method) == {"membrane"}
    assert set(found.protocol) == {"mask"}
    assert found["mask"].to_dict() == {name: f"{name.partition('.')[0]}.png" for name in KINDS}
    assert (found.mask_sha256.str.len() == 64).all()


@pytest.mark.slow
def test_a_second_run_does_nothing_and_a_changed_mask_redoes_its_image_alone(
    source: Path, masks: Path, tmp_path: Path
) -> None:
    target = tmp_path / "whole"
    restored(source, target, masks=masks)
    before = contents(target)
    assert restored(source, target, masks=masks) == "5 already done"
    Image.fromarray(hole(7)).save(masks / "grey.png")
    assert restored(source, target, masks=masks) == "1 done, 4 already done"
    after = contents(target)
    assert {name for name in before if before[name] != after[name]} == {"grey"}
    (masks / "plain.png").rename(masks / "other.png")
    with pytest.raises(RunError, match="1 of 5 images failed"):
        restored(source, target, masks=masks)
    assert "has no mask for it; plain.png would be one" in rows(target).reason["plain.png"]


def test_masks_of_another_place_or_none_are_other_options_and_leave_results_alone(
    source: Path, masks: Path, tmp_path: Path
) -> None:
    target = tmp_path / "whole"
    restored(source, target, masks=masks)
    before = contents(target)
    shutil.copytree(masks, tmp_path / "others")
    for given in ({"masks": tmp_path / "others"}, {}):
        with pytest.raises(StorageError, match="--overwrite"):
            restored(source, target, **given)
    assert contents(target) == before
    assert restored(source, target, masks=tmp_path / "others", overwrite=True) == "5 done"


@pytest.mark.slow
def test_a_mask_with_other_bytes_under_its_size_and_its_time_is_noticed(source: Path, tmp_path: Path) -> None:
    mask, target = tmp_path / "mask.bmp", tmp_path / "whole"
    Image.fromarray(hole(0)).save(mask)
    restored(source, target, masks=mask)
    stat, before = mask.stat(), contents(target)
    mask.touch()
    os.utime(mask, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert restored(source, target, masks=mask) == "5 already done"
    Image.fromarray(hole(3)).save(mask)
    os.utime(mask, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert restored(source, target, masks=mask) == "5 done"
    assert all(before[name] != made for name, made in contents(target).items())


def test_bad_masks_are_failed_rows_with_their_reasons(source: Path, masks: Path, tmp_path: Path) -> None:
    Image.new("L", (9, 9), 255).save(masks / "plain.png")
    Image.new("L", SIZE[::-1], 0).save(masks / "grey.png")
    (masks / "deep.png").write_bytes(b"no image")
    (masks / "palette.png").unlink()
    assert restored(source, tmp_path / "whole", masks=masks, max_failed=1) == "1 done, 4 failed"
    reasons = rows(tmp_path / "whole").reason
    assert reasons["plain.png"].startswith("its mask plain.png has 9×9 pixels, and the image 24×20")
    assert reasons["grey.png"].startswith("its mask grey.png masks nothing")
    assert reasons["deep.png"].startswith("its mask deep.png: ")
    assert "has no mask for it; palette.png would be one" in reasons["palette.gif"]


def test_transparent_pixels_are_holes_that_become_opaque(source: Path, tmp_path: Path) -> None:
    (tmp_path / "torn").mkdir()
    with Image.open(source / "plain.png") as image:
        alpha = np.where(hole() > 0, 0, 255).astype(np.uint8)
        image.putalpha(Image.fromarray(alpha))
        image.save(tmp_path / "torn" / "opaque.png")
        alpha[-1] = 99
        image.putalpha(Image.fromarray(alpha))
        image.save(tmp_path / "torn" / "soft.png")
    shutil.copy(source / "grey.png", tmp_path / "torn" / "whole.png")
    assert restored(tmp_path / "torn", tmp_path / "whole", max_failed=1) == "2 done, 1 failed"
    before = pixels((source / "plain.png").read_bytes())[0]
    opaque, soft = (pixels((tmp_path / "whole" / name).read_bytes()) for name in ("opaque.png", "soft.png"))
    assert opaque[1] is None
    assert np.array_equal(opaque[0], soft[0])
    assert np.array_equal(opaque[0][hole() == 0], before[hole() == 0])
    assert soft[1] is not None
    assert np.array_equal(soft[1], np.where(alpha == 0, 255, alpha))
    assert rows(tmp_path / "whole").reason["whole.png"].startswith("no pixel is transparent")


def test_one_file_is_the_mask_of_all_and_other_transparency_stays(source: Path, tmp_path: Path) -> None:
    Image.fromarray(hole()).save(tmp_path / "mask.png")
    with Image.open(source / "plain.png") as image:
        alpha = np.asarray(Image.linear_gradient("L").resize(SIZE[::-1])).copy()
        alpha[-3:] = 0  # what colours these have is unseen, and stays
        image.putalpha(Image.fromarray(alpha))
        image.save(source / "clear.png")
    assert restored(source, tmp_path / "whole", masks=tmp_path / "mask.png") == "6 done"
    before, after = (pixels((folder / "clear.png").read_bytes()) for folder in (source, tmp_path / "whole"))
    assert before[1] is not None
    assert after[1] is not None
    assert np.array_equal(before[1], after[1])
    assert np.array_equal(before[0][hole() == 0], after[0][hole() == 0])


@pytest.mark.parametrize("where", ["archive", "shards", pytest.param("processes", marks=pytest.mark.slow)])
def test_sources_masks_and_targets_are_of_every_kind(where: str, source: Path, masks: Path, tmp_path: Path) -> None:
    restored(source, tmp_path / "whole", masks=masks)
    expected = contents(tmp_path / "whole")
    if where == "archive":
        archives = [shutil.make_archive(str(tmp_path / folder.name), "zip", folder) for folder in (source, masks)]
        restored(archives[0], tmp_path / "whole.tar", masks=archives[1])
        assert contents(tmp_path / "whole.tar") == expected
    elif where == "shards":
        shard.fn(ShardOptions(source=str(source), target=str(tmp_path / "shards"), samples_per_shard=2))
        for key in contents(tmp_path / "shards"):
            (tmp_path / "beside" / key).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(hole()).save(tmp_path / "beside" / f"{key}.png")
        made = {"masks": tmp_path / "beside", "samples_per_shard": 2}
        assert restored(tmp_path / "shards", tmp_path / "made", **made) == "5 done"
        assert restored(tmp_path / "shards", tmp_path / "made", **made) == "5 already done"
        assert contents(tmp_path / "made").keys() == contents(tmp_path / "shards").keys()
    else:
        restored(source, tmp_path / "other", masks=masks, runner="processes")
        assert contents(tmp_path / "other") == expected


@pytest.mark.integration
def test_images_masks_and_results_may_be_on_s3(s3: str, source: Path, masks: Path, tmp_path: Path) -> None:
    for folder in (source, masks):
        for path in folder.iterdir():
            Location.of(f"{s3}/{folder.name}").upload(path.name, path)
    restored(source, tmp_path / "whole", masks=masks)
    there = {"masks": f"{s3}/masks"}
    assert restored(f"{s3}/source", f"{s3}/whole", **there) == "5 done"
    assert contents(f"{s3}/whole") == contents(tmp_path / "whole")
    assert restored(f"{s3}/source", f"{s3}/whole", **there) == "5 already done"


def test_a_dry_run_tells_and_writes_nothing(
    source: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restored(source, tmp_path / "whole", masks=masks, dry_run=True).startswith("5 to do")
    assert "none of those tried" not in capsys.readouterr().err
    assert not (tmp_path / "whole").exists()


@pytest.mark.slow
def test_a_choice_of_images_leaves_the_others_as_they_are(source: Path, masks: Path, tmp_path: Path) -> None:
    target = tmp_path / "whole"
    restored(source, target, masks=masks)
    for name in ("grey.png", "plain.png"):
        Image.fromarray(hole(8)).save(masks / name)
    before = contents(target)
    assert restored(source, target, masks=masks, include=["grey*"]) == "1 done, 4 already done"
    after = contents(target)
    assert {name for name in before if before[name] != after[name]} == {"grey"}


def test_another_choice_makes_a_lost_result_again_by_its_own_mask(source: Path, masks: Path, tmp_path: Path) -> None:
    target = tmp_path / "whole"
    restored(source, target, masks=masks, include=["plain*"])
    before = (target / "plain.png").read_bytes()
    (target / "plain.png").unlink()
    assert restored(source, target, masks=masks, include=["grey*"]) == "2 done"
    assert (target / "plain.png").read_bytes() == before
    assert rows(target)["mask"].to_dict() == {"plain.png": "plain.png", "grey.png": "grey.png"}


def test_masks_among_the_images_are_refused_before_any_work_unless_left_out(source: Path, tmp_path: Path) -> None:
    (source / "masks").mkdir()
    Image.fromarray(hole()).save(source / "masks" / "plain.png")
    with pytest.raises(StorageError, match=r"is inside the source .*; move them, or leave them out by --exclude"):
        restored(source, tmp_path / "whole", masks=source / "masks")
    with pytest.raises(StorageError, match=r"is inside the source"):
        restored(source, tmp_path / "whole", masks=source / "masks", limit=3)
    given = {"masks": source / "masks", "include": ["plain.png"]}
    assert restored(source, tmp_path / "whole", **given) == "1 done"


@pytest.mark.slow
def test_other_options_stop_the_run_before_any_work(source: Path, masks: Path, tmp_path: Path) -> None:
    restored(source, tmp_path / "whole", masks=masks)
    with pytest.raises(StorageError, match="--overwrite"):
        restored(source, tmp_path / "whole", masks=masks, format="tiff")
    assert restored(source, tmp_path / "whole", masks=masks, format="tiff", overwrite=True) == "5 done"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained checkpoints: of colourisation, of two other tasks, and of upscaling."""
    folder = tmp_path_factory.mktemp("models")
    for spec in ("grey", "mask", "dark:0.25", None):
        torch.manual_seed(0)
        family = {"stride": 4, "steps": 3} if spec is None else {"steps": 4, "degradation": spec}
        save_checkpoint(DTLS(dim=4, multipliers=(1, 2), size=16, **family), folder / str(spec))
    return folder


def by_model(source: Path, target: Path, model: Path, task: str, **options: Any) -> str:
    given = {"method": None, "task": task, "checkpoint": str(model), "device": "cpu", **options}
    return restored(source, target, **given)


@pytest.mark.slow
def test_grey_images_of_every_kind_get_colours_of_their_own_lightness(
    source: Path, models: Path, tmp_path: Path
) -> None:
    coded, clear = source / "coded.jpg", source / "clear.png"
    with Image.open(source / "grey.png") as grey:
        grey.convert("RGB").save(coded, quality=95)
        Image.merge("LA", (grey, Image.linear_gradient("L").resize(SIZE[::-1]))).save(clear)
    kinds = ("grey.png", "deep.png", "coded.jpg", "clear.png")
    assert by_model(source, tmp_path / "coloured", models / "grey", "colourise", max_failed=1) == "4 done, 3 failed"
    for name in kinds:
        before, alpha = pixels((source / name).read_bytes())
        after, other = pixels((tmp_path / "coloured" / name).with_suffix(".png").read_bytes())
        assert (after.shape, after.dtype) == ((*SIZE, 3), before.dtype)
        assert (alpha is None) == (other is None)
        assert alpha is None or other is None or np.array_equal(alpha, other)
        largest = np.iinfo(after.dtype).max
        off = (after @ np.array([0.299, 0.587, 0.114]) - before.mean(axis=2)) / largest
        assert np.median(abs(off)) < 0.5 / 255  # but where colours of an untrained network are cut
        assert np.ptp(after.astype(float), axis=2).mean() > 0.01 * largest
    found = rows(tmp_path / "coloured")
    assert set(found.protocol.dropna()) == {"grey"}
    assert set(found.reason.dropna()) == {
        "it is in colour already, and only grey images are colourised; dtls degrade FOLDER GREY --task colourise "
        "takes the colours out"
    }


@pytest.mark.slow
def test_a_model_fills_holes_and_keeps_all_else_and_another_task_s_is_refused(
    source: Path, masks: Path, models: Path, tmp_path: Path
) -> None:
    assert by_model(source, tmp_path / "whole", models / "mask", "inpaint", masks=masks, batch_size=2) == "5 done"
    for place, name in enumerate(KINDS):
        before, _ = pixels((source / name).read_bytes())
        after, _ = pixels((tmp_path / "whole" / name).with_suffix(".png").read_bytes())
        assert np.array_equal(after[hole(place) == 0], before[hole(place) == 0])
        assert not np.array_equal(after, before)
    with pytest.raises(
        ProtocolError, match=r"for inpaint, not colourise; say --task inpaint, or give a model of this"
    ):
        by_model(source, tmp_path / "other", models / "mask", "colourise")
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_images_that_were_degraded_otherwise_are_refused_unless_asked_for(
    source: Path, models: Path, tmp_path: Path
) -> None:
    (source / "cmyk.tif").unlink()
    for strength in (0.5, 1):
        made = {"source": str(source), "target": str(tmp_path / f"dark{strength}"), "task": "lowlight:0.25"}
        degrade.fn(DegradeOptions.model_validate(made | {"strength": strength}))
    model, task = models / "dark:0.25", "lowlight:0.25"
    assert by_model(tmp_path / "dark1", tmp_path / "light", model, task) == "4 done"
    assert by_model(tmp_path / "dark0.5", tmp_path / "half", model, task, strength=0.5) == "4 done"
    assert set(rows(tmp_path / "half").protocol) == {"dark:0.25*0.5"}
    with pytest.raises(ProtocolError, match=r"undoes dark:0\.25, and the images in .* are made by dark:0\.25\*0\.5"):
        by_model(tmp_path / "dark0.5", tmp_path / "other", model, task)
    assert by_model(tmp_path / "dark0.5", tmp_path / "other", model, task, any_protocol=True) == "4 done"


def test_a_model_that_enlarges_and_a_task_without_a_model_say_what_to_do(
    source: Path, models: Path, tmp_path: Path
) -> None:
    with pytest.raises(SizeError, match=r"dtls enlarges images, .*; use dtls upscale"):
        by_model(source, tmp_path / "whole", models / "None", "colourise")
    with pytest.raises(ValidationError, match=r"no model for denoise:0\.3 comes with dtls; .*give --checkpoint"):
        restored(source, tmp_path / "whole", method=None, task="denoise:0.3")
    given = {"source": str(source), "target": str(tmp_path / "whole"), "checkpoint": str(models / "grey")}
    with pytest.raises(SizeError, match=r"restores images at their own size, .*; use dtls restore"):
        upscale.fn(UpscaleOptions.model_validate(given))
    assert not (tmp_path / "whole").exists()


@pytest.mark.slow
def test_without_a_method_the_bundled_model_of_the_task_is_taken_and_named(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bundled, "FOLDER", models)
    model = bundled.Bundled("dark:0.25", 1, "photographs", "lowlight:0.25")
    for known in (bundled.BUNDLED, bundled.RESTORING):
        monkeypatch.setitem(known, model.name, model)
    Image.new("RGB", (24, 16), (10, 20, 30)).save(tmp_path / "dark.png")
    for name, chosen in (("first", {}), ("named", {"checkpoint": model.name})):
        options = {"method": None, "task": "lowlight:1/4", "device": "cpu", **chosen}
        assert restored(tmp_path / "dark.png", tmp_path / name, **options) == "1 done"
    assert capsys.readouterr().err.count("with dark:0.25, trained on photographs\n") == 1
    made, same = (rows(tmp_path / name) for name in ("first", "named"))
    assert list(made.sha256) == list(same.sha256)
    assert list(made.checkpoint) == list(same.checkpoint)


def test_holes_are_filled_smoothly_where_no_model_is_named(
    tmp_path: Path, source: Path, masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restored(source, tmp_path / "whole", method=None, masks=masks) == "5 done"
    assert "by membrane, which fills smoothly: right for scratches and small spots" in capsys.readouterr().err
    assert set(rows(tmp_path / "whole").method) == {"membrane"}


def test_equations_bring_light_back_where_no_model_is_named(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    degrade.fn(DegradeOptions(source=str(source / "plain.png"), target=str(tmp_path / "dark"), task="lowlight:0.25"))
    assert restored(tmp_path / "dark", tmp_path / "made", task="lowlight:0.25", method=None) == "1 done"
    assert "by inverse, which solves the equations: right for images without noise" in capsys.readouterr().err
    made, was = (np.asarray(Image.open(folder / "plain.png"), int) for folder in (tmp_path / "made", source))
    assert np.abs(made - was).mean() <= 1
    assert set(rows(tmp_path / "made").method) == {"inverse"}
    with pytest.raises(ProtocolError, match=r"undoes dark:0\.5.*made by dark:0\.25; --any-protocol takes them"):
        restored(tmp_path / "dark", tmp_path / "other", task="lowlight:0.5", method="inverse")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"task": "sr:4", "method": None}, "sr:4 changes the size of images: use dtls upscale --scale 4"),
        ({"task": "deblur:2"}, "the method membrane fills holes: it is for --task inpaint, not deblur:2"),
        ({"method": "inverse"}, "inverse is for tasks whose images hold all that there was, such as deblur:2 and"),
        ({"method": "inverse", "task": "deblur:2", "strength": 0.5}, "--strength goes with a trained model"),
        ({"method": None, "task": "deblur:2", "sampler": "current"}, "--sampler goes with a trained model"),
        ({"method": "bicubic"}, "no method that restores is called 'bicubic'"),
        ({"checkpoint": "m"}, "the method membrane has no checkpoint"),
        ({"project": True}, "inpaint keeps what is known of an image in any case"),
        ({"project": True, "method": None}, "inpaint keeps what is known of an image in any case"),
        ({"task": "denoise:0.1+inpaint", "method": None}, "inpaint stands alone"),
        ({"task": "colourise+denoise:0.1", "method": None}, "grey changes the size or channels, so it has to come"),
        ({"task": "deblur:2", "method": None, "sampler": "foo"}, "Input should be 'two-call', 'one-call'"),
        ({"task": "deblur:2", "method": None, "project_passes": 2}, "project-passes goes with --project"),
        ({"task": "deblur:2", "method": None, "masks": "m"}, "--masks goes with --task inpaint"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        RestoreOptions.model_validate(
            {"source": "a", "target": "b", "task": "inpaint", "method": "membrane"} | options
        )
