"""A comparison of unlike things says so: in its rows, its summary and its page; HR is cropped where LR was."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from flows.downscale import DownscaleOptions, downscale
from flows.evaluation.measure import RECEIPT
from flows.evaluation.samples import CROPPED
from flows.upscale import UpscaleOptions, upscale
from tests.flows.reporting import images, made, save

OVER_WHITE = "HR is transparent in parts, SR is not: compared over white"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return images(tmp_path / "images", count=3)


def change(path: Path, image: Image.Image) -> Image.Image:
    """Put an image in the place of another, as PNG."""
    image.save(path, "PNG")
    return image


def see_through(path: Path) -> None:
    with Image.open(path) as image:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        change(path, image)


def table(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "metrics.parquet")


@pytest.mark.slow
def test_transparency_of_one_is_in_the_row_the_summary_and_the_page(folder: Path, tmp_path: Path) -> None:
    see_through(folder / "hr" / "1.png")
    summary = made(folder, tmp_path / "out")
    note = f"{OVER_WHITE}, in 1 image such as 1."
    assert summary["notes"] == [note]
    assert note in (tmp_path / "out" / "index.html").read_text()
    rows = table(tmp_path / "out")
    assert rows[rows.notes.notna()][["key", "notes"]].values.tolist() == [["1", OVER_WHITE]] * 2


@pytest.mark.slow
def test_what_is_unlike_is_counted_by_kind_and_said_of_whom(folder: Path, tmp_path: Path) -> None:
    for name in ("0.png", "2.png"):
        see_through(folder / "good" / name)
    with Image.open(folder / "hr" / "0.png") as hr:
        change(folder / "hr" / "0.png", hr.convert("L"))
    assert made(folder, tmp_path / "out")["notes"] == [
        "HR is grey, SR RGB: compared as RGB, in 1 image such as 0.",
        "SR is transparent in parts, HR is not: compared over white, in 2 images of good such as 0.",
    ]


@pytest.mark.slow
def test_without_hr_images_the_lr_image_is_what_sr_is_unlike(folder: Path, tmp_path: Path) -> None:
    samples = np.full((10, 10), 40_000, np.uint16)
    change(folder / "lr" / "0.png", Image.fromarray(samples))
    notes = made(folder, tmp_path / "out", hr=None)["notes"]
    assert notes[-1] == "LR is grey, SR RGB: compared as RGB, in 1 image such as 0."
    assert notes[-2] == "LR has 16 bits a sample, SR 8: compared in 8 bits, in 1 image such as 0."


@pytest.mark.slow
def test_rows_of_earlier_versions_stay_valid_without_notes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    before = made(folder, out)
    older = [field.name for field in RECEIPT if field.name != "notes"]
    for path in (*(out / ".dtls" / "receipts" / "report").iterdir(), out / "metrics.parquet"):
        old = pq.read_table(path, partitioning=None)
        pq.write_table(old.select([name for name in older if name in old.column_names]), path)
    see_through(folder / "hr" / "1.png")
    capsys.readouterr()
    after = made(folder, out)
    assert "2 done, 4 already done" in capsys.readouterr().err
    assert [row["ok"] for row in after["methods"]] == [row["ok"] for row in before["methods"]] == [3, 3]
    assert after["notes"] == [f"{OVER_WHITE}, in 1 image such as 1."]
    assert "notes" in pa.schema(pq.read_schema(out / "metrics.parquet")).names


def odd(folder: Path, extra: tuple[int, int]) -> None:
    """Make HR images larger at their right and bottom."""
    for path in (folder / "hr").iterdir():
        with Image.open(path) as image:
            wide = Image.new("RGB", (image.width + extra[0], image.height + extra[1]), "red")
            wide.paste(image)
        save(wide, path)


@pytest.mark.slow
@pytest.mark.parametrize("extra", [(3, 1), (0, 3)])
def test_hr_images_are_cropped_to_whole_lr_pixels(folder: Path, tmp_path: Path, extra: tuple[int, int]) -> None:
    expected = made(folder, tmp_path / "even")
    odd(folder, extra)
    summary = made(folder, tmp_path / "odd", figures=True)
    assert summary["methods"] == expected["methods"]
    assert summary["notes"] == [f"{CROPPED}, in 3 images such as 0."]
    with (
        Image.open(tmp_path / "odd" / "contact-sheet.png") as odd_sheet,
        Image.open(tmp_path / "even" / "contact-sheet.png") as even_sheet,
    ):
        assert odd_sheet.tobytes() == even_sheet.tobytes()


@pytest.mark.slow
def test_hr_images_are_cropped_for_broken_scales_as_downscaling_crops_them(folder: Path, tmp_path: Path) -> None:
    hr, lr, sr = (str(tmp_path / name) for name in ("hr", "lr", "sr"))
    for path in (folder / "hr").iterdir():
        with Image.open(path) as image:
            save(image.crop((0, 0, 39, 34)), tmp_path / "hr" / path.name)
    downscale.fn(DownscaleOptions(source=hr, target=lr, scale=2.5, crop=True, protocol="antialias"))
    upscale.fn(UpscaleOptions(source=lr, target=sr, scale=2.5, method="bicubic"))
    summary = made(folder, tmp_path / "out", hr=hr, lr=lr, sr={"ours": sr})
    assert [row["ok"] for row in summary["methods"]] == [3]
    assert summary["notes"] == [f"{CROPPED}, in 3 images such as 0."]
    assert table(tmp_path / "out").scale.tolist() == [2.5] * 3


@pytest.mark.slow
@pytest.mark.parametrize("extra", [(4, 0), (1, 4), (-1, 1)])
def test_hr_images_of_other_sizes_are_not_cropped(folder: Path, tmp_path: Path, extra: tuple[int, int]) -> None:
    odd(folder, extra)
    summary = made(folder, tmp_path / "out")
    assert [row["failed"] for row in summary["methods"]] == [3, 3]
    assert table(tmp_path / "out").error[0] == f"SR is 40×40, HR is {40 + extra[0]}×{40 + extra[1]}"


@pytest.mark.slow
def test_without_lr_images_the_reason_says_what_would_crop(folder: Path, tmp_path: Path) -> None:
    odd(folder, (3, 1))
    made(folder, tmp_path / "out", lr=None)
    assert table(tmp_path / "out").error[0] == (
        "SR is 40×40, HR is 43×41; --lr says whether HR is to be cropped to whole LR pixels"
    )


@pytest.mark.slow
def test_one_method_s_crop_changes_nothing_for_another(folder: Path, tmp_path: Path) -> None:
    odd(folder, (2, 2))
    for path in (folder / "poor").iterdir():
        with Image.open(path) as image:
            save(image.resize((42, 42)), path)
    both = made(folder, tmp_path / "both")
    assert both["notes"] == [f"{CROPPED}, in 3 images of good such as 0."]
    for place, name in enumerate(("good", "poor")):
        alone = made(folder, tmp_path / name, sr={name: str(folder / name)})
        assert json.dumps(alone["methods"][0]) == json.dumps(both["methods"][place])


@pytest.mark.slow
def test_results_that_are_not_turned_upright_say_so(folder: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(folder / "hr" / "0.png") as image:
        image.resize((40, 20)).save(folder / "hr" / "0.png", exif=exif)
    save(Image.new("RGB", (40, 20)), folder / "good" / "0.png")
    made(folder, tmp_path / "out", lr=None)
    failed = table(tmp_path / "out").set_index(["method", "key"]).error["good", "0"]
    assert failed == "SR is 40×20, HR is 20×40, turned upright by EXIF orientations"
