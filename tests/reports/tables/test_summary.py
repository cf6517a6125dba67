"""The summary adds up without hiding what failed, and says what the numbers stand on."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reports.tables.summary import as_json, summarise, text_of, versions
from reports.tables.table import read_metrics, write_metrics
from tests.reports.samples import INF, NAN, ROWS, row


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    write_metrics(ROWS, tmp_path / "metrics.parquet")
    return read_metrics(tmp_path / "metrics.parquet")


def test_means_are_of_what_could_be_measured_with_their_intervals(frame: pd.DataFrame) -> None:
    summary = summarise(frame)
    dtls, bicubic = summary.methods
    assert {name: value for name, value in dtls.items() if not re.search("_low$|_high$|_common", name)} == {
        **{"method": "dtls", "protocol": "antialias", "scales": [4.0], "ok": 2, "failed": 0},
        **{"psnr": 30.0, "psnr_infinite": 1, "ssim": pytest.approx(0.85), "ssim_infinite": 0},
        **{"lpips": pytest.approx(0.1), "lpips_infinite": 0, "consistency": pytest.approx(1e-5)},
        "consistency_infinite": 0,
    }
    assert (dtls["ssim_low"], dtls["ssim_high"]) == (0.8, 0.9)
    assert (bicubic["method"], bicubic["ok"], bicubic["failed"], bicubic["psnr"]) == ("bicubic", 1, 1, 28.0)
    assert [m.name for m in summary.metrics] == ["psnr", "ssim", "lpips", "consistency"]


def test_methods_are_compared_on_the_images_that_both_have(frame: pd.DataFrame) -> None:
    [psnr] = [c for c in summarise(frame).comparisons if c["metric"] == "psnr"]
    assert (psnr["a"], psnr["b"], psnr["n"], psnr["difference"]) == ("dtls", "bicubic", 1, 2.0)
    assert (psnr["wins"], psnr["losses"], psnr["ties"]) == (1, 0, 0)


def test_a_method_that_only_failed_has_no_means(tmp_path: Path) -> None:
    write_metrics([ROWS[3]], tmp_path / "m.parquet")
    summary = summarise(read_metrics(tmp_path / "m.parquet"))
    assert summary.metrics == ()
    assert (summary.methods[0]["ok"], summary.methods[0]["failed"], summary.methods[0]["protocol"]) == (0, 1, None)


def test_an_empty_table_has_a_summary(tmp_path: Path) -> None:
    write_metrics([], tmp_path / "m.parquet")
    summary = summarise(read_metrics(tmp_path / "m.parquet"))
    assert (summary.methods, summary.images, summary.conditions) == ([], 0, "Protocol: none")


def test_distances_of_sets_stand_beside_the_means(frame: pd.DataFrame) -> None:
    summary = summarise(frame, ["a note"], {"dtls": {"kid": 0.01, "kid_spread": 0.002}})
    assert [m.name for m in summary.metrics][-1] == "kid"
    assert (summary.methods[0]["kid"], summary.methods[1].get("kid")) == (0.01, None)
    assert summary.notes == ("a note", "Ranked over the one image that all methods have.")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Protocol: antialias · ×4 · RGB"),
        (
            {"colour": "y", "border": 4, "lpips_network": "alex"},
            "Protocol: antialias · ×4 · Y, border 4 · LPIPS alex",
        ),
        ({"colour": "y", "data_range": 219.0}, "Protocol: antialias · ×4 · Y, data range 219"),
        ({"protocol": "reference", "scale": None, "colour": None, "border": None}, "Protocol: reference"),
    ],
)
def test_the_conditions_say_what_numbers_stand_on(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    write_metrics([row("dtls", "a", 30.0) | changes], tmp_path / "m.parquet")
    assert summarise(read_metrics(tmp_path / "m.parquet")).conditions == said


def test_the_summary_is_json_that_every_reader_takes(frame: pd.DataFrame, tmp_path: Path) -> None:
    date = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    content = as_json(summarise(frame), {"hr": Path("a/b"), "limit": INF, "names": ("x", NAN)}, date=date)

    def refuse(literal: str) -> None:
        pytest.fail(f"{literal} is no JSON")

    read = json.loads(text_of(content), parse_constant=refuse)
    assert read["configuration"] == {"hr": "a/b", "limit": None, "names": ["x", None]}
    assert read["date"] == "2024-05-06T07:08:09+00:00"
    assert read["methods"] == list(summarise(frame).methods)
    assert read["failed"] == [{"method": "bicubic", "key": "b", "error": "truncated file"}]
    assert (read["pictures"], read["failed_total"]) == (2, 1)
    assert read["metrics"]["psnr"]["unit"] == "dB"
    assert set(versions()) == {"dtls", "torch", "python", "lpips"} == set(read["versions"])


def test_the_summary_lists_the_first_twenty_failures(tmp_path: Path) -> None:
    write_metrics([ROWS[3] | {"key": f"{i:03}"} for i in range(30)], tmp_path / "m.parquet")
    summary = summarise(read_metrics(tmp_path / "m.parquet"))
    assert [f["key"] for f in summary.failed] == [f"{i:03}" for i in range(20)]
    assert summary.failed_total == 30
