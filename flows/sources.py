"""The pictures of a source: a folder or prefix, a zip, a tar, or shards; listed once, checked before any work."""

import glob
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Self

import pyarrow as pa

from flows.console import tell
from flows.summary import counted
from storage import images
from storage.archives import Folder, Source, open_source
from storage.entries import is_hidden
from storage.locations import Entry, Location, StorageError
from storage.packing import Packing, is_archive
from storage.receipts import MANIFEST, read_manifest
from storage.s3 import S3

REFUSED_TOLD = 20
RAW = frozenset({".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"})
UNREAD = RAW | {".avif", ".exr", ".heic", ".heif", ".j2k", ".jp2", ".jxl", ".psd", ".svg"}
"""What the names of pictures end in that are not read."""


def list_pictures(source: Source, *, selects: bool = False) -> list[Entry]:
    """The pictures of `source`, by key; StorageError where there are none.

    Hidden files are passed over silently; other files, and members that cannot be read, are told. selects: the flow
    has --include.
    """
    entries = [entry for entry in source.list() if not is_hidden(entry.key)]
    pictures, unread, others = [], [], []
    for entry in entries:
        if images.is_image(entry.key):
            pictures.append(entry)
        elif _suffix(entry.key) in UNREAD:
            unread.append(entry.key)
        elif entry.key != MANIFEST:
            others.append(entry.key)
    for name, why in source.refused[:REFUSED_TOLD]:
        tell(f"{source}: left out: {name}: {why}")
    if (more := len(source.refused) - REFUSED_TOLD) > 0:
        tell(f"{source}: … and {more:,} more members left out")
    if not pictures:
        raise StorageError(f"{source}: {_emptiness(source, unread, others, selects=selects)}")
    if unread:
        tell(f"{source}: left out: {_kinds(unread)}; convert them")
    if others:
        tell(f"{source}: left out, as no pictures by their names: {len(others):,}, such as {others[0]}")
    return pictures


def file_at(address: str, hint: str) -> tuple[Location, str]:
    """The folder of the file at an address, and its name; StorageError, with what to give instead, for no file."""
    file = Location.of(address)
    if file.parent is None or file.what_is_there() != "file":
        raise StorageError(f"{address}: no file there; give {hint}")
    return file.parent, file.url.rpartition("/")[2]


@dataclass(frozen=True)
class Reopened:
    """A source as another process opens it, to fetch what was listed here; it lists only what it has to."""

    address: str
    is_indexed: bool

    @classmethod
    def of(cls, address: str, source: Source) -> Self:
        return cls(absolute(address), source.is_indexed)

    def open(self) -> Source:
        source = open_source(self.address)
        if self.is_indexed:
            source.list()
        return source


def absolute(address: str) -> str:
    """An address that means the same from any folder; links stay what they are."""
    location = Location.of(address)
    return str(location.local) if location.local is not None else location.url


def identity(address: str) -> str:
    """The address of a source as a target remembers it, however it was spelled."""
    location = Location.of(address)
    if location.local is not None:
        return str(location.local.resolve())
    return f"s3://{location.root}" if isinstance(location.store, S3) else location.url


def manifest_beside(address: str) -> pa.Table | None:
    """What the last run over a target made, or None where there was none; that of an archive lies beside it."""
    return read_manifest(Packing(address).staging if is_archive(address) else Location.of(address))


def protocols(address: str, method: str = "downscale") -> set[str]:
    """The protocols that a manifest beside the pictures there names: by which downscalings they were made.

    method: what the name of the method begins with that made them; of SR pictures, any model's tells for which
    downscaling it was trained.
    """
    manifest = manifest_beside(address)
    names = manifest.column_names if manifest is not None else []
    if manifest is None or not {"method", "protocol"} <= set(names):
        return set()
    rows = manifest.select(["method", "protocol"]).to_pylist()
    return {row["protocol"] for row in rows if row["protocol"] and str(row["method"]).startswith(method)}


def refuse_within(target: Location, source: str) -> None:
    """StorageError where results would lie among the pictures they are made from, and be taken for more of them."""
    if target.within(Location.of(source)):
        raise StorageError(f"{target}: lies in the source {source}; choose a folder outside it")


def _suffix(key: str) -> str:
    return PurePosixPath(key).suffix.lower()


def _kinds(unread: list[str]) -> str:
    """The pictures that are not read, by their kinds, the most frequent first."""
    told = ", ".join(f"{suffix} {count:,}" for suffix, count in Counter(map(_suffix, unread)).most_common())
    return f"{counted(len(unread), 'picture')} of kinds that are not read ({told})"


def _emptiness(source: Source, unread: list[str], others: list[str], *, selects: bool) -> str:
    if unread:
        return f"no pictures there but {_kinds(unread)}; convert them"
    if others:
        return f"no pictures there, only {len(others):,} other files such as {others[0]}"
    what = source.location.what_is_there() if isinstance(source, Folder) else "archive"
    return {
        "nothing": "no such folder, prefix or bucket",
        "file": "is a file; give the folder it is in" + (f", with --include {_pattern(source)}" if selects else ""),
    }.get(what, "no pictures there")


def _pattern(file: Source) -> str:
    """What chooses this file alone, as a shell takes it."""
    return shlex.quote(glob.escape(str(file).rpartition("/")[2]))
