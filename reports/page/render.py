"""The report as one HTML file: a verdict, a summary, charts, the images side by side, every number.

It works from disk and from a bucket, offline. The page's own policy lets only the scripts and the style that are
written into it run, each by its hash, and loads nothing but images, embedded or beside the page.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.metrics.metric import Metric, finite_or_none, mean_or_infinite
from reports.page.data import is_embedded, page_data
from reports.page.model import GalleryRow, Page, Shown
from reports.page.verdict import interval, signed, verdict
from reports.rating.render import ratings_facts, ratings_note, ratings_tables
from reports.tables.ranking import best_of
from reports.tables.rates import measured

__all__ = ["GalleryRow", "Page", "Shown", "render"]

TEMPLATES = Path(__file__).with_name("templates")
THEME = "report.theme.js"
SCRIPTS = (
    "vendor/chart.js-4.6.1.min.js",
    "report.data.js",
    "report.state.js",
    "report.panes.js",
    "report.viewer.js",
    "report.gallery.js",
    "report.charts.js",
    "report.table.js",
    "report.start.js",
)
"""In the order they are run; a later one may use what an earlier one defines."""
COLOURS = 8


def render(page: Page) -> str:
    """One self-contained HTML document.

    Every name is escaped. ValueError for an image that is neither embedded nor beside the page, and for a name in
    primary, distortion or perception that is no metric's.
    """
    _check_unknown(page)
    style, theme = style_and_theme()
    scripts = [_template(name) for name in SCRIPTS]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            page=page,
            policy=policy_of([theme, *scripts], style, _sources(page.scenes)),
            style=style,
            theme=theme,
            scripts=scripts,
            data=page_data(page),
            verdict=verdict(page),
            summary=[_summary_row(place, page) for place in range(len(page.summary))],
            intervals=any(f"{m.name}_low" in row for m in page.metrics for row in page.summary),
            comparisons=_comparisons(page),
            said=_said(page),
            rates=[_rates_row(row, page) for row in page.rates],
            quality=measured(page.rates),
            results=len(page.rows),
            failed=int((page.rows["status"] != "ok").sum()),
            images=page.rows["key"].nunique(),
            configuration={str(name): text_of_value(value) for name, value in page.configuration.items()},
        )
    )


def _check_unknown(page: Page) -> None:
    names = {metric.name for metric in page.metrics}
    if unknown := {*page.primary, page.distortion, page.perception} - names:
        raise ValueError(f"no metric of the page: {', '.join(sorted(unknown))}; there are {', '.join(sorted(names))}")


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def environment() -> Environment:
    """Jinja's, which escapes whatever a template prints and refuses names that it is not given."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def style_and_theme() -> tuple[str, str]:
    """The style of all pages, and the script that chooses between light and dark."""
    return _template("report.css"), _template(THEME)


def policy_of(scripts: Sequence[str], style: str, images: Iterable[str]) -> str:
    """The content security policy of a page with these texts and these sources of images.

    ValueError for an image that is neither embedded nor beside the page.
    """
    beside = [source for source in images if not is_embedded(source)]
    images = "data: 'self' file:" if beside else "data:"  # 'self' is nothing to a page that is opened from disk
    allowed = " ".join(map(_hash, scripts))
    return f"default-src 'none'; img-src {images}; style-src {_hash(style)}; script-src {allowed}; base-uri 'none'"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _sources(scenes: Sequence[GalleryRow]) -> list[str]:
    images = [image for scene in scenes for image in scene.images]
    return [s for p in images for s in (p.source, p.thumbnail, *p.maps.values()) if s is not None]


def _summary_row(place: int, page: Page) -> dict[str, Any]:
    row = page.summary[place]
    numbers = []
    for metric in page.metrics:
        spread = row.get(f"{metric.name}_spread")
        text = metric.text(mean_or_infinite(row, metric.name))
        numbers.append(
            {
                "text": text if spread is None else f"{text} ± {metric.text(spread)}",
                "best": place in best_of(page.summary, metric),
                "interval": interval(metric, row.get(f"{metric.name}_low"), row.get(f"{metric.name}_high")),
                "infinite": row.get(f"{metric.name}_infinite", 0) if row.get(metric.name) is not None else 0,
                "primary": metric.name in page.primary,
            }
        )
    colour = place % COLOURS
    return {"method": row["method"], "colour": colour, "numbers": numbers, "ok": row["ok"], "failed": row["failed"]}


def _said(page: Page) -> dict[str, Any] | None:
    """What people said, in each method's colour."""
    if page.ratings is None:
        return None
    colours = {row["method"]: f"m{place % COLOURS}" for place, row in enumerate(page.summary)}
    return {
        "facts": ratings_facts(page.ratings),
        "tables": ratings_tables(page.ratings),
        "note": ratings_note(page.ratings),
        "colours": colours,
    }


def _rates_row(row: Mapping[str, Any], page: Page) -> dict[str, Any]:
    methods = [found["method"] for found in page.summary]
    shown = measured(page.rates)
    best = {metric.name: metric.best(other[metric.name] for other in page.rates) for metric in shown}
    texts = {metric.name: metric.text(row[metric.name]) for metric in shown}
    numbers = [{"text": text, "best": text == best[name]} for name, text in texts.items()]
    return {**row, "colour": methods.index(row["method"]) % COLOURS, "numbers": numbers}


def _comparisons(page: Page) -> list[dict[str, Any]]:
    metrics = {metric.name: metric for metric in page.metrics}
    return [_comparison(pair, metrics[pair["metric"]]) for pair in page.comparisons if pair["metric"] in metrics]


def _comparison(pair: Mapping[str, Any], metric: Metric) -> dict[str, Any]:
    difference, p = finite_or_none(pair["difference"]), finite_or_none(pair["p"])
    return {
        **pair,
        "label": metric.label,
        "unit": metric.unit,
        "difference": "–" if difference is None else signed(metric, difference),
        "interval": interval(metric, pair["low"], pair["high"]),
        "p": "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}",
    }


def text_of_value(value: object) -> str:
    """A configuration's value as people read it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {text_of_value(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(text_of_value, value))
    return "–" if value is None else str(value)
