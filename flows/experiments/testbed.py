"""Methods tested alike: the test images as HR squares, the same degraded, what methods make of these, and a report.

What `dtls/reproduce` and `dtls/benchmark` share. Everything is done by the other flows, so that a second run does
only what is missing.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import pyarrow.compute as pc

from dtls.degradations.base import LRProtocol
from dtls.degradations.registry import spec_of_task, title_of_spec
from dtls.errors import SizeError
from dtls.inference.degrade import Faint, Square
from flows.degrade import DegradeOptions, degrade
from flows.downscale import DownscaleOptions, downscale
from flows.engine.flow import as_part
from flows.evaluation.publish import SUMMARY
from flows.experiments.options import BenchmarkOptions, ReproduceOptions
from flows.inputs.selection import SelectionOptions
from flows.inputs.sources import check_within
from flows.interface.text import counted
from flows.report import ReportOptions, report
from flows.restore import RestoreOptions, restore
from flows.shard import ShardOptions, shard
from flows.transform.run import transform
from flows.transform.sizes import Squared
from flows.transform.spec import ImageTransform
from flows.upscale import UpscaleOptions, upscale
from storage.archives.source import open_source
from storage.images import formats
from storage.receipts.receipts import read_manifest
from storage.stores.entry import is_named_only
from storage.stores.location import Location, StorageError


@dataclass(frozen=True)
class Degraded:
    """The test images as methods get them: LR images of `low` pixels, made by a protocol; or what a task undoes.

    task: one of restoration, such as `deblur:2`, whose images keep their size, so that `low` is that of HR and the
    protocol means nothing; None for super-resolution. contrast: of the test images, 1 for that which they have.
    """

    low: int
    protocol: LRProtocol = "antialias"
    task: str | None = None
    contrast: float = 1.0

    @property
    def degradation(self) -> str:
        """The protocol, or the spec of what the task undoes."""
        return self.protocol if self.task is None else spec_of_task(self.task)

    @property
    def name(self) -> str:
        """In names of folders."""
        if self.task is None:
            return f"{self.low}{self.faint}"
        return re.sub(r"[^\w.]+", "-", self.degradation) + self.faint

    @property
    def faint(self) -> str:
        """What the contrast adds to names of folders."""
        return f"-contrast-{self.contrast:g}" if self.contrast != 1 else ""

    def title(self, size: int) -> str:
        """What methods are to do, in words: `16→128`, or `colourisation`."""
        words = f"{self.low}→{size}" if self.task is None else title_of_spec(self.degradation)
        return f"{words}, contrast {self.contrast:g}" if self.contrast != 1 else words


@dataclass(frozen=True)
class Testbed:
    """A test at one HR size below a folder. common: options of all flows that work in units."""

    source: str
    test: str
    out: str
    size: int
    device: str = "auto"
    common: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, options: BenchmarkOptions | ReproduceOptions, size: int) -> Self:
        """The testbed at an HR size that the options describe."""
        common = {"workers": options.workers} if options.workers else {}
        return cls(options.source, options.test, options.out, size, options.device, common)

    def check(self) -> None:
        """StorageError, before any work, for folders inside each other."""
        source, test, out = (Location.of(a) for a in (self.source, self.test, self.out))
        check_within(out, self.source)
        check_within(out, self.test)
        if source.within(test) or test.within(source):
            raise StorageError(f"{test}: a model is not tested on what it learned from, {source}; split them")

    def check_learned(self) -> None:
        """StorageError where test images are learned: what the two sources both have, byte by byte."""
        if both := _in_both(self.source, self.test):
            raise StorageError(
                f"{self.test}: {counted(len(both), 'image')} of {self.source}, too, such as {both[0]}: a model is "
                "not tested on what it learned from; take them out of one of the two"
            )

    def at(self, name: str) -> str:
        """The address of something in the folder."""
        return Location.of(self.out).address(name)

    @property
    def shards(self) -> str:
        return self.at(f"shards-{self.size}")

    def hr(self, contrast: float = 1.0) -> str:
        """Where the test images are that results are compared with."""
        return self.at(f"hr-{self.size}{Degraded(self.size, contrast=contrast).faint}")

    def degraded(self, given: Degraded) -> str:
        """Where the images are that methods get."""
        if given.task is None:
            return self.at(f"lr-{self.size}-{given.low}-{given.protocol}{given.faint}")
        return self.at(f"degraded-{self.size}-{given.name}")

    def count(self, target: str) -> str:
        """How many images a flow has made there."""
        manifest = read_manifest(Location.of(target), ["status"])
        return counted(manifest.filter(pc.equal(manifest["status"], "ok")).num_rows if manifest else 0, "image")

    def make_hr(self, contrast: float = 1.0) -> None:
        """The test images as squares of the HR size."""
        made = Square if contrast == 1 else partial(Faint, contrast)
        recipe = ImageTransform("square", made, Squared(self.size))
        transform(recipe, self.test, self.hr(contrast), SelectionOptions(overwrite=True, **self.common))

    def make_shards(self) -> None:
        """The training images as squares of the HR size, in shards."""
        as_part(
            shard, ShardOptions(source=self.source, target=self.shards, size=self.size, overwrite=True, **self.common)
        )

    def make_degraded(self, given: Degraded) -> None:
        """The images that methods get; with less contrast, the test images of that contrast first."""
        if given.contrast != 1:
            self.make_hr(given.contrast)
        places = {"source": self.hr(given.contrast), "target": self.degraded(given), "overwrite": True, **self.common}
        if given.task is not None:
            as_part(degrade, DegradeOptions(task=given.task, **places))
            return
        if self.size % given.low:
            raise SizeError(f"{given.low}→{self.size} pixels is no whole scale")
        as_part(downscale, DownscaleOptions(scale=self.size / given.low, protocol=given.protocol, **places))

    def result(self, given: Degraded, name: str, **options: Any) -> str:
        """Where a method's results are, made if they were missing."""
        chosen = {**self.common, "device": self.device, "overwrite": True, **options}
        chosen |= {"source": self.degraded(given), "target": self.at(name)}
        if given.task is None:
            as_part(upscale, UpscaleOptions(size=self.size, **chosen))
        else:
            as_part(restore, RestoreOptions(task=given.task, **chosen))
        return self.at(name)

    def reported(self, given: Degraded, name: str, results: Mapping[str, str], **options: Any) -> dict[str, Any]:
        """The summary of a report on results, by their labels."""
        chosen = {"device": self.device, **self.common, **options}
        places = {"hr": self.hr(given.contrast), "lr": self.degraded(given), "out": self.at(name)}
        as_part(report, ReportOptions(sr=dict(results), **places, **chosen))
        summary: dict[str, Any] = json.loads(Location.of(self.at(name)).read(SUMMARY))
        return summary


def _in_both(learned: str, tested: str) -> list[str]:
    """The images of the second source that the first one has, too, whatever they are called there."""
    first, second = open_source(learned), open_source(tested)
    by_size = defaultdict(list)
    for entry in filter(lambda entry: not is_named_only(entry), first.list()):
        by_size[entry.size].append(entry)
    both = []
    for entry in filter(lambda entry: formats.is_image(entry.key) and not is_named_only(entry), second.list()):
        if duplicates := by_size.get(entry.size):
            content = second.fetch(entry)
            if any(first.fetch(twin) == content for twin in duplicates):
                both.append(entry.key)
    return both
