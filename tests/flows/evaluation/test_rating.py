"""A report's rating page and what people answer: names stay at home, answers find back to their methods."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from flows.downscale import DownscaleOptions, downscale
from flows.evaluation import rating
from flows.report import ReportOptions, report
from flows.upscale import UpscaleOptions, upscale
from reports.rating.answers import MAX_FILE
from storage.stores.location import Location, StorageError
from tests.flows.reporting import answers


@pytest.fixture(scope="module")
def compared(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    downscale.fn(DownscaleOptions(source=str(photographs), target=str(folder / "lr"), scale=4))
    for method in ("nearest", "bicubic"):
        upscale.fn(UpscaleOptions(source=str(folder / "lr"), target=str(folder / method), method=method, scale=4))
    (folder / "hr").symlink_to(photographs)
    return folder


def without(compared: Path, folder: Path, *keys: str) -> str:
    """A copy of the bicubic results that lacks these."""
    shutil.copytree(compared / "bicubic", folder)
    for key in keys:
        file_of(folder, key).unlink()
    return str(folder)


def file_of(results: Path, key: str) -> Path:
    """The result of a key, whatever its suffix."""
    return next((results / key).parent.glob(f"{Path(key).stem}.*"))


def keys(compared: Path) -> list[str]:
    """Of the images, the worst nearest result first, which is the page's order."""
    made(compared, compared / "known", sr={"nearest": str(compared / "nearest")}, rating="none", gallery=0)
    return list(pd.read_parquet(compared / "known" / "metrics.parquet").sort_values("psnr").key)


def asked(out: Path) -> set[str]:
    """The keys that the page asks about, each with both methods."""
    study = json.loads((out / "study.json").read_text())
    for item in study["items"]:
        assert set(item["results"].values()) == {"nearest", "bicubic"}
    return {item["key"] for item in study["items"]}


def made(compared: Path, out: Path | str, **options: Any) -> None:
    sr = {name: str(compared / name) for name in ("nearest", "bicubic")}
    settings = {"hr": str(compared / "hr"), "lr": str(compared / "lr"), "sr": sr, "out": str(out), "lpips": "none"}
    report.fn(ReportOptions.model_validate({**settings, "rating": "grades", "gallery": 4, **options}))


@pytest.mark.slow
def test_the_page_names_no_method_and_the_key_does(compared: Path, tmp_path: Path) -> None:
    made(compared, tmp_path)
    page = (tmp_path / "rating" / "index.html").read_text()
    assert "nearest" not in page
    assert "bicubic" not in page
    study = json.loads((tmp_path / "study.json").read_text())
    assert len(study["items"]) == 4
    assert {method for item in study["items"] for method in item["results"].values()} == {"nearest", "bicubic"}
    assert [path.name for path in (tmp_path / "rating").iterdir()] == ["index.html"]


@pytest.mark.slow
def test_answers_come_back_as_the_share_of_satisfied_people(compared: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    made(compared, out)
    saved = answers(out, tmp_path / "anna.json", {"bicubic": 3, "nearest": 1})
    made(compared, out, ratings=[saved])
    table = pd.read_parquet(out / "ratings.parquet")
    assert table.groupby("method").grade.mean().to_dict() == {"bicubic": 3.0, "nearest": 1.0}
    told = (out / "summary.md").read_text()
    assert "1 rater" in told
    assert told.index("| bicubic | 100 %") < told.index("| nearest | 0 %")


@pytest.mark.slow
def test_a_page_that_is_made_again_takes_the_answers_to_the_first(compared: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    made(compared, out)
    saved = answers(out, tmp_path / "anna.json", {"bicubic": 3, "nearest": 1})
    made(compared, out, title="Another title", ratings=[saved])
    assert len(pd.read_parquet(out / "ratings.parquet")) == 8


@pytest.mark.slow
def test_many_images_lie_beside_the_rating_page(
    compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rating, "EMBEDDED_BYTES", 1000)
    made(compared, tmp_path)
    names = [path.name for path in (tmp_path / "rating" / "images").iterdir()]
    page = (tmp_path / "rating" / "index.html").read_text()
    assert len(names) == 4 * (1 + 2 + 1)
    assert all(name in page for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 5])
def test_an_image_that_lacks_a_method_is_not_asked_about(compared: Path, tmp_path: Path, place: int) -> None:
    key = keys(compared)[place]
    sr = {"nearest": str(compared / "nearest"), "bicubic": without(compared, tmp_path / "some", key)}
    made(compared, tmp_path / "report", sr=sr, gallery=24)
    assert asked(tmp_path / "report") == {*keys(compared)} - {key}


@pytest.mark.slow
def test_a_result_of_the_wrong_size_is_not_asked_about(compared: Path, tmp_path: Path) -> None:
    some = Path(without(compared, tmp_path / "some"))
    key = keys(compared)[0]
    Image.new("RGB", (8, 8)).save(file_of(some, key))
    sr = {"nearest": str(compared / "nearest"), "bicubic": str(some)}
    made(compared, tmp_path / "report", sr=sr, gallery=24)
    assert asked(tmp_path / "report") == {*keys(compared)} - {key}


@pytest.mark.slow
def test_a_report_whose_methods_share_no_image_is_made_without_a_rating_page(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = keys(compared)
    sr = {
        "left": without(compared, tmp_path / "left", *names[:6]),
        "b": without(compared, tmp_path / "b", *names[6:]),
    }
    made(compared, tmp_path / "report", sr=sr, rating="pairs", max_failed=1.0)
    assert "no rating page: no image of the gallery has good results of left and b" in capsys.readouterr().err
    assert (tmp_path / "report" / "index.html").exists()
    assert not (tmp_path / "report" / "rating").exists()


def test_pairs_of_one_method_are_refused(compared: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="--rating pairs needs at least two results"):
        made(compared, tmp_path, sr={"nearest": str(compared / "nearest")}, rating="pairs")


@pytest.mark.slow
def test_methods_may_be_called_by_words_of_the_page(compared: Path, tmp_path: Path) -> None:
    names = ("right", "Images", "look", "which", "better", "Original")
    sr = {name: str(compared / ("nearest", "bicubic")[n % 2]) for n, name in enumerate(names)}
    made(compared, tmp_path, sr=sr)
    study = json.loads((tmp_path / "study.json").read_text())
    assert all(set(item["results"].values()) == set(names) for item in study["items"])


@pytest.mark.slow
def test_ratings_that_changed_where_they_lie_are_read_again(compared: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    made(compared, out)
    saved = answers(out, tmp_path / "anna.json", {"bicubic": 3, "nearest": 1})
    made(compared, out, ratings=[saved])
    answers(out, tmp_path / "anna.json", {"bicubic": 2, "nearest": 4})
    made(compared, out, ratings=[saved])
    assert pd.read_parquet(out / "ratings.parquet").groupby("method").grade.mean().to_dict() == {
        "bicubic": 2.0,
        "nearest": 4.0,
    }
    before = (out / "index.html").stat().st_mtime_ns
    made(compared, out, ratings=[saved])
    assert (out / "index.html").stat().st_mtime_ns == before


@pytest.mark.integration
def test_a_report_and_its_ratings_may_lie_in_a_bucket(compared: Path, tmp_path: Path, s3: str) -> None:
    out = f"{s3}/report"
    made(compared, out)
    saved = Path(answers(out, tmp_path / "anna.json", {"bicubic": 3, "nearest": 1}))
    Location.of(s3).write("anna.json", saved.read_bytes())
    made(compared, out, title="Another title", ratings=[f"{s3}/anna.json"])
    assert json.loads(Location.of(out).read("summary.json"))["ratings"]["ratings"] == 8


@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False], ids=["each key kept", "study.json alone, as in older reports"])
def test_answers_collected_before_another_method_joined_keep_their_names(
    compared: Path, tmp_path: Path, *, kept: bool
) -> None:
    out = tmp_path / "report"
    made(compared, out)
    before = answers(out, tmp_path / "anna.json", {"bicubic": 3, "nearest": 1})
    if not kept:
        next(out.glob("study-*.json")).unlink()
    three = {name: str(compared / name) for name in ("nearest", "bicubic")} | {"again": str(compared / "bicubic")}
    made(compared, out, sr=three)
    after = answers(out, tmp_path / "ben.json", {"bicubic": 3, "nearest": 2, "again": 4}, session="1" * 32)
    made(compared, out, sr=three, ratings=[before, after])
    table = pd.read_parquet(out / "ratings.parquet")
    assert table.study.nunique() == 2
    assert table.groupby("method").grade.mean().to_dict() == {"bicubic": 3.0, "nearest": 1.5, "again": 4.0}


@pytest.mark.slow
def test_what_people_said_is_in_the_summary_and_on_the_page(compared: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    made(compared, out)
    assert "ratings" not in json.loads((out / "summary.json").read_text())
    assert "User study" not in (out / "index.html").read_text()
    made(compared, out, ratings=[answers(out, tmp_path / "anna.json", {"bicubic": 3, "nearest": 1})])
    said = json.loads((out / "summary.json").read_text())["ratings"]
    assert (said["raters"], said["ratings"]) == (1, 8)
    assert [(row["method"], row["satisfied"]) for row in said["grades"]] == [("bicubic", 1.0), ("nearest", 0.0)]
    assert "User study" in (out / "index.html").read_text()


@pytest.mark.slow
def test_a_key_that_is_none_is_refused_in_one_line(compared: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    made(compared, out)
    saved = answers(out, tmp_path / "anna.json", {"bicubic": 3, "nearest": 1})
    for damaged in out.glob("study*.json"):
        damaged.write_text("{}")
    with pytest.raises(StorageError, match=rf"^{out}/study-\w+\.json: names no methods of a study: .+$"):
        made(compared, out, ratings=[saved])
    with pytest.raises(StorageError, match=rf"^{out}/study\.json: names no methods of a study: .+$"):
        made(compared, out, title="Another title")


@pytest.mark.slow
def test_answers_to_another_study_and_files_that_are_none_are_refused(compared: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    made(compared, out)
    saved = answers(out, tmp_path / "anna.json", {"bicubic": 3, "nearest": 1})
    with pytest.raises(StorageError, match=rf"^{saved}: .* has no study-\w+\.json, which --rating writes"):
        made(compared, tmp_path / "without", rating="none", ratings=[saved])
    with pytest.raises(StorageError, match="no file there"):
        made(compared, out, ratings=[str(tmp_path / "nobody.json")])
    for text in ("[]", " " * (MAX_FILE + 1)):
        (tmp_path / "odd.json").write_text(text)
        with pytest.raises(StorageError, match=rf"^{tmp_path}/odd\.json:? "):
            made(compared, out, ratings=[str(tmp_path / "odd.json")])
