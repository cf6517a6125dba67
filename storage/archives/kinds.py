"""Which archives there are: what a file is by its name and by its first bytes; the bytes are right where they differ.

A new type of archive is one module, a class of `archive.Archive`, and one line in `KINDS`.
"""

import re
from dataclasses import dataclass
from functools import cache

from storage.archives.archive import Archive
from storage.archives.tar import Tar, TarBz2, TarGz, TarXz, TarZst
from storage.archives.tars import BLOCK
from storage.archives.zips import Zip

HEAD = BLOCK
"""So many bytes tell the kind."""


@dataclass(frozen=True)
class UnreadKind:
    """A kind of archive that is known and not read: what its name ends in, and what it begins with."""

    kind: str
    endings: tuple[str, ...]
    magic: bytes

    def begins(self, head: bytes) -> bool:
        """Whether an archive of this kind begins so."""
        return head.startswith(self.magic)


Kind = type[Archive] | UnreadKind

KINDS: tuple[Kind, ...] = (
    Zip,
    TarGz,
    TarBz2,
    TarXz,
    TarZst,
    UnreadKind("7z", ("7z", "cb7"), b"7z\xbc\xaf\x27\x1c"),
    UnreadKind("rar", ("rar", "cbr"), b"Rar!\x1a\x07"),
    UnreadKind("lzip", ("tar.lz",), b"LZIP\1"),
    UnreadKind("LZ4", ("tar.lz4",), b"\4\x22\x4d\x18"),
    UnreadKind("compress", ("tar.z",), b"\x1f\x9d"),
    Tar,
)
"""In the order in which first bytes are compared: a tar has none of its own, so it comes last."""


def by_name(name: str) -> Kind | None:
    """The kind that the name of an archive says."""
    pattern, kinds = _endings()
    found = pattern.search(name.rstrip("/"))
    return kinds[found[1].lower()] if found else None


def by_content(head: bytes) -> Kind | None:
    """The kind that the first bytes of an archive say."""
    return next((kind for kind in KINDS if kind.begins(head)), None)


def written_by_name(name: str) -> type[Archive] | None:
    """The kind of archive that can be written which the name says."""
    kind = by_name(name)
    return None if kind is None or isinstance(kind, UnreadKind) or not kind.is_written else kind


def written_endings() -> list[str]:
    """What the names of archives that can be written end in: `.zip`, `.tar`, …"""
    return [f".{kind.endings[0]}" for kind in KINDS if not isinstance(kind, UnreadKind) and kind.is_written]


@cache
def _endings() -> tuple[re.Pattern[str], dict[str, Kind]]:
    """The kinds by what a name ends in, and a pattern that finds that."""
    kinds = {ending: kind for kind in KINDS for ending in kind.endings}
    return re.compile(rf"[^/]\.({'|'.join(map(re.escape, kinds))})$", re.IGNORECASE), kinds
