"""The page of a report on generated images: the numbers of each set, samples, and their nearest training images.

It is one HTML file that works without scripts, but for the choice between light and dark.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reports.page.render import environment, policy_of, style_and_theme, text_of_value
from reports.tables.ranking import best_of
from reports.tables.summary import Summary


@dataclass(frozen=True)
class ShownSample:
    """A sample, and the training image whose features are nearest.

    key, nearest: their names. source, nearest_source: data URIs of images, or URLs relative to the page. nearest and
    nearest_source are None where there is no training image. distance: of the features, as it is printed. note: what
    is to be said of the pair, such as that it is a copy.
    """

    key: str
    source: str
    nearest: str | None
    nearest_source: str | None
    distance: str
    note: str = ""


@dataclass(frozen=True)
class ShownSet:
    """A generated set: samples that nobody picked, the first by their names, and those nearest to training images."""

    name: str
    samples: Sequence[ShownSample]
    closest: Sequence[ShownSample]


@dataclass(frozen=True)
class SetsPage:
    """The content of a page; training: what the images are called that samples are compared with."""

    title: str
    date: datetime
    summary: Summary
    sets: Sequence[ShownSet]
    training: str
    configuration: Mapping[str, Any]
    versions: Mapping[str, str]


def render_sets(page: SetsPage) -> str:
    """One HTML document; every name is escaped. ValueError for an image that is not embedded or beside the page."""
    style, theme = style_and_theme()
    shown = [sample for one in page.sets for sample in (*one.samples, *one.closest)]
    sources = [source for one in shown for source in (one.source, one.nearest_source) if source is not None]
    return (
        environment()
        .get_template("sets.html.j2")
        .render(
            page=page,
            policy=policy_of([theme], style, sources),
            style=style,
            theme=theme,
            rows=[_row(place, page.summary) for place in range(len(page.summary.methods))],
            configuration={str(name): text_of_value(value) for name, value in page.configuration.items()},
        )
    )


def _row(place: int, summary: Summary) -> dict[str, Any]:
    row = summary.methods[place]
    numbers = []
    for metric in summary.metrics:
        spread = row.get(f"{metric.name}_spread")
        text = metric.text(row.get(metric.name))
        text = text if spread is None else f"{text} ± {metric.text(spread)}"
        numbers.append({"text": text, "best": place in best_of(summary.methods, metric)})
    return {"method": row["method"], "numbers": numbers, "ok": row["ok"], "failed": row["failed"]}
