"""Files that a run writes about its results, such as the table of all rows: whether they are still as it left them.

The next run asks, as it would else take a table for whole that was cut, damaged or removed. It costs no reading as
long as size and tag are as they were.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from storage.receipts.proofs import sha256_of
from storage.stores.entry import STATE
from storage.stores.location import ChangedError, Entry, Location, StorageError

SEALS = f"{STATE}/seals.json"
"""Of the table of all rows, and of what is kept beside it."""
PUBLISHED = f"{STATE}/published.json"
"""Of the files of a report."""
FIELD = "seals"
MAX = 2**26
"""Bytes of a file of seals."""


@dataclass(frozen=True)
class Seal:
    """What a file was when it was written: its size in bytes, its hash, and the tag that its store gave it."""

    size: int
    sha256: str
    tag: str = ""

    @classmethod
    def of(cls, data: bytes) -> Self:
        return cls(len(data), hashlib.sha256(data).hexdigest())

    @classmethod
    def of_file(cls, path: Path) -> Self:
        return cls(path.stat().st_size, sha256_of(path))


def tagged(seals: Mapping[str, Seal], entries: Iterable[Entry]) -> dict[str, Any]:
    """Seals as JSON has them, with the tags of a listing, without which each question reads the file."""
    tags = {entry.key: entry.etag for entry in entries if entry.key in seals}
    return {key: asdict(replace(seal, tag=tags.get(key, ""))) for key, seal in seals.items()}


def seals_in(target: Location, entry: Entry | None) -> dict[str, Seal]:
    """The seals that a file of the target holds, as it was listed; none where it is missing, damaged, or another."""
    if entry is None or entry.size > MAX:
        return {}
    try:
        return seals_of(json.loads(target.fetch(entry)))
    except (ValueError, RecursionError, ChangedError):
        return {}


def seals_of(content: Any) -> dict[str, Seal]:
    """The seals in what JSON has; none where it has no such thing."""
    try:
        found = {name: Seal(**seal) for name, seal in content[FIELD].items()}
    except (TypeError, KeyError, AttributeError):
        return {}
    return found if all(isinstance(seal.size, int) for seal in found.values()) else {}


def broken(
    target: Location, seals: Mapping[str, Seal], entries: Mapping[str, Entry], *, deep: bool = False
) -> list[str]:
    """Those of the sealed files that are not as they were, by the target's listing; deep: each of them is read."""
    return [key for key, seal in seals.items() if not _is_whole(target, seal, entries.get(key), deep=deep)]


def _is_whole(target: Location, seal: Seal, entry: Entry | None, *, deep: bool) -> bool:
    if entry is None or entry.size != seal.size:
        return False
    if entry.etag == seal.tag and seal.tag and not deep:
        return True
    try:
        with target.as_file(entry.key) as path:
            return sha256_of(path) == seal.sha256
    except (StorageError, FileNotFoundError):
        return False
