"""What turns the images of a source into results, so written down that any process can make it: names and numbers.

The process that plans a run makes it for its own threads; with other runners, each process that works makes it once
and keeps it for the run, the model loaded. Prefect imports the files of deployments under names of its own, so what
other processes are to read stands here, and not in these.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import torch

from dtls.inference.method import Method
from flows.engine.job import Work
from flows.inputs.keys import Names
from flows.inputs.sources import SourceSpec
from flows.interface.console import Advance
from flows.transform.holes import MaskReader
from flows.transform.memory import bytes_at_once, keep_little
from flows.transform.options import MethodOptions
from flows.transform.pipeline import Transform
from flows.transform.sizes import Sizing
from flows.transform.targets import to_files, to_shard
from storage.archives.source import Source
from storage.archives.writer import Packing, is_archive
from storage.images.encode import Encoding
from storage.receipts.units import Row, Unit, fingerprint_of
from storage.stores.location import Entry, Location, StorageError

THREADS = torch.get_num_threads()


class Loader(Protocol):
    """Loads a method, in whatever process."""

    def __call__(self) -> Method: ...


@dataclass(frozen=True)
class Results:
    """What results are like: how they are written and named, what they record of themselves, and if in shards."""

    encoding: Encoding = field(default_factory=Encoding)
    suffix: str = ""
    provenance: bool = False
    samples_per_shard: int | None = None

    @classmethod
    def of(cls, options: MethodOptions) -> Self:
        """As options say."""
        encoding = Encoding(options.format, options.quality)
        return cls(encoding, options.suffix, options.provenance, options.samples_per_shard)

    @property
    def in_shards(self) -> bool:
        return self.samples_per_shard is not None

    @property
    def names(self) -> Names:
        """What results are called."""
        return Names(self.encoding.suffix, self.suffix)

    def packing(self, target: str) -> Packing | None:
        """The archive that a target is; StorageError for shards in one."""
        if not is_archive(target):
            return None
        if self.in_shards:
            raise StorageError(f"{target}: shards go into a folder, not into an archive; name a folder")
        return Packing(target)


@dataclass(frozen=True)
class ImageTransform:
    """How images become results. load: the method. masks: the absolute address of the images' masks, if any."""

    title: str
    load: Loader
    size_of: Sizing
    results: Results = field(default_factory=Results)
    batch_size: int = 16
    masks: str | None = None

    def made_with(self, method: Method) -> dict[str, Any]:
        """All that results depend on but their sources, as plain JSON values."""
        return {
            **method.identity,
            **self.size_of.identity,
            **self.results.encoding.identity,
            "suffix": self.results.suffix,
            "provenance": self.results.provenance,
            "samples_per_shard": self.results.samples_per_shard,
            **({"masks": self.masks} if self.masks is not None else {}),
        }


@dataclass(frozen=True)
class TransformSpec:
    """A recipe with its source, masks and target. stamp: what made a result, in words."""

    recipe: ImageTransform
    source: SourceSpec
    target: str
    stamp: str | None
    workers: int
    masks: SourceSpec | None = None

    def __call__(self, at_once: int) -> Work:
        """What does a unit in this process, where `at_once` units share the memory."""
        method = self.recipe.load()
        torch.set_num_threads(1 if method.channelwise else THREADS)
        masks = self.masks.open() if self.masks is not None else None
        return self.work(self.transform(self.source.open(), masks, method, at_once))

    def into(self, folder: str) -> "TransformSpec":
        """The same, its results in another folder."""
        return replace(self, target=folder)

    def transform(self, source: Source, masks: Source | None, method: Method, at_once: int) -> Transform:
        """What makes each result, under the names that results have where no two sources would have the same."""
        recipe, results = self.recipe, self.recipe.results
        if method.is_learned:
            keep_little()
        return Transform(
            source=source,
            method=method,
            size_of=recipe.size_of,
            part_of=recipe.size_of.part,
            stays=recipe.size_of.stays,
            names=results.names,
            check_name=_check_of(results.packing(self.target), self.folder, in_shards=results.in_shards),
            encoding=results.encoding,
            stamp=self.stamp,
            batch_size=recipe.batch_size,
            workers=self.workers,
            bytes_at_once=bytes_at_once(at_once),
            masks=MaskReader(masks) if masks is not None else None,
        )

    @property
    def folder(self) -> Location:
        """Where results are written; those of an archive wait there to be packed."""
        packing = self.recipe.results.packing(self.target)
        return packing.staging if packing is not None else Location.of(self.target)

    def work(self, transform: Transform) -> Work:
        """What does a unit; StorageError where its results would not be those that were planned."""
        folder, put = self.folder, to_shard if self.recipe.results.in_shards else to_files
        options = fingerprint_of(self.recipe.title, self.recipe.made_with(transform.method))

        def work(unit: Unit, samples: Sequence[Entry], advance: Advance) -> list[Row]:
            if unit.options != options:
                raise StorageError(
                    "planned with another version of dtls, or the model changed meanwhile; run it again"
                )
            names = replace(transform.names, exceptions=unit.names)
            return put(replace(transform, names=names, refused=unit.refused), folder, unit, samples, advance)

        return work


def _check_of(packing: Packing | None, to: Location, *, in_shards: bool) -> Callable[[str], object]:
    """What raises a StorageError for a name that no result can have; in shards they have names of their own."""
    if in_shards:
        return lambda _: None
    return to.path if packing is None else packing.check_name
