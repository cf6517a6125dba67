"""Subjects side by side: rates of those that do the same work, their ratios, and the program around the cases."""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

from tests.bench import report
from tests.bench.measure import hardware
from tests.bench.sharding_subjects import two_threads

Subject = Callable[[Path], float]
"""Does the work into a new target and returns its seconds."""


@dataclass(frozen=True)
class Rate:
    """One subject's timings."""

    case: str
    subject: str
    files: int
    megabytes: float
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Ratio:
    """Rate of one subject by that of another: of the best timings, and the range over the repeats."""

    case: str
    what: str
    best: float
    lowest: float
    highest: float
    goal: float


@dataclass
class Results:
    """All of a run; what is not measured yet is empty."""

    conditions: dict[str, Any]
    rates: list[Rate] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Benchmark:
    """One run: it measures case by case, and after each prints its rows and writes the JSON.

    A program is a subclass with its `cases`, its `libraries`, whose versions are told, and its kind of results.
    """

    program: ClassVar[str]
    description: ClassVar[str | None]
    cases: ClassVar[Mapping[str, Callable[[Any], None]]]
    libraries: ClassVar[Sequence[str]]
    results: ClassVar[type[Results]]

    def __init__(self, options: argparse.Namespace, scratch: Path, command: str) -> None:
        self.options, self.scratch = options, scratch
        self.found = self.results(self.conditions(command))

    @classmethod
    def main(cls, arguments: Sequence[str] | None) -> int:
        """Run with these arguments, or the command line's; 1 where a case failed."""
        given = sys.argv[1:] if arguments is None else arguments
        options = cls.parser().parse_args(given)
        with TemporaryDirectory(prefix="dtls-bench-") as temporary:
            scratch = (options.scratch or Path(temporary)).absolute()
            scratch.mkdir(parents=True, exist_ok=True)
            benchmark = cls(options, scratch, f"python -m {cls.program} {shlex.join(given)}").run()
        return 1 if benchmark.found.errors else 0

    @classmethod
    def parser(cls) -> argparse.ArgumentParser:
        """The options of one run."""
        parser = argparse.ArgumentParser(
            prog=f"python -m {cls.program}",
            description=cls.description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        names = list(cls.cases)
        parser.add_argument("--cases", nargs="+", choices=names, default=names, help="what to measure")
        parser.add_argument(
            "--repeats", type=int, default=5, help="timings of each subject, of which the best counts"
        )
        parser.add_argument("--scratch", type=Path, help="folder of sources, kept, and targets; else a temporary one")
        parser.add_argument("--quick", action="store_true", help="a few files: does it run?")
        parser.add_argument("--json", type=Path, help="write the numbers there, too")
        return parser

    def conditions(self, command: str) -> dict[str, str]:
        """Under what the numbers are found."""
        machine = hardware("cpu")
        libraries = [f"{name} {version(name)}" for name in self.libraries]
        return {
            "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "CPU": f"{machine.cpu}, {machine.cores} cores",
            "before": f"load {os.getloadavg()[0]:.2f}, two threads hash {two_threads():.2f} times as fast as one",
            "versions": ", ".join([f"Python {sys.version.split()[0]}", *libraries]),
            "command": command,
            "files": "a few, so the numbers say nothing"
            if self.options.quick
            else "crops of scikit-image's photographs; warm cache",
        }

    def run(self) -> Self:
        self.tell("\n".join(f"- {name}: {value}" for name, value in self.found.conditions.items()) + "\n")
        for case in self.options.cases:
            try:
                self.cases[case](self)
            except Exception as error:
                self.found.errors.append(f"{case}: {type(error).__name__}: {error}")
                self.tell(f"\n{case} failed: {error}\n")
            if self.options.json is not None:
                self.options.json.write_text(json.dumps(asdict(self.found), indent=2) + "\n")
        return self

    def compare(
        self,
        case: str,
        files: Sequence[Path],
        subjects: Mapping[str, Subject],
        goals: Mapping[tuple[str, str], float],
    ) -> None:
        """Time the subjects in turn on these files; a ratio of each pair that has a goal."""
        megabytes = sum(path.stat().st_size for path in files) / 1e6
        for path in files:
            path.read_bytes()  # into the cache
        times: dict[str, list[float]] = {name: [] for name in subjects}
        for _ in range(self.options.repeats):
            for name, subject in subjects.items():
                times[name].append(self.timed(subject))
        rates = [Rate(case, name, len(files), megabytes, tuple(taken)) for name, taken in times.items()]
        ratios = [_ratio(case, one, other, times, goal) for (one, other), goal in goals.items()]
        self.found.rates += rates
        self.found.ratios += ratios
        self.tell(report.head((case, "files", "kB each", "files/s, best", "files/s, slowest", "MB/s, best")))
        self.tell("".join(map(_rate_line, rates)))
        self.tell(report.head((case, "ratio of the best", "range", "goal, at least", "met")))
        self.tell("".join(map(_ratio_line, ratios)))

    def timed(self, subject: Subject) -> float:
        with TemporaryDirectory(dir=self.scratch) as folder:
            target = Path(folder) / Path(folder).name
            os.sync()
            return subject(target)

    def tell(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def yes(met: bool) -> str:
    return "yes" if met else "no"


def _ratio(case: str, one: str, other: str, times: Mapping[str, Sequence[float]], goal: float) -> Ratio:
    each = [theirs / mine for mine, theirs in zip(times[one], times[other], strict=True)]
    return Ratio(case, f"{one} / {other}", min(times[other]) / min(times[one]), min(each), max(each), goal)


def _rate_line(row: Rate) -> str:
    best, slowest = min(row.seconds), max(row.seconds)
    numbers = (1000 * row.megabytes / row.files, row.files / best, row.files / slowest, row.megabytes / best)
    return report.line((row.subject, f"{row.files:,}", *[f"{number:,.1f}" for number in numbers]))


def _ratio_line(row: Ratio) -> str:
    spread = f"{row.lowest:.2f} … {row.highest:.2f}"
    return report.line((row.what, f"×{row.best:.2f}", spread, f"×{row.goal:g}", yes(row.best >= row.goal)))
