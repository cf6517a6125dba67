"""Reports made before, side by side: how methods did from run to run, as one table.

Each report keeps its runs in `runs/run=NAME/`; those of all reports are read, oldest first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.interface.console import log, log_markdown
from reports.metrics.metric import mean_or_infinite
from reports.metrics.registry import METRICS, SET_METRICS
from reports.tables.render import markdown, markdown_table
from reports.tables.table import SCHEMA_VERSION
from storage.parallel import ordered_map
from storage.receipts.lease import hold
from storage.stores.location import Location, StorageError

HISTORY, HISTORY_TABLE = "history.md", "history.parquet"
RUNS, RUN_SUMMARY = "runs/run=", "/_summary.json"
"""Around a run's name; readers of tables pass over files that begin with an underscore."""
MAX = 2**24
"""Bytes of a summary."""


NUMBERS = sorted(m.name for m in (*METRICS, *SET_METRICS))
COLUMNS = ["report", "run", "date", "method", "conditions", "pictures", "ok", "failed", *NUMBERS]
Count = Annotated[int, Field(ge=0, lt=2**53)]


class Method(BaseModel):
    """The columns of a method in a summary, beside its numbers."""

    model_config = ConfigDict(extra="allow")
    method: str
    ok: Count
    failed: Count


class Kept(BaseModel):
    """What is read of a run's summary, as `reports.tables.summary.as_json` made it."""

    version: int
    date: str
    conditions: str
    pictures: Count
    methods: list[Method]


@dataclass(frozen=True)
class Run:
    """One run of a report: its name, where it is, and its summary."""

    report: str
    name: str
    summary: Kept

    def rows(self) -> list[dict[str, Any]]:
        """One a method, with what the numbers stand on."""
        return [
            {
                "report": self.report,
                "run": self.name,
                **self.summary.model_dump(include={"date", "conditions", "pictures"}),
                **method.model_dump(include={"method", "ok", "failed"}),
                **{name: mean_or_infinite(method.model_extra or {}, name) for name in NUMBERS},
            }
            for method in self.summary.methods
        ]


def compare(reports: Sequence[str], out: str) -> str:
    """Write `history.parquet` and `history.md` of all runs of some reports into `out`; the address of the latter."""
    runs = [run for where in _places(reports) for run in _runs(where)]
    rows = [row for run in runs for row in run.rows()]
    frame = pd.DataFrame(rows, columns=COLUMNS).sort_values(["date", "report"], kind="stable")
    target = Location.of(out)
    text = _markdown(frame)
    with hold(target, "report"):
        with target.writing(HISTORY_TABLE) as path:
            frame.to_parquet(path, index=False)
        target.write(HISTORY, text.encode())
    log_markdown(text)
    if frame["conditions"].nunique() > 1:
        log("the runs were taken under different conditions; rows of one conditions column can be compared")
    return target.address(HISTORY)


def _places(reports: Sequence[str]) -> list[Location]:
    """Where the reports are, each once."""
    places: list[Location] = []
    for where in map(Location.of, reports):
        if not any(where.within(other) and other.within(where) for other in places):
            places.append(where)
    return places


def _runs(where: Location) -> list[Run]:
    """The runs of a report; StorageError where there are none."""
    keys = [e.key for e in where.list() if e.key.startswith(RUNS) and e.key.endswith(RUN_SUMMARY)]
    if not keys:
        raise StorageError(f"{where}: no report there; give the folder that `dtls report --out` was given")
    names = [key.removeprefix(RUNS).removesuffix(RUN_SUMMARY) for key in keys]
    contents = ordered_map(lambda key: where.read(key, MAX), keys, workers=8)
    return [
        Run(str(where), name, _read(where, key, data)) for name, key, data in zip(names, keys, contents, strict=True)
    ]


def _read(where: Location, key: str, data: bytes) -> Kept:
    try:
        found = Kept.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()
        raise StorageError(f"{where.address(key)}: not the summary of a report ({what})") from error
    if found.version > SCHEMA_VERSION:
        raise StorageError(
            f"{where.address(key)}: has version {found.version} of the table, this dtls reads up to {SCHEMA_VERSION}"
        )
    return found


def _markdown(frame: pd.DataFrame) -> str:
    metrics = [m for m in (*METRICS, *SET_METRICS) if frame[m.name].notna().any()]
    several = frame["report"].nunique() > 1
    lines = []
    for row in frame.to_dict("records"):
        names = [row["run"], *[row["report"]] * several, row["method"]]
        numbers = [*(m.text(row[m.name]) for m in metrics), str(row["ok"])]
        lines.append([*(markdown(str(name)) for name in names), *numbers, markdown(str(row["conditions"]))])
    head = ["Run", *["Report"] * several, "Method", *(m.heading for m in metrics), "Images", "Conditions"]
    return markdown_table(head, lines, "l" * (2 + several) + "r" * (len(metrics) + 1) + "l") + "\n"
