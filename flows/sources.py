"""The pictures of a source: a folder or prefix, a zip, a tar, or shards; listed once, checked before any work."""

from flows.console import tell
from storage import images
from storage.archives import Folder, Source
from storage.entries import is_hidden
from storage.locations import Entry, Location, StorageError
from storage.receipts import MANIFEST, read_manifest
from storage.s3 import S3

REFUSED_TOLD = 20


def list_pictures(source: Source) -> list[Entry]:
    """The pictures of `source`, by key; StorageError where there are none.

    Hidden files are passed over silently; other files, and members that cannot be read, are told.
    """
    entries = [entry for entry in source.list() if not is_hidden(entry.key)]
    pictures, others = [], []
    for entry in entries:
        if images.is_image(entry.key):
            pictures.append(entry)
        elif entry.key != MANIFEST:
            others.append(entry.key)
    for name, why in source.refused[:REFUSED_TOLD]:
        tell(f"{source}: left out: {name}: {why}")
    if (more := len(source.refused) - REFUSED_TOLD) > 0:
        tell(f"{source}: … and {more:,} more members left out")
    if not pictures:
        raise StorageError(f"{source}: {_emptiness(source, others)}")
    if others:
        tell(f"{source}: left out, as no pictures by their names: {len(others):,}, such as {others[0]}")
    return pictures


def identity(address: str) -> str:
    """The address of a source as a target remembers it, however it was spelled."""
    location = Location.of(address)
    if location.local is not None:
        return str(location.local.resolve())
    return f"s3://{location.root}" if isinstance(location.store, S3) else location.url


def protocols(address: str, method: str = "downscale") -> set[str]:
    """The protocols that a manifest beside the pictures there names: by which downscalings they were made.

    With the method `dtls`: those for which the models that made them were trained.
    """
    manifest = read_manifest(Location.of(address))
    names = manifest.column_names if manifest is not None else []
    if manifest is None or not {"method", "protocol"} <= set(names):
        return set()
    rows = manifest.select(["method", "protocol"]).to_pylist()
    return {row["protocol"] for row in rows if row["protocol"] and str(row["method"]).startswith(method)}


def refuse_within(target: Location, source: str) -> None:
    """StorageError where results would lie among the pictures they are made from, and be taken for more of them."""
    if target.within(Location.of(source)):
        raise StorageError(f"{target}: lies in the source {source}; choose a folder outside it")


def _emptiness(source: Source, others: list[str]) -> str:
    if others:
        return f"no pictures there, only {len(others):,} other files such as {others[0]}"
    what = source.location.what_is_there() if isinstance(source, Folder) else "archive"
    return {
        "nothing": "no such folder, prefix or bucket",
        "file": "is a file; give the folder it is in",
    }.get(what, "no pictures there")
