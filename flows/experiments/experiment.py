"""An experiment: rows that are trained where they need it, given the same images, and measured together.

What `dtls/benchmark` and `dtls/reproduce` are made of. The other flows do the work, so that a second run does only
what is missing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flows.engine.flow import as_part
from flows.experiments.testbed import Degraded, Testbed
from flows.train import train
from flows.training.options import TrainOptions


@dataclass(frozen=True)
class Row:
    """One row of a table of results. use: options of upscaling or restoring. training: of the model that it needs.

    is_input: whether it is of the degraded images themselves, of which nothing is made.
    """

    label: str
    use: Mapping[str, Any] = field(default_factory=dict)
    training: TrainOptions | None = None
    is_input: bool = False


@dataclass(frozen=True)
class Document:
    """What a reproduction makes. text: Markdown. figures: PNG files by their names."""

    text: str
    figures: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """Rows on one testbed."""

    testbed: Testbed

    def train(self, trainings: Iterable[TrainOptions]) -> None:
        """Make the training data and every model, each once; a training that was stopped resumes.

        No training is asked for before the data are there, and none begins before all are known.
        """
        self.testbed.make_shards()
        self.testbed.make_hr()
        by_target = {training.target: training for training in trainings}
        for training in by_target.values():
            as_part(train, training)

    def measured(
        self, given: Degraded, rows: Sequence[Row], *, results: str, report: str, **options: Any
    ) -> dict[str, Any]:
        """The summary of a report on what the rows make of degraded images.

        results, report: the folders of the results and of the report. options: of the report.
        """
        self.testbed.make_degraded(given)
        made = {row.label: self._result(given, f"{results}/{row.label}", row) for row in rows}
        return self.testbed.reported(given, report, made, **options)

    def _result(self, given: Degraded, name: str, row: Row) -> str:
        if row.is_input:
            return self.testbed.degraded(given)
        model = {} if row.training is None else {"checkpoint": row.training.target}
        return self.testbed.result(given, name, **row.use, **model)
