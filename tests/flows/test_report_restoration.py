"""Reports on images that were degraded at their own size: consistency by the operator, and the task in words."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFilter

from reports.tables.table import read_metrics
from storage.stores.location import StorageError
from tests.flows.reporting import images, made, save

HOLE = (8, 8, 24, 24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """hr/ with results of two sorts, and hr/ degraded: in grey/, and in holes/ with a transparent square."""
    folder = images(tmp_path_factory.mktemp("restored"), count=2, side=32)
    for path in (folder / "hr").iterdir():
        with Image.open(path) as hr:
            save(hr.convert("L"), folder / "grey" / path.name)
            cut = hr.convert("RGBA")
            cut.paste((0, 0, 0, 0), HOLE)
            save(cut, folder / "holes" / path.name)
            filled = hr.copy()
            filled.paste((200, 100, 100), HOLE)
            save(filled, folder / "filled" / path.name)
            save(hr.filter(ImageFilter.BoxBlur(2)), folder / "blurred" / path.name)
    return folder


def report(
    folder: Path, out: Path, degraded: str | None, protocol: str, *results: str, **changes: Any
) -> dict[str, Any]:
    sr = {name: str(folder / name) for name in results}
    lr = str(folder / degraded) if degraded is not None else None
    return made(folder, out, lr=lr, sr=sr, protocol=protocol, max_failed=0.0, **changes)


@pytest.mark.slow
def test_a_report_on_colourisation_compares_luma_and_says_so(folder: Path, tmp_path: Path) -> None:
    summary = report(folder, tmp_path, "grey", "grey", "grey", "good")
    input_, good = summary["methods"]
    assert input_["consistency"] < 2e-6 < good["consistency"]
    assert (summary["conditions"], input_["scales"]) == ("Task: colourisation (grey) · RGB", [1.0])
    assert summary["configuration"]["title"] == "Colourisation: methods compared"
    page = (tmp_path / "index.html").read_text()
    assert "<title>Colourisation: methods compared</title>" in page
    assert ">Degraded-PSNR</abbr>" in page
    assert ">LR-PSNR</abbr>" not in page
    assert '"label":"Degraded image","role":"lr"' in page
    assert '"label":"Ground truth","role":"hr"' in page
    assert not [note for note in summary["notes"] if "LR" in note]
    table = read_metrics(tmp_path / "metrics.parquet")
    assert set(table["protocol"]) == {"grey"}
    assert table["authors_consistency"].isna().all()


@pytest.mark.slow
def test_what_is_filled_into_a_hole_is_consistent_and_images_without_one_are_noted(
    folder: Path, tmp_path: Path
) -> None:
    summary = report(folder, tmp_path / "holes", "holes", "mask", "filled", "blurred")
    filled, blurred = summary["methods"]
    assert filled["consistency"] == 0 < blurred["consistency"]
    told = report(folder, tmp_path / "whole", "hr", "mask", "filled")
    assert "consistency" not in told["methods"][0]
    assert any(note.startswith("no pixel of the degraded image is transparent") for note in told["notes"])


@pytest.mark.slow
def test_without_ground_truth_there_is_consistency_alone_in_the_words_of_the_task(
    folder: Path, tmp_path: Path
) -> None:
    summary = report(folder, tmp_path, "grey", "grey*0.5", "good", hr=None)
    assert "well results agree with what they were made of, when they are degraded again." in summary["notes"][0]
    assert summary["configuration"]["title"] == "Colourisation, at the strength 0.5: methods compared"
    assert len(summary["notes"]) == 1


@pytest.mark.slow
def test_where_agreement_is_not_known_it_is_said_and_nothing_is_measured(folder: Path, tmp_path: Path) -> None:
    summary = report(folder, tmp_path / "noisy", "grey", "noise:0.1*0.5", "good")
    assert "consistency" not in summary["methods"][0]
    assert "The degraded images are made by noise:0.1*0.5, a part of what is random" in " ".join(summary["notes"])
    with pytest.raises(StorageError, match=r"made by noise:0\.1\*0\.5, which has no consistency"):
        report(folder, tmp_path / "none", "grey", "noise:0.1*0.5", "good", hr=None)


@pytest.mark.slow
def test_degraded_images_of_another_size_have_no_consistency_and_a_note(folder: Path, tmp_path: Path) -> None:
    summary = report(folder, tmp_path, "lr", "grey", "good")
    assert "consistency" not in summary["methods"][0]
    assert summary["methods"][0]["psnr"] > 0
