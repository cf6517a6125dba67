"""What a source holds: each of its files is an image, refused, or skipped, and is counted and logged as such."""

from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass, field
from itertools import chain, count
from typing import NamedTuple

from flows.inputs.keys import normalized
from flows.inputs.kinds import OTHERS, by_kind_of, may_be_image
from flows.inputs.left_out import emptiness, log_foreign, log_refused, log_skipped, log_untagged
from flows.inputs.options import SourceOptions
from storage.archives import kinds
from storage.archives.archive import Refused
from storage.archives.source import Folder, Source
from storage.images import formats
from storage.parallel import ordered_map
from storage.stores.addresses import cleaned
from storage.stores.entry import is_junk
from storage.stores.location import Entry, StorageError, UnavailableError

REFUSED = "refused: "
"""What the tag of an entry begins with that stands for a file which cannot be read at all; the reason follows."""
READERS = 16


class Skip(NamedTuple):
    """How many files of a kind are skipped, and one of them."""

    number: int
    example: str


@dataclass(frozen=True)
class Contents:
    """What a listing of a source comes to.

    refused: what would be an image and cannot be read at all, with REFUSED and the reason as tags. unlisted: folders
    that could not be listed this time.
    """

    images: list[Entry]
    refused: list[Entry] = field(default_factory=list)
    hidden: list[Entry] = field(default_factory=list)
    skipped: dict[str, Skip] = field(default_factory=dict)
    unlisted: tuple[str, ...] = ()

    @property
    def keys(self) -> set[str]:
        """The keys of all that can be asked for."""
        return {entry.key for entry in (*self.images, *self.refused)}


def contents_of(source: Source, options: SourceOptions | None = None, asked: Collection[str] = ()) -> Contents:
    """What `source` holds, which is logged; StorageError where there are no images.

    asked: keys of files that are taken for images whatever their suffix.
    """
    by_kind = by_kind_of(source)
    images = by_kind.pop("image")
    if not (isinstance(source, Folder) and source.has_shards):
        images += _taken_from(source, by_kind, options, {normalized(key) for key in asked})
        images.sort()
    refused, rest = _refusals(source.refused, images)
    if not images and not refused:
        log_refused(source, rest)
        raise StorageError(f"{source}: {emptiness(source, by_kind)}")
    skipped = {kind: Skip(len(found), cleaned(found[0].key)) for kind, found in by_kind.items() if found}
    if rest:
        skipped["refused"] = Skip(len(rest), cleaned(rest[0][0]))
    log_refused(source, rest)
    log_skipped(source, by_kind, options)
    log_foreign(source, options)
    log_untagged(source, images)
    unlisted = tuple(entry.key for entry in by_kind["unlisted"])
    return Contents(images, refused, by_kind["hidden"], skipped, unlisted)


def list_images(source: Source) -> list[Entry]:
    """The images of `source`, by key, with what is left out logged; StorageError where there are none."""
    found = contents_of(source)
    log_refused(source, [(entry.key, reason_of_refusal(entry)) for entry in found.refused])
    if not found.images:
        raise StorageError(f"{source}: no images there that can be read")
    return found.images


def reason_of_refusal(entry: Entry) -> str:
    """Why an entry stands for a file that cannot be read at all; nothing for others."""
    return entry.etag.removeprefix(REFUSED) if entry.etag.startswith(REFUSED) else ""


def refused_entry(key: str, why: str) -> Entry:
    """An entry for a file that cannot be read at all."""
    return Entry(key, 0, f"{REFUSED}{why}")


def _taken_from(
    source: Source, by_kind: dict[str, list[Entry]], options: SourceOptions | None, asked: Set[str]
) -> list[Entry]:
    """What is no image by its name, and taken from the other kinds as one: asked for, or by its content."""
    taken: list[Entry] = []
    for kind in OTHERS if asked else ():
        taken += (entry for entry in by_kind[kind] if normalized(entry.key) in asked)
        by_kind[kind] = [entry for entry in by_kind[kind] if normalized(entry.key) not in asked]
    if options is not None and options.by_content:
        found, by_kind["other"] = _looked_into(source, by_kind["other"])
        taken += found
    return taken


def _looked_into(source: Source, files: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """The files that begin as images do, and the others; those of other kinds by their names are not read."""

    def begins(entry: Entry) -> bool:
        try:
            return may_be_image(entry.key) and formats.suffix_of(_head(source, entry)) is not None
        except UnavailableError:
            raise
        except StorageError:
            return False

    found = list(ordered_map(begins, files, READERS))
    taken = [entry for entry, is_one in zip(files, found, strict=True) if is_one]
    return taken, [entry for entry, is_one in zip(files, found, strict=True) if not is_one]


def _head(source: Source, entry: Entry) -> bytes:
    if isinstance(source, Folder) and entry.size:
        return source.location.fetch(entry, 0, min(entry.size, kinds.HEAD))
    return source.fetch(entry)


def _refusals(refused: Refused, listed: Iterable[Entry]) -> tuple[list[Entry], Refused]:
    """What is refused and named like an image, as entries with keys of their own, and the rest but for junk."""
    taken = {entry.key for entry in listed} if refused else set()
    entries: list[Entry] = []
    rest: Refused = []
    for name, why in refused:
        if is_junk(name):
            continue
        if not formats.is_image(name):
            rest.append((name, why))
            continue
        key = next(key for key in chain([name], (f"{name} ({n})" for n in count(2))) if key not in taken)
        taken.add(key)
        entries.append(refused_entry(key, why))
    return entries, rest
