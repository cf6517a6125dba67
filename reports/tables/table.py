"""The Parquet table of a report: one row an image and method, one column a metric of the registry.

`metrics.parquet` documents itself: the schema's version is in its metadata, unit and meaning of every column in the
field's. A number that could not be had is null; an infinite PSNR (identical images) stays infinite.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from reports.metrics.metric import Metric
from reports.metrics.registry import METRICS

SCHEMA_VERSION = 2
"""Goes up when a column changes its meaning or goes; new columns do not need it."""
NOTES = "notes"
LATER = "later"
"""Marks the columns that tables of earlier versions lack."""
ROW_GROUP, BATCH = 16_384, 512


def _field(name: str, kind: pa.DataType, description: str, unit: str = "", *, nullable: bool = True) -> pa.Field:
    metadata = {"description": description} | ({"unit": unit} if unit else {})
    return pa.field(name, kind, nullable=nullable, metadata=metadata)


def _of_metric(metric: Metric) -> pa.Field:
    found = _field(metric.name, pa.float64(), f"{metric.description}; {metric.better} is better", metric.unit)
    return found.with_metadata({**found.metadata, LATER: "yes"}) if metric.is_later else found


SCHEMA = pa.schema(
    [
        _field("method", pa.string(), "what made the SR image", nullable=False),
        _field("key", pa.string(), "the image's name within its source", nullable=False),
        _field(
            "protocol",
            pa.string(),
            "what degraded the image: a downscaling such as antialias, or a spec such as blur:2",
        ),
        _field("scale", pa.float64(), "HR side / LR side; 1 where nothing was reduced"),
        _field("width", pa.int32(), "width of the HR image", "px"),
        _field("height", pa.int32(), "height of the HR image", "px"),
        *map(_of_metric, METRICS),
        _field("colour", pa.string(), "what PSNR and SSIM are of: rgb, or y, the luma of BT.601 in 16 … 235"),
        _field("border", pa.int32(), "how much PSNR and SSIM leave out on each side", "px"),
        _field("data_range", pa.float64(), "L of PSNR and SSIM, in levels of 8 bits"),
        _field("lpips_network", pa.string(), "alex or vgg"),
        _field("status", pa.string(), "ok or failed", nullable=False),
        _field("error", pa.string(), "why it failed"),
        pa.field(
            NOTES, pa.string(), metadata={"description": "in what SR and HR are unlike; parts by ; ", LATER: "yes"}
        ),
    ],
    metadata={"dtls.table": "metrics", "dtls.version": str(SCHEMA_VERSION)},
)


def write_metrics(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write `rows`, mappings from column to value, as they come.

    Columns left out are null, and so is NaN. ValueError for an unknown column, for a status other than ok and failed,
    and where method, key or status is missing.
    """
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        batches = _batches(map(_checked, rows))
        while group := list(islice(batches, ROW_GROUP // BATCH)):
            writer.write_table(pa.Table.from_batches(group))


def read_metrics(path: Path) -> pd.DataFrame:
    """A report's table, with pandas' missing values for null, and for columns that came later.

    ValueError when it is no such table, or a newer one.
    """
    table = pq.ParquetFile(path).read(use_threads=False)
    metadata = table.schema.metadata or {}
    if metadata.get(b"dtls.table") != b"metrics":
        raise ValueError(f"{path} is no table of metrics")
    if (found := int(metadata[b"dtls.version"])) > SCHEMA_VERSION:
        raise ValueError(f"{path} has version {found} of the table, this dtls reads up to {SCHEMA_VERSION}")
    frame: pd.DataFrame = table.to_pandas(types_mapper={pa.int32(): pd.Int32Dtype()}.get)
    return frame.assign(**{name: None for name in SCHEMA.names if name not in frame})


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[pa.RecordBatch]:
    """A few rows at a time, which are much smaller as columns."""
    rows = iter(rows)
    while batch := list(islice(rows, BATCH)):
        yield pa.RecordBatch.from_pylist(batch, schema=SCHEMA)


def _checked(row: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := set(row) - set(SCHEMA.names):
        raise ValueError(f"unknown columns in a row of metrics: {', '.join(sorted(unknown))}")
    if row.get("status") not in ("ok", "failed") or row.get("method") is None or row.get("key") is None:
        raise ValueError(f"a row of metrics needs method, key and a status of ok or failed: {dict(row)}")
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
