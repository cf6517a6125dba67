"""A benchmark: methods trained on the same data for the same time, and tested on the same images.

How many training steps each method gets is measured once, and kept in `pace.json`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow.compute as pc
import torch

from dtls.checkpoints.checkpoint import make_model
from dtls.degradations.scale import downscale_size
from dtls.devices import best_device, best_precision
from dtls.inference.sampling import Sampling
from dtls.registry import model_class
from flows.experiments.benchmark_methods import BENCHMARK_METHODS, chosen, training_of
from flows.experiments.cost import cost_of, steps_in
from flows.experiments.experiment import Experiment, Row
from flows.experiments.options import BenchmarkOptions
from flows.experiments.testbed import Testbed
from flows.interface.console import log
from flows.interface.options import command_line
from flows.interface.text import counted
from flows.training.options import TrainOptions
from reports.metrics.fid_kid import KID
from reports.metrics.metric import Metric
from reports.metrics.registry import METRICS
from reports.tables.render import markdown_table
from storage.receipts.receipts import read_manifest
from storage.stores.location import Location

PACE = "pace.json"
UNTIMED = ("source", "target", "device", "resume", "shards", "image_ext", "max_failed")
"""Options of a training that do not change how long a step takes."""


class Benchmark:
    """One benchmark on given data."""

    def __init__(self, options: BenchmarkOptions) -> None:
        self.options = options
        self.methods = chosen(options.methods)
        self.testbed = Testbed.of(options, options.size)

    def check(self) -> None:
        """Refuse, before any work, folders inside each other and sizes that do not fit."""
        self.testbed.check()
        for low in self.options.lr_sizes:
            downscale_size((self.options.size, self.options.size), self.options.size / low)
            for name in filter(None, map(training_of, self.methods)):
                self._training(name, self._trained_for(name, low)).model()

    def train(self) -> None:
        """Every model that is needed, trained if it is missing, or resumed."""
        Experiment(self.testbed).train(self._timed(training) for training in self._trainings())

    def tested(self, low: int) -> dict[str, dict[str, Any]]:
        """By method, the means of a report on what it makes of LR images of `low` pixels, and its cost."""
        rows = [self._row(name, low) for name in self.methods]
        summary = Experiment(self.testbed).measured(
            low,
            rows,
            results=f"sr-{low}",
            report=f"report-{low}",
            title=f"Methods trained for {self.options.minutes:g} minutes each, {low}→{self.options.size}",
            sets=self.options.sets,
        )
        costs = {row.label: self._cost(row.training, row.upscale, low) for row in rows if row.training is not None}
        return {row["method"]: {**row, **costs.get(row["method"], {})} for row in summary["methods"]}

    def _row(self, name: str, low: int) -> Row:
        model = training_of(name)
        training = None if model is None else self._timed(self._training(model, self._trained_for(model, low)))
        return Row(name, self.methods[name].upscale, training)

    def _cost(self, training: TrainOptions, upscale: Mapping[str, Any], low: int) -> dict[str, Any]:
        """What a trained method costs: its training steps, and what an image takes."""
        sampling = Sampling(sampler=upscale.get("sampler"), projected=bool(upscale.get("project")))
        device = best_device(self.options.device)
        cost = cost_of(training.target, low, self.options.size, device, sampling)
        return {"steps": training.steps, **cost._asdict()}

    def _is_of_one_scale(self, name: str) -> bool:
        training = self._training(name, self.options.lr_sizes[0])
        with torch.device("meta"):
            return make_model({"method": training.method, **asdict(training.model())}).scale > 1

    def _trainings(self) -> list[TrainOptions]:
        """All that are wanted, but for their steps."""
        made = []
        for name in dict.fromkeys(filter(None, map(training_of, self.methods))):
            lows = self.options.lr_sizes if self._is_of_one_scale(name) else self.options.lr_sizes[:1]
            made += [self._training(name, low) for low in lows]
        return made

    def _trained_for(self, name: str, low: int) -> int:
        return low if self._is_of_one_scale(name) else self.options.lr_sizes[0]

    def _training(self, name: str, low: int) -> TrainOptions:
        """How a method is trained, but for the steps."""
        given = self.options.model_dump(include={"size", "protocol", "device", "precision", "seed"})
        said = BENCHMARK_METHODS[name].train or {}
        span = self.options.size - low
        stride = next((s for s in range(max(1, span // 28), 0, -1) if span % s == 0), 1)
        geometry = {"lr_size": low, **({"stride": stride} if model_class(said["method"]).preset else {})}
        chosen = {**given, **geometry, **said}
        identity = json.dumps([self.options.source, self.options.minutes, chosen], sort_keys=True)
        target = self.testbed.at(f"models/{name}-{low}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}")
        return TrainOptions(source=self.testbed.shards, target=target, resume=True, **chosen)

    def _timed(self, training: TrainOptions) -> TrainOptions:
        """With the steps that fit into the time, measured once for each training on this kind of device."""
        out, device = Location.of(self.options.out), best_device(self.options.device)
        timed = training.model_dump(exclude={*UNTIMED}, exclude_none=True)
        key = json.dumps([self.options.minutes, device.partition(":")[0], timed], sort_keys=True)
        kept: dict[str, int] = json.loads(out.read_if_there(PACE) or b"{}")
        if key not in kept:
            log(f"measuring how fast {training.target.rpartition('/')[2]} trains here")
            kept[key] = steps_in(60 * self.options.minutes, training)
            out.write(PACE, json.dumps(kept, indent=2).encode())
        return training.model_copy(update={"steps": kept[key]})

    def table(self, numbers: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> str:
        """The numbers of all methods as Markdown, a table for each LR size, the best of each column in bold."""
        shown: list[Metric] = [m for m in METRICS if m.is_primary]
        shown += [KID] * self.options.sets
        parts = [f"# Methods trained alike\n\n{self._conditions()}"]
        for low, rows in numbers.items():
            lines = []
            best = {m: m.best(row.get(m.name) for row in rows.values()) for m in shown}
            for name in self.methods:
                row = rows.get(name, {})
                said = {m: m.text(row.get(m.name)) for m in shown}
                marked = [f"**{text}**" if text == best[m] else text for m, text in said.items()]
                lines.append([name, *marked, *(cost.text(row.get(cost.name)) for cost in COSTS)])
            head = ["Method", *(m.heading for m in shown), *(cost.label for cost in COSTS)]
            text = markdown_table(head, lines)
            link = f"[Intervals, differences and images](report-{low}/index.html)"
            parts.append(f"## {low}→{self.options.size}\n\n{text}\n\n{' '.join([*_winners(rows), link])}")
        return "\n\n".join(parts) + "\n"

    def _conditions(self) -> str:
        """Under what the numbers were taken."""
        options = self.options
        device = best_device(options.device)
        facts = [
            f"Protocol {options.protocol}",
            f"trained on {_count(self.testbed.shards)} of {options.source}",
            f"tested on {_count(self.testbed.hr)} of {options.test}",
            f"{options.minutes:g} minutes of training each on {device}, {best_precision(options.precision, device)}",
            f"{datetime.now(UTC):%Y-%m-%d}",
        ]
        return f"{' · '.join(facts)}\n\n`{command_line('benchmark', options)}`"


class Column(NamedTuple):
    """What a method costs: how it is called and printed, in which unit."""

    name: str
    label: str
    form: str
    unit: float = 1

    def text(self, value: float | None) -> str:
        return "–" if value is None else format(value / self.unit if self.unit != 1 else value, self.form)


COSTS = (
    Column("steps", "steps", ",d"),
    Column("parameters", "parameters", ",d"),
    Column("seconds", "s an image", ".3f"),
    Column("memory", "MB an image", ".0f", 1e6),
)


def _count(target: str) -> str:
    """How many images a flow has made."""
    manifest = read_manifest(Location.of(target), ["status"])
    return counted(manifest.filter(pc.equal(manifest["status"], "ok")).num_rows if manifest else 0, "image")


def _winners(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Who is best by distortion, and who by perception."""
    by_psnr = {name: row["psnr"] for name, row in rows.items() if row.get("psnr") is not None}
    by_lpips = {name: row["lpips"] for name, row in rows.items() if row.get("lpips") is not None}
    winners = []
    if by_psnr:
        best = max(by_psnr, key=by_psnr.__getitem__)
        winners.append(f"Least distortion: {best} ({by_psnr[best]:.2f} dB).")
    if by_lpips:
        best = min(by_lpips, key=by_lpips.__getitem__)
        winners.append(f"Nearest to the eye: {best} (LPIPS {by_lpips[best]:.4f}).")
    return winners
