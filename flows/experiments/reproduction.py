"""A table of the paper, or an ablation, at the size of this run: its models are trained and its rows measured."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dtls.degradations.base import Protocol
from dtls.devices import best_device
from dtls.errors import SizeError
from dtls.inference.sampling import Sampling
from dtls.registry import model_class
from dtls.training.presets import PRESETS
from flows.experiments.cost import COSTS, Column, cost_of, parameters_of
from flows.experiments.experiment import Document, Experiment, Row
from flows.experiments.options import ReproduceOptions
from flows.experiments.paper_figures import panels_of
from flows.experiments.paper_rows import PaperRow, PaperTable
from flows.experiments.paper_tables import PAPER_TABLES
from flows.experiments.testbed import Degraded, Testbed
from flows.interface.options import command_line
from flows.training.options import TrainOptions
from reports.figures.lines import lines_figure
from reports.figures.plots import figure_bytes
from reports.metrics.authors_consistency import AUTHORS_CONSISTENCY
from reports.metrics.metric import Metric
from reports.metrics.registry import METRICS
from reports.tables.render import markdown_table
from storage.stores.location import Location

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
        self.protocol: Protocol = options.protocol or self.table.protocol
        self.testbed = Testbed.of(options, self.size)

    def check(self) -> None:
        """Refuse, before any work, folders inside each other and sizes that do not fit."""
        self.testbed.data.check(Location.of(self.options.out))
        for row in self.table.rows:
            self.given(row)
            if row.needs_training:
                self.training(row).model()

    def given(self, row: PaperRow) -> Degraded:
        """What the row's method gets at the size of this run."""
        if row.task is not None:
            return Degraded(self.size, task=row.task, contrast=row.contrast)
        return Degraded(self._shrunk(row.low), row.protocol or self.protocol, contrast=row.contrast)

    def measured(self) -> dict[tuple[str, Degraded], Mapping[str, Any]]:
        """The means of every row of ours, by its label and what it is given."""
        experiment = Experiment(self.testbed)
        experiment.train([self.training(row) for row in self.table.rows if row.needs_training])
        numbers: dict[tuple[str, Degraded], Mapping[str, Any]] = {}
        for given, rows in self._computed().items():
            name = f"{self.options.table}-{given.name}{self._protocol_of(given)}"
            summary = experiment.measured(
                given,
                [self._row(row) for row in rows],
                results=f"sr/{name}",
                report=f"report-{name}",
                title=f"{self.table.title}, {given.title(self.size)}",
                any_protocol=any(row.use.get("any_protocol") for row in rows),
                rating="grades" if self.table.rated else "none",
                ratings=self.options.ratings,
            )
            satisfied = {row["method"]: row for row in summary.get("ratings", {}).get("grades", [])}
            costs = {row.label: self.costs(row) for row in rows}
            numbers |= {
                (method["method"], given): {**satisfied.get(name, {}), **costs[name], **method}
                for method in summary["methods"]
                for name in [method["method"]]
            }
        return numbers

    def document(self) -> Document:
        """The table, trained and measured, and its figure."""
        numbers = self.measured()
        text = self.markdown(numbers)
        if self.table.figure is None:
            return Document(text)
        rows = [row for row in self.table.rows if row.needs_training]
        found = [(row, self.training(row), numbers.get((row.label, self.given(row)), {})) for row in rows]
        name = f"figure-{self.options.table}.png"
        return Document(
            f"{text}\n![{self.table.title}]({name})\n",
            {name: figure_bytes(lines_figure(panels_of(self.table.figure, found)), "png")},
        )

    def costs(self, row: PaperRow) -> dict[str, Any]:
        """What of a row's costs the table has a column for."""
        if not row.needs_training or not self.table.costs:
            return {}
        training = self.training(row)
        found: dict[str, Any] = {"steps": training.steps, "parameters": parameters_of(training)}
        if {"seconds", "memory"} & {*self.table.costs}:
            sampling, device = Sampling(sampler=row.use.get("sampler")), best_device(self.options.device)
            found |= cost_of(training.target, self.given(row).low, self.size, device, sampling)._asdict()
        return found

    def _computed(self) -> dict[Degraded, list[PaperRow]]:
        """The rows of ours by what they are given."""
        found: dict[Degraded, list[PaperRow]] = {}
        for row in self.table.rows:
            if row.is_computed:
                found.setdefault(self.given(row), []).append(row)
        return found

    def _protocol_of(self, given: Degraded) -> str:
        """What tells LR images by a protocol from others of the table, in names of folders."""
        protocols = {other.protocol for other in self._computed() if other.task is None}
        return f"-{given.protocol}" if given.task is None and len(protocols) > 1 else ""

    def _row(self, row: PaperRow) -> Row:
        if not row.needs_training:
            return Row(row.label, row.use, is_input=row.is_input)
        return Row(row.label, {**row.use, "precision": self.options.precision}, self.training(row))

    def training(self, row: PaperRow) -> TrainOptions:
        """The row's training; its folder is named after what departs from the preset, and after all it depends on."""
        same: dict[str, Any] = {"precision": self.options.precision}
        same |= {"task": row.task} if row.task is not None else {"protocol": self.protocol}
        same["batch_size"] = self.options.batch_size or self.preset.batch_size
        method = row.train.get("method", "dtls")
        has_presets = model_class(method).preset is not None
        if has_presets:
            same |= {"dim": self.options.dim, "preset": self.table.preset}
        steps = max(1, round((self.options.steps or self.preset.recipe.steps) * row.share))
        chosen = {**same, **row.train, **self.geometry(row), "steps": steps}
        base = self.table.preset if has_presets else f"{method}-{chosen['lr_size']}-{self.size}"
        base += f"-{self.given(row).name}" if row.task is not None else ""
        departed = {name: value for name, value in row.train.items() if name not in ("method", "network")}
        departures = "".join(f"-{name}-{value}" for name, value in departed.items())
        digest = hashlib.sha256(json.dumps([self.testbed.data.name, chosen], sort_keys=True).encode()).hexdigest()[:8]
        return TrainOptions(
            source=self.testbed.shards,
            target=self.testbed.at(f"models/{base}{departures}-{digest}"),
            device=self.options.device,
            resume=True,
            **chosen,
        )

    def geometry(self, row: PaperRow) -> dict[str, int]:
        """HR side, LR side and stride of the row's model at the size of this run; a stride of one pixel stays one.

        Models of other methods are trained for the LR side of their row; those of a task have the HR side alone.
        """
        if row.task is not None:
            return {"size": self.size}
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

    def markdown(self, numbers: Mapping[tuple[str, Degraded], Mapping[str, Any]]) -> str:
        """The table as Markdown: our means, the published ones in brackets."""
        authors = any("authors_consistency" in row.published for row in self.table.rows)
        shown: list[Metric] = [m for m in METRICS if m.is_primary]
        shown += [AUTHORS_CONSISTENCY] * authors
        shown += [SATISFIED] * self.table.rated
        columns: list[Metric | Column] = [*shown, *(cost for cost in COSTS if cost.name in self.table.costs)]
        lines = []
        for row in self.table.rows:
            given = self.given(row)
            computed = numbers.get((row.label, given), {}) if row.is_computed else {}
            cells = [_cell(m, computed.get(m.name), row.published.get(m.name)) for m in columns]
            title = given.title(self.size) + (f", {row.protocol}" if row.protocol is not None else "")
            lines.append([row.label, title, *cells])
        head = "Task" if any(row.task is not None for row in self.table.rows) else "LR→HR"
        text = markdown_table(["Method", head, *(column.heading for column in columns)], lines, "ll")
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
            *[f"Protocol {self.protocol}"] * self.table.has_protocol,
            *self.testbed.counts(),
            f"preset {self.table.preset}, dim {options.dim or self.preset.model.dim}",
            f"{options.steps or recipe.steps:,} steps of {options.batch_size or self.preset.batch_size}",
            f"device {best_device(options.device)}",
            f"{datetime.now(UTC):%Y-%m-%d}",
        ]
        said = " · ".join(facts)
        return f"{said[0].upper()}{said[1:]}\n\n`{command_line('reproduce', options)}`"


def _cell(metric: Metric | Column, computed: Any, published: float | None) -> str:
    return f"{metric.text(computed)} ({metric.text(published)})" if published is not None else metric.text(computed)
