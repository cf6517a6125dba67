"""A dry run tries images from all over the plan, and says what it judges by."""

from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from flows.downscale import DownscaleOptions, downscale
from flows.transform.estimate import spread
from flows.upscale import UpscaleOptions, upscale
from storage.stores.location import Entry


@pytest.mark.parametrize("total", [1, 2, 15, 16, 17, 31, 1000])
@pytest.mark.parametrize("count", [1, 2, 16])
def test_images_to_try_are_distinct_and_spread_over_all_with_the_last(total: int, count: int) -> None:
    entries = [Entry(f"{number:04d}.png", 1, "") for number in range(total)]
    chosen = [int(entry.key[:4]) for entry in spread(entries, count)]
    assert len(set(chosen)) == len(chosen) == min(total, count)
    assert chosen[-1] == total - 1
    gaps = {later - earlier for earlier, later in pairwise(chosen)}
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert count == 1 or chosen[0] == 0


def plan(source: Path, tmp_path: Path, **options: object) -> str:
    given = {"source": str(source), "target": str(tmp_path / "out"), "method": "nearest", "scale": 2, **options}
    return upscale.fn(UpscaleOptions.model_validate({**given, "dry_run": True}))


@pytest.mark.parametrize(
    ("form", "says"),
    [("png", "as PNG"), ("webp", "as WEBP"), ("same", "in the formats of the source")],
)
def test_the_estimate_says_its_format_and_what_it_is_judged_by(
    form: str, says: str, photographs: Path, tmp_path: Path
) -> None:
    said = plan(photographs, tmp_path, format=form)
    assert said.startswith("12 to do from ")
    assert said.endswith(f" to write {says}, judged by trying 11 of them")


def test_one_image_is_one_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "in" / "a.png")
    assert plan(tmp_path / "in", tmp_path).endswith("judged by trying it")
    assert "\n  1 image, " in capsys.readouterr().err


def test_where_none_can_be_made_the_first_reason_is_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        Image.new("RGB", (9, 9)).save(tmp_path / "in" / f"{number}.png")
    given = {"source": str(tmp_path / "in"), "target": str(tmp_path / "out"), "scale": 2, "dry_run": True}
    said = downscale.fn(DownscaleOptions.model_validate(given))
    assert said.startswith("3 to do, and none of those tried could be made; 0.png: ")
    assert "9×9" in said


def test_the_estimate_goes_by_those_that_can_be_made(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(4):
        (tmp_path / "in" / f"{number}.png").write_bytes(b"no image")
    (tmp_path / "in" / "0.png").write_bytes((photographs / "00000" / "00000.png").read_bytes())
    assert plan(tmp_path / "in", tmp_path).endswith("judged by trying 1 of them")
