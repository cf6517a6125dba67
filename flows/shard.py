"""`dtls/shard`: a folder of images becomes WebDataset shards and a manifest.

Unit: the images of one shard. Proof: its receipt under `TARGET/.dtls/receipts`, written after the tar.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from flows.engine import run as fanout
from flows.engine.flow import flow
from flows.engine.job import Job, WorkerSpec
from flows.engine.options import MakingOptions
from flows.inputs.contents import Contents, contents_of
from flows.inputs.options import SourceOptions
from flows.inputs.sources import SourceSpec, absolute, check_within, file_at, identity
from flows.inputs.unlisted import check_remaking, made_before
from flows.interface.console import log
from flows.interface.options import RESULTS, RUNNING, WHAT, Address, Panels
from flows.transform.sharding import METADATA, REFUSED, Found, ShardSpec
from storage.archives.source import open_source
from storage.receipts.receipts import Receipts
from storage.receipts.schemas import SAMPLES_OF_SHARDS
from storage.receipts.units import Unit, cut_evenly
from storage.shards.ffhq import Split, by_hash, published
from storage.shards.write import SHARD, copies, shard_name
from storage.stores.location import Entry, Location, StorageError, UnavailableError


class ShardOptions(SourceOptions, MakingOptions):
    """What to shard, and how."""

    panel = RESULTS
    panels: ClassVar[Panels] = {
        WHAT: "source target metadata",
        RUNNING: "check",
    }

    source: Address = Field(description="folder, zip, tar or URL of the images, such as FFHQ's images1024x1024")
    target: Address = Field(description="folder or URL for the shards")
    size: int | None = Field(
        None,
        ge=8,
        le=8192,
        description="crop each image to its centre square and reduce that to this many pixels, like 128; without "
        "it, copy files",
    )
    samples_per_shard: int = Field(1000, ge=1, le=1_000_000, description="images in each tar, like 1000")
    split: Literal["none", "published", "hash"] = Field(
        "none",
        description="separate shards for training and validation: published takes FFHQ's first 60,000 images for "
        "training, hash decides by a hash of the key",
    )
    validation_share: float = Field(
        0.1, gt=0, lt=1, description="share of the images that a split by hash puts into validation, like 0.1"
    )
    metadata: Address | None = Field(
        None, description=f"FFHQ's {METADATA}, for authors and licences; by default the one in the source, if any"
    )
    check: bool = Field(
        False, description="decode each image before it is copied, to find damage within it; takes many times as long"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.split != "hash" and self.validation_share != type(self).model_fields["validation_share"].default:
            raise ValueError("--validation-share goes with --split hash")
        return self


@flow("shard {options.source}")
def shard(options: ShardOptions) -> str:
    """Shard a folder of images into WebDataset tars."""
    source = open_source(options.source, options.names_encoding, follow_links=options.follow_links)
    target = Location.of(options.target)
    check_within(target, options.source)
    contents = contents_of(source, options)
    metadata = _find_metadata(options)
    receipts = Receipts(
        target,
        "shard",
        SAMPLES_OF_SHARDS,
        source=identity(options.source),
        outputs=SHARD,
        made_with=_made_with(options),
        skipped=contents.skipped,
    )
    before = made_before(contents, receipts)
    contents = replace(contents, images=sorted([*contents.images, *before]))
    spec = ShardSpec(
        SourceSpec.of(options.source, source, options.names_encoding, follow_links=options.follow_links),
        absolute(options.target),
        metadata,
        options.size,
        options.check,
        options.samples_per_shard,
        options.workers,
    )
    origins = cache(spec.origins)
    made_of = [copies(target)] if options.size is None else []
    contents = replace(contents, images=receipts.settled(contents.images, source.fetch, *made_of))
    job = Job(
        title=f"shard {source}",
        units=plan(contents, options, metadata),
        work=spec.work(source, origins),
        worker_spec=WorkerSpec(spec, uses_gpu=False, trial=spec.into),
        receipts=receipts,
        divisible=False,
        overwrite=options.overwrite,
        prepare=origins,
    )
    check_remaking(job, options, contents, before)
    return str(fanout.run(job, options))


def plan(contents: Contents, options: ShardOptions, metadata: Found | None = None) -> list[Unit]:
    """The units of a run, one a shard, and one for what is refused."""
    made_with: dict[str, object] = {"size": options.size}
    if options.check and options.size is None:
        made_with["check"] = True
    if metadata is not None:
        made_with["metadata"] = [metadata.entry.size, metadata.entry.etag]
    units: list[Unit] = []
    for split, part in _parts(contents.images, options).items():
        for index, chunk in enumerate(cut_evenly(part, options.samples_per_shard)):
            name = shard_name(index, split)
            units.append(Unit.of("shard", name, chunk, {**made_with, "first": index * options.samples_per_shard}))
    if contents.refused:
        units.append(Unit.of("shard", REFUSED, contents.refused, made_with))
    return units


def _made_with(options: ShardOptions) -> dict[str, object]:
    """The options that shards depend on, for those who would replace them by others."""
    fixed = options.model_dump(include={"size", "check", "samples_per_shard", "split"})
    return fixed | ({"validation_share": options.validation_share} if options.split == "hash" else {})


def _parts(images: Sequence[Entry], options: ShardOptions) -> dict[str, Sequence[Entry]]:
    """The images by the first part of their shards' names."""
    if options.split == "none":
        return {"shard": images}
    parts: dict[str, list[Entry]] = {split: [] for split in get_args(Split)}
    for image in images:
        key = image.key
        parts[published(key) if options.split == "published" else by_hash(key, options.validation_share)].append(
            image
        )
    return dict(parts)


def _find_metadata(options: ShardOptions) -> Found | None:
    """The metadata that the options name, else that in the source's folder, or in the one around it."""
    if options.metadata is not None:
        place, name = file_at(options.metadata, f"the address of {METADATA}")
        return Found(absolute(str(place)), place.info(name))
    source = Location.of(options.source)
    for place in filter(None, (source, source.parent)):
        try:
            found = Found(absolute(str(place)), place.info(METADATA))
        except UnavailableError:
            raise
        except StorageError:  # not there, or not for us to see
            continue
        log(f"{place.address(METADATA)}: authors and licences are taken from there")
        return found
    return None
