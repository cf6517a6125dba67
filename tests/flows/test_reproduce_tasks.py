"""Experiments on any degradation: tables of restoration, mixed training, medical images and faint inputs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageStat
from pydantic import ValidationError

from dtls.degradations.registry import spec_of_task
from flows.experiments.paper_rows import PaperRow
from flows.experiments.paper_tables import PAPER_TABLES
from flows.experiments.reproduction import Reproduction
from flows.reproduce import ReproduceOptions, reproduce
from flows.restore import RestoreOptions
from flows.upscale import UpscaleOptions

TINY: dict[str, Any] = {"size": 32, "dim": 8, "steps": 2, "batch_size": 2, "device": "cpu", "workers": 2}
OURS = ("5.10", "5.11", "5.12", "5.13", "cold", "faint")


def classes(root: Path, mode: str, turn: int = 0, **counts: int) -> Path:
    """`root` with a folder for each class, of images of 32×32 that are all different."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            gradient = Image.radial_gradient("L").resize((64, 64)).rotate(17 * number + turn)
            left = sum(map(ord, name)) % 17
            bands = [gradient.crop((left + n, n, left + n + 32, n + 32)) for n in (0, 6, 12)]
            Image.merge("RGB", bands).convert(mode).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """A source and a test set in colour, with classes, and where results go."""
    train, test = classes(tmp_path / "train", "RGB", stroma=2, mucus=1), classes(tmp_path / "test", "RGB", lymph=2)
    return {"source": str(train), "test": str(test), "out": str(tmp_path / "out")}


def shortened(monkeypatch: pytest.MonkeyPatch, table: str, *labels: str) -> None:
    """Leave only rows with these labels in a table."""
    kept = tuple(row for row in PAPER_TABLES[table].rows if row.label in labels)
    monkeypatch.setitem(PAPER_TABLES, table, replace(PAPER_TABLES[table], rows=kept))


def rows_of(table: str) -> list[list[str]]:
    """The cells of the rows of a Markdown table."""
    return [line.strip("| ").split(" | ") for line in Path(table).read_text().splitlines() if line[:2] == "| "][2:]


@pytest.mark.parametrize("table", OURS)
def test_every_row_can_be_trained_and_used_by_options_that_there_are(table: str, tmp_path: Path) -> None:
    made = Reproduction(ReproduceOptions(table=table, source="a", test="b", out=str(tmp_path), **TINY))
    for row in made.table.rows:
        given = made.given(row)
        if row.needs_training:
            training = made.training(row)
            config = training.model()
            assert (config.size, config.lr_size) == (32, made.geometry(row).get("lr_size", 32))
            assert config.undoes == (
                row.train.get("protocol") or made.protocol if row.task is None else given.degradation
            )
        if row.is_computed and not row.is_input:
            options = UpscaleOptions if row.task is None else RestoreOptions
            what = {"size": 32} if row.task is None else {"task": row.task}
            checkpoint = {"checkpoint": "model"} if row.needs_training else {}
            options(source="a", target="b", **what, **row.use, **checkpoint)


def test_the_tables_say_what_the_documents_have() -> None:
    labels = {name: {row.label for row in PAPER_TABLES[name].rows} for name in OURS}
    assert {"SRGAN", "DDPMSR", "VAE-DDPM", "VQVAE-DDPM"} <= labels["5.11"]
    assert {"SRCNN", "SRGAN", "DDPMSR", "VQVAE-DDPM"} <= labels["5.12"]
    specs = {spec_of_task(row.task).partition(":")[0] for row in PAPER_TABLES["cold"].rows if row.task is not None}
    assert specs == {"blur", "mask", "noise"}
    assert sorted({row.contrast for row in PAPER_TABLES["faint"].rows}) == [0.25, 0.5, 1]


@pytest.mark.parametrize("table", ["5.10", "5.13", "cold"])
def test_a_protocol_is_for_tables_whose_rows_have_none(table: str) -> None:
    with pytest.raises(ValidationError, match=f"table {table} says itself how its images are degraded"):
        ReproduceOptions(table=table, source="a", test="b", out="c", protocol="antialias")


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_colourisation_is_trained_and_what_cannot_be_had_says_so(
    places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shortened(monkeypatch, "5.13", "input", "dtls", "Zhang et al.")
    table = reproduce.fn(ReproduceOptions(table="5.13", **places, **TINY))
    rows = rows_of(table)
    assert [row[:2] for row in rows] == [[name, "colourisation"] for name in ("input", "dtls", "Zhang et al.")]
    assert rows[2][2:] == ["–"] * 4
    text = Path(table).read_text()
    assert "Trained on 3 images of " in text
    assert "Weights of the first two are not available" in text
    report = Path(places["out"]) / "report-5.13-grey"
    assert "Task: colourisation (grey)" in (report / "summary.md").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_images_of_one_channel_stay_so_from_file_to_file_and_classes_are_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shortened(monkeypatch, "5.11", "bicubic", "dtls")
    train, test = (
        classes(tmp_path / "mri", "L", glioma=2, pituitary=1),
        classes(tmp_path / "test", "L", turn=5, glioma=1, none=1),
    )
    out = tmp_path / "out"
    reproduce.fn(ReproduceOptions(table="5.11", source=str(train), test=str(test), out=str(out), **TINY))
    made = {path.relative_to(out): Image.open(path).mode for path in out.rglob("*.png") if "report" not in str(path)}
    folders = {str(path.parent.parent) for path in made}
    assert folders == {"hr-32", "lr-32-8-antialias", "sr/5.11-8/bicubic", "sr/5.11-8/dtls"}
    assert {path.parent.name for path in made} == {"glioma", "none"}
    assert set(made.values()) == {"L"}


def test_faint_images_have_less_contrast_and_an_error_that_shrinks_with_it(
    places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shortened(monkeypatch, "faint", "bicubic")
    rows = rows_of(reproduce.fn(ReproduceOptions(table="faint", **places, **TINY)))
    assert [row[1] for row in rows] == ["4→32", "4→32, contrast 0.5", "4→32, contrast 0.25"]
    whole, half, quarter = (float(row[2]) for row in rows)
    assert half - whole == pytest.approx(6.02, abs=0.2)
    assert quarter - whole == pytest.approx(12.04, abs=0.4)
    out = Path(places["out"])
    for name, contrast in (("hr-32-contrast-0.5", 0.5), ("hr-32-contrast-0.25", 0.25)):
        with Image.open(out / name / "lymph" / "0.png") as faint, Image.open(out / "hr-32" / "lymph" / "0.png") as hr:
            spread = [
                after / before for after, before in zip(*(ImageStat.Stat(x).stddev for x in (faint, hr)), strict=True)
            ]
            assert spread == pytest.approx([contrast] * 3, abs=0.02)


def test_mixed_and_bicubic_images_are_measured_apart(places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    shortened(monkeypatch, "5.10", "bicubic")
    table = reproduce.fn(ReproduceOptions(table="5.10", **places, **TINY))
    rows = rows_of(table)
    assert [row[1] for row in rows] == ["8→32, antialias", "8→32, realworld"]
    assert rows[0][-1] != "–" == rows[1][-1]
    assert float(rows[0][2]) > float(rows[1][2])
    assert {path.name for path in Path(places["out"]).glob("report-*")} == {
        "report-5.10-8-antialias",
        "report-5.10-8-realworld",
    }


def test_what_needs_no_model_is_measured_for_each_task_of_cold_diffusion(
    places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shortened(monkeypatch, "cold", "input", "membrane", "bicubic")
    rows = rows_of(reproduce.fn(ReproduceOptions(table="cold", **places, **TINY)))
    titles = ["deblurring, σ = 2 pixels", "inpainting", "inpainting", "denoising, σ = 0.098", "4→32, antialias"]
    assert [row[1] for row in rows] == titles
    assert float(rows[2][2]) > float(rows[1][2])


def test_a_row_of_the_input_needs_no_training() -> None:
    assert not PaperRow("input", 128, task="inpaint", is_input=True).needs_training
