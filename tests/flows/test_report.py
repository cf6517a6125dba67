"""Reports as runs: the table, the summary and the page, with files matched by key and nothing left out silently."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from dtls.checkpoint import DTLS, CheckpointError, save_checkpoint
from flows.downscale import DownscaleOptions, downscale
from flows.fanout import RunError
from flows.report import ReportOptions, report
from flows.upscale import UpscaleOptions, upscale
from storage.locations import StorageError

COLUMNS = (
    *("method", "key", "protocol", "scale", "width", "height"),
    *("psnr", "ssim", "lpips", "consistency", "status", "error"),
)


@pytest.fixture(scope="module")
def compared(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with hr, lr (×4, antialias), and two results."""
    folder = tmp_path_factory.mktemp("compared")
    (folder / "hr").symlink_to(photographs)
    hr, lr = str(folder / "hr"), str(folder / "lr")
    downscale.fn(DownscaleOptions(source=hr, target=lr, scale=4, protocol="antialias"))
    for method in ("nearest", "bicubic"):
        upscale.fn(UpscaleOptions(source=lr, target=str(folder / method), method=method, scale=4))
    return folder


def options(compared: Path, out: Path, **changes: object) -> ReportOptions:
    settings = {
        "hr": str(compared / "hr"),
        "lr": str(compared / "lr"),
        "sr": {name: str(compared / name) for name in ("nearest", "bicubic")},
        "out": str(out),
        "device": "cpu",
        **changes,
    }
    return ReportOptions(**settings)


def test_a_report_is_a_table_a_summary_and_a_page(compared: Path, tmp_path: Path) -> None:
    page = report.fn(options(compared, tmp_path))
    assert page == str(tmp_path / "index.html")
    table = pd.read_parquet(tmp_path / "metrics.parquet")
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 24
    assert set(table.protocol) == {"antialias"}
    assert table.scale.eq(4).all()
    means = table.groupby("method")[["psnr", "lpips"]].mean()
    assert means.psnr.bicubic > means.psnr.nearest
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [method["method"] for method in summary["methods"]] == ["nearest", "bicubic"]
    assert Image.open(tmp_path / "contact-sheet.png").height > 8 * 64
    html = (tmp_path / "index.html").read_text()
    assert all(key in html for key in table.key)


def test_the_protocol_comes_from_the_lr_pictures_and_another_is_refused(compared: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="made with the protocol antialias, not reference"):
        report.fn(options(compared, tmp_path, protocol="reference"))
    assert not list(tmp_path.iterdir())


def test_missing_broken_and_wrongly_sized_pictures_are_rows_with_a_reason(compared: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    for path in sorted((compared / "bicubic").rglob("*.png")):
        (copy := bad / path.relative_to(compared / "bicubic")).parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (bad / "00000" / "00001.png").unlink()
    (bad / "00000" / "00002.png").write_bytes(b"no picture")
    Image.new("RGB", (60, 64)).save(bad / "00000" / "00003.png")
    Image.new("RGB", (64, 64)).save(bad / "00000" / "extra.png")
    with pytest.raises(RunError, match="4 of 13 images failed"):
        report.fn(options(compared, tmp_path / "out", sr={"bad": str(bad)}))
    table = pd.read_parquet(tmp_path / "out" / "metrics.parquet").set_index("key")
    assert f"not in {bad}" in table.loc["00000/00001"].error
    assert "00002.png: not an image" in table.loc["00000/00002"].error
    assert table.loc["00000/00003"].error == "SR is 60×64, HR is 64×64"
    assert f"not in {compared / 'hr'}" in table.loc["00000/extra"].error
    assert table.status.value_counts().to_dict() == {"ok": 9, "failed": 4}
    assert (tmp_path / "out" / "index.html").exists()


def test_hostile_names_are_escaped_on_the_page_and_refused_for_methods(compared: Path, tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("hr", "lr", "sr")}
    for folder, side in zip(folders.values(), (64, 16, 64), strict=True):
        folder.mkdir()
        Image.new("RGB", (side, side), "teal").save(folder / "<script>alert(1)<.png")
    addresses = {"hr": str(folders["hr"]), "lr": str(folders["lr"]), "sr": {"sr": str(folders["sr"])}}
    report.fn(options(compared, tmp_path / "out", **addresses))
    assert "<script>alert" not in (tmp_path / "out" / "index.html").read_text()
    for name in ("<b>", "HR", ""):
        with pytest.raises(ValueError, match="no name for a method"):
            options(compared, tmp_path / "out", sr={name: str(folders["sr"])})


def test_a_second_report_measures_nothing_again(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report.fn(options(compared, tmp_path))
    first = (tmp_path / "metrics.parquet").stat().st_mtime_ns
    report.fn(options(compared, tmp_path))
    assert "24 already done" in capsys.readouterr().err
    assert (tmp_path / "metrics.parquet").stat().st_mtime_ns == first


def test_results_of_a_model_for_another_protocol_are_refused_unless_asked_for(compared: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = DTLS(dim=8, multipliers=(1, 2), residual=True, size=64, stride=8, steps=6, protocol="reference")
    save_checkpoint(model, tmp_path / "model")
    upscaled = {"source": str(compared / "lr"), "target": str(tmp_path / "sr"), "checkpoint": str(tmp_path / "model")}
    upscale.fn(UpscaleOptions(**upscaled, scale=4, any_protocol=True, device="cpu"))
    results = {"dtls": str(tmp_path / "sr")}
    with pytest.raises(CheckpointError, match="of a model for reference, and the LR pictures are made by antialias"):
        report.fn(options(compared, tmp_path / "report", sr=results))
    assert not (tmp_path / "report").exists()
    report.fn(options(compared, tmp_path / "report", sr=results, any_protocol=True))
    assert (tmp_path / "report" / "index.html").exists()
