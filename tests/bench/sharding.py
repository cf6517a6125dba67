"""The benchmark of sharding: ours against webdataset's ShardWriter, GNU tar and the AWS client, as Markdown and JSON.

    python -m tests.bench.sharding --quick                                        # a few files: does it run?
    python -m tests.bench.sharding --scratch FOLDER --json sharding.json          # everything
    python -m tests.bench.sharding --scratch FOLDER --cases small large           # these cases alone

Ours is the flow `dtls/shard` called in this process, imports done: list, read, check, tar, hash, receipts, manifest.
webdataset is its ShardWriter in the loop that people write for the same samples, a picture and its JSON: read a file,
write both; no check, no hash, no manifest.
GNU tar makes one archive of the same files. All files were read before, so the cache is warm. Every timing has a new
target on the disk of the source and comes after a sync; the subjects take turns. A ratio is of the best timings, its
range that of the repeats. Memory is the peak of the largest process that a command is made of. Unless two threads
hash nearly twice as fast as one at the start, something else has the cores, and the numbers are worth little.

In `upload`, ours makes shards of local pictures at the tests' S3 server. The AWS client uploads the same shards, made
before, to the same server, as AWS's command line does by default: parts of 8 MiB, ten at a time.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import s3fs

from tests.bench import report
from tests.bench.measure import hardware
from tests.bench.sharding_subjects import (
    LARGE,
    LISTING,
    PHOTOGRAPH,
    PLANNING,
    SMALL,
    aws_client,
    files_of,
    gnu_tar,
    make_links,
    make_pictures,
    ours,
    peak_megabytes,
    resized,
    two_threads,
    webdataset_loop,
)
from tests.services import S3Server, isolated_environment

Subject = Callable[[Path], float]
"""Does the work into a new target and returns its seconds."""


@dataclass(frozen=True)
class Counts:
    """How many files each case has. links: sources of `memory` that are sharded. keys: one that is listed only."""

    small: int
    large: int
    resize: int
    upload: int
    links: tuple[int, ...]
    keys: int


FULL = Counts(small=20_000, large=400, resize=600, upload=200, links=(10_000, 100_000), keys=1_000_000)
QUICK = Counts(small=30, large=3, resize=4, upload=3, links=(20, 40), keys=60)


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


@dataclass(frozen=True)
class Peak:
    """The memory that a command took, in MB."""

    what: str
    entries: int
    megabytes: float
    seconds: float
    goal: float = 500.0


@dataclass
class Results:
    """All of a run; what is not measured yet is empty."""

    conditions: dict[str, Any]
    rates: list[Rate] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    peaks: list[Peak] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Benchmark:
    """One run: it measures case by case, and after each prints its rows and writes the JSON."""

    def __init__(self, options: argparse.Namespace, scratch: Path, command: str) -> None:
        self.options, self.scratch = options, scratch
        self.counts = QUICK if options.quick else FULL
        self.found = Results(_conditions(command, options.quick))

    def run(self) -> None:
        self._tell("\n".join(f"- {name}: {value}" for name, value in self.found.conditions.items()) + "\n")
        for case in self.options.cases:
            try:
                CASES[case](self)
            except Exception as error:
                self.found.errors.append(f"{case}: {type(error).__name__}: {error}")
                self._tell(f"\n{case} failed: {error}\n")
            if self.options.json is not None:
                self.options.json.write_text(json.dumps(asdict(self.found), indent=2) + "\n")

    def small(self) -> None:
        source = make_pictures(self.scratch, self.counts.small, SMALL)
        subjects = {
            "ours": partial(ours, source),
            "webdataset": partial(webdataset_loop, source),
            "GNU tar": partial(gnu_tar, source),
        }
        self._compare("small", source, subjects, {("ours", "webdataset"): 6.0, ("ours", "GNU tar"): 0.4})

    def large(self) -> None:
        for suffix, kind in LARGE.items():
            source = make_pictures(self.scratch, self.counts.large, kind)
            subjects = {
                "ours": partial(ours, source, samples_per_shard=100),
                "GNU tar": partial(gnu_tar, source),
            }
            self._compare(f"large {suffix}", source, subjects, {("ours", "GNU tar"): 0.8})

    def resize(self) -> None:
        source = make_pictures(self.scratch, self.counts.resize, PHOTOGRAPH)
        cores = sorted(os.sched_getaffinity(0))[:2]
        if len(cores) < 2:
            raise RuntimeError("it needs two cores")
        subjects = {"two cores": partial(resized, source, cores), "one core": partial(resized, source, cores[:1])}
        self._compare("resize", source, subjects, {("two cores", "one core"): 1.7})

    def upload(self) -> None:
        source = make_pictures(self.scratch, self.counts.upload, LARGE["png"])
        with TemporaryDirectory(dir=self.scratch) as folder, S3Server(Path(folder) / "s3") as server:
            ours(source, Path(folder) / "shards", 50)
            tars = sorted((Path(folder) / "shards").glob("*.tar"))
            subjects: dict[str, Subject] = {
                "ours": lambda target: ours(source, server.url(target.name), 50),
                "AWS client": partial(aws_client, server, tars),
            }
            with patch.dict(os.environ, isolated_environment(server.environment()), clear=True):
                s3fs.S3FileSystem.clear_instance_cache()
                self._compare("upload", source, subjects, {("ours", "AWS client"): 0.8})
                s3fs.S3FileSystem.clear_instance_cache()

    def memory(self) -> None:
        self._tell(report.head(("memory", "entries", "peak, MB", "goal, below", "met", "seconds")))
        for count in self.counts.links:
            self._peak("dtls shard", count, "-m", "flows", "shard")
        self._peak("listing", self.counts.keys, "-c", LISTING)
        self._peak("listing and planning", self.counts.keys, "-c", PLANNING)

    def _peak(self, what: str, count: int, *command: str) -> None:
        source = make_links(self.scratch, count)
        with TemporaryDirectory(dir=self.scratch) as target:
            started = time.perf_counter()
            peak = peak_megabytes(*command, str(source), target)
            row = Peak(what, count, peak, time.perf_counter() - started)
        self.found.peaks.append(row)
        cells = (f"{count:,}", f"{peak:.0f}", f"{row.goal:.0f}", _yes(peak < row.goal), f"{row.seconds:.1f}")
        self._tell(report.line((what, *cells)))

    def _compare(
        self, case: str, source: Path, subjects: Mapping[str, Subject], goals: Mapping[tuple[str, str], float]
    ) -> None:
        files = files_of(source)
        megabytes = sum(len(path.read_bytes()) for path in files) / 1e6
        times: dict[str, list[float]] = {name: [] for name in subjects}
        for _ in range(self.options.repeats):
            for name, subject in subjects.items():
                times[name].append(self._timed(subject))
        rates = [Rate(case, name, len(files), megabytes, tuple(taken)) for name, taken in times.items()]
        ratios = [_ratio(case, one, other, times, goal) for (one, other), goal in goals.items()]
        self.found.rates += rates
        self.found.ratios += ratios
        self._tell(report.head((case, "files", "kB each", "files/s, best", "files/s, slowest", "MB/s, best")))
        self._tell("".join(map(_rate_line, rates)))
        self._tell(report.head((case, "ratio of the best", "range", "goal, at least", "met")))
        self._tell("".join(map(_ratio_line, ratios)))

    def _timed(self, subject: Subject) -> float:
        with TemporaryDirectory(dir=self.scratch) as folder:
            target = Path(folder) / Path(folder).name
            os.sync()
            return subject(target)

    def _tell(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


CASES: dict[str, Callable[[Benchmark], None]] = {
    "small": Benchmark.small,
    "large": Benchmark.large,
    "resize": Benchmark.resize,
    "upload": Benchmark.upload,
    "memory": Benchmark.memory,
}


def _conditions(command: str, quick: bool) -> dict[str, str]:
    machine = hardware("cpu")
    tar = subprocess.run(["tar", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    libraries = [f"{name} {version(name)}" for name in ("webdataset", "pillow", "pyarrow", "botocore", "s3fs")]
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "CPU": f"{machine.cpu}, {machine.cores} cores",
        "before": f"load {os.getloadavg()[0]:.2f}, two threads hash {two_threads():.2f} times as fast as one",
        "versions": ", ".join([f"Python {sys.version.split()[0]}", *libraries, tar]),
        "command": command,
        "files": "a few, so the numbers say nothing" if quick else "crops of scikit-image's photographs; warm cache",
    }


def _ratio(case: str, one: str, other: str, times: Mapping[str, Sequence[float]], goal: float) -> Ratio:
    each = [theirs / mine for mine, theirs in zip(times[one], times[other], strict=True)]
    return Ratio(case, f"{one} / {other}", min(times[other]) / min(times[one]), min(each), max(each), goal)


def _rate_line(row: Rate) -> str:
    best, slowest = min(row.seconds), max(row.seconds)
    numbers = (1000 * row.megabytes / row.files, row.files / best, row.files / slowest, row.megabytes / best)
    return report.line((row.subject, f"{row.files:,}", *[f"{number:,.1f}" for number in numbers]))


def _ratio_line(row: Ratio) -> str:
    spread = f"{row.lowest:.2f} … {row.highest:.2f}"
    return report.line((row.what, f"×{row.best:.2f}", spread, f"×{row.goal:g}", _yes(row.best >= row.goal)))


def _yes(met: bool) -> str:
    return "yes" if met else "no"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of one run."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.sharding",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), help="what to measure")
    parser.add_argument("--repeats", type=int, default=5, help="timings of each subject, of which the best counts")
    parser.add_argument("--scratch", type=Path, help="folder of sources, kept, and targets; else a temporary one")
    parser.add_argument("--quick", action="store_true", help="a few files: does it run?")
    parser.add_argument("--json", type=Path, help="write the numbers there, too")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with these arguments, or the command line's; 1 where a case failed."""
    given = sys.argv[1:] if arguments is None else arguments
    options = parse(given)
    with TemporaryDirectory(prefix="dtls-bench-") as temporary:
        scratch = (options.scratch or Path(temporary)).absolute()
        scratch.mkdir(parents=True, exist_ok=True)
        benchmark = Benchmark(options, scratch, f"python -m tests.bench.sharding {shlex.join(given)}")
        benchmark.run()
    return 1 if benchmark.found.errors else 0


if __name__ == "__main__":
    sys.exit(main())
