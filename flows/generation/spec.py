"""What makes the samples of a run, so written down that any process can make it: names and numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from flows.engine.job import Work
from flows.generation.loading import GeneratorSpec
from flows.generation.making import Enlarging, Generation
from flows.generation.origins import Origin
from flows.inputs.methods import MethodSpec
from flows.inputs.sources import SourceSpec
from flows.interface.console import Advance
from flows.transform.memory import keep_little
from flows.transform.spec import Results
from flows.transform.targets import shard_of, to_files
from storage.archives.source import Source
from storage.receipts.units import Row, Unit, fingerprint_of
from storage.stores.location import Entry, Location, StorageError

if TYPE_CHECKING:
    from dtls.inference.generation import Generator

TITLE = "generate"


@dataclass(frozen=True)
class GenerationSpec:
    """The model, what enlarges its images to `size`, what samples come of, and where their images go.

    seed: the run's. source: of the images that samples start from, if they do. target: its absolute address.
    """

    load: GeneratorSpec
    upscaler: MethodSpec | None
    size: int | None
    origin: Origin
    source: SourceSpec | None
    seed: int
    results: Results
    target: str
    workers: int

    def __call__(self, _: int) -> Work:
        """What does a unit in this process."""
        source = self.source.open() if self.source is not None else None
        return self.work(self.generation(self.load(), self.enlarging(self.upscaler), source))

    def into(self, folder: str) -> "GenerationSpec":
        """The same, its results in another folder."""
        return replace(self, target=folder)

    def enlarging(self, upscaler: MethodSpec | None) -> Enlarging | None:
        """What enlarges images, if they are enlarged; upscaler: how that is loaded here."""
        return Enlarging(upscaler(), self.size) if upscaler is not None and self.size is not None else None

    def generation(self, generator: "Generator", enlarging: Enlarging | None, source: Source | None) -> Generation:
        """What makes each sample, with models that are loaded."""
        keep_little()
        return Generation(
            generator,
            enlarging,
            self.origin,
            source,
            self.seed,
            self.results.names,
            self.results.encoding,
            self.results.provenance,
            self.workers,
        )

    def made_with(self, generation: Generation) -> dict[str, Any]:
        """All that results depend on but their keys, as plain JSON values."""
        return {
            **generation.generator.identity,
            **(generation.enlarging.identity if generation.enlarging is not None else {}),
            **self.origin.identity,
            "seed": self.seed,
            **self.results.encoding.identity,
            "suffix": self.results.suffix,
            "provenance": self.results.provenance,
            "samples_per_shard": self.results.samples_per_shard,
        }

    @property
    def folder(self) -> Location:
        """Where results are written; those of an archive wait there to be packed."""
        packing = self.results.packing(self.target)
        return packing.staging if packing is not None else Location.of(self.target)

    def work(self, generation: Generation) -> Work:
        """What does a unit; StorageError where its results would not be those that were planned."""
        folder = self.folder
        options = fingerprint_of(TITLE, self.made_with(generation))

        def work(unit: Unit, samples: Sequence[Entry], advance: Advance) -> list[Row]:
            if unit.options != options:
                raise StorageError(
                    "planned with another version of dtls, or the model changed meanwhile; run it again"
                )
            names = replace(generation.names, exceptions=unit.names)
            here = replace(generation, names=names, refused=unit.refused, look=partial(advance, 0))
            if not self.results.in_shards:
                return to_files(here, folder, unit, samples, advance)
            keys = {entry.key: entry.key for entry in samples}
            return shard_of(here, folder, unit, samples, advance, keys, facts)

        return work


def facts(row: Row) -> dict[str, object]:
    """What the JSON of a sample in a shard says besides its key and size."""
    return {"synthetic": True, "seed": row["seed"]}
