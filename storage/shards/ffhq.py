"""FFHQ as people have it: which image a name means, who took it, and on which side of the split it is.

`ffhq-dataset-v2.json` is one JSON object of 70,000 entries and 255 MB, most of it landmarks. It is read as a stream,
and of each entry only an `Origin` is kept.
"""

import hashlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Literal

import ijson

from storage.images import formats
from storage.stores.location import StorageError

Split = Literal["train", "validation"]
Events = Iterator[tuple[str, Any]]
"""What ijson tells of a file, one bracket, key or value at a time."""

IMAGES, TRAINING_IMAGES = 70_000, 60_000
"""The published split: so many of FFHQ's images are for training, the others for validation."""
MAX_BYTES, MAX_ENTRIES = 2**30, 1_000_000
"""Of a file of metadata, which is FFHQ's or one like it."""
CATEGORIES: dict[str | None, Split | None] = {"training": "train", "validation": "validation", None: None}
TEXTS = ("author", "license", "license_url", "photo_url")
NUMBER = re.compile("[0-9]{1,18}")
NESTING = {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an image comes from, as far as the metadata says."""

    author: str | None = None
    license: str | None = None
    license_url: str | None = None
    photo_url: str | None = None
    split: Split | None = None


def image_number(key: str) -> int | None:
    """The number that is an image's name: 42 for `images1024x1024/00000/00042.png`; None for other names."""
    return _number(PurePosixPath(key).stem)


def published(key: str) -> Split:
    """The side of FFHQ's own split: the first 60,000 images are for training."""
    number = image_number(key)
    if number is None or number >= IMAGES:
        raise StorageError(f"{key!r}: no name of FFHQ's, so not in its published split; split by hash instead")
    return "train" if number < TRAINING_IMAGES else "validation"


def by_hash(key: str, share: float) -> Split:
    """The side on which the hash of the key's stem falls, whatever other images there are.

    `share`, between 0 and 1, goes to validation. A greater share takes more, and gives none back.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of validation is between 0 and 1, not {share}")
    digest = hashlib.sha256(formats.stem(key).encode()).digest()
    return "validation" if int.from_bytes(digest[:8], "big") < share * 2**64 else "train"


def check_large(name: str, size: int) -> None:
    """StorageError for a file of so many bytes, called `name`, that is too large to be FFHQ's metadata."""
    if size > MAX_BYTES:
        raise StorageError(f"{name}: {size:,} bytes, and FFHQ's metadata have {MAX_BYTES:,} at most")


def read_metadata(file: BinaryIO, name: str) -> dict[int, Origin]:
    """The origins in an open `ffhq-dataset-v2.json`, by image number; errors call the file `name`."""
    origins: dict[int, Origin] = {}
    try:
        events: Events = ijson.basic_parse(file, use_float=True)
        for key in _keys(events, "the file"):
            number = _number(key)
            if number is None:
                raise _ShapeError(f"{key[:40]!r} is no image's number")
            if number in origins:
                raise _ShapeError(f"entry {number} is there twice")
            if len(origins) == MAX_ENTRIES:
                raise _ShapeError(f"more than {MAX_ENTRIES:,} entries")
            origins[number] = _origin(events, f"entry {number}")
        if not origins:
            raise _ShapeError("no entries")
        next(events, None)  # what follows the object is an error
    except _ShapeError as error:
        raise StorageError(f"{name}: not FFHQ's metadata: {error}") from error
    except (ijson.JSONError, ValueError) as error:
        raise StorageError(f"{name}: no JSON, or broken after {len(origins):,} entries; download it again") from error
    return origins


class _ShapeError(Exception):
    """JSON that is not what FFHQ's metadata looks like."""


def _number(text: str) -> int | None:
    return int(text) if NUMBER.fullmatch(text) else None


def _origin(events: Events, where: str) -> Origin:
    """Take one entry from the events."""
    category, texts = None, None
    for key in _keys(events, where):
        if key == "category":
            category = _text(events, f"{where}: category")
        elif key == "metadata":
            texts = _texts(events, f"{where}: metadata")
        else:
            _skip(events)
    if texts is None:
        raise _ShapeError(f"{where} has no metadata")
    if category not in CATEGORIES:
        raise _ShapeError(f"{where}: category is neither training nor validation")
    return Origin(**texts, split=CATEGORIES[category])


def _texts(events: Events, where: str) -> dict[str, str | None]:
    texts = {}
    for key in _keys(events, where):
        if key in TEXTS:
            texts[key] = _text(events, f"{where}: {key}")
        else:
            _skip(events)
    return texts


def _keys(events: Events, where: str) -> Iterator[str]:
    """The keys of the object that comes next; whoever asks takes each one's value from the events."""
    if next(events)[0] != "start_map":
        raise _ShapeError(f"{where} is no object")
    for event, key in events:
        if event == "end_map":
            return
        yield key


def _text(events: Events, where: str) -> str | None:
    """Take a text, one object for all its uses; None where it is null or empty."""
    event, value = next(events)
    if event == "null" or value == "":
        return None
    if event != "string":
        raise _ShapeError(f"{where} is no text")
    return sys.intern(value.encode(errors="replace").decode())  # half a surrogate pair fits in no file


def _skip(events: Events) -> None:
    """Take a value of any kind, however deep."""
    depth = 0
    for event, _ in events:
        depth += NESTING.get(event, 0)
        if not depth:
            return
