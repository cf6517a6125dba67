"""Reports on generated images: sets compared by features, and the nearest training image of each sample."""

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from dtls.errors import WeightsError
from flows.compare_reports import CompareReportsOptions, compare_reports
from flows.evaluation.sets import extract
from flows.evaluation.sets import table as feature_tables
from flows.interface.errors import RunError
from flows.report import ReportOptions, report
from flows.verify import VerifyOptions, verify
from reports.metrics import fid_kid, inception_score, neighbours
from storage.stores.location import Location, StorageError


def noise(folder: Path, count: int, seed: int, level: int = 128) -> Path:
    """Images of 8×8 random pixels below `level`: 0000.png, 0001.png, …"""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        pixels = random.integers(0, level, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}.png")
    return folder


@pytest.fixture(autouse=True)
def _few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "LEAST", 8)
    monkeypatch.setattr(fid_kid, "KID_LEAST", 8)
    monkeypatch.setattr(feature_tables, "MIN_REFERENCES", 8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """real, train, made: of one distribution, one of `made` being a copy of one of `train`; and light, of another."""
    for seed, name in enumerate(("real", "train", "made")):
        noise(tmp_path / name, 12, seed)
    noise(tmp_path / "light", 10, 9, level=256)
    shutil.copy(tmp_path / "train" / "0005.png", tmp_path / "made" / "0003.png")
    return tmp_path


def options(folder: Path, **changes: Any) -> ReportOptions:
    settings: dict[str, Any] = {
        "generated": [str(folder / "made"), f"bright={folder / 'light'}"],
        "real": str(folder / "real"),
        "train": str(folder / "train"),
        "out": str(folder / "out"),
        "features": "pixels",
        "device": "cpu",
        "workers": 2,
        **changes,
    }
    return ReportOptions(**settings)


def summary_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "summary.json").read_text())
    return found


@pytest.mark.slow
def test_sets_are_compared_and_a_copied_training_image_is_found(folder: Path) -> None:
    assert report.fn(options(folder)) == str(folder / "out" / "index.html")
    summary = summary_of(folder)
    made, bright = summary["methods"]
    assert (made["method"], made["ok"], bright["method"], bright["ok"]) == ("made", 12, "bright", 10)
    assert made["kid"] < bright["kid"]
    assert made["coverage"] > bright["coverage"] == 0
    assert "made: copies of training images, pixel for pixel: 1 of 12 samples." in summary["notes"]
    samples = pq.read_table(folder / "out" / "samples.parquet").to_pylist()
    assert len(samples) == 22
    (copy,) = [row for row in samples if row["is_copy"]]
    assert (copy["set"], copy["key"], copy["nearest"], copy["distance"], copy["is_near"]) == (
        *("made", "0003", "0005", 0.0),
        True,
    )
    assert made["near_training"] == sum(row["is_near"] for row in samples if row["set"] == "made") / 12
    pixels = {
        name: {path.stem: np.asarray(Image.open(path), np.float64) for path in (folder / name).iterdir()}
        for name in ("made", "train")
    }
    for row in samples[:12]:  # without resizing, the nearest is that of the pixels
        distances = {key: np.square(x - pixels["made"][row["key"]]).sum() for key, x in pixels["train"].items()}
        assert distances[row["nearest"]] <= 1.2 * min(distances.values())
    page = (folder / "out" / "index.html").read_text()
    assert "a copy" in page
    assert "made: samples" in page
    assert Image.open(folder / "out" / "samples-made.png").size == (4 * 8 + 3 * 2, 3 * 8 + 2 * 2)
    history = compare_reports(CompareReportsOptions(reports=[str(folder / "out")], out=str(folder / "history")))
    assert "Coverage ↑" in Path(history).read_text()


@pytest.mark.slow
def test_identical_sets_are_equal_and_a_real_set_stands_in_for_the_training_images(folder: Path) -> None:
    report.fn(options(folder, generated=[f"same={folder / 'real'}"], train=None))
    (same,) = summary_of(folder)["methods"]
    assert (same["precision"], same["recall"], same["coverage"]) == (1, 1, 1)
    samples = pq.read_table(folder / "out" / "samples.parquet").to_pylist()
    assert all(row["is_copy"] and row["nearest"] == row["key"] and row["distance"] == 0 for row in samples)
    assert same["near_training"] == 1
    assert "nearest real image" in (folder / "out" / "index.html").read_text()


@pytest.mark.slow
def test_a_second_report_computes_the_features_of_new_images_only(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report.fn(options(folder))
    first = {path.name: path.stat().st_mtime_ns for path in (folder / "out").iterdir() if path.is_file()}
    report.fn(options(folder))
    assert "46 already done" in capsys.readouterr().err
    assert {p.name: p.stat().st_mtime_ns for p in (folder / "out").iterdir() if p.is_file()} == first
    noise(folder / "made", 13, 2)  # one more
    report.fn(options(folder, generated=[str(folder / "made")]))
    assert [row["ok"] for row in summary_of(folder)["methods"]] == [13]
    assert not (folder / "out" / "samples-bright.png").exists()
    verify(VerifyOptions(target=str(folder / "out")))


@pytest.mark.slow
def test_archives_and_broken_images_are_as_in_other_reports(folder: Path) -> None:
    (folder / "made" / "0007.png").write_bytes(b"no image")
    archive = shutil.make_archive(str(folder / "packed"), "zip", folder / "made")
    settings = {"generated": [f"zip={archive}"], "train": None}
    with pytest.raises(RunError, match="1 of 24 images failed"):
        report.fn(options(folder, **settings, max_failed=0.01))
    report.fn(options(folder, **settings))
    summary = summary_of(folder)
    assert (summary["methods"][0]["ok"], summary["methods"][0]["failed"]) == (11, 1)
    assert summary["failed"][0]["key"] == "0007"
    assert "not an image" in summary["failed"][0]["error"]


@pytest.mark.slow
def test_few_images_have_notes_instead_of_numbers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "LEAST", 100)
    monkeypatch.setattr(fid_kid, "KID_LEAST", 100)
    monkeypatch.setattr(feature_tables, "MIN_REFERENCES", 100)
    report.fn(options(folder, generated=[str(folder / "made")]))
    summary = summary_of(folder)
    notes = " ".join(summary["notes"])
    assert summary["metrics"] == {}
    assert "precision, recall, density and coverage of 12 images would be noise" in notes
    assert "KID of 12 images would be noise" in notes


@pytest.mark.slow
def test_sources_and_the_report_may_be_in_a_store(folder: Path) -> None:
    store = f"memory://{uuid.uuid4().hex}"
    for path in (folder / "real").iterdir():
        Location.of(f"{store}/real").write(path.name, path.read_bytes())
    out = f"{store}/out"
    assert report.fn(options(folder, real=f"{store}/real", out=out)) == f"{out}/index.html"
    assert json.loads(Location.of(out).read("summary.json"))["methods"][0]["ok"] == 12


class Brightness:
    """In a classifier's place: dark or light, by the mean of an image."""

    classes = ("dark", "light")
    sha256 = "0" * 64

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        light = (x.float().mean(dim=(1, 2, 3)) > 96).float()
        return torch.stack([1 - light, light], dim=1)


@pytest.mark.slow
def test_the_inception_score_counts_the_classes_of_the_samples(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "load_classifier", lambda *_: Brightness())
    monkeypatch.setattr(inception_score, "LEAST", 10)
    noise(folder / "classes" / "dark", 10, 0)
    noise(folder / "classes" / "light", 10, 1, level=256)
    noise(folder / "both", 10, 3)
    for path in (folder / "light").iterdir():
        shutil.copy(path, folder / "both" / f"light-{path.name}")
    sets = {"generated": [str(folder / "both"), str(folder / "made")], "train": None, "classifier": "model"}
    report.fn(options(folder, **sets, real=str(folder / "classes")))
    summary = summary_of(folder)
    both, made = summary["methods"]
    assert both["inception_score"] == pytest.approx(2)
    assert made["inception_score"] == pytest.approx(1)
    notes = " ".join(summary["notes"])
    assert "The classifier is right on 100.0 % of 20 real images." in notes
    assert "both: 20 of 20 samples are of a class with p > 0.9, 2 of 2 classes among them." in notes
    assert "made: 12 of 12 samples are of a class with p > 0.9, 1 of 2 classes among them." in notes
    samples = pq.read_table(folder / "out" / "samples.parquet").to_pylist()
    assert {row["class"] for row in samples if row["set"] == "made"} == {"dark"}
    with pytest.raises(StorageError, match="12 images are in no folder, which is no class of --classifier") as error:
        report.fn(options(folder, **sets, out=str(folder / "other")))
    assert "images such as faces have none" in str(error.value)


def test_inception_wants_its_extra_and_says_what_to_do_without(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(WeightsError, match="or take others with --features lpips"):
        report.fn(options(folder, features="inception"))
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"real": None}, "--real is required: real images that the generated ones are compared with"),
        ({"sr": {"a": "b"}}, "--sr and --generated are two reports"),
        ({"hr": "hr"}, "--hr goes with --sr, not with --generated"),
        ({"rating": "grades"}, "--rating goes with --sr"),
        ({"generated": [], "hr": "hr"}, "--real goes with --generated"),
        ({"generated": ["a/x", "b/x"]}, "two results have the same name"),
        ({"generated": ["faces/real"]}, "'real' is taken; name the set, e.g. --generated samples=FOLDER"),
    ],
)
def test_options_that_do_not_fit_are_refused(wrong: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        options(tmp_path, **wrong)


def test_a_folder_without_a_name_is_called_by_its_last_part() -> None:
    found = ReportOptions(generated=["s3://bucket/run=1/my samples/", "a=b/c"], real="r", out="o").generated
    assert found == {"my-samples": "s3://bucket/run=1/my samples/", "a": "b/c"}


def test_the_out_folder_is_not_among_the_images(folder: Path) -> None:
    with pytest.raises(StorageError, match="is inside the source"):
        report.fn(options(folder, out=str(folder / "made" / "report")))
