"""The table keeps what was measured, and says what its columns are."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from reports.tables.summary import summarise
from reports.tables.table import SCHEMA, read_metrics, write_metrics
from storage.stores.location import Location
from tests.reports.samples import INF, ROWS, row


def put(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write a table as a report does: it appears whole or not at all."""
    with Location.of(path.parent).writing(path.name) as file:
        write_metrics(rows, file)


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    write_metrics(ROWS, tmp_path / "metrics.parquet")
    return read_metrics(tmp_path / "metrics.parquet")


def test_columns_come_back_in_order_with_their_values(frame: pd.DataFrame) -> None:
    assert list(frame.columns) == [
        *("method", "key", "protocol", "scale", "width", "height"),
        *("psnr", "ssim", "ssim_gaussian", "lpips", "consistency", "lr_psnr", "authors_consistency", "bytes"),
        *("colour", "border", "data_range", "lpips_network", "status", "error", "notes"),
    ]
    assert frame["psnr"].tolist()[:3] == [30.0, INF, 28.0]
    assert math.isnan(frame["psnr"][3])
    assert frame["width"].tolist()[:3] == [128] * 3
    assert frame["error"].tolist()[3] == "truncated file"


def test_every_field_says_what_it_holds(tmp_path: Path) -> None:
    write_metrics(iter(ROWS), tmp_path / "metrics.parquet")
    schema = pq.read_schema(tmp_path / "metrics.parquet")
    assert schema.metadata[b"dtls.version"] == b"2"
    assert all(field.metadata[b"description"] for field in schema)
    assert {f.name: f.metadata[b"unit"] for f in schema if b"unit" in f.metadata} == {
        "width": b"px",
        "height": b"px",
        "psnr": b"dB",
        "lr_psnr": b"dB",
        "border": b"px",
        "bytes": b"bytes",
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
        put([ROWS[0], wrong], tmp_path / "metrics.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_former_table(tmp_path: Path) -> None:
    path = tmp_path / "metrics.parquet"
    put(ROWS, path)
    with pytest.raises(ValueError, match="row of metrics"):
        put([{}], path)
    assert len(read_metrics(path)) == 4


def test_other_and_newer_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(SCHEMA.empty_table().replace_schema_metadata(None), path)
    with pytest.raises(ValueError, match="no table of metrics"):
        read_metrics(path)
    pq.write_table(SCHEMA.empty_table().replace_schema_metadata({"dtls.table": "metrics", "dtls.version": "3"}), path)
    with pytest.raises(ValueError, match="version 3"):
        read_metrics(path)


def test_columns_that_came_after_a_table_was_written_are_missing_values(tmp_path: Path) -> None:
    path = tmp_path / "metrics.parquet"
    write_metrics(ROWS, path)
    pq.write_table(pq.read_table(path).drop_columns(["lr_psnr", "notes"]), path)
    frame = read_metrics(path)
    assert frame[["lr_psnr", "notes"]].isna().all(axis=None)
    assert summarise(frame).metrics == summarise(pd.DataFrame(ROWS, columns=SCHEMA.names)).metrics
