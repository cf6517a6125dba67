"""Images that do not fit: larger than the size, too small for the scale, or of sides that it does not divide."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dtls.checkpoints.checkpoint import save_checkpoint
from dtls.errors import SizeError
from dtls.models.dtls import DTLS
from flows.cli import main
from flows.downscale import DownscaleOptions, downscale
from flows.interface.errors import RunError
from flows.status import StatusOptions, status
from flows.transform.sizes import Reduced
from flows.upscale import UpscaleOptions, upscale
from flows.verify import VerifyOptions, verify
from storage.archives.source import open_source
from storage.receipts.units import SkippedError
from storage.stores.location import StorageError

SIZES = {
    "small.png": (30, 20),
    "tall.png": (20, 30),
    "equal.png": (25, 40),
    "wide.jpg": (60, 40),
    "high.png": (33, 90),
}
"""Width and height of each image; the size wanted is 40."""
LARGER = {"wide.jpg", "high.png"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for number, (name, (width, height)) in enumerate(SIZES.items()):
        noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name, exif=Image.Exif())
    return folder


def upscaled(source: Path, target: Path, **options: Any) -> str:
    given = {"method": "lanczos", "size": 40, "max_failed": 1, **options}
    return upscale.fn(UpscaleOptions.model_validate({"source": str(source), "target": str(target), **given}))


def downscaled(source: Path, target: Path, **options: Any) -> str:
    given = {"scale": 2, "max_failed": 1, **options}
    return downscale.fn(DownscaleOptions.model_validate({"source": str(source), "target": str(target), **given}))


def rows(target: Path) -> dict[str, dict[str, Any]]:
    table = pd.read_parquet(target / "manifest.parquet").set_index("key")
    return {str(key): dict(row) for key, row in table.iterrows()}


def sizes(target: Path) -> dict[str, tuple[int, int]]:
    found = open_source(str(target))
    entries = [entry for entry in found.list() if entry.key.endswith((".png", ".jpg"))]
    return {entry.key: Image.open(io.BytesIO(found.fetch(entry))).size for entry in entries}


def test_what_is_larger_fails_by_a_reason_that_names_the_way_out(source: Path, tmp_path: Path) -> None:
    assert upscaled(source, tmp_path / "large") == "3 done, 2 failed"
    reason = rows(tmp_path / "large")["high.png"]["reason"]
    assert reason.startswith("33×90 is larger than the size 40 already; --larger skip leaves such images out")
    assert sizes(tmp_path / "large") == {"small.png": (40, 27), "tall.png": (27, 40), "equal.png": (25, 40)}
    with pytest.raises(RunError, match="2 of 5 images failed"):
        upscaled(source, tmp_path / "large", max_failed=0.1)


@pytest.mark.parametrize("name", ["large", "large.zip"])
def test_what_is_larger_is_skipped_counted_and_told(
    name: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / name
    folder = target if name == "large" else tmp_path / "large.zip.dtls"
    assert upscaled(source, target, larger="skip", max_failed=0) == "3 done, 2 skipped"
    assert (
        "skipped: 2 images, such as high.png: 33×90 is larger than the size 40 already\n" in capsys.readouterr().err
    )
    assert {key: row["status"] for key, row in rows(folder).items() if key in LARGER} == dict.fromkeys(
        LARGER, "skipped"
    )
    assert sizes(target).keys() == {"small.png", "tall.png", "equal.png"}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for options in ({}, {"retry_failed": True}):
        assert upscaled(source, target, larger="skip", **options) == "3 already done, 2 skipped"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert "100% of 5 images: 3 done, 2 skipped, in " in status(StatusOptions(target=str(target)))
    assert "are whole" in verify(VerifyOptions(target=str(target)))


@pytest.mark.parametrize("method", ["nearest", "lanczos", "dtls"])
@pytest.mark.parametrize("format_", ["png", "same"])
def test_what_is_larger_is_copied(method: str, format_: str, source: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": method}
    if method == "dtls":
        save_checkpoint(
            DTLS(dim=8, multipliers=(1, 2), residual=True, size=32, stride=8, steps=3), tmp_path / "model"
        )
        options = {"method": None, "checkpoint": str(tmp_path / "model"), "device": "cpu"}
    assert upscaled(source, tmp_path / "large", larger="copy", format=format_, **options) == "5 done"
    found = rows(tmp_path / "large")
    for key in LARGER:
        output = tmp_path / "large" / found[key]["output"]
        assert found[key]["method"] == "copy"
        assert not isinstance(found[key]["checkpoint"], str)
        assert found[key]["note"].startswith("copied, as it is no smaller than the size wanted")
        assert (found[key]["width"], found[key]["height"]) == SIZES[key]
        assert (output.read_bytes() == (source / key).read_bytes()) == (format_ == "same")
        assert np.array_equal(np.asarray(Image.open(output)), np.asarray(Image.open(source / key)))
    equal, made = (np.asarray(Image.open(folder / "equal.png")) for folder in (source, tmp_path / "large"))
    assert np.array_equal(equal, made)
    assert upscaled(source, tmp_path / "large", larger="copy", format=format_, **options) == "5 already done"


@pytest.mark.slow
def test_a_network_leaves_an_image_of_the_size_wanted_as_it_is(source: Path, tmp_path: Path) -> None:
    save_checkpoint(DTLS(dim=8, multipliers=(1, 2), residual=True, size=32, stride=8, steps=3), tmp_path / "model")
    options = {"method": None, "checkpoint": str(tmp_path / "model"), "device": "cpu"}
    for _ in range(2):
        assert upscaled(source, tmp_path / "large", **options).endswith("done, 2 failed")
    assert rows(tmp_path / "large")["equal.png"]["method"] == "copy"


def test_a_name_that_says_another_format_is_kept_by_encoding_anew(source: Path, tmp_path: Path) -> None:
    (source / "wide.jpg").rename(source / "wide.png")
    upscaled(source, tmp_path / "large", larger="copy", format="same")
    with Image.open(tmp_path / "large" / "wide.png") as made:
        assert (made.format, made.size) == ("PNG", (60, 40))


@pytest.mark.slow
def test_another_choice_changes_the_larger_ones_alone(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "large"
    assert upscaled(source, target) == "3 done, 2 failed"
    assert upscaled(source, target, larger="skip") == "3 already done, 2 skipped"
    assert upscaled(source, target, larger="copy") == "2 done, 3 already done"
    with pytest.raises(StorageError, match="holds 2 results made with other options, which would be replaced"):
        upscaled(source, target, larger="skip")
    assert upscaled(source, target, larger="skip", overwrite=True) == "3 already done, 2 skipped"
    assert sizes(target).keys() == {"small.png", "tall.png", "equal.png"}
    assert upscaled(source, target) == "3 already done, 2 failed"
    assert upscaled(source, target, larger="copy", samples_per_shard=2, overwrite=True) == "5 done"
    assert upscaled(source, target, larger="skip", samples_per_shard=2, overwrite=True).endswith(" 2 skipped")


@pytest.mark.slow
@pytest.mark.parametrize("larger", ["fail", "skip"])
@pytest.mark.parametrize("shards", [None, 100])
def test_a_new_image_is_no_leave_for_another_choice_to_take_results_away(
    larger: str, shards: int | None, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "large"
    assert upscaled(source, target, larger="copy", samples_per_shard=shards) == "5 done"
    Image.new("RGB", (9, 9)).save(source / "new.png")
    before = {path.name: path.read_bytes() for path in target.glob("[!.]*.*")}
    with pytest.raises(StorageError, match=r"holds (1|2) results? made with other options, which would be replaced"):
        upscaled(source, target, larger=larger, samples_per_shard=shards)
    assert {path.name: path.read_bytes() for path in target.glob("[!.]*.*")} == before
    assert " done" in upscaled(source, target, larger="copy", samples_per_shard=shards)
    assert "2 " in upscaled(source, target, larger=larger, samples_per_shard=shards, overwrite=True)


def test_larger_goes_with_a_size(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["dtls", "upscale", "a", "b", "--scale", "2", "--larger", "skip"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--larger goes with --size" in capsys.readouterr().err


def test_sides_that_the_scale_does_not_divide_are_cropped_at_the_right_and_the_bottom(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "hr"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (21, 33, 4), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "odd.png")
    Image.fromarray(noise[:20, :32]).save(folder / "even.png")
    assert downscaled(folder, tmp_path / "lr") == "1 done, 1 failed"
    says = "33×21 is no multiple of the scale 2; --crop cuts such images to a multiple"
    assert rows(tmp_path / "lr")["odd.png"]["reason"] == says
    assert downscaled(folder, tmp_path / "lr", crop=True) == "1 done, 1 already done"
    assert "not kept: edges beyond a multiple of the scale (1)" in capsys.readouterr().err
    odd, even = (np.asarray(Image.open(tmp_path / "lr" / name)) for name in ("odd.png", "even.png"))
    assert np.array_equal(odd, even)
    assert downscaled(folder, tmp_path / "lr", crop=True) == "2 already done"
    with pytest.raises(StorageError, match="holds 1 result made with other options"):
        downscaled(folder, tmp_path / "lr")


def test_a_turned_photograph_is_cropped_as_it_is_seen(tmp_path: Path) -> None:
    folder = tmp_path / "hr"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (21, 33, 3), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 3  # by half
    Image.fromarray(noise).save(folder / "turned.png", exif=turned)
    Image.fromarray(noise[::-1, ::-1]).save(folder / "upright.png")
    downscaled(folder, tmp_path / "lr", crop=True)
    first, second = (np.asarray(Image.open(tmp_path / "lr" / f"{name}.png")) for name in ("turned", "upright"))
    assert np.array_equal(first, second)


def test_what_is_too_small_to_be_reduced_fails_or_is_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "hr"
    folder.mkdir()
    for name, size in {"line.png": (1, 20), "good.png": (8, 8)}.items():
        Image.new("RGB", size).save(folder / name)
    assert downscaled(folder, tmp_path / "lr", crop=True) == "1 done, 1 failed"
    assert "--smaller skip leaves such images out" in rows(tmp_path / "lr")["line.png"]["reason"]
    assert downscaled(folder, tmp_path / "lr", smaller="skip") == "1 already done, 1 skipped"
    assert rows(tmp_path / "lr")["line.png"]["reason"] == "1×20 is smaller than one pixel at the scale 2"


@pytest.mark.parametrize(
    ("size", "scale", "part"),
    [
        ((21, 33), 2, (20, 32)),
        ((20, 32), 2, (20, 32)),
        ((10, 10), 1.5, (9, 9)),
        ((7, 100), 2.5, (5, 100)),
        ((8, 9), 3, (6, 9)),
    ],
)
def test_the_part_is_the_largest_that_the_scale_divides(
    size: tuple[int, int], scale: float, part: tuple[int, int]
) -> None:
    assert Reduced(scale, cropped=True).part(size) == part
    assert Reduced(scale, cropped=True)(size) == (round(part[0] / scale), round(part[1] / scale))


def test_where_no_part_is_divided_the_image_is_too_small() -> None:
    with pytest.raises(SizeError, match=r"smaller than one pixel at the scale 3\.3; --smaller skip"):
        Reduced(3.3, cropped=True)((20, 40))
    with pytest.raises(SkippedError):
        Reduced(3.3, "skip", cropped=True)((20, 40))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "scale"), [(None, 4), ("model-8", 4), ("model-2", 2), ("model-1.6", 1.6), ("bundled", 4)]
)
def test_the_scale_is_four_or_the_models_own_where_nothing_is_said(
    model: str | None, scale: float, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"size": None, "limit": 1, "include": ["small.png"]}
    if model == "bundled":
        options["method"] = None
    elif model is not None:
        low = round(40 / float(model.partition("-")[2]))
        save_checkpoint(
            DTLS(dim=8, multipliers=(1, 2), residual=True, size=40, stride=40 - low, steps=1), tmp_path / "model"
        )
        options |= {"method": None, "checkpoint": str(tmp_path / "model"), "device": "cpu"}
    assert upscaled(source, tmp_path / "large", **options) == "1 done"
    assert f"with the scale {scale:g}, the " in capsys.readouterr().err
    assert sizes(tmp_path / "large")["small.png"] == (30 * scale, 20 * scale)
    assert upscaled(source, tmp_path / "large", **options, scale=scale) == "1 already done"
