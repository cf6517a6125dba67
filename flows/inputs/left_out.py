"""Log lines about the files of a source that a run leaves out."""

import re
from collections import Counter
from pathlib import PurePosixPath

from flows.inputs.kinds import may_be_image
from flows.inputs.options import ENCODINGS, SourceOptions
from flows.interface.console import log
from flows.interface.text import counted
from storage.archives.archive import MAX_FOREIGN, Refused, shown
from storage.archives.source import Folder, Source
from storage.stores.entry import HASHED, UNLISTED
from storage.stores.location import Entry

MAX_REFUSED, MAX_ARCHIVES = 20, 5
UNTAGGED = re.compile(r"(-[0-9a-f]+)?")
"""The tag of a file of unknown date of change; of a member of such an archive, where that begins."""


def log_refused(source: Source, refused: Refused) -> None:
    """Log the first of the members that are left out of an archive, with the reasons."""
    for name, why in refused[:MAX_REFUSED]:
        log(f"{source}: left out: {name}: {why}")
    if (more := len(refused) - MAX_REFUSED) > 0:
        log(f"{source}: … and {more:,} more members left out")


def log_skipped(source: Source, by_kind: dict[str, list[Entry]], options: SourceOptions | None) -> None:
    """Log what is left out for its kind, and which option takes it."""
    if by_kind["unread"]:
        log(f"{source}: left out: {_unread(by_kind['unread'])}; convert them")
    if archives := by_kind["archive"]:
        named = ", ".join(entry.key for entry in archives[:MAX_ARCHIVES])
        more = ", …" if len(archives) > MAX_ARCHIVES else ""
        some = f"{counted(len(archives), 'archive')} ({named}{more})"
        log(f"{source}: left out: {some}; give each as a source of its own")
    if links := by_kind["link"]:
        log(f"{source}: left out: {_such_as(links, 'link')}, which lead out of it; --follow-links takes them")
    if unlisted := by_kind["unlisted"]:
        why = unlisted[0].etag.removeprefix(UNLISTED)
        some = f"{_such_as(unlisted, 'folder')}, which cannot be listed ({why})"
        log(f"{source}: left out: {some}; what was made of them before stays")
    if hidden := by_kind["hidden"]:
        log(f"{source}: left out: {_such_as(hidden, 'hidden file')}; names that begin with a dot are not read")
    if others := by_kind["other"]:
        may_be = options is not None and not options.by_content and any(may_be_image(entry.key) for entry in others)
        hint = "; --by-content takes those that begin as an image does" if may_be else ""
        log(f"{source}: left out: {_such_as(others, 'file')}, without an image's suffix{hint}")


def log_untagged(source: Source, listed: list[Entry]) -> None:
    """Log images whose changes are noticed at a price, or not at all."""
    if hashed := [entry for entry in listed if entry.etag.startswith(HASHED)]:
        some = _such_as(hashed, "image")
        log(f"{source}: {some}: without ETag and Last-Modified; read whole at each run, to notice changes")
    if untagged := [entry for entry in listed if not entry.changed and UNTAGGED.fullmatch(entry.etag)]:
        some = _such_as(untagged, "image")
        log(
            f"{source}: warning: {some}: nothing but the size says whether it changed, so some changes there are "
            "not noticed; to have them noticed, copy the source to this machine"
        )


def log_foreign(source: Source, options: SourceOptions | None) -> None:
    """Log that names are in an unknown encoding, and which encodings they may be in."""
    if options is None or options.names_encoding is not None or not source.foreign:
        return
    may_be = [encoding for encoding in ENCODINGS if all(_is_in(encoding, name) for name in source.foreign)]
    known = f": {' or '.join(may_be)}" if may_be else ""
    example = shown(source.foreign[0].decode("cp437"))
    log(
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
    counts = ", ".join(f"{suffix} {number:,}" for suffix, number in kinds_found)
    return f"{counted(len(entries), 'image')} of kinds that are not read ({counts})"


def emptiness(source: Source, by_kind: dict[str, list[Entry]]) -> str:
    """Why a source has no images, and what to do."""
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
