"""A report owns the files that it wrote, by name: it overwrites and removes no others, and keeps its own whole."""

import json
from pathlib import Path

import pytest
from PIL import Image

from flows.evaluation import gallery, publish
from flows.report import report
from reports.tables.summary import versions
from storage.receipts.seals import PUBLISHED
from storage.stores.location import Location, StorageError
from tests.flows.reporting import images, made, options, save

STRANGERS = ("index.html", "summary.json", "contact-sheet.png", "figures/tradeoff.pdf", "rating/index.html")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return images(tmp_path_factory.mktemp("images"))


def files(out: Path) -> set[str]:
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith(".dtls/")}


@pytest.mark.parametrize("name", [*STRANGERS, f"images/{'0' * 16}-{'1' * 16}.png", "runs/run=x/metrics.parquet"])
def test_a_file_of_somebody_else_is_refused_before_any_work(name: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(StorageError, match=f"{name} is there already, and not made by dtls report; choose another"):
        made(folder, tmp_path, figures=True, rating="grades", run="x")
    assert files(tmp_path) == {name}
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.slow
def test_files_that_are_in_nobodys_way_stay(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("images/holiday.jpg", "figures/mine.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("mine")
    monkeypatch.setattr(gallery, "EMBEDDED_BYTES", 1000)
    made(folder, tmp_path, gallery=3)
    made(folder, tmp_path, gallery=2)
    assert (tmp_path / "images" / "holiday.jpg").read_text() == (tmp_path / "figures" / "mine.png").read_text()


@pytest.mark.slow
def test_a_file_that_came_between_two_reports_is_refused(folder: Path, tmp_path: Path) -> None:
    made(folder, tmp_path)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "tradeoff.png").write_text("mine")
    with pytest.raises(StorageError, match=r"tradeoff\.png is there already"):
        made(folder, tmp_path, figures=True)


@pytest.mark.integration
def test_a_file_of_somebody_else_in_a_bucket_is_refused(folder: Path, s3: str) -> None:
    out = Location.of(f"{s3}/out")
    out.write("index.html", b"mine")
    with pytest.raises(StorageError, match=r"index\.html is there already"):
        report.fn(options(folder, out))
    assert [entry.key for entry in out.list()] == ["index.html"]
    assert out.read("index.html") == b"mine"


@pytest.mark.slow
def test_what_a_report_with_other_options_does_not_make_goes(folder: Path, tmp_path: Path) -> None:
    made(folder, tmp_path, figures=True, rating="grades", run="first")
    plain = {"metrics.parquet", "index.html", "summary.json", "summary.md", "summary.tex"}
    kept = {name for name in files(tmp_path) if name.startswith(("rating/", "study", "runs/"))}
    assert {"figures/tradeoff.pdf", "contact-sheet.png"} & files(tmp_path) == {"contact-sheet.png"}  # LPIPS is none
    assert {"figures/comparison.pdf", "figures/distributions.png"} < files(tmp_path)
    made(folder, tmp_path, gallery=0, run="second")
    runs = {f"runs/run=second/{name}" for name in ("metrics.parquet", "_summary.json")}
    assert files(tmp_path) == plain | kept | runs
    assert {"rating/index.html", "study.json", "runs/run=first/metrics.parquet"} <= kept


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index.html", "summary.tex", "contact-sheet.png", "figures/comparison.png"])
def test_a_file_that_was_deleted_is_made_again(name: str, folder: Path, tmp_path: Path) -> None:
    made(folder, tmp_path, figures=True)
    (tmp_path / name).unlink()
    made(folder, tmp_path, figures=True)
    assert (tmp_path / name).exists()


@pytest.mark.slow
def test_another_version_of_dtls_makes_the_page_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(folder, tmp_path)
    before = (tmp_path / "index.html").stat().st_mtime_ns
    made(folder, tmp_path)
    assert (tmp_path / "index.html").stat().st_mtime_ns == before
    newer = versions() | {"dtls": "99"}
    monkeypatch.setattr(publish, "versions", lambda: newer)
    made(folder, tmp_path)
    assert (tmp_path / "index.html").stat().st_mtime_ns > before


@pytest.mark.slow
def test_a_report_of_an_earlier_version_is_taken_over(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "EMBEDDED_BYTES", 1000)
    made(folder, tmp_path, figures=True)
    (tmp_path / PUBLISHED).write_text(json.dumps([{"title": "as it was"}, "metrics.parquet", 1, "tag"]))
    made(folder, tmp_path, gallery=0)
    assert not list((tmp_path / "images").glob("*"))
    assert not list((tmp_path / "figures").glob("*"))


@pytest.mark.slow
def test_a_report_that_was_stopped_half_way_finds_its_own_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(gallery, "EMBEDDED_BYTES", 1000)
    with monkeypatch.context() as patch:
        patch.setattr(publish, "render", stop)
        with pytest.raises(KeyboardInterrupt):
            made(folder, tmp_path, figures=True)
    assert (tmp_path / "figures" / "comparison.png").exists()
    made(folder, tmp_path, gallery=0)
    assert not list((tmp_path / "figures").glob("*"))
    assert not list((tmp_path / "images").glob("*"))


@pytest.mark.slow
def test_images_that_would_make_the_page_too_large_lie_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = images(tmp_path, count=4, side=128)
    for path in (folder / "hr").iterdir():  # a few bytes in their folder, many on the page
        with Image.open(path) as image:
            save(image.convert("RGB"), path.with_suffix(".jpg"))
        path.unlink()
    monkeypatch.setattr(gallery, "EMBEDDED_BYTES", 300_000)
    made(folder, tmp_path / "out", gallery=2)
    assert not (tmp_path / "out" / "images").exists()
    embedded = (tmp_path / "out" / "index.html").stat().st_size
    made(folder, tmp_path / "out", gallery=4)
    assert (tmp_path / "out" / "images").exists()
    assert (tmp_path / "out" / "index.html").stat().st_size < embedded


@pytest.mark.slow
def test_each_file_of_a_report_is_made_again_where_it_was_cut(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "EMBEDDED_BYTES", 1000)
    made(folder, tmp_path, gallery=1, rating="grades", run="x")
    names = {name for name in files(tmp_path) if not name.startswith("study")}
    assert {"metrics.parquet", "index.html", "rating/index.html", "runs/run=x/metrics.parquet"} < names
    assert [name for name in names if name.startswith("images/")]
    for name in [*names, PUBLISHED]:
        (tmp_path / name).write_bytes(b"")
        made(folder, tmp_path, gallery=1, rating="grades", run="x")
        assert (tmp_path / name).stat().st_size > 0, name
