"""What a run from a source to a target is about: which images, in which units, under which names."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any, Self

from dtls.inference.method import Method
from flows.engine.job import Job, Remaining
from flows.inputs.contents import Contents, contents_of, reason_of_refusal
from flows.inputs.keys import Names
from flows.inputs.masks import Masks, hashes_of, made_of_both, with_masks
from flows.inputs.selection import SelectionOptions, listed_keys, select
from flows.inputs.sources import identity
from flows.inputs.unlisted import made_before
from flows.interface.console import log
from flows.interface.text import counted
from flows.transform.spec import ImageTransform
from flows.transform.targets import is_of_shards
from storage.archives.source import Folder, Source
from storage.archives.writer import Packing
from storage.receipts.receipts import Receipts
from storage.receipts.schemas import IMAGES, MASKED_IMAGES
from storage.receipts.units import Unit, cut_by_key
from storage.shards.choice import beside, extension
from storage.stores.location import ChangedError, Entry, Location, StorageError

SHARD = re.compile(r"shard-[0-9a-f]{16}\.tar")


@dataclass(frozen=True)
class Plan:
    """The images of a run, cut into units, and the names of their results.

    contents: all of the source. absent: what stands for images that cannot be had. before: the images below folders
    that could not be listed this time, whose results stay.
    """

    receipts: Receipts
    contents: Contents
    absent: list[Entry]
    before: list[Entry]
    names: Names
    units: list[Unit]
    outputs: list[str]

    @classmethod
    def of(
        cls,
        recipe: ImageTransform,
        method: Method,
        source: Source,
        address: str,
        packing: Packing | None,
        target: Location,
        options: SelectionOptions,
        unit_size: int,
        masks: Masks | None = None,
    ) -> Self:
        """The plan of a run from the source at `address`; StorageError where its choice of images cannot be made."""
        title, results, made_with = recipe.title, recipe.results, recipe.made_with(method)
        listed_in_file = listed_keys(options)
        contents = contents_of(source, options, listed_in_file)
        receipts = Receipts(
            target,
            title,
            IMAGES if masks is None else MASKED_IMAGES,
            source=identity(address),
            outputs=SHARD if results.in_shards else None,
            elsewhere=packing.sizes if packing is not None else dict,
            made_with=made_with,
            skipped=contents.skipped,
        )
        contents = replace(contents, images=_settled(contents.images, source, masks, receipts))
        images, absent = _chosen(contents, options, listed_in_file, receipts, made_with)
        before = made_before(contents, receipts) if options.takes_all else []
        images = sorted([*images, *before])
        if is_of_shards(source):
            _log_masks(source, images)
        keys = {entry.key for entry in (*contents.images, *before)}
        names = results.names.among(sorted(keys if options.takes_all else keys | {entry.key for entry in images}))
        chunks = (
            *_cut(source, images, results.samples_per_shard, unit_size),
            *named("refused", cut_by_key([entry for entry in absent if reason_of_refusal(entry)], unit_size)),
            *named("missing", cut_by_key([entry for entry in absent if not reason_of_refusal(entry)], unit_size)),
        )
        units = [Unit.of(title, name, chunk, made_with, names.exceptions) for name, chunk in chunks]
        outputs = [f"{unit.name}.tar" for unit in units] if results.in_shards else [names.of(e.key) for e in images]
        return cls(receipts, contents, absent, before, names, units, outputs)


def _settled(images: list[Entry], source: Source, masks: Masks | None, receipts: Receipts) -> list[Entry]:
    """The images, with their masks if they have some, and with other tags for what was changed unnoticed."""
    if masks is None:
        return receipts.settled(images, source.fetch)
    masks.log_unused(images)
    return receipts.settled(with_masks(images, masks), partial(hashes_of, source, masks), made_of_both)


def check_sources(job: Job, options: SelectionOptions, there: set[Entry]) -> None:
    """StorageError where a choice of images would have to make results again whose sources have changed."""
    gone = next((entry for entry in Remaining.of(job, options).samples if entry not in there), None)
    if gone is not None:
        raise StorageError(
            f"{job.address}: the result of {gone.key} would have to be made again, as its place or its name is now "
            "another, and its source has changed or is gone; choose another target, or take all images"
        )


def _chosen(
    contents: Contents,
    options: SelectionOptions,
    listed_in_file: Mapping[str, int],
    receipts: Receipts,
    made_with: dict[str, Any],
) -> tuple[list[Entry], list[Entry]]:
    """The images that the run is about, and what stands for those that cannot be had.

    A choice adds to what was made before: that stays what it is, even where its source is another by now.
    """
    if options.takes_all:
        return contents.images, contents.refused
    chosen, absent = select(contents, options, listed_in_file)
    plan = {entry.key: entry for entry in chosen}
    taken = {*plan, *(entry.key for entry in absent)}
    listed = {entry: entry for entry in (*contents.images, *contents.refused)}
    for entry, fits, is_ok in receipts.made(made_with):
        if entry.key in taken or not (is_ok or entry in listed):
            continue
        if not fits:
            raise StorageError(
                f"{receipts.target}: holds results that were made otherwise, such as that of {entry.key}, and a "
                "choice of images only adds to what is there; choose another target, or take all with --overwrite"
            )
        if entry.key not in plan or entry in listed:
            plan[entry.key] = listed.get(entry, entry)  # as listed it has its mask
    absent += (entry for entry in plan.values() if reason_of_refusal(entry))
    return sorted(entry for entry in plan.values() if not reason_of_refusal(entry)), sorted(absent)


def _cut(
    source: Source, images: Sequence[Entry], samples_per_shard: int | None, unit_size: int
) -> Iterator[tuple[str, tuple[Entry, ...]]]:
    """The names and samples of the units; the shards of a source stay what they are."""
    if samples_per_shard is None:
        yield from named("unit", cut_by_key(images, unit_size))
    elif is_of_shards(source):
        for shard, entries in groupby(images, lambda entry: _shard_of(source, entry.key)):
            yield shard, tuple(entries)
    else:
        yield from named("shard", cut_by_key(images, samples_per_shard))  # as SHARD has it


def _shard_of(source: Folder, key: str) -> str:
    """The shard that an image is in; or was, where results of one that is gone stay."""
    try:
        return source.shard_of(key)
    except ChangedError:
        return key.rpartition("/")[0]


def named(kind: str, chunks: Iterable[tuple[Entry, ...]]) -> Iterator[tuple[str, tuple[Entry, ...]]]:
    """Cuts with the names of their units, which follow from their first keys."""
    for chunk in chunks:
        yield f"{kind}-{hashlib.sha256(chunk[0].key.encode()).hexdigest()[:16]}", chunk


def _log_masks(source: Source, images: Iterable[Entry]) -> None:
    """Log where samples have several images: all are taken, though a mask hardly is a photograph."""
    if others := beside(entry.key for entry in images):
        log(
            f"{source}: {counted(len(others), 'image')} beside the image of the same sample, such as {others[0]}: "
            f"taken, too; --exclude '*.{extension(others[0])}' leaves them out"
        )
