"""Reports side by side: what is no summary is refused with one line, and no name breaks the table."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows.evaluation.history import compare
from reports.tables.table import SCHEMA_VERSION
from storage.stores.location import StorageError

METHOD = {"method": "good", "ok": 3, "failed": 0, "psnr": 30.0, "psnr_infinite": 0}


def kept(report: Path, run: str = "monday", **changes: Any) -> str:
    """A report with one run of this summary; its address."""
    summary = {
        "version": SCHEMA_VERSION,
        "date": "2026-11-21T10:00:00+00:00",
        "conditions": "Protocol: antialias",
        "pictures": 3,
        "methods": [METHOD],
        **changes,
    }
    place = report / "runs" / f"run={run}"
    place.mkdir(parents=True)
    (place / "_summary.json").write_text(json.dumps(summary))
    return str(report)


def lines(out: Path) -> list[str]:
    return (out / "history.md").read_text().splitlines()[2:]


def test_a_mean_of_infinite_numbers_alone_is_infinite(tmp_path: Path) -> None:
    report = kept(tmp_path / "a", methods=[METHOD | {"psnr": None, "psnr_infinite": 3}])
    compare([report], str(tmp_path / "out"))
    assert lines(tmp_path / "out") == ["| monday | good | ∞ | 3 | Protocol: antialias |"]
    assert pd.read_parquet(tmp_path / "out" / "history.parquet").psnr.tolist() == [float("inf")]


def test_a_summary_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    report = kept(tmp_path / "a", version=SCHEMA_VERSION + 1)
    with pytest.raises(StorageError, match=r"_summary.json: has version \d+ of the table, this dtls reads up to"):
        compare([report], str(tmp_path / "out"))


def test_a_run_without_methods_is_an_empty_table(tmp_path: Path) -> None:
    compare([kept(tmp_path / "a", methods=[])], str(tmp_path / "out"))
    assert lines(tmp_path / "out") == []
    assert "psnr" in pd.read_parquet(tmp_path / "out" / "history.parquet")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"conditions": ["a", "list"]}, "conditions Input should be a valid string"),
        ({"date": 7}, "date Input should be a valid string"),
        ({"pictures": 10**30}, "pictures Input should be less than"),
        ({"methods": [{"method": "good"}]}, r"methods\.0\.ok Field required"),
        ({"methods": [METHOD | {"method": "\ud800"}]}, "not the summary of a report"),
    ],
)
def test_a_hostile_summary_is_refused_with_one_line(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    report = kept(tmp_path / "a", **changes)
    with pytest.raises(StorageError, match=said) as refused:
        compare([report], str(tmp_path / "out"))
    assert "\n" not in str(refused.value)


def test_a_number_beyond_all_floats_is_none(tmp_path: Path) -> None:
    compare([kept(tmp_path / "a", methods=[METHOD | {"psnr": 10**400, "ssim": 0.5}])], str(tmp_path / "out"))
    assert lines(tmp_path / "out") == ["| monday | good | 0.5000 | 3 | Protocol: antialias |"]


def test_names_and_conditions_do_not_break_the_table(tmp_path: Path) -> None:
    hostile = "a|b\n| c |\\|<b>"
    report = kept(tmp_path / "a", "x|y", conditions=hostile, methods=[METHOD | {"method": hostile}])
    compare([report], str(tmp_path / "out"))
    (line,) = lines(tmp_path / "out")
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 6
    assert "<b>" not in line.replace("\\<b", "")


def test_a_report_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    report = kept(tmp_path / "a")
    other = kept(tmp_path / "b", methods=[METHOD | {"psnr": 31.0}])
    compare([report, other, f"{tmp_path}/b/../a/"], str(tmp_path / "out"))
    assert [line.split(" | ")[1:4] for line in lines(tmp_path / "out")] == [
        [report.replace("_", "\\_"), "good", "30.00"],
        [other.replace("_", "\\_"), "good", "31.00"],
    ]
