"""Which samples a run makes, in which units; a target only grows, so that a smaller count leaves what is there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from flows.generation.seeds import key_of, seeded, started_from
from flows.generation.spec import TITLE, GenerationSpec
from flows.inputs.contents import contents_of
from flows.inputs.keys import Names
from flows.inputs.sources import identity
from flows.interface.console import log
from flows.interface.text import counted
from flows.transform.plan import named
from storage.archives.source import Source
from storage.archives.writer import Packing
from storage.receipts.receipts import Receipts
from storage.receipts.schemas import GENERATED, INVERTED
from storage.receipts.units import Unit, cut_by_key, cut_evenly
from storage.shards.write import SHARD, shard_name
from storage.stores.location import Entry, StorageError

SEEDS = "seeds"
"""What a target says its images are made of, which come of no files."""
DEFAULT_COUNT = 1000


@dataclass(frozen=True)
class Plan:
    """The samples of a run, cut into units, and the names of their images."""

    receipts: Receipts
    names: Names
    units: list[Unit]

    @classmethod
    def of_numbers(
        cls,
        spec: GenerationSpec,
        made_with: dict[str, Any],
        packing: Packing | None,
        count: int | None,
        unit_size: int,
        source: Source | None = None,
        *,
        overwrite: bool = False,
    ) -> Self:
        """So many samples by their numbers; with a source, each starts from one of its images.

        count: by default 1,000, or one for each image. StorageError where it would leave results of other options.
        """
        images = _images_in(source) if source is not None else []
        count = count or len(images) or DEFAULT_COUNT
        address = spec.source.address if spec.source is not None else None
        receipts = _receipts(spec, packing, made_with, identity(address) if address else SEEDS)
        count = _at_least(count, receipts, made_with, overwrite=overwrite)
        samples = started_from(images, spec.seed, count) if images else seeded(spec.seed, count)
        return cls._of(spec, receipts, made_with, list(_ranges(samples, spec.results.samples_per_shard, unit_size)))

    @classmethod
    def of_mix(cls, spec: GenerationSpec, made_with: dict[str, Any], ends: tuple[str, str], steps: int) -> Self:
        """The steps of a mix, in one unit."""
        receipts = _receipts(spec, None, made_with, f"{steps} steps from {ends[0]} to {ends[1]}")
        return cls._of(spec, receipts, made_with, list(_ranges(seeded(spec.seed, steps), None, steps)))

    @classmethod
    def of_images(
        cls,
        spec: GenerationSpec,
        made_with: dict[str, Any],
        packing: Packing | None,
        unit_size: int,
        source: Source,
        address: str,
    ) -> Self:
        """A sample for each image of a source, under its name."""
        receipts = _receipts(spec, packing, made_with, identity(address), is_inverted=True)
        contents = contents_of(source)
        images = sorted((*receipts.settled(contents.images, source.fetch), *contents.refused))
        samples = [Entry(image.key, image.size, image.etag, image.changed, (image,)) for image in images]
        return cls._of(spec, receipts, made_with, list(named("unit", cut_by_key(samples, unit_size))))

    @classmethod
    def _of(
        cls,
        spec: GenerationSpec,
        receipts: Receipts,
        made_with: dict[str, Any],
        chunks: Sequence[tuple[str, tuple[Entry, ...]]],
    ) -> Self:
        names = spec.results.names.among([sample.key for _, samples in chunks for sample in samples])
        units = [Unit.of(TITLE, name, samples, made_with, names.exceptions) for name, samples in chunks]
        return cls(receipts, names, units)


def _receipts(
    spec: GenerationSpec,
    packing: Packing | None,
    made_with: dict[str, Any],
    source: str,
    *,
    is_inverted: bool = False,
) -> Receipts:
    return Receipts(
        spec.folder,
        TITLE,
        INVERTED if is_inverted else GENERATED,
        source=source,
        outputs=SHARD if spec.results.in_shards else None,
        elsewhere=packing.sizes if packing is not None else dict,
        made_with=made_with,
    )


def _images_in(source: Source) -> list[Entry]:
    """The images of a source that can be read; StorageError where there are none."""
    found = contents_of(source)
    if not found.images:
        raise StorageError(f"{source}: no images there that can be read")
    return found.images


def _at_least(count: int, receipts: Receipts, made_with: dict[str, Any], *, overwrite: bool) -> int:
    """The count, or that of the target where it has more; StorageError where these would be replaced in part."""
    most = count
    for entry, fits, _ in receipts.made(made_with):
        if not entry.key.isdecimal() or int(entry.key) < count:
            continue
        if fits:
            most = max(most, int(entry.key) + 1)
        elif overwrite:
            raise StorageError(
                f"{receipts.target}: holds more than {count:,} images, made with other options, and a set is of one "
                "kind: raise --count to what is there, or choose another target"
            )
    if most > count:
        log(f"{receipts.target}: has {counted(most, 'image')}, which stay; --count {count} adds none")
    return most


def _ranges(
    samples: Sequence[Entry], samples_per_shard: int | None, unit_size: int
) -> Iterator[tuple[str, tuple[Entry, ...]]]:
    """The names and samples of the units, which stay what they are when more samples come behind them."""
    size = samples_per_shard or unit_size
    for index, chunk in enumerate(cut_evenly(samples, size)):
        yield shard_name(index) if samples_per_shard else f"seeds-{key_of(index * size)}", chunk
