"""The table keeps what was measured, says what its columns are, and sums up without hiding what failed."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from reports.tables import (
    SCHEMA,
    markdown_table,
    read_metrics,
    summarise,
    summary_json,
    versions,
    write_metrics,
    write_summary,
)

INF, NAN = math.inf, math.nan


def row(method: str, key: str, psnr: float, **others: Any) -> dict[str, Any]:
    common = {"protocol": "antialias", "scale": 4.0, "width": 128, "height": 96, "status": "ok", "error": None}
    return {
        "method": method,
        "key": key,
        **common,
        "psnr": psnr,
        "ssim": 0.9,
        "lpips": 0.1,
        "consistency": 1e-5,
    } | others


ROWS = [
    row("dtls", "a", 30.0, ssim=0.8),
    row("dtls", "b", INF, lpips=NAN),
    row("bicubic", "a", 28.0),
    {"method": "bicubic", "key": "b", "status": "failed", "error": "truncated file"},
]


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    write_metrics(ROWS, tmp_path / "metrics.parquet")
    return read_metrics(tmp_path / "metrics.parquet")


def test_columns_come_back_in_order_with_their_values(frame: pd.DataFrame) -> None:
    assert list(frame.columns) == [
        *("method", "key", "protocol", "scale", "width", "height"),
        *("psnr", "ssim", "lpips", "consistency", "status", "error"),
    ]
    assert frame["psnr"].tolist()[:3] == [30.0, INF, 28.0]
    assert math.isnan(frame["psnr"][3])
    assert frame["width"].tolist()[:3] == [128] * 3
    assert frame["error"].tolist()[3] == "truncated file"


def test_every_field_says_what_it_holds(tmp_path: Path) -> None:
    write_metrics(iter(ROWS), tmp_path / "metrics.parquet")
    schema = pq.read_schema(tmp_path / "metrics.parquet")
    assert schema.metadata[b"dtls.version"] == b"1"
    assert all(field.metadata[b"description"] for field in schema)
    assert {f.name: f.metadata[b"unit"] for f in schema if b"unit" in f.metadata} == {
        "width": b"px",
        "height": b"px",
        "psnr": b"dB",
    }


def test_duckdb_reads_it_and_nan_became_null(tmp_path: Path) -> None:
    path = tmp_path / "metrics.parquet"
    write_metrics(ROWS, path)
    query = f"SELECT method, avg(lpips), count(lpips), max(psnr) FROM '{path}' GROUP BY method ORDER BY method"
    assert duckdb.connect().execute(query).fetchall() == [("bicubic", 0.1, 1, 28.0), ("dtls", 0.1, 1, INF)]


@pytest.mark.parametrize(
    "wrong",
    [{"method": "m", "key": "k", "status": "fine"}, {"method": "m", "status": "ok"}, row("m", "k", 1.0, fid=3.0)],
)
def test_a_wrong_row_is_refused_and_leaves_no_file(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="row of metrics"):
        write_metrics([ROWS[0], wrong], tmp_path / "metrics.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_former_table(tmp_path: Path) -> None:
    path = tmp_path / "metrics.parquet"
    write_metrics(ROWS, path)
    with pytest.raises(ValueError, match="row of metrics"):
        write_metrics([{}], path)
    assert len(read_metrics(path)) == 4


def test_other_and_newer_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(SCHEMA.empty_table().replace_schema_metadata(None), path)
    with pytest.raises(ValueError, match="no table of metrics"):
        read_metrics(path)
    pq.write_table(SCHEMA.empty_table().replace_schema_metadata({"dtls.table": "metrics", "dtls.version": "2"}), path)
    with pytest.raises(ValueError, match="version 2"):
        read_metrics(path)


def test_means_are_of_what_could_be_measured(frame: pd.DataFrame) -> None:
    dtls, bicubic = summarise(frame)
    assert dtls == {
        "method": "dtls",
        "protocol": "antialias",
        "scales": [4.0],
        "ok": 2,
        "failed": 0,
        "psnr": 30.0,
        "psnr_infinite": 1,
        "ssim": pytest.approx(0.85),
        "lpips": pytest.approx(0.1),
        "consistency": pytest.approx(1e-5),
    }
    assert (bicubic["method"], bicubic["ok"], bicubic["failed"], bicubic["psnr"]) == ("bicubic", 1, 1, 28.0)


def test_a_method_that_only_failed_has_no_means(tmp_path: Path) -> None:
    write_metrics([ROWS[3]], tmp_path / "m.parquet")
    [summary] = summarise(read_metrics(tmp_path / "m.parquet"))
    assert (summary["ok"], summary["failed"], summary["psnr"], summary["protocol"]) == (0, 1, None, None)


def test_an_empty_table_is_a_table(tmp_path: Path) -> None:
    write_metrics([], tmp_path / "m.parquet")
    frame = read_metrics(tmp_path / "m.parquet")
    assert summarise(frame) == []
    assert summary_json(frame, {})["pictures"] == 0


def test_the_summary_is_json_that_every_reader_takes(frame: pd.DataFrame, tmp_path: Path) -> None:
    date = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    summary = summary_json(frame, {"hr": Path("a/b"), "limit": INF, "names": ("x", NAN)}, date=date)
    write_summary(summary, tmp_path / "summary.json")

    def refuse(literal: str) -> None:
        pytest.fail(f"{literal} is no JSON")

    read = json.loads((tmp_path / "summary.json").read_text(), parse_constant=refuse)
    assert read["configuration"] == {"hr": "a/b", "limit": None, "names": ["x", None]}
    assert read["date"] == "2024-05-06T07:08:09+00:00"
    assert read["methods"] == summarise(frame)
    assert read["failed"] == [{"method": "bicubic", "key": "b", "error": "truncated file"}]
    assert (read["pictures"], read["failed_total"]) == (2, 1)
    assert set(versions()) == {"dtls", "torch", "python", "lpips"} == set(read["versions"])


def test_the_summary_lists_the_first_twenty_failures(tmp_path: Path) -> None:
    write_metrics([ROWS[3] | {"key": f"{i:03}"} for i in range(30)], tmp_path / "m.parquet")
    summary = summary_json(read_metrics(tmp_path / "m.parquet"), {})
    assert [f["key"] for f in summary["failed"]] == [f"{i:03}" for i in range(20)]
    assert summary["failed_total"] == 30


def test_markdown_has_the_protocol_and_the_best_in_bold(frame: pd.DataFrame) -> None:
    assert markdown_table(summarise(frame)).splitlines() == [
        "Protocol: antialias · ×4",
        "",
        "| Method | PSNR ↑ (dB) | SSIM ↑ | LPIPS ↓ | Consistency ↓ | Pictures | Failed |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| dtls | **30.00** (+1 ∞) | 0.8500 | **0.1000** | **1.00e-05** | 2 | 0 |",
        "| bicubic | 28.00 | **0.9000** | **0.1000** | **1.00e-05** | 1 | 1 |",
    ]


def test_markdown_of_hostile_names_and_infinite_means_stays_a_table(tmp_path: Path) -> None:
    write_metrics([row("a|b", "k", INF)], tmp_path / "m.parquet")
    line = markdown_table(summarise(read_metrics(tmp_path / "m.parquet"))).splitlines()[-1]
    assert line == "| a\\|b | **∞** | **0.9000** | **0.1000** | **1.00e-05** | 1 |"
