"""The pictures of a source: listed once, checked before any work."""

from collections.abc import Iterable

from flows.console import tell
from storage import images
from storage.leases import STATE
from storage.locations import Entry, Location, StorageError
from storage.receipts import MANIFEST, read_manifest

open_source = Location.of


def list_pictures(source: Location) -> list[Entry]:
    """The pictures below `source`, by key; StorageError where there are none, or two with the same name.

    Hidden files are passed over silently; other files are, too, but counted.
    """
    entries = [entry for entry in source.list() if not _hidden(entry.key)]
    pictures = [entry for entry in entries if images.is_image(entry.key)]
    others = [entry.key for entry in entries if not images.is_image(entry.key) and entry.key != MANIFEST]
    if not pictures:
        raise StorageError(f"{source}: {_emptiness(source, others)}")
    if others:
        tell(f"{source}: left out, as no pictures by their names: {len(others):,}, such as {others[0]}")
    _refuse_twins(source, pictures)
    return pictures


def protocols(source: Location, method: str = "downscale") -> set[str]:
    """The protocols that a manifest beside the pictures at `source` names: by which downscalings they were made.

    With the method `dtls`: those for which the models that made them were trained.
    """
    manifest = read_manifest(source)
    names = manifest.column_names if manifest is not None else []
    if manifest is None or not {"method", "protocol"} <= set(names):
        return set()
    rows = manifest.select(["method", "protocol"]).to_pylist()
    return {row["protocol"] for row in rows if row["protocol"] and str(row["method"]).startswith(method)}


def refuse_within(target: Location, source: Location) -> None:
    """StorageError where results would lie among the pictures they are made from, and be taken for more of them."""
    if target.within(source):
        raise StorageError(f"{target}: lies in the source {source}; choose a folder outside it")


def _hidden(key: str) -> bool:
    return key.startswith(STATE) or any(part.startswith(".") for part in key.split("/"))


def _emptiness(source: Location, others: list[str]) -> str:
    if others:
        return f"no pictures there, only {len(others):,} other files such as {others[0]}"
    return {
        "nothing": "no such folder, prefix or bucket",
        "file": "is a file; give the folder it is in",
        "folder": "no pictures there",
    }[source.what_is_there()]


def _refuse_twins(source: Location, pictures: Iterable[Entry]) -> None:
    seen: dict[str, str] = {}
    for entry in pictures:
        stem = images.stem(entry.key)
        if stem in seen:
            raise StorageError(f"{source}: {seen[stem]} and {entry.key} have the same key {stem!r}; rename one")
        seen[stem] = entry.key
