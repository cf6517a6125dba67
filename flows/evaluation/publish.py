"""What a report makes of its table: the summary, the page, images, figures, and a place among earlier runs.

All of it stands on the table alone, and is made anew only when that, or what was asked for, is another.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import pandas as pd

from flows.engine.apart import is_not_to_be_read
from flows.evaluation.gallery import Gallery
from flows.evaluation.history import RUN_SUMMARY
from flows.evaluation.measure import Measurement
from flows.evaluation.notes import not_measured, notes_of
from flows.evaluation.outputs import TABLE, Published, Recorder
from flows.evaluation.projection import projection_notes
from flows.evaluation.publishing import LATEX, MARKDOWN, PAGE, SUMMARY, Publishing
from flows.evaluation.rates import CODECS
from flows.evaluation.rating import PAGE as RATING_PAGE
from flows.evaluation.rating import answers_stand_on, read_answers, write_rating
from flows.evaluation.set_metrics import set_distances
from flows.interface.console import log, log_markdown, progress, publish
from reports.figures.contact_sheet import contact_sheet_png
from reports.figures.crops import comparison_figure
from reports.figures.fonts import lacking, missing
from reports.figures.gallery import NothingToDrawError
from reports.figures.plots import distribution_figure, figure_bytes, tradeoff_figure
from reports.metrics.features import load_features
from reports.metrics.file_size import FILE_SIZE
from reports.metrics.registry import METRICS
from reports.page.model import Page
from reports.page.render import render
from reports.rating.render import ratings_markdown
from reports.tables.rates import QUALITY, Rows, rates, rates_table
from reports.tables.render import interval_table, latex_table, markdown
from reports.tables.summary import Summary, as_json, summarise, text_of, versions
from reports.tables.table import read_metrics
from storage.receipts.parquet import check_large

SHEET = "contact-sheet.png"
SHEET_ROWS, FIGURE_ROWS = 8, 4
INTERVALS = "### All numbers, with 95 % intervals"
DISTORTION, PERCEPTION = "psnr", "lpips"
FORMS: tuple[Literal["pdf", "png"], ...] = ("pdf", "png")
DRAWN = {f"figures/{name}.{form}" for name in ("comparison", "distributions", "tradeoff") for form in FORMS}
RATES = {f"figures/rates.{form}" for form in FORMS}
WRITTEN = {SUMMARY, PAGE, MARKDOWN, LATEX}


@dataclass(frozen=True)
class _Ground:
    """The table as it is now, what is to be noted of it, and all that the files of the report stand on."""

    frame: pd.DataFrame
    notes: list[str]
    stands_on: list[Any]


@dataclass(frozen=True)
class Publication(Publishing[_Ground]):
    """The files of a report on results, compared with what they should be."""

    comparison: Measurement

    def publish(self) -> str:
        """Make what the table stands for, unless it is there; the address of the page."""
        self.renew()
        text = self.out.read(MARKDOWN).decode()
        link = f"Page: `{self.out.address(PAGE)}`"
        publish("dtls-report", f"# {self.options['title']}\n\n{text}\n\n{link}\n")
        log_markdown(text.partition(INTERVALS)[0])
        return self.out.address(PAGE)

    def ground(self) -> _Ground:
        with self.out.as_file(TABLE) as table:
            check_large(table)
            frame = read_metrics(table)
        said = map(astuple, answers_stand_on(self.out, self.options["ratings"]))
        notes = [*notes_of(self.comparison, frame), *projection_notes(frame, self.options["sr"])]
        made_from = [self.configuration, versions()["dtls"], *self.out.info(TABLE).listed, *said, notes]
        return _Ground(frame, notes, made_from)

    @property
    def configuration(self) -> dict[str, Any]:
        """What was asked for, in words for people and for `summary.json`."""
        measure = self.comparison.measure
        return {
            **self.options,
            "protocol": self.comparison.protocol,
            "colour": measure.colour,
            "border": measure.border,
            "data_range": measure.data_range,
            "lpips": self.comparison.network,
        }

    def published(self) -> Published:
        return Published.at(self.out, {*WRITTEN, SHEET, *DRAWN})

    def planned(self) -> set[str]:
        planned = {*WRITTEN, f"{self.run}/{TABLE}", f"{self.run}{RUN_SUMMARY}"}
        planned |= {SHEET} if self.options["gallery"] else set()
        planned |= DRAWN if self.options["figures"] else set()
        planned |= RATES if self.comparison.rates else set()
        return planned | ({RATING_PAGE} if self.options["rating"] != "none" else set())

    def make(self, ground: _Ground, out: Recorder) -> None:
        frame, notes = ground.frame, ground.notes
        date = datetime.now(UTC)
        summary = self._summary(frame, notes)
        said = read_answers(self.out, self.options["ratings"]) if self.options["ratings"] else None
        content = as_json(summary, self.configuration, date=date) | ({"ratings": said} if said else {})
        costs = rates(frame, CODECS) if self.comparison.rates else []
        content |= {"rates": costs} if costs else {}
        gallery = Gallery.of(self._readable(frame), frame, self.options["gallery"], out)
        shown = summary.metrics
        of_images = {m.name for m in METRICS}
        names = [m.name for m in shown if m.name in of_images]
        if not names:
            shown = (*(m for m in METRICS if m.is_primary), *shown)  # all of them without a number
            names = [m.name for m in shown if m.name in of_images]
        page = Page(
            title=self.options["title"],
            date=date,
            conditions=summary.conditions,
            metrics=shown,
            primary=[m.name for m in shown if m.is_primary],
            distortion=DISTORTION if DISTORTION in names else names[0],
            perception=PERCEPTION if PERCEPTION in names else names[-1],
            summary=summary.methods,
            comparisons=summary.comparisons,
            rows=frame,
            scenes=gallery.scenes(),
            notes=summary.notes,
            ratings=said,
            rates=costs,
            configuration=self.configuration,
            versions=versions(),
        )
        out.write(MARKDOWN, _markdown(summary, ratings_markdown(said) if said else "", costs).encode())
        out.write(LATEX, latex_table(summary).encode())
        self._draw(gallery, out)
        if costs:
            self._print_rates(frame, out)
        if self.options["figures"]:
            self._print(gallery, frame, summary, out)
        if self.options["rating"] != "none":
            write_rating(out, gallery, self.options["rating"])
        out.write(PAGE, render(page).encode())
        if not not_measured(self.comparison, frame):
            self._keep(content, out)
        out.write(SUMMARY, text_of(content).encode())

    def _readable(self, frame: pd.DataFrame) -> Measurement:
        """What is compared, without the images that, by the table, hung or killed the process that read them."""
        return self.comparison.without({*frame.loc[frame["error"].map(is_not_to_be_read), "key"]})

    def _summary(self, frame: pd.DataFrame, notes: list[str]) -> Summary:
        if not self.options["sets"]:
            return summarise(frame, notes)
        comparison = self._readable(frame)
        collections = (comparison.hr, *comparison.sr.values())
        total = sum(len(collection.entries) for collection in collections if collection is not None)
        extract = load_features(self.options["features"], self.comparison.device)
        with progress("features", total, "images") as advance:
            distances, more = set_distances(comparison, extract, advance)
        return summarise(frame, [*notes, *more], distances)

    def _draw(self, gallery: Gallery, out: Recorder) -> None:
        items = gallery.items(SHEET_ROWS)
        names = " ".join(text for item in items for text in (item.key, *(p.label for p in item.images)))
        if unknown := "".join(filter(str.isprintable, missing(names))):
            log(f"{lacking(unknown)}; until then {SHEET} and figures have their codes")
        with suppress(NothingToDrawError):
            out.write(SHEET, contact_sheet_png(items))

    def _print(self, gallery: Gallery, frame: pd.DataFrame, summary: Summary, out: Recorder) -> None:
        """The figures of a paper, as far as there are images and numbers for them."""
        shown = {m.name: m for m in summary.metrics if m.is_primary}
        figures = {}
        with suppress(NothingToDrawError):
            figures["comparison"] = comparison_figure(gallery.items(FIGURE_ROWS))
        with suppress(NothingToDrawError):
            figures["distributions"] = distribution_figure(frame, list(shown.values()))
        if {DISTORTION, PERCEPTION} <= set(shown):
            with suppress(NothingToDrawError):
                figures["tradeoff"] = tradeoff_figure(frame, shown[DISTORTION], shown[PERCEPTION])
        for name, figure in figures.items():
            for form in FORMS:
                out.write(f"figures/{name}.{form}", figure_bytes(figure, form))

    def _print_rates(self, frame: pd.DataFrame, out: Recorder) -> None:
        with suppress(NothingToDrawError):
            figure = distribution_figure(frame, [FILE_SIZE, *QUALITY])
            for form in FORMS:
                out.write(f"figures/rates.{form}", figure_bytes(figure, form))

    def _keep(self, content: Mapping[str, Any], out: Recorder) -> None:
        """Put the numbers among those of earlier runs, partitioned as pyarrow, pandas and DuckDB read it."""
        with self.out.as_file(TABLE) as table:
            out.upload(f"{self.run}/{TABLE}", table)
        out.write(f"{self.run}{RUN_SUMMARY}", text_of(content).encode())


def _markdown(summary: Summary, said: str, costs: Rows) -> str:
    """The means people look at first, and below them the notes, what people said, file sizes, and all numbers."""
    means = [
        {name: value for name, value in row.items() if not name.endswith(("_low", "_high"))}
        for row in summary.methods
    ]
    first = [m for m in summary.metrics if m.is_primary]
    short = interval_table(replace(summary, methods=means), first)
    notes = "".join(f"* {markdown(note)}\n" for note in summary.notes)
    sizes = f"### Quality at the size of the LR file\n\n{rates_table(costs)}\n" if costs else ""
    return "\n".join(filter(None, (short, notes, said, sizes, f"{INTERVALS}\n\n{interval_table(summary)}")))
