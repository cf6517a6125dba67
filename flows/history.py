"""Reports made before, side by side: how methods did from run to run, as one table.

Each report keeps its runs in `runs/run=NAME/`; those of all reports are read, oldest first.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from flows.console import tell, tell_markdown
from reports.tables import METRICS, SET_METRICS, finite_or_none
from storage.locations import Location, StorageError
from storage.parallel import ordered_map

HISTORY, HISTORY_TABLE = "history.md", "history.parquet"
RUNS, RUN_SUMMARY = "runs/run=", "/_summary.json"
"""Around a run's name; readers of tables pass over files that begin with an underscore."""


@dataclass(frozen=True)
class Run:
    """One run of a report: its name, where it is, and its summary."""

    report: str
    name: str
    summary: dict[str, Any]

    def rows(self) -> list[dict[str, Any]]:
        """One a method, with what the numbers stand on."""
        conditions, pictures = self.summary.get("conditions", ""), self.summary.get("pictures")
        known = {m.name for m in (*METRICS, *SET_METRICS)}
        return [
            {
                "report": self.report,
                "run": self.name,
                "date": self.summary.get("date"),
                "method": str(method.get("method")),
                "conditions": conditions,
                "pictures": pictures,
                "ok": method.get("ok"),
                "failed": method.get("failed"),
                **{name: finite_or_none(method.get(name)) for name in sorted(known)},
            }
            for method in self.summary.get("methods", [])
        ]


def compare(reports: Sequence[str], out: str) -> str:
    """Write `history.parquet` and `history.md` of all runs of some reports into `out`; the address of the latter."""
    runs = [run for report in reports for run in _runs(report)]
    frame = pd.DataFrame([row for run in runs for row in run.rows()]).sort_values(["date", "report"], kind="stable")
    target = Location.of(out)
    with target.writing(HISTORY_TABLE) as path:
        frame.to_parquet(path, index=False)
    text = _markdown(frame)
    target.write(HISTORY, text.encode())
    tell_markdown(text)
    if frame["conditions"].nunique() > 1:
        tell("the runs were taken under different conditions; rows of one conditions column can be compared")
    return target.address(HISTORY)


def _runs(report: str) -> list[Run]:
    """The runs of a report; StorageError where there are none."""
    where = Location.of(report)
    keys = [e.key for e in where.list() if e.key.startswith(RUNS) and e.key.endswith(RUN_SUMMARY)]
    if not keys:
        raise StorageError(f"{report}: no report there; give the folder that `dtls report --out` was given")
    names = [key.removeprefix(RUNS).removesuffix(RUN_SUMMARY) for key in keys]
    contents = ordered_map(where.read, keys, workers=8)
    return [Run(report, name, _read(where, key, data)) for name, key, data in zip(names, keys, contents, strict=True)]


def _read(where: Location, key: str, data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
        if not isinstance(content, dict) or not all(isinstance(row, dict) for row in content["methods"]):
            raise ValueError("it has no methods")
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{where.address(key)}: not the summary of a report ({error})") from error
    return content


def _markdown(frame: pd.DataFrame) -> str:
    metrics = [m for m in (*METRICS, *SET_METRICS) if frame[m.name].notna().any()]
    several = frame["report"].nunique() > 1
    head = [
        "Run",
        *["Report"] * several,
        "Method",
        *(f"{m.label} {m.arrow}" for m in metrics),
        "Pictures",
        "Conditions",
    ]
    lines = [head, ["---"] * (2 + several) + ["---:"] * (len(metrics) + 1) + ["---"]]
    for row in frame.to_dict("records"):
        names = [row["run"], *[row["report"]] * several, row["method"]]
        lines.append(
            [
                *(str(name).replace("\\", "\\\\").replace("|", "\\|") for name in names),
                *(m.text(row[m.name]) for m in metrics),
                str(row["ok"]),
                str(row["conditions"]),
            ]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
