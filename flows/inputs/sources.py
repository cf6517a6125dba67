"""Addresses of sources: as other processes open them, as targets remember them, and what must not be in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pyarrow as pa

from storage.archives import kinds
from storage.archives.source import Source, open_source
from storage.archives.writer import Packing, is_archive
from storage.receipts.receipts import Record, read_manifest, record_of
from storage.stores.location import Location, StorageError


def file_at(address: str, hint: str) -> tuple[Location, str]:
    """The folder of the file at an address, and its name; StorageError, with what to give instead, for no file."""
    file = Location.of(address)
    is_there = file.parent is not None and file.what_is_there() == "file"
    if file.parent is None or not is_there or not (file.local is None or file.local.is_file()):  # a pipe, a device
        raise StorageError(f"{address}: no file there; give {hint}")
    return file.parent, file.url.rpartition("/")[2]


@dataclass(frozen=True)
class SourceSpec:
    """A source as another process opens it, to fetch what was listed here; it lists only what it has to."""

    address: str
    is_indexed: bool
    encoding: str | None = None
    follow_links: bool = False

    @classmethod
    def of(cls, address: str, source: Source, encoding: str | None = None, *, follow_links: bool = False) -> Self:
        return cls(absolute(address), source.is_indexed, encoding, follow_links)

    def open(self) -> Source:
        source = open_source(self.address, self.encoding, follow_links=self.follow_links)
        if self.is_indexed:
            source.list()
        return source


def absolute(address: str) -> str:
    """An address as it means the same from any folder; see `Location.absolute`."""
    return Location.of(address).absolute


def folder_here(address: str) -> Path:
    """A folder on this machine; StorageError for an address elsewhere."""
    place = Location.of(address)
    if place.local is None:
        raise StorageError(f"{address}: has to be a folder on this machine")
    return place.local


def identity(address: str) -> str:
    """The address of a source as a target remembers it, however it was spelled."""
    location = Location.of(address)
    if location.local is not None:
        return str(location.local.resolve())
    from storage.stores.s3 import S3

    return f"s3://{location.root}" if isinstance(location.store, S3) else location.url


def manifest_beside(address: str, columns: Sequence[str]) -> pa.Table | None:
    """Those of `columns` that the table of what the last run over a target made has, or None where there was none.

    That of an archive is beside it.
    """
    return read_manifest(_state_of(address), columns)


def record_beside(address: str) -> Record:
    """What the last run over a target records of its options; nothing where there was none."""
    return record_of(_state_of(address))


def _state_of(address: str) -> Location:
    """Where runs over a target keep what they say of it; those over an archive, beside it."""
    return Packing(address).staging if is_archive(address) else Location.of(address)


def check_within(target: Location, source: str) -> None:
    """StorageError where results would be stored among their sources, and be taken for more of them."""
    place = Location.of(source)
    if target.within(place):
        raise StorageError(f"{target}: is inside the source {source}; choose a folder outside it")
    around = place.parent
    is_beside = around is not None and target.within(around) and around.within(target)
    if is_beside and kinds.by_name(source) is None and place.what_is_there() == "file":
        raise StorageError(f"{target}: holds the source {source}; choose another folder")
