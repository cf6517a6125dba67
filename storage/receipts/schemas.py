"""The columns of receipts, manifests and plans; each says in its metadata what it holds."""

from typing import Required, TypedDict

import pyarrow as pa

pa.set_memory_pool(pa.system_memory_pool())  # its own one keeps memory for every thread that ever was

LATER = b"later"
"""In the metadata of a column: receipts of earlier versions lack it, and are as good without."""

SAMPLES = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False, metadata={"description": "the image's name in its source"}),
        pa.field("status", pa.string(), nullable=False, metadata={"description": "ok, failed or skipped"}),
        pa.field("reason", pa.string(), metadata={"description": "why it failed or was skipped"}),
        pa.field("output", pa.string(), metadata={"description": "file that holds the result"}),
        pa.field("output_bytes", pa.int64(), metadata={"description": "size of that file in bytes"}),
        pa.field("sha256", pa.string(), metadata={"description": "of that file"}),
        pa.field("sample", pa.string(), metadata={"description": "key within a shard"}),
        pa.field("source_bytes", pa.int64(), metadata={"description": "size of the source in bytes"}),
        pa.field("source_tag", pa.string(), metadata={"description": "what changes when the source does"}),
        pa.field("source_sha256", pa.string(), metadata={"description": "of the source's bytes", LATER: b""}),
        pa.field("options", pa.string(), metadata={"description": "fingerprint of the options it was made with"}),
        pa.field("width", pa.int32(), metadata={"description": "of the result, in pixels"}),
        pa.field("height", pa.int32(), metadata={"description": "of the result, in pixels"}),
        pa.field("seconds", pa.float64(), metadata={"description": "spent on this sample"}),
        pa.field("method", pa.string(), metadata={"description": "what made the result"}),
        pa.field("protocol", pa.string(), metadata={"description": "the downscaling the result stands on"}),
        pa.field("checkpoint", pa.string(), metadata={"description": "sha256 of the checkpoint"}),
    ]
)
"""One row a sample: the columns of receipts and of `manifest.parquet`."""


class SampleRow(TypedDict, total=False):
    """What is recorded of a sample, by the columns of the schemas here.

    version: of the output, as its store told the process that wrote it; it is compared, and in no table.
    """

    key: Required[str]
    status: Required[str]
    reason: str | None
    output: str | None
    output_bytes: int | None
    sha256: str | None
    sample: str | None
    source_bytes: int | None
    source_tag: str | None
    source_sha256: str | None
    options: str | None
    width: int | None
    height: int | None
    seconds: float | None
    method: str | None
    protocol: str | None
    checkpoint: str | None
    note: str | None
    read_seconds: float | None
    compute_seconds: float | None
    write_seconds: float | None
    mask: str | None
    mask_sha256: str | None
    seed: int | None
    start: str | None
    upscaler: str | None
    upscaler_checkpoint: str | None
    z: bytes | None
    z_shape: str | None
    author: str | None
    license: str | None
    license_url: str | None
    photo_url: str | None
    version: str | None


MADE_OF = ("source_bytes", "source_tag", "options")
"""The columns that say whether a row is still true."""

IMAGES = pa.schema(
    [
        *SAMPLES,
        pa.field("note", pa.string(), metadata={"description": "what of the image could not be kept"}),
        pa.field("read_seconds", pa.float64(), metadata={"description": "of these: reading and decoding"}),
        pa.field("compute_seconds", pa.float64(), metadata={"description": "of these: its share of its batch"}),
        pa.field("write_seconds", pa.float64(), metadata={"description": "of these: encoding and writing"}),
    ]
)
"""One row an image that was made of another."""

MASKED_IMAGES = pa.schema(
    [
        *IMAGES,
        pa.field("mask", pa.string(), metadata={"description": "name of the mask of its holes", LATER: b""}),
        pa.field("mask_sha256", pa.string(), metadata={"description": "of the mask's bytes", LATER: b""}),
    ]
)
"""One row an image that was made of another and of a mask."""

GENERATED = pa.schema(
    [
        *IMAGES,
        pa.field(
            "seed",
            pa.int64(),
            metadata={
                "description": "of the image: 62 bits of sha256(SEED/KEY); none of a mix or of an inverted image"
            },
        ),
        pa.field("start", pa.string(), metadata={"description": "image that it started from, or mix that it is"}),
        pa.field("upscaler", pa.string(), metadata={"description": "method that enlarged it"}),
        pa.field("upscaler_checkpoint", pa.string(), metadata={"description": "sha256 of that one's checkpoint"}),
    ]
)
"""One row an image that a model made of a seed."""

INVERTED = pa.schema(
    [
        *GENERATED,
        pa.field("z", pa.binary(), metadata={"description": "z of the image: little-endian float32"}),
        pa.field("z_shape", pa.string(), metadata={"description": "shape of z, such as 3,32,32"}),
    ]
)
"""One row an image whose z was found, and that was made of that z again."""

SAMPLES_OF_SHARDS = pa.schema(
    [
        *SAMPLES,
        pa.field("author", pa.string(), metadata={"description": "of the photograph, by FFHQ's metadata"}),
        pa.field("license", pa.string(), metadata={"description": "of the photograph"}),
        pa.field("license_url", pa.string(), metadata={"description": "where it stands"}),
        pa.field("photo_url", pa.string(), metadata={"description": "where the photograph was taken from"}),
    ]
)
"""One row a sample of a shard."""

PLAN = pa.schema(
    [
        pa.field("unit", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
    ]
)
"""One row a sample: the columns of `plan.parquet`."""
