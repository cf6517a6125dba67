"""The Parquet tables of a report on generated images: the features of all images, and the nearest of each sample."""

import pyarrow as pa

SETS_VERSION = 1
"""Goes up when a column changes its meaning or goes, or features are computed in another way."""


def _field(name: str, kind: pa.DataType, description: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"description": description})


FEATURES = pa.schema(
    [
        _field("key", pa.string(), "SET/KEY: the set's name, and the image's name within its source", nullable=False),
        _field("status", pa.string(), "ok or failed", nullable=False),
        _field("error", pa.string(), "why it failed"),
        _field("width", pa.int32(), "of the image, in pixels"),
        _field("height", pa.int32(), "of the image, in pixels"),
        _field("pixels", pa.string(), "sha256 of the image's size and its 8-bit RGB pixels: equal for copies"),
        _field("features", pa.binary(), "float32 numbers, in the byte order of x86"),
        _field("probabilities", pa.binary(), "of the classes, float32, in their order; with --classifier"),
    ],
    metadata={"dtls.table": "features", "dtls.version": str(SETS_VERSION)},
)
"""`features.parquet`: one row an image of any set."""

SAMPLES = pa.schema(
    [
        _field("set", pa.string(), "name of the set that the sample is of", nullable=False),
        _field("key", pa.string(), "the sample's name within its source", nullable=False),
        _field(
            "nearest", pa.string(), "name of the training image whose features are nearest; real where none given"
        ),
        _field("distance", pa.float64(), "Euclidean distance of the features of the two; 0 for a copy"),
        _field("is_near", pa.bool_(), "nearer than 99 % of the real images are to a training image"),
        _field("is_copy", pa.bool_(), "every pixel is that of the training image"),
        _field("class", pa.string(), "the most probable class; with --classifier"),
        _field("class_probability", pa.float64(), "what the classifier gives that class"),
    ],
    metadata={"dtls.table": "samples", "dtls.version": str(SETS_VERSION)},
)
"""`samples.parquet`: one row a sample of a generated set."""
