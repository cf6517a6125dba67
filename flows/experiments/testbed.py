"""Methods tested alike: the test images as HR squares, the same degraded, what methods make of these, and a report.

What `dtls/reproduce` and `dtls/benchmark` share. Everything is done by the other flows, so that a second run does
only what is missing.
"""

import json
import re
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
from flows.evaluation.publishing import SUMMARY
from flows.experiments.data import Data
from flows.experiments.options import BenchmarkOptions, ReproduceOptions
from flows.inputs.selection import SelectionOptions
from flows.interface.text import counted
from flows.report import ReportOptions, report
from flows.restore import RestoreOptions, restore
from flows.shard import ShardOptions, shard
from flows.transform.run import transform
from flows.transform.sizes import Squared
from flows.transform.spec import ImageTransform
from flows.upscale import UpscaleOptions, upscale
from storage.receipts.receipts import read_manifest
from storage.shards.read import is_held_out
from storage.stores.location import Location

KEYS = "test-keys.txt"
"""The list of images that are held out for testing."""


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

    data: Data
    out: str
    size: int
    device: str = "auto"
    common: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, options: BenchmarkOptions | ReproduceOptions, size: int) -> Self:
        """The testbed at an HR size that the options describe."""
        common = {"workers": options.workers} if options.workers else {}
        return cls(Data(options.source, options.test), options.out, size, options.device, common)

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

    def counts(self) -> list[str]:
        """How many images models learn from, and how many they are tested on, with where they are from."""
        learned = sum(not is_held_out(shard) for shard in self._outputs(self.shards))
        said = f"trained on {counted(learned, 'image')} of {self.data.source}"
        tested = self.data.test or "it, held out"
        return [said, f"tested on {counted(len(self._outputs(self.hr())), 'image')} of {tested}"]

    def _outputs(self, target: str) -> list[str]:
        """The files of the images that a flow has made."""
        manifest = read_manifest(Location.of(target), ["status", "output"])
        made = manifest.filter(pc.equal(manifest["status"], "ok")) if manifest is not None else None
        return [] if made is None else [str(output) for output in made["output"].to_pylist()]

    def make_hr(self, contrast: float = 1.0) -> None:
        """The test images as squares of the HR size."""
        made = Square if contrast == 1 else partial(Faint, contrast)
        recipe = ImageTransform("square", made, Squared(self.size))
        chosen = {} if self.data.test is not None else {"key_list": self._held_out()}
        options = SelectionOptions(overwrite=True, **chosen, **self.common)
        transform(recipe, self.data.tested, self.hr(contrast), options)

    def make_shards(self) -> None:
        """The training images as squares of the HR size, in shards."""
        chosen = {"overwrite": True, **self.data.sharding, **self.common}
        as_part(shard, ShardOptions(source=self.data.source, target=self.shards, size=self.size, **chosen))

    def _held_out(self) -> str:
        """The address of a list of the keys that are held out, written if it was missing."""
        keys = "".join(f"{key}\n" for key in self.data.held_out()).encode()
        if Location.of(self.out).read_if_there(KEYS) != keys:
            Location.of(self.out).write(KEYS, keys)
        return self.at(KEYS)

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
