"""Methods tested alike: the test images as HR squares and as LR images, what methods make of these, and a report.

What `dtls/reproduce` and `dtls/benchmark` share. Everything is done by the other flows, so that a second run does
only what is missing.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from dtls.degradations.base import Protocol
from dtls.errors import SizeError
from dtls.inference.degrade import Square
from flows.downscale import DownscaleOptions, downscale
from flows.engine.flow import as_part
from flows.evaluation.publish import SUMMARY
from flows.experiments.options import BenchmarkOptions, ReproduceOptions
from flows.inputs.selection import SelectionOptions
from flows.inputs.sources import check_within
from flows.interface.text import counted
from flows.report import ReportOptions, report
from flows.shard import ShardOptions, shard
from flows.transform.run import transform
from flows.transform.sizes import Squared
from flows.transform.spec import ImageTransform
from flows.upscale import UpscaleOptions, upscale
from storage.archives.source import open_source
from storage.images import formats
from storage.stores.entry import is_named_only
from storage.stores.location import Location, StorageError


@dataclass(frozen=True)
class Testbed:
    """A test at one HR size below a folder. common: options of all flows that work in units."""

    source: str
    test: str
    out: str
    size: int
    protocol: Protocol
    device: str = "auto"
    common: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, options: BenchmarkOptions | ReproduceOptions, size: int) -> Self:
        """The testbed at an HR size that the options describe."""
        common = {"workers": options.workers} if options.workers else {}
        return cls(options.source, options.test, options.out, size, options.protocol, options.device, common)

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
    def hr(self) -> str:
        return self.at(f"hr-{self.size}")

    @property
    def shards(self) -> str:
        return self.at(f"shards-{self.size}")

    def lr(self, low: int) -> str:
        """Where the LR images of `low` pixels are."""
        return self.at(f"lr-{self.size}-{low}-{self.protocol}")

    def make_hr(self) -> None:
        """The test images as squares of the HR size."""
        recipe = ImageTransform("square", Square, Squared(self.size))
        transform(recipe, self.test, self.hr, SelectionOptions(overwrite=True, **self.common))

    def make_shards(self) -> None:
        """The training images as squares of the HR size, in shards."""
        as_part(
            shard, ShardOptions(source=self.source, target=self.shards, size=self.size, overwrite=True, **self.common)
        )

    def make_lr(self, low: int) -> None:
        """The LR images of `low` pixels."""
        if self.size % low:
            raise SizeError(f"{low}→{self.size} pixels is no whole scale")
        chosen = {"scale": self.size / low, "protocol": self.protocol, "overwrite": True, **self.common}
        as_part(downscale, DownscaleOptions(source=self.hr, target=self.lr(low), **chosen))

    def upscaled(self, low: int, name: str, **options: Any) -> str:
        """Where SR images of the LR images are, made if they were missing."""
        chosen = {**self.common, "device": self.device, "overwrite": True, **options}
        as_part(upscale, UpscaleOptions(source=self.lr(low), target=self.at(name), size=self.size, **chosen))
        return self.at(name)

    def reported(self, low: int, name: str, results: Mapping[str, str], **options: Any) -> dict[str, Any]:
        """The summary of a report on results, by their labels."""
        chosen = {"device": self.device, **self.common, **options}
        as_part(report, ReportOptions(hr=self.hr, lr=self.lr(low), sr=dict(results), out=self.at(name), **chosen))
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
