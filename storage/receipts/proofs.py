"""Whether files are the ones that were written: by their size and bytes, or by what their store says of these."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from storage.receipts.units import Row
from storage.stores.errors import translating_errors
from storage.stores.location import Location

VERSION = "version"
"""In rows that come from another process: the tag of the output there, where tags stand for bytes."""


def note_versions(target: Location, rows: Sequence[Row]) -> None:
    """Add to rows what the store says of their outputs, for `unlike` to compare in another process."""
    outputs = _outputs(rows)
    found = target.versions([*outputs]) if outputs else None
    for row in outputs.values():
        if found and row["output"] in found:
            row[VERSION] = found[row["output"]].etag


def unlike(target: Location, rows: Sequence[Row]) -> str | None:
    """The first output that is not there as its row says, as seen from this process; None where all are.

    On S3 sizes and tags are compared, by a request or two for neighbours; elsewhere each file is read and hashed.
    """
    outputs = _outputs(rows)
    if not outputs:
        return None
    found = target.versions([*outputs])
    for output, row in outputs.items():
        if found is None:
            is_like = _proof(target, output) == (row["output_bytes"], row["sha256"])
        else:
            entry = found.get(output)
            is_like = entry is not None and (entry.size, entry.etag) == (row["output_bytes"], row.get(VERSION))
        if not is_like:
            return output
    return None


def sha256_of(path: Path) -> str:
    """The hash of a file of this machine, read in pieces."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _outputs(rows: Sequence[Row]) -> dict[str, Row]:
    """By output, a row that tells of it."""
    return {row["output"]: row for row in rows if row["status"] == "ok" and row.get("output") is not None}


def _proof(target: Location, key: str) -> tuple[int, str] | None:
    """The size and the hash of a file as it is now; None where there is none.

    It is opened first: network disks may remember for a minute what they knew of a name, but not of what is opened.
    """
    if target.local is None and not target.exists(key):
        return None
    with translating_errors(target.address(key)):
        try:
            with target.as_file(key) as path, path.open("rb") as file:
                return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
