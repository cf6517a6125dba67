"""What a report makes of its table: the summary, the page, pictures, figures, and a place among earlier runs.

All of it stands on the table alone, and is made anew only when that, or what was asked for, is another.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pandas as pd
from prefect.artifacts import create_markdown_artifact

from dtls.checkpoint import CheckpointError
from flows.comparison import Comparison
from flows.console import in_flow_run, progress, tell_markdown
from flows.gallery import FOLDER, Gallery, records
from flows.history import RUN_SUMMARY, RUNS
from flows.rating import RATED, read_answers, write_rating
from flows.sets import set_distances
from reports.crops import comparison_figure
from reports.figures import distribution_figure, figure_bytes, tradeoff_figure
from reports.gallery import contact_sheet
from reports.inception import Inception, InceptionError
from reports.latex import interval_table, latex_table
from reports.page import render
from reports.page_parts import Page
from reports.summary import Summary, as_json, summarise, versions, write_json
from reports.tables import PRIMARY, read_metrics
from storage.leases import STATE, hold
from storage.locations import Location

TABLE, SUMMARY, PAGE, SHEET = "metrics.parquet", "summary.json", "index.html", "contact-sheet.png"
MARKDOWN, LATEX = "summary.md", "summary.tex"
PUBLISHED = f"{STATE}/published.json"
"""What the pages at a target stand on: written last."""
SHEET_ROWS, FIGURE_ROWS = 8, 4
INTERVALS = "### All numbers, with 95 % intervals"
DISTORTION, PERCEPTION = "psnr", "lpips"
FORMS: tuple[Literal["pdf", "png"], ...] = ("pdf", "png")


@dataclass(frozen=True)
class Publication:
    """The files of a report at `out`, but for the table; options: those of the run that change them."""

    out: Location
    comparison: Comparison
    options: Mapping[str, Any]

    def publish(self) -> str:
        """Make what the table stands for, unless it is there; the address of the page."""
        with TemporaryDirectory(prefix="dtls-") as folder:
            table = Path(folder) / TABLE
            self.out.download(TABLE, table)
            frame = read_metrics(table)
        stands_on = json.dumps([self.configuration, *astuple(self.out.info(TABLE))], sort_keys=True).encode()
        there = {entry.key for entry in self.out.list()}
        if not ({SUMMARY, PAGE, MARKDOWN, PUBLISHED} <= there and self.out.read(PUBLISHED) == stands_on):
            with hold(self.out, "report"):
                self._make(frame, there)
                self.out.write(PUBLISHED, stands_on)
        text = self.out.read(MARKDOWN).decode()
        if in_flow_run():
            link = f"Page: `{self.out.address(PAGE)}`"
            create_markdown_artifact(f"# {self.options['title']}\n\n{text}\n\n{link}\n", key="dtls-report")
        tell_markdown(text.partition(INTERVALS)[0])
        return self.out.address(PAGE)

    @property
    def configuration(self) -> dict[str, Any]:
        """What was asked for, in words for people and for `summary.json`."""
        measure = self.comparison.measure
        return {
            **self.options,
            "protocol": self.comparison.protocol,
            "colour": measure.colour,
            "border": measure.border,
            "lpips": self.comparison.network,
        }

    def _make(self, frame: pd.DataFrame, there: set[str]) -> None:
        date = datetime.now(UTC)
        summary = self._summary(frame)
        content = as_json(summary, self.configuration, date=date)
        gallery = Gallery.of(self.comparison, frame, self.options["gallery"], self.out)
        names = [m.name for m in summary.metrics] or [DISTORTION]
        page = Page(
            title=self.options["title"],
            date=date,
            conditions=summary.conditions,
            metrics=summary.metrics,
            primary=[m.name for m in summary.metrics if m.name in PRIMARY],
            distortion=DISTORTION if DISTORTION in names else names[0],
            perception=PERCEPTION if PERCEPTION in names else names[-1],
            summary=summary.methods,
            comparisons=summary.comparisons,
            rows=records(frame),
            scenes=gallery.scenes(),
            notes=summary.notes,
            configuration=self.configuration,
            versions=versions(),
        )
        said = read_answers(self.out, self.options["ratings"]) if self.options["ratings"] else ""
        self.out.write(MARKDOWN, _markdown(summary, said).encode())
        self.out.write(LATEX, latex_table(summary).encode())
        if gallery.keys:
            self._draw(gallery)
        if self.options["figures"]:
            self._print(gallery, frame, summary)
        if self.options["rating"] != "none" and gallery.keys:
            write_rating(self.out, gallery.items(RATED), self.options["rating"])
        self.out.write(PAGE, render(page).encode())
        for old in there - gallery.written:
            if old.startswith(FOLDER):
                self.out.delete(old)
        self._keep(content, date)

    def _summary(self, frame: pd.DataFrame) -> Summary:
        notes = []
        if self.comparison.hr is None:
            notes.append("No ground truth: what can be said is how well results shrink back to their LR pictures.")
        if not self.options["sets"]:
            return summarise(frame, notes)
        collections = (self.comparison.hr, *self.comparison.sr.values())
        total = sum(len(collection.entries) for collection in collections if collection is not None)
        try:
            inception = Inception(self.comparison.device)
        except InceptionError as error:
            raise CheckpointError(str(error)) from error
        with progress("FID and KID", total, "images") as advance:
            distances, more = set_distances(self.comparison, inception, advance)
        return summarise(frame, [*notes, *more], distances)

    def _draw(self, gallery: Gallery) -> None:
        buffer = io.BytesIO()
        contact_sheet(gallery.items(SHEET_ROWS)).save(buffer, "PNG", optimize=True)
        self.out.write(SHEET, buffer.getvalue())

    def _print(self, gallery: Gallery, frame: pd.DataFrame, summary: Summary) -> None:
        """The figures of a paper, as far as there are pictures and numbers for them."""
        shown = {m.name: m for m in summary.metrics if m.name in PRIMARY}
        figures = {}
        if gallery.keys:
            figures["comparison"] = comparison_figure(gallery.items(FIGURE_ROWS))
        if shown:
            figures["distributions"] = distribution_figure(frame, list(shown.values()))
        if {DISTORTION, PERCEPTION} <= set(shown):
            figures["tradeoff"] = tradeoff_figure(frame, shown[DISTORTION], shown[PERCEPTION])
        for name, figure in figures.items():
            for form in FORMS:
                self.out.write(f"figures/{name}.{form}", figure_bytes(figure, form))

    def _keep(self, content: Mapping[str, Any], date: datetime) -> None:
        """Put the numbers among those of earlier runs, partitioned as pyarrow, pandas and DuckDB read it."""
        run = f"{RUNS}{self.options['run'] or date.strftime('%Y-%m-%d')}"
        with TemporaryDirectory(prefix="dtls-") as folder:
            table, summary = Path(folder) / TABLE, Path(folder) / SUMMARY
            self.out.download(TABLE, table)
            self.out.upload(f"{run}/{TABLE}", table)
            write_json(content, summary)
            self.out.upload(f"{run}{RUN_SUMMARY}", summary)
            self.out.upload(SUMMARY, summary)


def _markdown(summary: Summary, said: str) -> str:
    """The means people look at first, and below them what people said, and all numbers."""
    means = [
        {name: value for name, value in row.items() if not name.endswith(("_low", "_high"))}
        for row in summary.methods
    ]
    first = [m for m in summary.metrics if m.name in PRIMARY]
    short = interval_table(replace(summary, methods=means), first)
    return "\n".join(filter(None, (short, said, f"{INTERVALS}\n\n{interval_table(summary)}")))
