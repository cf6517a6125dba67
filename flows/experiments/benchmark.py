"""A benchmark: methods trained on the same data for the same time, and tested on the same images.

How many training steps each method gets is measured once, and kept in `pace.json`.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from dtls.degradations.registry import operator_of, spec_of_task
from dtls.degradations.scale import downscale_size
from dtls.devices import best_device, best_precision
from dtls.inference.sampling import Sampling
from dtls.registry import model_class
from flows.experiments.benchmark_methods import BENCHMARK_METHODS, chosen, projects, training_of
from flows.experiments.cost import COSTS, cost_of, described, steps_in
from flows.experiments.experiment import Experiment, Row
from flows.experiments.options import BenchmarkOptions
from flows.experiments.testbed import Degraded, Testbed
from flows.interface.console import log
from flows.interface.options import command_line
from flows.training.options import TrainOptions
from reports.metrics.fid_kid import KID
from reports.metrics.metric import Metric
from reports.metrics.registry import METRICS
from reports.tables.render import markdown_table
from storage.stores.location import Location

PACE = "pace.json"
DEGRADED = "degraded"
"""What a model learns from that undoes what is not linear: no sampler shows it its own results."""
UNTIMED = ("source", "target", "device", "resume", "shards", "image_ext", "max_failed")
"""Options of a training that do not change how long a step takes."""


class Benchmark:
    """One benchmark on given data."""

    def __init__(self, options: BenchmarkOptions) -> None:
        self.options = options
        self.methods = chosen(options.methods, options.task, options.protocol)
        self.testbed = Testbed.of(options, options.size)
        lows = options.lr_sizes if options.task is None else (options.size,)
        self.given = [Degraded(low, options.protocol, options.task) for low in lows]

    def check(self) -> None:
        """Refuse, before any work, folders inside each other and sizes that do not fit."""
        self.testbed.data.check(Location.of(self.options.out))
        for given in self.given:
            downscale_size((self.options.size, self.options.size), self.options.size / given.low)
            for name in filter(None, map(training_of, self.methods)):
                self._training(name, self._trained_for(name, given.low)).model()

    def train(self) -> None:
        """Every model that is needed, trained if it is missing, or resumed."""
        Experiment(self.testbed).train(self._timed(training) for training in self._trainings())

    def tested(self) -> dict[Degraded, dict[str, dict[str, Any]]]:
        """By what methods are given, and by method, the means of a report on its results, and its cost."""
        return {given: self._tested(given) for given in self.given}

    def _tested(self, given: Degraded) -> dict[str, dict[str, Any]]:
        rows = [self._row(name, given.low) for name in self.methods]
        title = f"Methods trained for {self.options.minutes:g} minutes each, {given.title(self.options.size)}"
        summary = Experiment(self.testbed).measured(
            given,
            rows,
            results=f"{'sr' if given.task is None else 'restored'}-{given.name}",
            report=f"report-{given.name}",
            title=title,
            sets=self.options.sets,
        )
        costs = {row.label: self._cost(row.training, row.use, given.low) for row in rows if row.training is not None}
        return {row["method"]: {**row, **costs.get(row["method"], {})} for row in summary["methods"]}

    def _row(self, name: str, low: int) -> Row:
        model, method = training_of(name), BENCHMARK_METHODS[name]
        training = None if model is None else self._timed(self._training(model, self._trained_for(model, low)))
        return Row(name, self._use(name), training, is_input=method.is_input)

    def _use(self, name: str) -> Mapping[str, Any]:
        """The options that a method is used with; of restoration, whether it projects is said, where it can."""
        method, task = BENCHMARK_METHODS[name], self.options.task
        if task is None or training_of(name) is None or not projects(task):
            return method.use
        return {"project": False, **method.use}

    def _cost(self, training: TrainOptions, use: Mapping[str, Any], low: int) -> dict[str, Any]:
        """What a trained method costs: its training steps, and what an image takes."""
        made_by = None if self.options.task is None else spec_of_task(self.options.task)
        projected = bool(use.get("project"))
        sampling = Sampling(sampler=use.get("sampler"), projected=projected, made_by=made_by if projected else None)
        device = best_device(self.options.device)
        cost = cost_of(training.target, low, self.options.size, device, sampling)
        return {"steps": training.steps, **cost._asdict()}

    @cached_property
    def _of_one_scale(self) -> frozenset[str]:
        """The models that are trained once for each scale, as they enlarge by their own."""
        names = {*filter(None, map(training_of, self.methods))}
        return frozenset(name for name in names if self._enlarges(name))

    def _enlarges(self, name: str) -> bool:
        return described(self._training(name, self.given[0].low)).scale > 1

    def _trainings(self) -> list[TrainOptions]:
        """All that are wanted, but for their steps."""
        made = []
        for name in dict.fromkeys(filter(None, map(training_of, self.methods))):
            several = self.given if name in self._of_one_scale else self.given[:1]
            made += [self._training(name, given.low) for given in several]
        return made

    def _trained_for(self, name: str, low: int) -> int:
        return low if name in self._of_one_scale else self.given[0].low

    def _training(self, name: str, low: int) -> TrainOptions:
        """How a method is trained, but for the steps."""
        given = self.options.model_dump(include={"size", "device", "precision", "seed"})
        said = BENCHMARK_METHODS[name].train or {}
        chosen = {**given, **said, **self._geometry(said["method"], low)}
        identity = json.dumps([self.testbed.data.name, self.options.minutes, chosen], sort_keys=True)
        target = self.testbed.at(f"models/{name}-{low}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}")
        return TrainOptions(source=self.testbed.shards, target=target, resume=True, **chosen)

    def _geometry(self, method: str, low: int) -> dict[str, Any]:
        """The options of training that say what a model undoes."""
        if (task := self.options.task) is not None:
            return {"task": task} if operator_of(spec_of_task(task)).is_linear else {"task": task, "inputs": DEGRADED}
        span = self.options.size - low
        stride = next((s for s in range(max(1, span // 28), 0, -1) if span % s == 0), 1)
        strides = {"stride": stride} if model_class(method).preset else {}
        return {"lr_size": low, "protocol": self.options.protocol, **strides}

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

    def table(self, numbers: Mapping[Degraded, Mapping[str, Mapping[str, Any]]]) -> str:
        """The numbers of all methods as Markdown, a table for each LR size, the best of each column in bold."""
        shown: list[Metric] = [m for m in METRICS if m.is_primary]
        shown += [KID] * self.options.sets
        parts = [f"# Methods trained alike\n\n{self._conditions()}"]
        for given, rows in numbers.items():
            lines = []
            best = {m: m.best(row.get(m.name) for row in rows.values()) for m in shown}
            for name in self.methods:
                row = rows.get(name, {})
                said = {m: m.text(row.get(m.name)) for m in shown}
                marked = [f"**{text}**" if text == best[m] else text for m, text in said.items()]
                lines.append([name, *marked, *(cost.text(row.get(cost.name)) for cost in COSTS)])
            head = ["Method", *(m.heading for m in shown), *(cost.label for cost in COSTS)]
            text = markdown_table(head, lines)
            link = f"[Intervals, differences and images](report-{given.name}/index.html)"
            title = given.title(self.options.size)
            parts.append(f"## {title[0].upper()}{title[1:]}\n\n{text}\n\n{' '.join([*_winners(rows), link])}")
        return "\n\n".join(parts) + "\n"

    def _conditions(self) -> str:
        """Under what the numbers were taken."""
        options = self.options
        device = best_device(options.device)
        task = options.task
        facts = [
            f"Protocol {options.protocol}" if task is None else f"Task {task} (degradation {spec_of_task(task)})",
            *self.testbed.counts(),
            f"{options.minutes:g} minutes of training each on {device}, {best_precision(options.precision, device)}",
            f"{datetime.now(UTC):%Y-%m-%d}",
        ]
        return f"{' · '.join(facts)}\n\n`{command_line('benchmark', options)}`"


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
