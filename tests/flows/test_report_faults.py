"""Whatever was wrong with the images, there is a page that says so."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from flows.evaluation import measure, publish
from flows.evaluation.measure import Measurement
from flows.interface.console import Advance
from flows.interface.errors import RunError
from reports.figures import fonts
from reports.figures.fonts import FontError
from storage.receipts.units import Row, Unit
from storage.stores.location import Entry
from tests.flows.reporting import images, made, save


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return images(tmp_path / "images")


def resize(folder: Path, size: tuple[int, int]) -> None:
    for path in folder.iterdir():
        save(Image.new("RGB", size, "teal"), path)


@pytest.mark.slow
def test_results_that_are_all_of_the_wrong_size_are_a_page_of_failures(folder: Path, tmp_path: Path) -> None:
    for name in ("good", "poor"):
        resize(folder / name, (38, 40))
    with pytest.raises(RunError, match="12 of 12 images failed"):
        made(folder, tmp_path / "out", figures=True, max_failed=0.0)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "12 of 12 results failed" in page
    assert page.count("SR is 38×40, HR is 40×40") == 12
    assert "| good | 0 | 6 |" in (tmp_path / "out" / "summary.md").read_text()


@pytest.mark.slow
def test_images_that_the_border_eats_up_are_a_page_without_numbers(folder: Path, tmp_path: Path) -> None:
    tiny = images(tmp_path / "tiny", side=1)
    summary = made(tiny, tmp_path / "out", border=4, lr=None, figures=True)
    assert list(summary["metrics"]) == []
    assert "2 methods" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.slow
def test_images_that_memory_does_not_suffice_to_measure_are_a_page_of_failures(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "MEASURING", 10**15)
    with pytest.raises(RunError, match="12 of 12 images failed"):
        made(folder, tmp_path / "out", max_failed=0.0)
    assert (tmp_path / "out" / "index.html").read_text().count("needs about 1.6 EB of memory") == 12


@pytest.mark.slow
def test_large_images_are_measured_one_by_one_with_the_same_numbers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = made(folder, tmp_path / "together")
    monkeypatch.setattr(measure, "LARGE_PIXELS", 0)
    assert made(folder, tmp_path / "alone")["metrics"] == together["metrics"]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit with image 0 comes to nothing."""
    work = Measurement.work

    def breaking(self: Measurement, unit: Unit, samples: Sequence[Entry], advance: Advance) -> list[Row]:
        if any(sample.key.endswith("/0") for sample in samples):
            raise MemoryError("out of memory")
        return work(self, unit, samples, advance)

    monkeypatch.setattr(Measurement, "work", breaking)


@pytest.mark.usefixtures("broken")
def test_a_run_whose_only_unit_broke_ends_with_that_and_a_page(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="1 of 1 units came to nothing"):
        made(folder, tmp_path / "out", figures=True)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "No results." in page
    assert "6 of 6 images are not measured yet" in page


@pytest.mark.slow
@pytest.mark.usefixtures("broken")
def test_a_part_is_not_presented_as_the_whole_nor_kept_among_the_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "UNIT_SIZE", 1)
    with pytest.raises(RunError, match="1 of 6 units came to nothing"):
        made(folder, tmp_path / "out")
    for name in ("index.html", "summary.md"):
        assert "1 of 6 images are not measured yet: run it again to resume." in (tmp_path / "out" / name).read_text()
    assert not (tmp_path / "out" / "runs").exists()
    monkeypatch.undo()
    assert made(folder, tmp_path / "out")["notes"] == []
    assert len(pd.read_parquet(tmp_path / "out" / "runs")) == 12


@pytest.mark.usefixtures("broken")
def test_a_page_that_cannot_be_made_does_not_hide_why_the_run_failed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> str:
        raise ValueError("no\npage")

    monkeypatch.setattr(publish, "render", fail)
    with pytest.raises(RunError, match="came to nothing"):
        made(folder, tmp_path / "out")
    assert "no page of what there is: no page" in capsys.readouterr().err


@pytest.mark.slow
def test_figures_of_identical_images_are_those_that_can_be_drawn(folder: Path, tmp_path: Path) -> None:
    same = {"same": str(folder / "hr"), "again": str(folder / "hr")}
    made(folder, tmp_path / "out", sr=same, lr=None, lpips="alex", figures=True)
    names = {path.stem for path in (tmp_path / "out" / "figures").iterdir()}
    assert names == {"comparison", "distributions"}


@pytest.mark.slow
def test_images_without_a_readable_hr_image_have_no_place_in_a_figure(folder: Path, tmp_path: Path) -> None:
    for path in sorted((folder / "hr").iterdir())[:2]:
        path.write_bytes(b"no image")
    made(folder, tmp_path / "out", lr=None, figures=True)
    assert (tmp_path / "out" / "figures" / "comparison.png").exists()


@pytest.mark.slow
def test_without_any_readable_image_there_is_no_sheet_but_a_page(folder: Path, tmp_path: Path) -> None:
    for path in (path for name in ("hr", "lr", "good", "poor") for path in (folder / name).iterdir()):
        path.write_bytes(b"no image")
    made(folder, tmp_path / "out", figures=True)
    assert not (tmp_path / "out" / "contact-sheet.png").exists()
    assert "not an image" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.slow
def test_lr_images_that_are_missing_or_do_not_fit_cost_only_consistency(folder: Path, tmp_path: Path) -> None:
    (folder / "lr" / "0.png").unlink()
    save(Image.new("RGB", (9, 10)), folder / "lr" / "1.png")
    (folder / "lr" / "2.png").write_bytes(b"no image")
    summary = made(folder, tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out" / "metrics.parquet").set_index("key").sort_index()
    assert table[["psnr", "ssim"]].notna().all(axis=None)
    assert table.status.eq("ok").all()
    touched = table.loc[["0", "1", "2"], ["consistency", "lr_psnr", "authors_consistency", "scale"]]
    assert touched.isna().all(axis=None)
    assert table.loc["3":, ["consistency", "scale"]].notna().all(axis=None)
    said = "LR images are missing or do not fit for 3 images: no consistency there."
    assert summary["notes"] == [said]
    assert said in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.slow
def test_lr_images_of_realworld_that_are_missing_or_do_not_fit_are_told(folder: Path, tmp_path: Path) -> None:
    (folder / "lr" / "0.png").unlink()
    save(Image.new("RGB", (9, 10)), folder / "lr" / "1.png")
    summary = made(folder, tmp_path / "out", protocol="realworld")
    table = pd.read_parquet(tmp_path / "out" / "metrics.parquet").set_index("key").sort_index()
    assert table.status.eq("ok").all()
    assert table.loc[["0", "1"], "scale"].isna().all()
    assert table.loc["2":, "scale"].eq(4).all()
    assert summary["notes"][1] == "LR images are missing or do not fit for 2 images: no scale there."


@pytest.mark.slow
def test_lr_images_that_are_missing_are_failures_without_ground_truth(folder: Path, tmp_path: Path) -> None:
    (folder / "lr" / "0.png").write_bytes(b"no image")
    made(folder, tmp_path / "out", hr=None)
    table = pd.read_parquet(tmp_path / "out" / "metrics.parquet").set_index("key")
    assert table.loc["0"].status.eq("failed").all()


@pytest.mark.slow
def test_lr_images_that_are_too_many_are_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(Image.new("RGB", (10, 10)), folder / "lr" / "extra.png")
    summary = made(folder, tmp_path / "out")
    said = "LR images without an HR image, which nothing is compared with: extra (1 in all)."
    assert summary["notes"] == [said]
    assert "LR images without an HR image" in capsys.readouterr().err


@pytest.mark.slow
def test_a_method_with_one_easy_image_is_not_best(folder: Path, tmp_path: Path) -> None:
    for number in range(1, 6):
        (folder / "poor" / f"{number}.png").unlink()
    with Image.open(folder / "hr" / "0.png") as hr:
        hr.putpixel((0, 0), (0, 0, 0))
        save(hr, folder / "good" / "0.png")
        hr.putpixel((1, 1), (0, 0, 0))
        hr.putpixel((5, 5), (0, 0, 0))
        save(hr, folder / "poor" / "0.png")
    made(folder, tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "good is best in 3 of 3 metrics." in page
    assert "Ranked over the one image that all methods have." in page


@pytest.mark.slow
def test_numbers_that_the_border_leaves_out_are_told(folder: Path, tmp_path: Path) -> None:
    summary = made(folder, tmp_path / "out", border=20)
    assert "PSNR and SSIM: inside a border of 20 pixels nothing is left of 6 images." in summary["notes"]


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No fonts but matplotlib's own."""
    monkeypatch.setattr(fonts, "_installed", tuple)
    fonts._found.cache_clear()
    yield
    fonts._found.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("no_fonts")
def test_figures_with_names_that_no_font_has_are_refused_before_any_work(folder: Path, tmp_path: Path) -> None:
    results = {"超解像": str(folder / "good")}
    with pytest.raises(FontError, match="--figures: no installed font has 超 解 像; install one"):
        made(folder, tmp_path / "out", sr=results, figures=True)
    assert not (tmp_path / "out").exists()
    assert made(folder, tmp_path / "out", sr=results)["methods"][0]["ok"] == 6


@pytest.mark.slow
@pytest.mark.usefixtures("no_fonts")
def test_keys_that_no_font_has_are_drawn_as_codes_and_told(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("hr", "lr", "good", "poor"):
        (folder / name / "0.png").rename(folder / name / "東.png")
    made(folder, tmp_path / "out", figures=True)
    told = capfd.readouterr().err
    assert "no installed font has 東; install one, such as that of the package fonts-noto-cjk" in told
    assert "Warning" not in told
