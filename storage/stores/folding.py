"""Names that some disks take for one: they differ in letter case only, or in Unicode form (`é` as one or two).

exFAT, NTFS, APFS and some shares fold such names; what is written under one replaces what is under the other.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from uuid import uuid4

from storage.stores.entry import PROBES
from storage.stores.location import Location

Pair = tuple[str, str]


def pairs_alike(names: Sequence[str]) -> list[Pair]:
    """Files that a disk may take for one, or folders that are spelled in two ways, as pairs in the order of `names`.

    Memory holds a number a name meanwhile.
    """
    seen: set[int] = set()
    doubled: set[int] = set()
    for path in _paths(names):
        (doubled if (number := hash(folded(path))) in seen else seen).add(number)
    if not doubled:
        return []
    first: dict[str, str] = {}
    pairs = []
    for path in _paths(names):
        common = folded(path)
        if hash(common) in doubled and first.setdefault(common, path) != path:
            pairs.append((first[common], path))
    return pairs


def pair_folded(target: Location, pairs: Iterable[Pair]) -> Pair | None:
    """The first pair that is one file at `target`, by asking for a pair of each kind; None where there is none."""
    answers: dict[tuple[bool, ...], bool] = {}
    for pair in pairs:
        names = _where_they_part(pair)
        kind = _kind(names)
        if kind not in answers:
            answers[kind] = _is_one(target, names)
        if answers[kind]:
            return pair
    return None


def _paths(names: Iterable[str]) -> Iterator[str]:
    """Each name, and each folder of them once."""
    folders: set[str] = set()
    for name in names:
        folder = name.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            yield folder
            folder = folder.rpartition("/")[0]
        yield name


def folded(name: str) -> str:
    """What names have in common that a disk may take for one."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _where_they_part(pair: Pair) -> Pair:
    """The parts of two paths that are spelled differently, the first ones."""
    parts = zip(*(PurePosixPath(path).parts for path in pair), strict=True)
    return next((one, other) for one, other in parts if one != other)


def _kind(names: Pair) -> tuple[bool, ...]:
    """In what two names differ, as disks may tell them apart by one and not by another."""
    one, other = (unicodedata.normalize("NFC", name) for name in names)
    return one == other, one.lower() == other.lower(), one.isascii()


def _is_one(target: Location, names: Pair) -> bool:
    """Whether a file is there under another name, too, than the one that it was written under."""
    folder = f"{PROBES}{uuid4().hex}"
    written, asked = (f"{folder}/{name}" for name in names)
    target.write(written, b"")
    try:
        return target.exists(asked)
    finally:
        target.delete(written)
        if target.local is not None:
            with suppress(OSError):
                (target.local / folder).rmdir()
