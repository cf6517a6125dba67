"""The numbers and pictures of a page as compact JSON, column by column, for the page's own scripts."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from reports.page_parts import Page, Scene, Shown
from reports.tables import SET_METRICS, Metric, finite_or_none

DIGITS = 7
"""Significant digits of a number on the page; no metric shows more than five."""


def page_data(page: Page, rows: Sequence[Mapping[str, Any]]) -> str:
    """JSON that may stand in a script element: no `<`, `>` or `&`.

    methods and keys: names; metrics: those of single pictures; rows: columns of equal length, where key and method
    are places in those lists, numbers are null for none and the text "Infinity" or "-Infinity" for those, and error
    is null where all is well.
    """
    methods = _distinct([*(row["method"] for row in page.summary), *(row["method"] for row in rows)])
    keys = _distinct(row["key"] for row in rows)
    metrics = [metric for metric in page.metrics if metric not in SET_METRICS]
    content = {
        "methods": list(methods),
        "metrics": [asdict(metric) | {"arrow": metric.arrow} for metric in metrics],
        "primary": list(page.primary),
        "distortion": page.distortion,
        "perception": page.perception,
        "keys": list(keys),
        "rows": _columns(rows, metrics, methods, keys),
        "scenes": [_scene(scene) for scene in page.scenes],
    }
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate({ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


def is_embedded(source: str) -> bool:
    """Is a picture's source a data URI? ValueError for what is neither that nor a URL relative to the page."""
    if source.startswith("data:image/"):
        return True
    parts = urlsplit(source)
    if parts.scheme or parts.netloc or source.startswith(("/", "\\")):
        raise ValueError(f"{source[:80]!r}: a picture of the page is a data URI, or lies beside the page")
    return False


def _distinct(names: Iterable[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


def _columns(
    rows: Sequence[Mapping[str, Any]], metrics: Sequence[Metric], methods: Mapping[str, int], keys: Mapping[str, int]
) -> dict[str, list[Any]]:
    return {
        "key": [keys[row["key"]] for row in rows],
        "method": [methods[row["method"]] for row in rows],
        "width": [_whole(row.get("width")) for row in rows],
        "height": [_whole(row.get("height")) for row in rows],
        "error": [None if row["status"] == "ok" else row.get("error") or "no reason given" for row in rows],
        **{f"metric:{m.name}": [_number(row.get(m.name)) for row in rows] for m in metrics},
    }


def _whole(value: object) -> int | None:
    number = finite_or_none(value)
    return None if number is None else int(number)


def _number(value: object) -> float | str | None:
    number = finite_or_none(value, infinite=True)
    if number is not None and math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return None if number is None else float(f"{number:.{DIGITS}g}")


def _scene(scene: Scene) -> dict[str, Any]:
    return {"key": scene.key, "pictures": [_shown(picture) for picture in scene.pictures]}


def _shown(picture: Shown) -> dict[str, Any]:
    return {
        "label": picture.label,
        "role": picture.role,
        "source": picture.source,
        "size": picture.size,
        "thumbnail": picture.thumbnail,
        "maps": dict(picture.maps),
    }
