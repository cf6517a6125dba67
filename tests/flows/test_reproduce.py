"""Tables of the paper from a flow: what is missing is trained, and the published numbers stand beside ours."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from dtls.errors import SizeError
from flows.experiments.paper_tables import PAPER_TABLES
from flows.experiments.reproduction import Reproduction
from flows.experiments.studies import STUDIES
from flows.reproduce import ReproduceOptions, reproduce
from flows.training.options import TrainOptions
from flows.upscale import UpscaleOptions
from storage.stores.location import StorageError
from tests.flows.reporting import answers

TINY: dict[str, Any] = {"size": 32, "dim": 8, "steps": 2, "batch_size": 2, "device": "cpu", "workers": 2}

pytestmark = pytest.mark.usefixtures("warm")


def test_every_experiment_can_be_asked_for() -> None:
    assert set(get_args(ReproduceOptions.model_fields["table"].annotation)) == {*PAPER_TABLES, *STUDIES}
    assert not {*PAPER_TABLES} & {*STUDIES}


def test_every_row_departs_from_its_preset_by_options_that_there_are() -> None:
    rows = [row for experiment in PAPER_TABLES.values() for row in experiment.rows]
    assert set().union(*(row.train for row in rows)) <= set(TrainOptions.model_fields)
    assert set().union(*(row.use for row in rows)) <= set(UpscaleOptions.model_fields)


def test_the_numbers_of_the_paper_are_those_it_printed() -> None:
    """The sums of each table's published columns, added up by hand from the paper."""
    sums = {
        name: {
            metric: round(sum(row.published.get(metric, 0) for row in experiment.rows), 5)
            for metric in ("ssim", "psnr", "authors_consistency")
        }
        for name, experiment in PAPER_TABLES.items()
        if name in ("1", "2", "4", "B1", "5.1")
    }
    assert sums["1"] == {"ssim": 11.0008, "psnr": 393.6362, "authors_consistency": 0}
    assert sums["2"] == {"ssim": 4.1706, "psnr": 140.3569, "authors_consistency": 0}
    assert sums["4"] == {"ssim": 2.9568, "psnr": 114.5783, "authors_consistency": 0}
    assert sums["B1"] == {"ssim": 1.4641, "psnr": 47.9718, "authors_consistency": 0.26665}
    assert sums["5.1"] == {"ssim": 4.907, "psnr": 167.55, "authors_consistency": 0}
    assert round(sum(row.published.get("satisfied", 0) for row in PAPER_TABLES["5.2"].rows), 5) == 2.68


@pytest.mark.slow
def test_a_table_is_trained_measured_and_set_beside_the_published_numbers(
    photographs: Path, others: Path, tmp_path: Path
) -> None:
    options = ReproduceOptions(
        table="B1", source=str(photographs), test=str(others), out=str(tmp_path / "out"), **TINY
    )
    assert reproduce.fn(options) == str(tmp_path / "out" / "table-B1.md")
    table = (tmp_path / "out" / "table-B1.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if " | 4→32 | " in line]
    lines = {row[0]: row for row in rows}
    assert list(lines) == ["l1", "mse"]
    assert re.fullmatch(r"\d+\.\d\d \(24\.01\)", lines["l1"][2])
    assert re.fullmatch(r"-?0\.\d{4} \(0\.7274\)", lines["mse"][3])
    assert re.fullmatch(r"\d+\.\d{3} \(0\.141\)", lines["mse"][-1])
    assert "cannot be compared" in table
    assert "Protocol reference" in table
    assert "2 steps of 2" in table
    made = {path.name.rpartition("-")[0] for path in (tmp_path / "out" / "models").iterdir()}
    assert made == {"16-128", "16-128-loss-mse"}

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    reproduce.fn(options)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")} == before


@pytest.mark.slow
def test_the_table_of_ratings_has_what_people_said_beside_what_was_published(
    photographs: Path, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = PAPER_TABLES["5.2"]
    rows = [
        replace(row, is_computed=row.is_computed and row.label in ("bicubic", "SRCNN", "dtls"))
        for row in experiment.rows
    ]
    monkeypatch.setitem(PAPER_TABLES, "5.2", replace(experiment, rows=tuple(rows)))
    settings = {
        "table": "5.2",
        "source": str(photographs),
        "test": str(others),
        "out": str(tmp_path / "out"),
    }
    reproduce.fn(ReproduceOptions.model_validate({**settings, **TINY}))
    report = tmp_path / "out" / "report-5.2-8"
    said = answers(report, tmp_path / "anna.json", {"bicubic": 2, "SRCNN": 3, "dtls": 4})
    reproduce.fn(ReproduceOptions.model_validate({**settings, **TINY, "ratings": [said]}))
    table = (tmp_path / "out" / "table-5.2.md").read_text()
    lines = {line.split("|")[1].strip(): line.split("|")[-2].strip() for line in table.splitlines() if "|" in line}
    assert lines["ESRGAN"] == "– (40%)"
    assert (lines["bicubic"], lines["SRCNN"], lines["dtls"]) == ("0%", "100% (10%)", "100%")


def test_ratings_are_for_the_table_of_ratings() -> None:
    with pytest.raises(ValidationError, match=r"table 2 is not of ratings; leave them out, or make table 5\.2"):
        ReproduceOptions(table="2", source="a", test="b", out="c", ratings=["anna.json"])


def test_a_model_is_not_tested_on_what_it_learned_from(tmp_path: Path) -> None:
    faces, out = tmp_path / "faces", str(tmp_path / "out")
    for source, test in ((faces, f"{faces}/"), (faces, faces / "few"), (faces / "few", faces)):
        options = ReproduceOptions(table="2", source=str(source), test=str(test), out=out)
        with pytest.raises(StorageError, match="a model is not tested on what it learned from"):
            reproduce.fn(options)
    with pytest.raises(StorageError, match="is inside the source"):
        reproduce.fn(ReproduceOptions(table="2", source=str(faces), test="others", out=str(faces / "out")))
    assert not list(tmp_path.iterdir())


def test_sizes_that_shrink_to_parts_of_pixels_are_refused(tmp_path: Path) -> None:
    options = ReproduceOptions(table="2", source="a", test="b", out=str(tmp_path), **TINY | {"size": 100})
    with pytest.raises(SizeError, match=r"size 100: 16 of 128 pixels would be no whole number"):
        reproduce.fn(options)
    with pytest.raises(SizeError, match=r"size 32 is no multiple of 64"):
        reproduce.fn(ReproduceOptions(table="1", source="a", test="b", out=str(tmp_path), **TINY))
    assert not list(tmp_path.iterdir())


def test_a_stride_of_one_pixel_stays_one(tmp_path: Path) -> None:
    options = ReproduceOptions(table="stride", source="a", test="b", out=str(tmp_path), **TINY | {"size": 64})
    strides = [Reproduction(options).geometry(row)["stride"] for row in PAPER_TABLES["stride"].rows]
    assert strides == [2, 1]


@pytest.mark.parametrize("table", PAPER_TABLES)
def test_the_models_of_every_row_can_be_trained(table: str, tmp_path: Path) -> None:
    folders = {"source": str(tmp_path / "a"), "test": str(tmp_path / "b"), "out": str(tmp_path / "out")}
    protocol: Any = "antialias" if PAPER_TABLES[table].has_protocol else None
    made = Reproduction(ReproduceOptions(table=table, protocol=protocol, **folders))
    made.check()
    for row in made.table.rows:
        if row.needs_training:
            options = made.training(row)
            low = row.low if "method" in row.train else made.preset.model.lr_size
            assert (options.model().size, options.model().lr_size) == (made.size, made.size if row.task else low)
            assert options.method == row.train.get("method", "dtls")
