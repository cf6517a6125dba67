"""The table of a chain."""

import io
import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from reports.tables.chain import CHAIN_SCHEMA, chain_parquet, chain_row


def test_a_row_has_the_moments_of_all_values_of_a_state() -> None:
    row = chain_row("a.png", 3, np.array([[[0.0, 2.0], [4.0, 2.0]]]))
    assert (row["sample"], row["t"], row["mean"], row["variance"]) == ("a.png", 3.0, 2.0, 2.0)
    assert row["kl_moments"] == pytest.approx((2 + 4 - 1 - math.log(2)) / 2)


def test_the_file_describes_itself_and_comes_back() -> None:
    rows = [chain_row("a", 1, np.arange(4.0)), chain_row("a", 0, np.full(4, math.nan))]
    table = pq.read_table(io.BytesIO(chain_parquet(rows)))
    assert table.schema.equals(CHAIN_SCHEMA, check_metadata=True)
    assert table["t"].to_pylist() == [1, 0]
    assert all(math.isnan(table[name][1].as_py()) for name in ("mean", "variance", "kl_moments", "kl_histogram"))
