"""A report's rating page and what people answer: names stay at home, answers find back to their methods."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows import rating
from flows.downscale import DownscaleOptions, downscale
from flows.report import ReportOptions, report
from flows.upscale import UpscaleOptions, upscale
from storage.locations import StorageError


@pytest.fixture(scope="module")
def compared(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    downscale.fn(DownscaleOptions(source=str(photographs), target=str(folder / "lr"), scale=4))
    for method in ("nearest", "bicubic"):
        upscale.fn(UpscaleOptions(source=str(folder / "lr"), target=str(folder / method), method=method, scale=4))
    (folder / "hr").symlink_to(photographs)
    return folder


def made(compared: Path, out: Path, **options: Any) -> None:
    sr = {name: str(compared / name) for name in ("nearest", "bicubic")}
    settings = {"hr": str(compared / "hr"), "lr": str(compared / "lr"), "sr": sr, "out": str(out), "lpips": "none"}
    report.fn(ReportOptions.model_validate({**settings, "rating": "grades", "gallery": 4, **options}))


def answers(out: Path, path: Path, grades: dict[str, int]) -> str:
    """What a person saves who gives each method's results one grade."""
    study = json.loads((out / "study.json").read_text())
    shown = [(item["id"], result, method) for item in study["items"] for result, method in item["results"].items()]
    common = {"repeat": False, "seconds": 2.0, "time": "2026-11-21T10:00:00Z"}
    ratings = [
        {"order": order, "item": item, "shown": [result], "grade": grades[method], **common}
        for order, (item, result, method) in enumerate(shown)
    ]
    person = {"rater": "Anna", "session": "0" * 32, "seed": 1, "started": "2026-11-21T10:00:00Z"}
    head = {"format": "ratings", "version": 1, "study": study["id"], "mode": "grades", "planned": len(ratings)}
    path.write_text(json.dumps({**head, **person, "ratings": ratings}))
    return str(path)


def test_the_page_names_no_method_and_the_key_does(compared: Path, tmp_path: Path) -> None:
    made(compared, tmp_path)
    page = (tmp_path / "rating" / "index.html").read_text()
    assert "nearest" not in page
    assert "bicubic" not in page
    study = json.loads((tmp_path / "study.json").read_text())
    assert len(study["items"]) == 4
    assert {method for item in study["items"] for method in item["results"].values()} == {"nearest", "bicubic"}
    assert [path.name for path in (tmp_path / "rating").iterdir()] == ["index.html"]


def test_answers_come_back_as_the_share_of_satisfied_people(compared: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    made(compared, out)
    saved = answers(out, tmp_path / "anna.json", {"bicubic": 3, "nearest": 1})
    made(compared, out, ratings=[saved])
    table = pd.read_parquet(out / "ratings.parquet")
    assert table.groupby("method").grade.mean().to_dict() == {"bicubic": 3.0, "nearest": 1.0}
    told = (out / "summary.md").read_text()
    assert "1 rater" in told
    assert told.index("| bicubic | 100%") < told.index("| nearest | 0%")


def test_a_page_that_is_made_again_takes_the_answers_to_the_first(compared: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    made(compared, out)
    saved = answers(out, tmp_path / "anna.json", {"bicubic": 3, "nearest": 1})
    made(compared, out, title="Another title", ratings=[saved])
    assert len(pd.read_parquet(out / "ratings.parquet")) == 8


def test_many_pictures_lie_beside_the_rating_page(
    compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rating, "EMBEDDED_BYTES", 1000)
    made(compared, tmp_path)
    names = [path.name for path in (tmp_path / "rating" / "pictures").iterdir()]
    page = (tmp_path / "rating" / "index.html").read_text()
    assert len(names) == 4 * (1 + 2 + 1)
    assert all(name in page for name in names)


def test_answers_to_another_study_and_files_that_are_none_are_refused(compared: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    with pytest.raises(StorageError, match=r"no study\.json, which --rating writes"):
        made(compared, tmp_path / "without", rating="none", ratings=["x.json"])
    made(compared, out)
    with pytest.raises(StorageError, match="no file there"):
        made(compared, out, ratings=[str(tmp_path / "nobody.json")])
    (tmp_path / "odd.json").write_text("[]")
    with pytest.raises(StorageError, match=r"odd\.json"):
        made(compared, out, ratings=[str(tmp_path / "odd.json")])
