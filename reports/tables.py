"""The Parquet table of a report, one row a picture and method; what it sums up to, as JSON and as Markdown.

`metrics.parquet` documents itself: the schema's version is in its metadata, unit and meaning of every column in the
field's. A number that could not be had is null; an infinite PSNR (identical pictures) stays infinite.
"""

import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA_VERSION = 1
"""Goes up when a column changes its meaning or goes; new columns do not need it."""
ROW_GROUP = 16_384
FAILED_LISTED = 20


@dataclass(frozen=True)
class Metric:
    """A column of numbers: how it is called, read and printed."""

    name: str
    label: str
    unit: str
    better: Literal["higher", "lower"]
    form: str
    description: str

    @property
    def arrow(self) -> str:
        """The direction in which it gets better."""
        return "↑" if self.better == "higher" else "↓"

    def text(self, value: object) -> str:
        """The number as people read it: a dash for none, ∞ for infinite."""
        number = finite_or_none(value, infinite=True)
        if number is None:
            return "–"
        return "∞" if math.isinf(number) else format(number, self.form)

    def best(self, values: Iterable[object]) -> str | None:
        """The printed form of the best of `values`; all that print like it are the best. None without a number."""
        numbers = [n for value in values if (n := finite_or_none(value, infinite=True)) is not None]
        return self.text((max if self.better == "higher" else min)(numbers)) if numbers else None


METRICS = (
    Metric("psnr", "PSNR", "dB", "higher", ".2f", "peak signal-to-noise ratio over the RGB channels"),
    Metric(
        "ssim", "SSIM", "", "higher", ".4f", "structural similarity, uniform 7×7 window, mean of the RGB channels"
    ),
    Metric("lpips", "LPIPS", "", "lower", ".4f", "learned perceptual distance, version 0.1 with AlexNet"),
    Metric("consistency", "Consistency", "", "lower", ".2e", "mean squared error between A·SR and LR on [0, 1]"),
)


def _field(name: str, kind: pa.DataType, description: str, unit: str = "", *, nullable: bool = True) -> pa.Field:
    metadata = {"description": description} | ({"unit": unit} if unit else {})
    return pa.field(name, kind, nullable=nullable, metadata=metadata)


SCHEMA = pa.schema(
    [
        _field("method", pa.string(), "what made the SR picture", nullable=False),
        _field("key", pa.string(), "the picture's name within its source", nullable=False),
        _field("protocol", pa.string(), "the downscaling A that made the LR picture"),
        _field("scale", pa.float64(), "HR side / LR side"),
        _field("width", pa.int32(), "width of the HR picture", "px"),
        _field("height", pa.int32(), "height of the HR picture", "px"),
        *(_field(m.name, pa.float64(), f"{m.description}; {m.better} is better", m.unit) for m in METRICS),
        _field("status", pa.string(), "ok or failed", nullable=False),
        _field("error", pa.string(), "why it failed"),
    ],
    metadata={"dtls.table": "metrics", "dtls.version": str(SCHEMA_VERSION)},
)


def write_metrics(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write `rows`, mappings from column to value, as they come; the file appears whole or not at all.

    Columns left out are null, and so is NaN. ValueError for an unknown column, for a status other than ok and failed,
    and where method, key or status is missing.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with pq.ParquetWriter(part, SCHEMA, compression="zstd") as writer:
            checked = (_checked(row) for row in rows)
            while group := list(islice(checked, ROW_GROUP)):
                writer.write_batch(pa.RecordBatch.from_pylist(group, schema=SCHEMA))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_metrics(path: Path) -> pd.DataFrame:
    """A report's table, with pandas' missing values for null. ValueError when it is no such table, or a newer one."""
    table = pq.ParquetFile(path).read(use_threads=False)
    metadata = table.schema.metadata or {}
    if metadata.get(b"dtls.table") != b"metrics":
        raise ValueError(f"{path} is no table of metrics")
    if (found := int(metadata[b"dtls.version"])) > SCHEMA_VERSION:
        raise ValueError(f"{path} has version {found} of the table, this dtls reads up to {SCHEMA_VERSION}")
    frame: pd.DataFrame = table.to_pandas(types_mapper={pa.int32(): pd.Int32Dtype()}.get)
    return frame


def summarise(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """One mapping a method, in first-seen order, with means over its pictures that are ok.

    method; protocol (names, joined by a comma where there are several); scales (sorted); ok and failed, counts;
    psnr (dB, of the finite ones) and psnr_infinite (how many were not); ssim, lpips, consistency. A mean of nothing
    is None.
    """
    return [_summary(str(method), rows) for method, rows in frame.groupby("method", sort=False)]


def summary_json(
    frame: pd.DataFrame, configuration: Mapping[str, Any], *, date: datetime | None = None
) -> dict[str, Any]:
    """What `summary.json` holds; json.dumps(…, allow_nan=False) takes it. NaN and infinities become null.

    configuration; versions; date (ISO 8601, now unless given); pictures, their number; methods, as `summarise` has
    them; failed, the first 20 failures (method, key, error), and failed_total.
    """
    failed = frame[frame["status"] == "failed"]
    summary = {
        "version": SCHEMA_VERSION,
        "date": (date or datetime.now(UTC)).isoformat(timespec="seconds"),
        "configuration": dict(configuration),
        "versions": versions(),
        "pictures": int(frame["key"].nunique()),
        "methods": summarise(frame),
        "failed": failed[["method", "key", "error"]].head(FAILED_LISTED).to_dict("records"),
        "failed_total": len(failed),
    }
    return {key: _json(value) for key, value in summary.items()}


def write_summary(summary: Mapping[str, Any], path: Path) -> None:
    """Write the mapping of `summary_json` as UTF-8 JSON."""
    path.write_text(json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def versions() -> dict[str, str]:
    """What the numbers depend on."""
    return {name: version(name) for name in ("dtls", "torch", "lpips")} | {"python": platform.python_version()}


def markdown_table(summary: Sequence[Mapping[str, Any]]) -> str:
    """The mappings of `summarise` as a Markdown table, the protocol above it, the best values in bold."""
    failures = any(row["failed"] for row in summary)
    header = ["Method", *(f"{m.label} {m.arrow}" + f" ({m.unit})" * bool(m.unit) for m in METRICS), "Pictures"]
    lines = [header + ["Failed"] * failures, ["---", *["---:"] * (len(header) - 1 + failures)]]
    best = {m.name: m.best(mean_or_infinite(row, m) for row in summary) for m in METRICS}
    for row in summary:
        texts = {m.name: m.text(mean_or_infinite(row, m)) for m in METRICS}
        cells = [f"**{text}**" if text == best[name] else text for name, text in texts.items()]
        if row["psnr"] is not None and row["psnr_infinite"]:
            cells[0] += f" (+{row['psnr_infinite']} ∞)"
        name = str(row["method"]).replace("\\", "\\\\").replace("|", "\\|")
        lines.append([name, *cells, str(row["ok"]), *[str(row["failed"])] * failures])
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{conditions(summary)}\n\n{table}\n"


def conditions(summary: Sequence[Mapping[str, Any]]) -> str:
    """Under what the numbers were taken: `Protocol: antialias · ×4`."""
    protocols = sorted({row["protocol"] for row in summary if row["protocol"]})
    scales = sorted({scale for row in summary for scale in row["scales"]})
    return f"Protocol: {', '.join(protocols) or 'none'}" + (
        " · " + ", ".join(f"×{s:g}" for s in scales) if scales else ""
    )


def mean_or_infinite(row: Mapping[str, Any], metric: Metric) -> float | None:
    """A method's mean of `metric`; infinite where there are infinite values only."""
    value: float | None = row[metric.name]
    return math.inf if value is None and row.get(f"{metric.name}_infinite") else value


def finite_or_none(value: object, *, infinite: bool = False) -> float | None:
    """A number as float; None for null, NaN and, unless `infinite`, the infinities."""
    if not isinstance(value, Real):
        return None
    number = float(value)
    return None if math.isnan(number) or (math.isinf(number) and not infinite) else number


def _checked(row: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := set(row) - set(SCHEMA.names):
        raise ValueError(f"unknown columns in a row of metrics: {', '.join(sorted(unknown))}")
    if row.get("status") not in ("ok", "failed") or row.get("method") is None or row.get("key") is None:
        raise ValueError(f"a row of metrics needs method, key and a status of ok or failed: {dict(row)}")
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def _summary(method: str, rows: pd.DataFrame) -> dict[str, Any]:
    ok = rows[rows["status"] == "ok"]
    finite = ok[[m.name for m in METRICS]].replace([math.inf, -math.inf], math.nan)
    means = {m.name: finite_or_none(finite[m.name].mean()) for m in METRICS}
    return {
        "method": method,
        "protocol": ", ".join(rows["protocol"].dropna().unique()) or None,
        "scales": sorted(float(scale) for scale in rows["scale"].dropna().unique()),
        "ok": len(ok),
        "failed": len(rows) - len(ok),
        "psnr": means.pop("psnr"),
        "psnr_infinite": int((ok["psnr"] == math.inf).sum()),
        **means,
    }


def _json(value: object) -> Any:
    """`value` with what JSON has no literal for as null, and what it does not know as text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return finite_or_none(value)
    if isinstance(value, Mapping):
        return {str(key): _json(v) for key, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_json(v) for v in value]
    return str(value)
