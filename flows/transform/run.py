"""From a source to a target, image by image: what is planned, where results go, and the run over them.

A target is a folder, with a file an image; an archive, which is packed whole when all its images are made; or a
folder of WebDataset shards. Unit: about 256 images, or a shard. Proof: its receipt, written after the images.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from itertools import groupby
from typing import Any

import torch

from dtls.inference.method import Method
from flows.engine import run as fanout
from flows.engine.job import Job, Remaining, WorkerSpec
from flows.inputs.contents import Contents, contents_of, reason_of_refusal
from flows.inputs.selection import SelectionOptions, listed_keys, select
from flows.inputs.sources import SourceSpec, absolute, check_within, identity
from flows.inputs.unlisted import check_remaking, made_before
from flows.interface.console import tell
from flows.interface.text import counted
from flows.transform.estimate import tell_plan
from flows.transform.spec import ImageTransform, TransformSpec
from flows.transform.targets import check_folded, is_of_shards, pack, tell_of_names_alike
from storage.archives.source import Folder, Source, open_source
from storage.receipts.receipts import Receipts
from storage.receipts.schemas import IMAGES
from storage.receipts.units import Unit, cut_by_key
from storage.shards.choice import beside, extension
from storage.stores.folding import pairs_alike
from storage.stores.location import ChangedError, Entry, Location, StorageError

SHARD = re.compile(r"shard-[0-9a-f]{16}\.tar")


def transform(
    recipe: ImageTransform,
    source: str,
    target: str,
    options: SelectionOptions,
    method: Method | None = None,
    unit_size: int = 256,
) -> str:
    """Apply `recipe` to the chosen images of `source`; results lie at `target` under the same names.

    method: that of the recipe, where it is loaded already.
    """
    method = method or recipe.load()
    title, results = recipe.title, recipe.results
    where = open_source(source, options.names_encoding, follow_links=options.follow_links)
    packing = results.packing(target)
    to = packing.staging if packing else Location.of(target)
    check_within(Location.of(target), source)
    made_with = recipe.made_with(method)
    asked = listed_keys(options)
    listed = contents_of(where, options, asked)
    receipts = Receipts(
        to,
        title,
        IMAGES,
        source=identity(source),
        outputs=SHARD if results.in_shards else None,
        elsewhere=packing.sizes if packing is not None else dict,
        made_with=made_with,
        skipped=listed.skipped,
    )
    listed = replace(listed, images=receipts.settled(listed.images, where.fetch))
    images, absent = _chosen(listed, options, asked, receipts, made_with)
    before = made_before(listed, receipts) if options.takes_all else []
    images = sorted([*images, *before])
    if is_of_shards(where):
        _tell_of_masks(where, images)
    keys = sorted(entry.key for entry in (*listed.images, *before))
    chosen = keys if options.takes_all else sorted({*keys, *(entry.key for entry in images)})
    names = results.names.among(chosen)
    making = TransformSpec(
        recipe,
        SourceSpec.of(source, where, options.names_encoding, follow_links=options.follow_links),
        absolute(target),
        stamp=_stamp(method) if results.provenance else None,
        workers=options.workers,
    )
    mapping = making.transform(where, method, options.in_flight)
    units = [
        Unit.of(title, name, chunk, made_with, names.exceptions)
        for name, chunk in (
            *_cut(where, images, results.samples_per_shard, unit_size),
            *_named("refused", cut_by_key([e for e in absent if reason_of_refusal(e)], unit_size)),
            *_named("missing", cut_by_key([e for e in absent if not reason_of_refusal(e)], unit_size)),
        )
    ]
    outputs = [f"{unit.name}.tar" for unit in units] if results.in_shards else [names.of(e.key) for e in images]
    alike = pairs_alike(outputs)
    if packing is not None and alike:
        tell_of_names_alike(packing, alike)
    job = Job(
        title=f"{title} {where}",
        units=units,
        work=making.work(mapping),
        elsewhere=WorkerSpec(
            making,
            uses_gpu=method.uses_gpu,
            trial=making.into if results.in_shards else None,
        ),
        receipts=receipts,
        divisible=not results.in_shards,
        again=recipe.size_of.again,
        overwrite=options.overwrite,
        prepare=partial(check_folded, to, alike),
        finish=partial(pack, packing, receipts, units, names, options) if packing is not None else lambda: None,
        output=None if results.in_shards else names.of,
        target=str(packing) if packing is not None else None,
        also=[packing.location] if packing is not None else [],
    )
    check_remaking(job, options, listed, before)
    if not options.takes_all:
        _check_what_is_gone(job, options, {*listed.images, *absent})
    with _one_thread_each(method):
        if options.dry_run:
            return tell_plan(job, replace(mapping, names=names), options)
        return str(fanout.run(job, options))


def _tell_of_masks(source: Source, images: Iterable[Entry]) -> None:
    """Tell where samples have several images: all are taken, though a mask hardly is a photograph."""
    if others := beside(entry.key for entry in images):
        tell(
            f"{source}: {counted(len(others), 'image')} beside the image of the same sample, such as {others[0]}: "
            f"taken, too; --exclude '*.{extension(others[0])}' leaves them out"
        )


def _chosen(
    contents: Contents,
    options: SelectionOptions,
    asked: Mapping[str, int],
    receipts: Receipts,
    made_with: dict[str, Any],
) -> tuple[list[Entry], list[Entry]]:
    """The images that the run is about, and what stands for those that cannot be had.

    A choice adds to what was made before: that stays what it is, even where its source is another by now.
    """
    if options.takes_all:
        return contents.images, contents.refused
    chosen, absent = select(contents, options, asked)
    plan = {entry.key: entry for entry in chosen}
    taken = {*plan, *(entry.key for entry in absent)}
    listed = {*contents.images, *contents.refused}
    for entry, fits, is_ok in receipts.made(made_with):
        if entry.key in taken or not (is_ok or entry in listed):
            continue
        if not fits:
            raise StorageError(
                f"{receipts.target}: holds results that were made otherwise, such as that of {entry.key}, and a "
                "choice of images only adds to what is there; choose another target, or take all with --overwrite"
            )
        if entry.key not in plan or entry in listed:
            plan[entry.key] = entry
    absent += (entry for entry in plan.values() if reason_of_refusal(entry))
    return sorted(entry for entry in plan.values() if not reason_of_refusal(entry)), sorted(absent)


def _check_what_is_gone(job: Job, options: SelectionOptions, there: set[Entry]) -> None:
    """StorageError where a choice of images would have to make others anew whose sources are others by now."""
    gone = next((entry for entry in Remaining.of(job, options).samples if entry not in there), None)
    if gone is not None:
        raise StorageError(
            f"{job.address}: the result of {gone.key} would have to be made anew, as its place or its name is now "
            "another, and its source has changed or is gone; choose another target, or take all images"
        )


def _cut(
    source: Source, images: Sequence[Entry], samples_per_shard: int | None, unit_size: int
) -> Iterator[tuple[str, tuple[Entry, ...]]]:
    """The names and samples of the units; the shards of a source stay what they are."""
    if samples_per_shard is None:
        yield from _named("unit", cut_by_key(images, unit_size))
    elif is_of_shards(source):
        for shard, entries in groupby(images, lambda entry: _shard_of(source, entry.key)):
            yield shard, tuple(entries)
    else:
        yield from _named("shard", cut_by_key(images, samples_per_shard))  # as SHARD has it


def _shard_of(source: Folder, key: str) -> str:
    """The shard that an image is in; or was, where results of one that is gone stay."""
    try:
        return source.shard_of(key)
    except ChangedError:
        return key.rpartition("/")[0]


def _named(kind: str, chunks: Iterable[tuple[Entry, ...]]) -> Iterator[tuple[str, tuple[Entry, ...]]]:
    for chunk in chunks:
        yield f"{kind}-{hashlib.sha256(chunk[0].key.encode()).hexdigest()[:16]}", chunk


def _stamp(method: Method) -> str:
    """What made a result, for those who find it later; its day is SOURCE_DATE_EPOCH's, where that is set."""
    checkpoint = method.identity.get("checkpoint")
    parts = [
        f"dtls {version('dtls')}",
        f"method {method.name}",
        *([f"checkpoint sha256:{checkpoint}"] if checkpoint else []),
        time.strftime("%Y-%m-%d", time.gmtime(_now())),
    ]
    return "; ".join(parts)


def _now() -> float:
    told = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        return float(int(told)) if told else time.time()
    except ValueError as error:
        raise StorageError(f"SOURCE_DATE_EPOCH={told}: not a whole number of seconds; unset it") from error


@contextmanager
def _one_thread_each(method: Method) -> Iterator[None]:
    """Channelwise methods run in as many threads as read images: each then needs none of torch's own."""
    threads = torch.get_num_threads()
    if method.channelwise:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
