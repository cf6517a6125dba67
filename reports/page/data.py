"""The numbers and images of a page as compact JSON, column by column, for the page's own scripts."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import pandas as pd

from reports.metrics.metric import Metric, finite_or_none
from reports.metrics.registry import SET_METRICS
from reports.page.model import GalleryRow, Page, Shown

SHOWN = ("name", "label", "unit", "better", "form", "description", "arrow")
"""What the page's scripts know of a metric."""
DIGITS = 7
"""Significant digits of a number on the page; no metric shows more than five."""


def page_data(page: Page) -> str:
    """JSON that may stand in a script element: no `<`, `>` or `&`.

    methods and keys: names; metrics: those of single images; rows: columns of equal length, where key and method
    are places in those lists, numbers are null for none and the text "Infinity" or "-Infinity" for those, and error
    is null where all is well.
    """
    methods = list(dict.fromkeys([*(row["method"] for row in page.summary), *page.rows["method"].unique()]))
    keys = list(page.rows["key"].unique())
    metrics = [metric for metric in page.metrics if metric not in SET_METRICS]
    content = {
        "methods": methods,
        "metrics": [{name: getattr(metric, name) for name in SHOWN} for metric in metrics],
        "primary": list(page.primary),
        "distortion": page.distortion,
        "perception": page.perception,
        "keys": keys,
        "scenes": [_scene(scene) for scene in page.scenes],
    }
    columns = _object(_columns(page.rows, metrics, methods, keys))
    return _object([*((name, _text(value)) for name, value in content.items()), ("rows", columns)])


def is_embedded(source: str) -> bool:
    """Is an image's source a data URI? ValueError for what is neither that nor a URL relative to the page."""
    if source.startswith("data:image/"):
        return True
    parts = urlsplit(source)
    if parts.scheme or parts.netloc or source.startswith(("/", "\\")):
        raise ValueError(f"{source[:80]!r}: an image of the page is a data URI, or a file beside the page")
    return False


def _object(members: Iterable[tuple[str, str]]) -> str:
    """A JSON object of values that are JSON by now."""
    return f"{{{','.join(f'{_text(name)}:{value}' for name, value in members)}}}"


def _text(value: object) -> str:
    """JSON without what means something in HTML."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate({ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


def _columns(
    rows: pd.DataFrame, metrics: Sequence[Metric], methods: Sequence[str], keys: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """The columns by name, one after the other as JSON: of many rows, only one is held as Python's objects."""
    for name, known in (("key", keys), ("method", methods)):
        yield name, _text(pd.Index(known).get_indexer(pd.Index(rows[name])).tolist())
    rows = rows.reindex(columns=["width", "height", "status", "error", *(m.name for m in metrics)])
    for name in ("width", "height"):
        yield name, _text([_whole(value) for value in rows[name]])
    yield "error", _text([_reason(*row) for row in zip(rows["status"], rows["error"], strict=True)])
    for metric in metrics:
        yield f"metric:{metric.name}", _text([_number(value) for value in rows[metric.name]])


def _reason(status: str, error: object) -> str | None:
    if status == "ok":
        return None
    return error if isinstance(error, str) and error else "no reason given"


def _whole(value: object) -> int | None:
    number = finite_or_none(value)
    return None if number is None else int(number)


def _number(value: object) -> float | str | None:
    number = finite_or_none(value, infinite=True)
    if number is not None and math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return None if number is None else float(f"{number:.{DIGITS}g}")


def _scene(scene: GalleryRow) -> dict[str, Any]:
    return {"key": scene.key, "images": [_shown(image) for image in scene.images]}


def _shown(image: Shown) -> dict[str, Any]:
    return {
        "label": image.label,
        "role": image.role,
        "source": image.source,
        "size": image.size,
        "thumbnail": image.thumbnail,
        "maps": dict(image.maps),
    }
