"""What made the LR images is never guessed in silence: it is known, said, taken from the results, or asked for."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dtls.checkpoints.checkpoint import save_checkpoint
from dtls.errors import ProtocolError
from dtls.inference.method import load_method
from dtls.inference.sampling import Sampling
from dtls.inference.trained import Trained
from dtls.models.dtls import DTLS
from flows.inputs.compatibility import check_degraded, check_restores, chosen_protocol
from flows.report import ReportOptions, report
from storage.stores.location import StorageError
from tests.flows.reporting import images, made, options


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return images(tmp_path / "images", count=2)


def trained_for(folder: Path, **protocols: str) -> None:
    """Say that results are of models, and for which protocols they were trained."""
    for name, protocol in protocols.items():
        rows = {"key": ["0.png"], "output": ["0.png"], "method": ["dtls"], "protocol": [protocol]}
        pq.write_table(pa.table(rows), folder / name / "manifest.parquet")


@pytest.mark.slow
def test_a_protocol_that_nothing_told_is_a_note_and_without_lr_images_there_is_none(
    folder: Path, tmp_path: Path
) -> None:
    said = "The protocol reference is assumed"
    assert said in " ".join(made(folder, tmp_path / "assumed", protocol=None)["notes"])
    assert said not in " ".join(made(folder, tmp_path / "told", protocol="reference")["notes"])
    assert said not in " ".join(made(folder, tmp_path / "assumed", protocol="reference")["notes"])
    assert made(folder, tmp_path / "without", lr=None)["conditions"].startswith("Protocol: none")


def test_results_are_projected_on_what_the_manifest_says_and_on_nothing_else(folder: Path) -> None:
    rows = {"key": ["0.png"], "output": ["0.png"], "method": ["degrade-blur"], "protocol": ["blur:3"]}
    pq.write_table(pa.table(rows), folder / "lr" / "manifest.parquet")
    source, method = str(folder / "lr"), load_method("bicubic", sampling=Sampling(projected=True, made_by="blur:2"))
    check_degraded(method, source, "blur:3", projected=True)
    check_degraded(method, source, "blur:2", projected=False)
    check_degraded(method, source, "blur:6*0.5", projected=True)
    with pytest.raises(
        ProtocolError, match=r"undoes blur:2, and the images in .* are made by blur:3; .* --no-project"
    ):
        check_degraded(method, source, "blur:2", projected=True)
    pq.write_table(pa.table(rows | {"protocol": ["a\nb"]}), folder / "lr" / "manifest.parquet")
    with pytest.raises(StorageError, match=r"names the protocol 'a\\nb', which this version of dtls does not know"):
        check_degraded(method, source, "blur:2", projected=True)


def test_a_model_of_more_of_the_same_says_how_it_takes_images_of_less(tmp_path: Path) -> None:
    save_checkpoint(DTLS(dim=4, multipliers=(1,), size=16, degradation="noise:25/255"), tmp_path)
    model = Trained(tmp_path)
    with pytest.raises(ProtocolError, match=r"for denoise:25/255, not denoise:15/255; say --task denoise:25/255 --s"):
        check_restores(model, "denoise:15/255")
    with pytest.raises(ProtocolError, match=r"not denoise:0\.2; say --task denoise:25/255, or give a model of this"):
        check_restores(model, "denoise:0.2")
    check_restores(model, "denoise:0.0980392")


def test_a_manifest_s_name_is_one_line_of_the_refusal(folder: Path) -> None:
    rows = {"key": ["0.png"], "output": ["0.png"], "method": ["degrade-x"], "protocol": ["a\nb"]}
    pq.write_table(pa.table(rows), folder / "lr" / "manifest.parquet")
    with pytest.raises(StorageError, match=r"names the protocol 'a\\nb', which this version"):
        chosen_protocol("blur:2", str(folder / "lr"), {}, any_protocol=False)


def test_the_degradation_of_a_report_may_be_called_by_its_task() -> None:
    given = {"sr": {"a": "b"}, "lr": "c", "out": "d"}
    assert ReportOptions.model_validate({**given, "protocol": "denoise:25/255"}).protocol == "noise:0.0980392"


@pytest.mark.slow
def test_lr_images_of_one_s_own_are_measured_by_what_the_model_was_trained_for(folder: Path, tmp_path: Path) -> None:
    trained_for(folder, good="antialias")
    summary = made(folder, tmp_path / "out", protocol=None)
    assert summary["conditions"].startswith("Protocol: antialias")
    (note,) = summary["notes"]
    assert "does not say how its images were made" in note
    assert "by antialias, for which good was trained" in note
    told = made(folder, tmp_path / "told", protocol="antialias")
    assert told["notes"] == []
    assert told["methods"] == summary["methods"]


@pytest.mark.slow
def test_where_results_disagree_the_protocol_is_asked_for_before_any_work(folder: Path, tmp_path: Path) -> None:
    trained_for(folder, good="antialias", poor="reference")
    with pytest.raises(StorageError, match=r"good: antialias; poor: reference\); --protocol says how"):
        report.fn(options(folder, tmp_path / "out", protocol=None))
    assert not (tmp_path / "out").exists()
    with pytest.raises(ProtocolError, match="is of a model for reference, and --protocol antialias is given"):
        report.fn(options(folder, tmp_path / "out", protocol="antialias"))
    summary = made(folder, tmp_path / "any", protocol=None, any_protocol=True)
    assert "The protocol reference is assumed" in summary["notes"][0]


@pytest.mark.slow
def test_without_lr_images_nobody_claims_how_they_were_made(folder: Path, tmp_path: Path) -> None:
    trained_for(folder, good="antialias")
    assert made(folder, tmp_path / "one", protocol=None, lr=None)["notes"] == []
    trained_for(folder, poor="reference")
    (note,) = made(folder, tmp_path / "two", protocol=None, lr=None)["notes"]
    assert note == (
        "The results are of models for LR images of different protocols: good: antialias; poor: reference."
    )


@pytest.mark.slow
def test_a_model_for_realworld_leaves_no_consistency_of_unknown_lr_images(folder: Path, tmp_path: Path) -> None:
    trained_for(folder, good="realworld")
    summary = made(folder, tmp_path / "out", protocol=None)
    assert not {"consistency", "lr_psnr"} & summary["metrics"].keys()
    (note,) = summary["notes"]
    assert "good was trained for realworld, which is not linear: consistency and LR-PSNR are not measured" in note
    with pytest.raises(StorageError, match="--protocol says how the images were made"):
        report.fn(options(folder, tmp_path / "none", protocol=None, hr=None))


@pytest.mark.parametrize("name", ["lr", "good"])
def test_a_protocol_that_nobody_knows_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    rows = {"key": ["0.png"], "output": ["0.png"], "method": ["downscale-x"], "protocol": [7]}
    pq.write_table(pa.table(rows), folder / name / "manifest.parquet")
    with pytest.raises(StorageError, match="its manifest names the protocol '7', which this version"):
        report.fn(options(folder, tmp_path / "out", protocol=None))


def test_a_manifest_of_broken_text_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    broken = pa.array([b"\xff"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"key": broken, "output": broken}), folder / "good" / "manifest.parquet")
    with pytest.raises(StorageError, match=r"manifest\.parquet: not a readable Parquet file"):
        report.fn(options(folder, tmp_path / "out"))
