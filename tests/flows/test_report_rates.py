"""Reports on file sizes: codecs in the bytes of LR files are results like others."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows.evaluation.rates import CODECS
from flows.report import ReportOptions, report
from tests.flows.reporting import images, made, options


@pytest.mark.slow
def test_codecs_have_the_bytes_of_the_lr_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = images(tmp_path, count=2, side=128), tmp_path / "out"
    summary = made(folder, out, rates=True, gallery=0)
    table = pd.read_parquet(out / "metrics.parquet").set_index(["method", "key"])
    assert set(table.status) == {"ok"}
    for key in ("0", "1"):
        size = (folder / "lr" / f"{key}.png").stat().st_size
        assert table.bytes["good", key] == table.bytes["poor", key] == size
        assert all(0.8 * size < table.bytes[codec, key] <= size for codec in CODECS)
    rows = {row["method"]: row for row in summary["rates"]}
    assert [*rows] == ["good", "poor", *CODECS]
    assert rows["webp"]["psnr"] == pytest.approx(table.loc["webp"].psnr.mean())
    page = (out / "index.html").read_text()
    shown = page.partition("Quality at the size of the LR file")[2].partition("</section>")[0]
    assert "SSIM" in shown
    assert "LPIPS" not in shown, "nothing measured it"
    assert "| webp |" in (out / "summary.md").read_text()
    assert (out / "figures" / "rates.pdf").exists()
    capsys.readouterr()
    report.fn(options(folder, out, rates=True, gallery=0))
    assert "8 already done" in capsys.readouterr().err
    report.fn(options(folder, out, gallery=0))  # codecs and sizes are of reports that ask for them
    table = pd.read_parquet(out / "metrics.parquet")
    assert set(table.method) == {"good", "poor"}
    assert table.bytes.isna().all()
    assert not (out / "figures" / "rates.pdf").exists()


@pytest.mark.slow
def test_a_codec_that_needs_more_is_counted_and_a_missing_lr_image_is_a_failure(tmp_path: Path) -> None:
    folder = images(tmp_path, count=3, side=32)
    (folder / "lr" / "1.png").unlink()
    summary = made(folder, tmp_path / "out", rates=True)
    jpeg = next(row for row in summary["rates"] if row["method"] == "jpeg")
    assert (jpeg["images"], jpeg["larger"]) == (2, 2)
    table = pd.read_parquet(tmp_path / "out" / "metrics.parquet").set_index(["method", "key"])
    assert table.error["jpeg", "1"] == "no LR image, which says how many bytes the file may have"
    assert table.status["good", "1"] == "ok"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"lr": None}, "--rates needs --hr and --lr"),
        ({"sr": {"webp": "folder"}}, "--rates makes results called webp; give yours another name"),
        ({"sr": {}, "generated": ["x"], "real": "y", "hr": None, "lr": None}, "--rates goes with --sr"),
    ],
)
def test_options_that_do_not_fit_are_refused(wrong: dict[str, Any], says: str) -> None:
    settings: dict[str, Any] = {"hr": "hr", "lr": "lr", "sr": {"good": "sr"}, "out": "out", "rates": True, **wrong}
    with pytest.raises(ValueError, match=says):
        ReportOptions(**settings)
