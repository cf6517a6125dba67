"""What a report on generated images makes of its table of features: numbers, samples, sheets and a page."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flows.evaluation.history import RUN_SUMMARY
from flows.evaluation.options import REAL, TRAIN
from flows.evaluation.outputs import SAMPLES_TABLE, SETS_TABLE, Published, Recorder
from flows.evaluation.publishing import LATEX, MARKDOWN, PAGE, SUMMARY, Publishing
from flows.evaluation.set_metrics import numbers_of
from flows.evaluation.sets.classes import Classes
from flows.evaluation.sets.extract import ImageSets
from flows.evaluation.sets.samples import Shown
from flows.evaluation.sets.table import NEAR, FeatureTable
from flows.interface.console import log_markdown, progress, publish
from flows.interface.text import counted
from reports.figures.grid import image_grid
from reports.metrics.feature_set import FeatureSet
from reports.metrics.features import IN_WORDS
from reports.metrics.metric import SetPair
from reports.metrics.registry import FEATURE_METRICS, SET_METRICS
from reports.page.sets import SetsPage, render_sets
from reports.tables.render import interval_table, latex_table, markdown
from reports.tables.set_tables import SAMPLES
from reports.tables.summary import FAILED_LISTED, Summary, as_json, text_of, versions
from storage.stores.scratch import scratch_folder

NOT_PUBLISHED = "FID and KID of these features cannot be compared with published ones, which are of InceptionV3's."


@dataclass(frozen=True)
class SetsGround:
    """What the files of a report on sets are made from."""

    stands_on: list[Any]


@dataclass(frozen=True)
class SetsPublication(Publishing[SetsGround]):
    """The files of a report on generated images."""

    sets: ImageSets

    def publish(self) -> str:
        """Make what the table stands for, unless it is there; the address of the page."""
        self.renew()
        text = self.out.read(MARKDOWN).decode()
        publish("dtls-report", f"# {self.options['title']}\n\n{text}\n\nPage: `{self.out.address(PAGE)}`\n")
        log_markdown(text)
        return self.out.address(PAGE)

    def ground(self) -> SetsGround:
        return SetsGround([self.options, versions()["dtls"], *self.out.info(SETS_TABLE).listed])

    def published(self) -> Published:
        return Published.at(self.out, set())

    def planned(self) -> set[str]:
        kept = {f"{self.run}/{SAMPLES_TABLE}", f"{self.run}{RUN_SUMMARY}"}
        return {SUMMARY, PAGE, MARKDOWN, LATEX, SAMPLES_TABLE, *map(_sheet, self.options["generated"]), *kept}

    def make(self, _: SetsGround, out: Recorder) -> None:
        date = datetime.now(UTC)
        with self.out.as_file(SETS_TABLE) as path, scratch_folder() as scratch:
            samples = scratch / SAMPLES_TABLE
            summary = self._summary(FeatureTable(path), samples)
            shown = Shown(self.sets, pq.read_table(samples), self.training, self.options["gallery"])
            for name in (SAMPLES_TABLE, f"{self.run}/{SAMPLES_TABLE}"):
                out.upload(name, samples)
        content = as_json(summary, self.options, date=date)
        for name in self.options["generated"]:
            images = shown.unpicked(name)
            if images:
                buffer = io.BytesIO()
                image_grid(images).save(buffer, "PNG", optimize=True)
                out.write(_sheet(name), buffer.getvalue())
        page = SetsPage(
            title=self.options["title"],
            date=date,
            summary=summary,
            sets=shown.sets(list(self.options["generated"]), out),
            training="training" if self.training == TRAIN else "real",
            configuration={**self.options, "features": IN_WORDS[self.options["features"]]},
            versions=versions(),
        )
        out.write(PAGE, render_sets(page).encode())
        out.write(MARKDOWN, _markdown(summary).encode())
        out.write(LATEX, latex_table(summary, label="tab:generated").encode())
        out.write(f"{self.run}{RUN_SUMMARY}", text_of(content).encode())
        out.write(SUMMARY, text_of(content).encode())

    @property
    def training(self) -> str:
        """The set in which the nearest images are looked for."""
        return TRAIN if self.options["train"] else REAL

    def _summary(self, table: FeatureTable, samples: Path) -> Summary:
        failures = table.failures()
        names = list(self.options["generated"])
        real = table.feature_set(REAL)
        methods, notes = [], []
        with (
            progress("compare sets", len(names), "sets") as advance,
            pq.ParquetWriter(samples, SAMPLES, compression="zstd") as writer,
        ):
            classes = Classes(table, self.sets.classify.classes) if self.sets.classify else None
            if classes:
                classes.note_real(REAL)
            threshold = table.threshold(REAL, self.training)
            for name in names:
                made = table.feature_set(name)
                numbers, more = numbers_of(name, SetPair(made, real), FEATURE_METRICS)
                numbers |= classes.numbers(name) if classes else {}
                columns = classes.columns(name) if classes else {}
                near, of_training = self._nearest(table, name, threshold, columns, writer)
                failed = sum(row["method"] == name for row in failures)
                methods.append({"method": name, "ok": made.count, "failed": failed, **numbers, **near})
                notes += [*more, *of_training]
                advance(1)
        return Summary(
            conditions=self._conditions(real),
            metrics=tuple(m for m in SET_METRICS if any(m.name in row for row in methods)),
            methods=methods,
            comparisons=[],
            images=sum(row["ok"] for row in methods),
            failed=failures[:FAILED_LISTED],
            failed_total=len(failures),
            notes=tuple(dict.fromkeys([*self._notes(table), *(classes.notes if classes else []), *notes])),
        )

    def _nearest(
        self,
        table: FeatureTable,
        name: str,
        threshold: float | None,
        columns: Mapping[str, Mapping[str, Any]],
        writer: pq.ParquetWriter,
    ) -> tuple[dict[str, Any], list[str]]:
        """Write the rows of a set's samples; the share of them that are near a training image, and notes.

        columns: what is known of samples beside their nearest images, by key.
        """
        total = near = copies = 0
        for rows in _some(table.nearest(name, self.training)):
            for row in rows:
                is_near = None if threshold is None or row["distance"] is None else row["distance"] < threshold
                row |= {"set": name, "is_near": is_near, **columns.get(row["key"], {})}
                total, near, copies = total + 1, near + bool(is_near), copies + row["is_copy"]
            writer.write_table(pa.Table.from_pylist(rows, schema=SAMPLES))
        kind = "training" if self.training == TRAIN else "real"
        notes = []
        if copies:
            notes.append(
                f"{name}: copies of {kind} images, pixel for pixel: {copies:,} of {counted(total, 'sample')}."
            )
        if threshold is None or not total:
            return {}, notes
        notes.append(
            f"{name}: nearer than {threshold:.4g} to a {kind} image, as {100 * NEAR:g} % of the real images are: "
            f"{near:,} of {counted(total, 'sample')}."
        )
        return {"near_training": near / total}, notes

    def _conditions(self, real: FeatureSet) -> str:
        return f"Features: {IN_WORDS[self.options['features']]} · compared with {real.count:,} real images"

    def _notes(self, table: FeatureTable) -> Iterator[str]:
        if self.options["features"] != "inception":
            yield NOT_PUBLISHED
        planned = sum(len(collection.entries) for collection in self.sets.collections.values())
        if (missing := planned - table.rows) > 0:
            yield f"{missing:,} of {planned:,} images are not measured yet: run it again to resume."


def _sheet(name: str) -> str:
    """The sheet of a set's samples."""
    return f"samples-{name}.png"


def _some(rows: Iterator[dict[str, Any]], count: int = 16_384) -> Iterator[list[dict[str, Any]]]:
    """The same, `count` at a time."""
    waiting: list[dict[str, Any]] = []
    for row in rows:
        waiting.append(row)
        if len(waiting) == count:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _markdown(summary: Summary) -> str:
    notes = "".join(f"* {markdown(note)}\n" for note in summary.notes)
    words = "Numbers over sets, with their spread over subsets; best in bold, second in italics."
    return "\n".join(filter(None, (interval_table(summary, words=words), notes)))
