"""The benchmark of sharding: ours against webdataset's ShardWriter, GNU tar and the AWS client, as Markdown and JSON.

    python -m tests.bench.sharding --quick                                        # a few files: does it run?
    python -m tests.bench.sharding --scratch FOLDER --json sharding.json          # everything
    python -m tests.bench.sharding --scratch FOLDER --cases small large           # these cases alone

Ours is the flow `dtls/shard` called in this process, imports done: list, read, check, tar, hash, receipts, manifest.
webdataset is its ShardWriter in the loop that people write for the same samples, an image and its JSON: read a file,
write both; no check, no hash, no manifest.
GNU tar makes one archive of the same files. All files were read before, so the cache is warm. Every timing has a new
target on the disk of the source and comes after a sync; the subjects take turns. A ratio is of the best timings, its
range that of the repeats. Memory is the peak of the largest process that a command is made of. Unless two threads
hash nearly twice as fast as one at the start, something else has the cores, and the numbers are worth little.

In `upload`, ours makes shards of local images at the tests' S3 server. The AWS client uploads the same shards, made
before, to the same server, as AWS's command line does by default: parts of 8 MiB, ten at a time.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar
from unittest.mock import patch

import s3fs

from tests.bench import report, side_by_side
from tests.bench.sharding_subjects import (
    LARGE,
    LISTING,
    PHOTOGRAPH,
    PLANNING,
    SMALL,
    aws_client,
    files_of,
    gnu_tar,
    make_images,
    make_links,
    ours,
    peak_megabytes,
    resized,
    webdataset_loop,
)
from tests.bench.side_by_side import Subject, yes
from tests.services import S3Server, isolated_environment


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
class Peak:
    """The memory that a command took, in MB."""

    what: str
    entries: int
    megabytes: float
    seconds: float
    goal: float = 500.0


@dataclass
class Results(side_by_side.Results):
    """All of a run; what is not measured yet is empty."""

    peaks: list[Peak] = field(default_factory=list)


class Benchmark(side_by_side.Benchmark):
    """The cases of sharding."""

    program = "tests.bench.sharding"
    description = __doc__
    libraries = ("webdataset", "pillow", "pyarrow", "botocore", "s3fs")
    results = Results
    found: Results

    @property
    def counts(self) -> Counts:
        return QUICK if self.options.quick else FULL

    def conditions(self, command: str) -> dict[str, str]:
        tar = subprocess.run(["tar", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
        found = super().conditions(command)
        return found | {"versions": f"{found['versions']}, {tar}"}

    def small(self) -> None:
        source = make_images(self.scratch, self.counts.small, SMALL)
        subjects = {
            "ours": partial(ours, source),
            "webdataset": partial(webdataset_loop, source),
            "GNU tar": partial(gnu_tar, source),
        }
        self.compare("small", files_of(source), subjects, {("ours", "webdataset"): 6.0, ("ours", "GNU tar"): 0.4})

    def large(self) -> None:
        for suffix, kind in LARGE.items():
            source = make_images(self.scratch, self.counts.large, kind)
            subjects = {
                "ours": partial(ours, source, samples_per_shard=100),
                "GNU tar": partial(gnu_tar, source),
            }
            self.compare(f"large {suffix}", files_of(source), subjects, {("ours", "GNU tar"): 0.8})

    def resize(self) -> None:
        source = make_images(self.scratch, self.counts.resize, PHOTOGRAPH)
        cores = sorted(os.sched_getaffinity(0))[:2]
        if len(cores) < 2:
            raise RuntimeError("it needs two cores")
        subjects = {"two cores": partial(resized, source, cores), "one core": partial(resized, source, cores[:1])}
        self.compare("resize", files_of(source), subjects, {("two cores", "one core"): 1.7})

    def upload(self) -> None:
        source = make_images(self.scratch, self.counts.upload, LARGE["png"])
        with TemporaryDirectory(dir=self.scratch) as folder, S3Server(Path(folder) / "s3") as server:
            ours(source, Path(folder) / "shards", 50)
            tars = sorted((Path(folder) / "shards").glob("*.tar"))
            subjects: dict[str, Subject] = {
                "ours": lambda target: ours(source, server.url(target.name), 50),
                "AWS client": partial(aws_client, server, tars),
            }
            with patch.dict(os.environ, isolated_environment(server.environment()), clear=True):
                s3fs.S3FileSystem.clear_instance_cache()
                self.compare("upload", files_of(source), subjects, {("ours", "AWS client"): 0.8})
                s3fs.S3FileSystem.clear_instance_cache()

    def memory(self) -> None:
        self.tell(report.head(("memory", "entries", "peak, MB", "goal, below", "met", "seconds")))
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
        cells = (f"{count:,}", f"{peak:.0f}", f"{row.goal:.0f}", yes(peak < row.goal), f"{row.seconds:.1f}")
        self.tell(report.line((what, *cells)))

    cases: ClassVar = {"small": small, "large": large, "resize": resize, "upload": upload, "memory": memory}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with these arguments, or the command line's; 1 where a case failed."""
    return Benchmark.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
