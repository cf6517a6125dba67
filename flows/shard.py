"""`dtls/shard`: a folder of pictures becomes WebDataset shards and a manifest.

Unit: the pictures of one shard. Proof: its receipt under `TARGET/.dtls/receipts`, written after the tar.
"""

from prefect import flow
from pydantic import Field

from flows import fanout
from flows.options import Address, BatchOptions
from flows.sources import list_pictures
from storage.locations import Location
from storage.receipts import Receipts, Unit, cut_evenly
from storage.shards import shard_name, write_shard


class ShardOptions(BatchOptions):
    """What to shard, and how."""

    source: Address = Field(description="folder or URL of the pictures, such as FFHQ's images1024x1024")
    target: Address = Field(description="folder or URL for the shards")
    size: int | None = Field(
        None, ge=8, le=8192, description="crop to the centre square and reduce it to this many pixels; else copy"
    )
    samples_per_shard: int = Field(1000, ge=1, le=1_000_000, description="pictures in one tar")


@flow(name="dtls", flow_run_name="shard {options.source}")
def shard(options: ShardOptions) -> str:
    """Shard a folder of pictures into WebDataset tars."""
    source, target = Location.of(options.source), Location.of(options.target)
    chunks = list(cut_evenly(list_pictures(source), options.samples_per_shard))
    first = {shard_name(index): index * options.samples_per_shard for index in range(len(chunks))}
    units = [
        Unit.of("shard", name, chunk, {"size": options.size, "first": first[name]})
        for name, chunk in zip(first, chunks, strict=True)
    ]
    job = fanout.Job(
        title=f"shard {source}",
        units=units,
        work=lambda unit, _, advance: write_shard(
            source, target, unit, first[unit.name], options.size, options.workers, advance
        ),
        receipts=Receipts(target, "shard"),
        divisible=False,
        prune=True,
    )
    return str(fanout.run(job, options))
