"""How near real images are to training images decides what counts as near."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.evaluation.sets import table as tables
from flows.evaluation.sets.table import FeatureTable
from reports.tables.set_tables import FEATURES


def written(path: Path, **sets: list[float]) -> FeatureTable:
    """A table of images with one feature each."""
    rows = [
        {
            "key": f"{name}/{i}",
            "status": "ok",
            "pixels": f"{value}",
            "features": np.array([value], np.float32).tobytes(),
        }
        for name, values in sets.items()
        for i, value in enumerate(values)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=FEATURES), path / "features.parquet")
    return FeatureTable(path / "features.parquet")


def test_a_real_image_is_not_its_own_nearest(tmp_path: Path) -> None:
    table = written(tmp_path, real=[0, 1, 3, 7])
    assert table.reference_distances("real", "real").tolist() == [1, 1, 2, 4]


def test_real_images_that_were_trained_on_do_not_count(tmp_path: Path) -> None:
    table = written(tmp_path, real=[10, 20, 31], train=[10, 22, 30])
    assert table.reference_distances("real", "train").tolist() == [2, 1]


def test_many_real_images_are_chosen_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "REFERENCES", 3)
    table = written(tmp_path, real=[float(i) for i in range(101)], train=[-1])
    assert table.reference_distances("real", "train").tolist() == [1, 51, 101]


def test_the_threshold_is_what_one_percent_are_within(tmp_path: Path) -> None:
    table = written(tmp_path, real=[float(i) for i in range(1, 102)], train=[0])
    assert table.threshold("real", "train") == pytest.approx(2)
    assert table.threshold("train", "real") is None


def test_names_that_begin_alike_are_two_sets(tmp_path: Path) -> None:
    table = written(tmp_path, a=[1, 2], ab=[3])
    assert [part.keys for part in table.parts("a")] == [["0", "1"]]
    assert table.feature_set("ab").count == 1
    found = [*table.nearest("a", "ab")]
    assert [(row["nearest"], row["distance"], row["is_copy"]) for row in found] == [("0", 2, False), ("0", 1, False)]
    assert [row["nearest"] for row in table.nearest("a", "none")] == [None, None]
