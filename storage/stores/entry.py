"""A file of a listing, and what its name says: that it is hidden, or what systems leave behind."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

STATE = ".dtls"
"""The folder of what a target keeps for itself."""
PROBES = f"{STATE}/probe-"
"""What the folders begin with in which files are put for as long as a disk is asked about names."""
HIDDEN = re.compile(r"(?:\A|/)\.[^./]")
JUNK = frozenset(
    {
        *(".ds_store", ".appledouble", ".spotlight-v100", ".fseventsd", ".temporaryitems", ".documentrevisions-v100"),
        *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
        *("@eadir", "#recycle", ".@__thumb", ".thumbnails", ".nomedia", ".directory", ".picasa.ini"),
        *(".svn", ".hg", ".ipynb_checkpoints", ".dtls"),
    }
)
JUNK_BEGINS = ("._", ".trash", ".git")
"""What systems and programs leave behind, in small letters."""
TEMPORARY_NAME = r"\.[0-9a-f]{32}\.tmp"
"""Of a file that is about to be written."""

HASHED = "sha256:"
"""What a tag begins with that is the hash of the bytes, as nothing else tells of their change."""


LINK_OUT, FOLDER_LINK_OUT, FOLDER_LINK = "link that leads out", "folder link that leads out", "folder link"
UNLISTED = "folder that cannot be listed: "
"""The tags of what a listing names and does not go into; of the last, the reason follows.

A folder link that does not lead out is to files that are listed at their own place.
"""


TOUCHED = "~"
"""In a local file's tag, between the time of writing and what tells of bytes that were changed under it."""


@dataclass(frozen=True, order=True, slots=True)
class Entry:
    """A file of a listing: its key (path below the location), size in bytes, and a tag that changes with it.

    changed: when this machine's disk noted a change of it or of its rights, in ns; 0 elsewhere. parts: of a sample
    that several files make, these files, and None for one that is not there.
    """

    key: str
    size: int
    etag: str
    changed: int = field(default=0, compare=False, repr=False)
    parts: tuple["Entry | None", ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def of(cls, key: str, parts: Iterable["Entry | None"]) -> Self:
        """A sample of several files: its size is theirs together, and its tag changes with any of them."""
        parts = tuple(parts)
        size = sum(max(0, part.size) for part in parts if part is not None)
        listed = [part.listed if part is not None else None for part in parts]
        return cls(key, size, json.dumps(listed, ensure_ascii=False, separators=(",", ":")), parts=parts)

    @property
    def listed(self) -> tuple[str, int, str]:
        """What two listings of the same file agree on."""
        return self.key, self.size, self.etag


def is_still(info: Callable[[str, str], Entry], path: str, entry: Entry) -> bool:
    """Whether what is at a path of a store is still as it was listed; info: what the store tells of it."""
    try:
        return info(path, entry.key) == entry
    except FileNotFoundError:
        return False


def is_named_only(entry: Entry) -> bool:
    """Whether a listing only names this: a link that is not followed, or a folder that cannot be listed."""
    return entry.etag in (LINK_OUT, FOLDER_LINK_OUT, FOLDER_LINK) or entry.etag.startswith(UNLISTED)


def is_hidden(key: str) -> bool:
    """Whether a file, or a folder that it is in, has a name that begins with one dot; more are part of a name."""
    return (key.startswith(".") or "/." in key) and HIDDEN.search(key) is not None


def is_junk(key: str) -> bool:
    """Whether a file, or a folder that it is in, is known to hold nothing of the user's: system files, caches."""
    folder, _, name = key.rpartition("/")
    return _is_junk_name(name) or _is_within_junk(folder)


def _is_junk_name(name: str) -> bool:
    name = name.lower()
    return (
        name in JUNK
        or name.startswith(JUNK_BEGINS)
        or (name.endswith(".tmp") and re.fullmatch(TEMPORARY_NAME, name) is not None)
    )


@lru_cache(maxsize=4096)
def _is_within_junk(folder: str) -> bool:
    return any(map(_is_junk_name, folder.split("/")))
