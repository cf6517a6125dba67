"""What a source holds: each of its files is an image, refused, or skipped, and counted and told as such."""

import codecs
import mimetypes
import re
from collections import Counter
from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import PurePosixPath
from typing import NamedTuple

from pydantic import Field, field_validator

from flows.engine.options import BatchOptions
from flows.inputs.keys import normalized
from flows.interface.console import tell
from flows.interface.text import counted
from storage.archives import kinds
from storage.archives.archive import MAX_FOREIGN, Refused, shown
from storage.archives.source import Folder, Single, Source
from storage.images import decode as codec
from storage.images.unsupported import is_unread
from storage.parallel import ordered_map
from storage.receipts.receipts import MANIFEST
from storage.stores.addresses import cleaned
from storage.stores.entry import FOLDER_LINK, HASHED, STATE, UNLISTED, is_hidden, is_junk, is_named_only
from storage.stores.location import Entry, StorageError, UnavailableError

REFUSED = "refused: "
"""What the tag of an entry begins with that stands for a file which cannot be read at all; the reason follows."""
REFUSED_TOLD, ARCHIVES_TOLD = 20, 5
ENCODINGS = ("shift_jis", "gbk", "big5", "euc_kr", "cp866", "cp437", "latin-1")
"""Of names, in the old archives of those who did not write in Latin letters."""
READERS = 16
UNTAGGED = re.compile(r"(-[0-9a-f]+)?")
"""The tag of a file of which nothing tells when it was changed; of a member of such an archive, where that begins."""
TYPES = mimetypes.MimeTypes()
"""What Python knows of suffixes, whatever the machine knows besides."""
OTHERS = ("unread", "archive", "other")
KINDS = ("image", "junk", "hidden", "link", "unlisted", *OTHERS)
"""What files are, by their names; and what is named alone: links that are not followed, folders without a listing."""


class SourceOptions(BatchOptions):
    """Options of the flows that read a source, whatever it is."""

    panel = "Which images"

    names_encoding: str | None = Field(
        None, description="encoding of the names in a zip or tar that gives none, like shift_jis, gbk or cp866"
    )
    follow_links: bool = Field(
        False, description="take what links in a folder lead to outside of it, too; else they are skipped and counted"
    )
    by_content: bool = Field(
        False,
        description="take files without an image's suffix, too, that begin as an image does; reads all of these",
    )

    @field_validator("names_encoding")
    @classmethod
    def _is_an_encoding(cls, encoding: str | None) -> str | None:
        if encoding is None:
            return None
        try:
            is_usable = b"A/b.9".decode(encoding, "surrogateescape") == "A/b.9" and codecs.lookup(encoding)
            b"\xff".decode(encoding, "surrogateescape")
        except (LookupError, ValueError):
            is_usable = None
        if not is_usable:
            raise ValueError(
                f"{encoding!r} is no encoding of names that Python knows; {', '.join(ENCODINGS)} are some"
            )
        return encoding


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
    """What `source` holds, told; StorageError where there are no images.

    asked: keys of files that are taken for images whatever their suffix.
    """
    by_kind = _by_kind(source)
    images = by_kind.pop("image")
    if not (isinstance(source, Folder) and source.has_shards):
        images += _taken_from(source, by_kind, options, {normalized(key) for key in asked})
        images.sort()
    refused, rest = _refusals(source.refused, images)
    if not images and not refused:
        _tell_refused(source, rest)
        raise StorageError(f"{source}: {_emptiness(source, by_kind)}")
    skipped = {kind: Skip(len(found), cleaned(found[0].key)) for kind, found in by_kind.items() if found}
    if rest:
        skipped["refused"] = Skip(len(rest), cleaned(rest[0][0]))
    _tell_refused(source, rest)
    _tell_skipped(source, by_kind, options)
    _tell_foreign(source, options)
    _tell_untagged(source, images)
    unlisted = tuple(entry.key for entry in by_kind["unlisted"])
    return Contents(images, refused, by_kind["hidden"], skipped, unlisted)


def list_images(source: Source) -> list[Entry]:
    """The images of `source`, by key, with what is left out told; StorageError where there are none."""
    found = contents_of(source)
    _tell_refused(source, [(entry.key, reason_of_refusal(entry)) for entry in found.refused])
    if not found.images:
        raise StorageError(f"{source}: no images there that can be read")
    return found.images


def reason_of_refusal(entry: Entry) -> str:
    """Why an entry stands for a file that cannot be read at all; nothing for others."""
    return entry.etag.removeprefix(REFUSED) if entry.etag.startswith(REFUSED) else ""


def refused_entry(key: str, why: str) -> Entry:
    """An entry for a file that cannot be read at all."""
    return Entry(key, 0, f"{REFUSED}{why}")


def _by_kind(source: Source) -> dict[str, list[Entry]]:
    """The files of a source, but for what dtls keeps there itself, by KINDS."""
    listed = source.list()
    if isinstance(source, Single):
        return {kind: listed if kind == "image" else [] for kind in KINDS}
    found: dict[str, list[Entry]] = {kind: [] for kind in KINDS}
    for entry in (*listed, *(source.beside if isinstance(source, Folder) else ())):
        if entry.key != MANIFEST and not entry.key.startswith(f"{STATE}/") and entry.etag != FOLDER_LINK:
            found[_kind(entry)].append(entry)
    return found


def _kind(entry: Entry) -> str:
    key = entry.key
    if is_named_only(entry):
        return "unlisted" if entry.etag.startswith(UNLISTED) else "link"
    if is_junk(key):
        return "junk"
    if is_hidden(key):
        return "hidden"
    if codec.is_image(key):
        return "image"
    if is_unread(key):
        return "unread"
    return "archive" if kinds.by_name(key) else "other"


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
            return _may_be_one(entry.key) and codec.suffix_of(_head(source, entry)) is not None
        except UnavailableError:
            raise
        except StorageError:
            return False

    found = list(ordered_map(begins, files, READERS))
    taken = [entry for entry, is_one in zip(files, found, strict=True) if is_one]
    return taken, [entry for entry, is_one in zip(files, found, strict=True) if not is_one]


def _may_be_one(key: str) -> bool:
    kind, _ = TYPES.guess_type(key)
    return kind is None or kind.startswith("image/")


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
        if not codec.is_image(name):
            rest.append((name, why))
            continue
        key = next(key for key in chain([name], (f"{name} ({n})" for n in count(2))) if key not in taken)
        taken.add(key)
        entries.append(refused_entry(key, why))
    return entries, rest


def _tell_refused(source: Source, refused: Refused) -> None:
    for name, why in refused[:REFUSED_TOLD]:
        tell(f"{source}: left out: {name}: {why}")
    if (more := len(refused) - REFUSED_TOLD) > 0:
        tell(f"{source}: … and {more:,} more members left out")


def _tell_skipped(source: Source, by_kind: dict[str, list[Entry]], options: SourceOptions | None) -> None:
    if by_kind["unread"]:
        tell(f"{source}: left out: {_unread(by_kind['unread'])}; convert them")
    if archives := by_kind["archive"]:
        named = ", ".join(entry.key for entry in archives[:ARCHIVES_TOLD])
        more = ", …" if len(archives) > ARCHIVES_TOLD else ""
        told = f"{counted(len(archives), 'archive')} ({named}{more})"
        tell(f"{source}: left out: {told}; give each as a source of its own")
    if links := by_kind["link"]:
        tell(f"{source}: left out: {_such_as(links, 'link')}, which lead out of it; --follow-links takes them")
    if unlisted := by_kind["unlisted"]:
        why = unlisted[0].etag.removeprefix(UNLISTED)
        told = f"{_such_as(unlisted, 'folder')}, which cannot be listed ({why})"
        tell(f"{source}: left out: {told}; what was made of them before stays")
    if hidden := by_kind["hidden"]:
        tell(f"{source}: left out: {_such_as(hidden, 'hidden file')}; names that begin with a dot are not read")
    if others := by_kind["other"]:
        may_be = options is not None and not options.by_content and any(_may_be_one(entry.key) for entry in others)
        hint = "; --by-content takes those that begin as an image does" if may_be else ""
        tell(f"{source}: left out: {_such_as(others, 'file')}, without an image's suffix{hint}")


def _tell_untagged(source: Source, listed: list[Entry]) -> None:
    """Tell of images whose changes are noticed at a price, or not at all."""
    if hashed := [entry for entry in listed if entry.etag.startswith(HASHED)]:
        told = _such_as(hashed, "image")
        tell(f"{source}: {told}: without ETag and Last-Modified; read whole at each run, so that changes are noticed")
    if untagged := [entry for entry in listed if not entry.changed and UNTAGGED.fullmatch(entry.etag)]:
        told = _such_as(untagged, "image")
        tell(
            f"{source}: warning: {told}: nothing but the size says whether it changed, so some changes there are "
            "not noticed; to have them noticed, copy the source to this machine"
        )


def _tell_foreign(source: Source, options: SourceOptions | None) -> None:
    """Tell of names in an encoding that nothing tells, and which ones it may be."""
    if options is None or options.names_encoding is not None or not source.foreign:
        return
    may_be = [encoding for encoding in ENCODINGS if all(_is_in(encoding, name) for name in source.foreign)]
    known = f": {' or '.join(may_be)}" if may_be else ""
    example = shown(source.foreign[0].decode("cp437"))
    tell(
        f"{source}: {_counted_names(len(source.foreign))} in an encoding that is not told, such as {example}; "
        f"--names-encoding says which{known}"
    )


def _is_in(encoding: str, name: bytes) -> bool:
    try:
        return name.decode(encoding).isprintable()
    except UnicodeDecodeError:
        return False


def _counted_names(number: int) -> str:
    more = " or more" if number == MAX_FOREIGN else ""
    return f"{number:,} name{'' if number == 1 else 's'}{more}"


def _such_as(entries: list[Entry], what: str) -> str:
    return f"{counted(len(entries), what)}, such as {entries[0].key}"


def _unread(entries: list[Entry]) -> str:
    """The images that are not read, by their kinds, the most frequent first."""
    kinds_found = Counter(PurePosixPath(entry.key).suffix.lower() for entry in entries).most_common()
    told = ", ".join(f"{suffix} {number:,}" for suffix, number in kinds_found)
    return f"{counted(len(entries), 'image')} of kinds that are not read ({told})"


def _emptiness(source: Source, by_kind: dict[str, list[Entry]]) -> str:
    if by_kind["unread"]:
        return f"no images there but {_unread(by_kind['unread'])}; convert them"
    if archives := by_kind["archive"]:
        return f"no images there, only {_such_as(archives, 'archive')}; give each as a source of its own"
    if others := by_kind["other"]:
        return f"no images there, only {len(others):,} other files such as {others[0].key}"
    if unlisted := by_kind["unlisted"]:
        return f"no images there but in {_such_as(unlisted, 'folder')}, which cannot be listed; make it readable"
    if links := by_kind["link"]:
        return f"no images there, only {_such_as(links, 'link')}, which lead out of it; --follow-links takes them"
    if hidden := by_kind["hidden"]:
        return f"no images there, only {_such_as(hidden, 'hidden file')}"
    is_dead = isinstance(source, Folder) and source.location.what_is_there() == "nothing"
    return "no such folder, prefix or bucket" if is_dead else "no images there"
