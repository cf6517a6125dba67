"""The Parquet table of a chain: one row an image and timestep, with how far the state is from pure noise."""

from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from reports.metrics.kl import kl_by_histogram, kl_by_moments

SCHEMA_VERSION = 1
"""Goes up when a column changes its meaning or goes; new columns do not need it."""


def _field(name: str, kind: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"description": description})


CHAIN_SCHEMA = pa.schema(
    [
        _field("sample", pa.string(), "the image's name within its source, or the sample's key"),
        _field("t", pa.float64(), "timestep of the state, from the largest down to 0, the result"),
        _field("mean", pa.float64(), "of the state's values, in the space that the network works in"),
        _field("variance", pa.float64(), "of the state's values"),
        _field("kl_moments", pa.float64(), "KL divergence from N(0, 1) by mean and variance, in nats"),
        _field("kl_histogram", pa.float64(), "KL divergence from N(0, 1) by a histogram of 64 bins, in nats"),
    ],
    metadata={"dtls.table": "chain", "dtls.version": str(SCHEMA_VERSION)},
)


def chain_row(sample: str, t: float, state: ArrayLike) -> dict[str, Any]:
    """The row of a state, an array of any shape; what is not finite gives numbers that are not."""
    x = np.asarray(state, np.float64)
    mean, variance = float(x.mean()), float(x.var())
    moments = kl_by_moments(mean, variance) if np.isfinite(variance) else np.nan
    return {
        "sample": sample,
        "t": float(t),
        "mean": mean,
        "variance": variance,
        "kl_moments": moments,
        "kl_histogram": kl_by_histogram(x),
    }


def chain_parquet(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """The rows of `chain_row` as a Parquet file."""
    file = BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=CHAIN_SCHEMA), file, compression="zstd")
    return file.getvalue()
