"""The report as one HTML file: a summary, the pictures side by side, every number. It works from disk, offline."""

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.gallery import GalleryItem, Picture
from reports.tables import METRICS, Metric, conditions, finite_or_none, mean_or_infinite, versions

TEMPLATES = Path(__file__).with_name("templates")
FIGURE_METRICS = ("psnr", "ssim", "lpips")


def render_page(
    title: str,
    summary: Sequence[Mapping[str, Any]],
    rows: Iterable[Mapping[str, Any]],
    gallery: Sequence[GalleryItem],
    configuration: Mapping[str, Any],
    *,
    date: datetime | None = None,
) -> str:
    """One self-contained HTML document.

    summary: as `tables.summarise` gives it. rows: mappings with the columns of metrics.parquet, one a picture and
    method. gallery: the pictures to show, embedded. configuration: what the run was asked to do. date: of the report,
    now unless given. Every name is escaped, and the page's own policy lets no other script run and nothing be loaded.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    table = list(rows)
    return environment.get_template("report.html.j2").render(
        title=title,
        date=date or datetime.now(UTC),
        conditions=conditions(summary),
        metrics=METRICS,
        summary=[_summary_row(row, summary) for row in summary],
        rows=[_table_row(row) for row in table],
        failed=sum(row["status"] != "ok" for row in table),
        pictures=len({row["key"] for row in table}),
        gallery=[_gallery_row(item) for item in gallery],
        configuration={str(name): _text(value) for name, value in configuration.items()},
        versions=versions(),
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _summary_row(row: Mapping[str, Any], summary: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    numbers = []
    for metric in METRICS:
        text = metric.text(mean_or_infinite(row, metric))
        best = metric.best(mean_or_infinite(other, metric) for other in summary)
        infinite = row.get(f"{metric.name}_infinite") if row[metric.name] is not None else 0
        numbers.append({"text": text, "best": text == best, "infinite": infinite})
    return {"method": row["method"], "numbers": numbers, "ok": row["ok"], "failed": row["failed"]}


def _table_row(row: Mapping[str, Any]) -> dict[str, Any]:
    width, height = (finite_or_none(row.get(side)) for side in ("width", "height"))
    sized = width is not None and height is not None
    ok = row["status"] == "ok"
    return {
        "key": row["key"],
        "method": row["method"],
        "size": f"{width:.0f} × {height:.0f}" if sized else "–",
        "area": width * height if width is not None and height is not None else "",
        "numbers": [{"text": m.text(row.get(m.name)), "value": _sortable(row.get(m.name))} for m in METRICS],
        "ok": ok,
        "status": "ok" if ok else f"failed: {row.get('error') or 'no reason given'}",
    }


def _sortable(value: object) -> str:
    """A number as JavaScript's Number() reads it; empty for none."""
    number = finite_or_none(value, infinite=True)
    if number is None:
        return ""
    return repr(number) if math.isfinite(number) else "Infinity" if number > 0 else "-Infinity"


def _gallery_row(item: GalleryItem) -> dict[str, Any]:
    figures = [_figure(picture, item) for picture in item.pictures]
    return {"key": item.key, "column": item.column, "size": item.size, "figures": figures}


def _figure(picture: Picture, item: GalleryItem) -> dict[str, Any]:
    numbers = [_number(m, picture, item) for m in METRICS if m.name in FIGURE_METRICS] if picture.metrics else []
    return {
        "label": picture.label,
        "source": "data:image/png;base64," + base64.b64encode(picture.png).decode(),
        "size": picture.size,
        "pixelated": picture.size[0] < item.column,
        "numbers": numbers,
    }


def _number(metric: Metric, picture: Picture, item: GalleryItem) -> dict[str, Any]:
    rivals = [p.metrics.get(metric.name) for p in item.pictures if p.metrics]
    text = metric.text((picture.metrics or {}).get(metric.name))
    return {"metric": metric, "text": text, "best": len(rivals) > 1 and text == metric.best(rivals)}


def _text(value: object) -> str:
    """A configuration's value as people read it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_text(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return "–" if value is None else str(value)
