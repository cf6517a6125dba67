"""A table of the paper, or an ablation, at the size of this run: its models are trained and its rows measured."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dtls.devices import best_device
from dtls.errors import SizeError
from dtls.registry import model_class
from dtls.training.presets import PRESETS
from flows.experiments.experiment import Experiment, Row
from flows.experiments.options import ReproduceOptions
from flows.experiments.paper_tables import PAPER_TABLES, PaperRow, PaperTable
from flows.experiments.testbed import Testbed
from flows.interface.options import command_line
from flows.training.options import TrainOptions
from reports.metrics.authors_consistency import AUTHORS_CONSISTENCY
from reports.metrics.metric import Metric
from reports.metrics.registry import METRICS
from reports.tables.render import markdown_table

SATISFIED = Metric(
    name="satisfied",
    label="Satisfied",
    decimals=0,
    notation="%",
    description="people who graded 3 (good) or 4 (excellent)",
)


class Reproduction:
    """One table of the paper, made on given data at a given size."""

    def __init__(self, options: ReproduceOptions) -> None:
        self.options = options
        self.table: PaperTable = PAPER_TABLES[options.table]
        self.preset = PRESETS[self.table.preset]
        self.size = options.size or self.preset.model.size
        self.testbed = Testbed.of(options, self.size)

    def check(self) -> None:
        """Refuse, before any work, folders inside each other and sizes that do not fit."""
        self.testbed.check()
        for row in self.table.rows:
            self._shrunk(row.low)
            if row.needs_training:
                self._training(row).model()

    def measured(self) -> dict[tuple[str, int], Mapping[str, Any]]:
        """The means of every row of ours, by label and LR size."""
        experiment = Experiment(self.testbed)
        experiment.train([self._training(row) for row in self.table.rows if row.needs_training])
        numbers: dict[tuple[str, int], Mapping[str, Any]] = {}
        for low in dict.fromkeys(row.low for row in self.table.rows if row.is_computed):
            shrunk = self._shrunk(low)
            summary = experiment.measured(
                shrunk,
                [self._row(row) for row in self.table.rows if row.is_computed and row.low == low],
                results=f"sr/{self.options.table}-{shrunk}",
                report=f"report-{self.options.table}-{shrunk}",
                title=f"{self.table.title}, {shrunk}→{self.size}",
                rating="grades" if self.table.rated else "none",
                ratings=self.options.ratings,
            )
            satisfied = {row["method"]: row for row in summary.get("ratings", {}).get("grades", [])}
            numbers |= {
                (method["method"], low): {**satisfied.get(method["method"], {}), **method}
                for method in summary["methods"]
            }
        return numbers

    def _row(self, row: PaperRow) -> Row:
        if not row.needs_training:
            return Row(row.label, row.upscale)
        return Row(row.label, {**row.upscale, "precision": self.options.precision}, self._training(row))

    def _training(self, row: PaperRow) -> TrainOptions:
        """The row's training; its folder is named after what departs from the preset, and after all it depends on."""
        same = self.options.model_dump(include={"protocol", "precision"})
        same["batch_size"] = self.options.batch_size or self.preset.batch_size
        method = row.train.get("method", "dtls")
        has_presets = model_class(method).preset is not None
        if has_presets:
            same |= {"dim": self.options.dim, "preset": self.table.preset}
        steps = max(1, round((self.options.steps or self.preset.recipe.steps) * row.share))
        chosen = {**same, **row.train, **self.geometry(row), "steps": steps}
        base = self.table.preset if has_presets else f"{method}-{chosen['lr_size']}-{self.size}"
        departed = {name: value for name, value in row.train.items() if name not in ("method", "network")}
        departures = "".join(f"-{name}-{value}" for name, value in departed.items())
        digest = hashlib.sha256(json.dumps([self.options.source, chosen], sort_keys=True).encode()).hexdigest()[:8]
        return TrainOptions(
            source=self.testbed.shards,
            target=self.testbed.at(f"models/{base}{departures}-{digest}"),
            device=self.options.device,
            resume=True,
            **chosen,
        )

    def geometry(self, row: PaperRow) -> dict[str, int]:
        """HR side, LR side and stride of the row's model at the size of this run; a stride of one pixel stays one.

        Models of other methods are trained for the LR side of their row.
        """
        if "method" in row.train:
            return {"size": self.size, "lr_size": self._shrunk(row.low)}
        stride = row.train.get("stride", self.preset.model.stride)
        return {
            "size": self.size,
            "lr_size": self._shrunk(self.preset.model.lr_size),
            "stride": self._shrunk(stride) if stride > 1 else 1,
        }

    def _shrunk(self, pixels: int) -> int:
        """A number of pixels of the paper at the size of this run."""
        shrunk, rest = divmod(pixels * self.size, self.preset.model.size)
        if rest or not shrunk:
            raise SizeError(
                f"size {self.size}: {pixels} of {self.preset.model.size} pixels would be no whole number; "
                "halve the paper's size once or more"
            )
        return shrunk

    def markdown(self, numbers: Mapping[tuple[str, int], Mapping[str, Any]]) -> str:
        """The table as Markdown: our means, the published ones in brackets."""
        authors = any("authors_consistency" in row.published for row in self.table.rows)
        shown: list[Metric] = [m for m in METRICS if m.is_primary]
        shown += [AUTHORS_CONSISTENCY] * authors
        shown += [SATISFIED] * self.table.rated
        lines = []
        for row in self.table.rows:
            computed = numbers.get((row.label, row.low), {}) if row.is_computed else {}
            cells = [_cell(m, computed.get(m.name), row.published.get(m.name)) for m in shown]
            lines.append([row.label, f"{self._shrunk(row.low)}→{self.size}", *cells])
        text = markdown_table(["Method", "LR→HR", *(m.heading for m in shown)], lines, "ll")
        notes = [self.table.note]
        if any(row.published for row in self.table.rows):
            notes.append("In brackets: as published, on other data.")
        if self.options.size or self.options.dim or self.options.steps:
            notes.append(
                "This is a smaller experiment than the published one; its numbers cannot be compared with those."
            )
        return f"# {self.table.title}\n\n{self._conditions()}\n\n{text}\n\n{' '.join(notes).strip()}\n"

    def _conditions(self) -> str:
        """Under what the numbers were taken."""
        options, recipe = self.options, self.preset.recipe
        facts = [
            f"Protocol {options.protocol}",
            f"trained on {options.source}, tested on {options.test}",
            f"preset {self.table.preset}, dim {options.dim or self.preset.model.dim}",
            f"{options.steps or recipe.steps:,} steps of {options.batch_size or self.preset.batch_size}",
            f"device {best_device(options.device)}",
            f"{datetime.now(UTC):%Y-%m-%d}",
        ]
        return f"{' · '.join(facts)}\n\n`{command_line('reproduce', options)}`"


def _cell(metric: Metric, computed: object, published: float | None) -> str:
    return f"{metric.text(computed)} ({metric.text(published)})" if published is not None else metric.text(computed)
