"""Tars: where the bytes of each member are, from a walk over the headers. Nothing is unpacked.

Stricter than Python's tarfile, which takes a damaged header for the end of the tar, misses that one was cut between
two members, and reads a header of gigabytes into memory. What cannot be understood as a whole is `Damaged`.
"""

import posixpath
import re
import tarfile
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from storage.stores.location import Entry, Location

BLOCK = 512
AHEAD, SPARE = 2**20, 2**13
"""Bytes asked for at once: where small members follow each other, and after a jump over a large one."""
NEAR = 2**17
"""What is skipped in a smaller step is no jump."""
MAX_HEADER = 2**20
"""Bytes that the name and the attributes of one member may take."""
MAX_PADDING = 2**23
"""Zeros that may follow the end: tars are filled up to a whole number of records."""
KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
EMPTY = (tarfile.DIRTYPE, *(kind for kind in KINDS if kind != tarfile.GNUTYPE_SPARSE))
"""Nothing follows their headers, whatever size these name."""
PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
LONG = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
ABOUT_THE_NEXT = (*PAX, *LONG)
SPARSE = "GNU.sparse."
NO_TEXT = re.compile("[\udc80-\udcff]")
"""What bytes become that are not of the encoding."""
LENGTH = re.compile(rb"([0-9]{1,9}) ")


class Damaged(ValueError):  # noqa: N818 - it is what the file is
    """Why a file is no whole archive."""


class Member(NamedTuple):
    """A member: its name as it stands there, where its bytes are, and why it is none of the files, if so.

    link: of a link, the name that it stands for, from the root of the tar. raw: the bytes of a name, where nothing
    tells their encoding.
    """

    name: str
    offset: int
    size: int
    refusal: str
    link: str = ""
    raw: bytes = b""


class Positioned(Protocol):
    """What a tar is read from, by position; fewer bytes come only where it ends."""

    def read(self, start: int, length: int) -> bytes: ...
    def reaches(self, end: int) -> bool: ...


class Window:
    """The bytes of a file by position; what follows is fetched ahead, so that small steps cost few requests."""

    def __init__(self, place: Location, file: Entry) -> None:
        self.place, self.file = place, file
        self._start, self._data = 0, b""

    @property
    def size(self) -> int:
        return self.file.size

    def reaches(self, end: int) -> bool:
        """Whether there are so many bytes."""
        return end <= self.size

    def read(self, start: int, length: int) -> bytes:
        """So many bytes; fewer only where the file ends."""
        length = min(length, self.size - start)
        if length <= 0:
            return b""
        end = self._start + len(self._data)
        if not (self._start <= start and start + length <= end):
            wanted = max(length, AHEAD if self._start <= start < end + NEAR else SPARE)
            self._data = self.place.fetch(self.file, start, min(wanted, self.size - start))
            self._start = start
        return self._data[start - self._start : start - self._start + length]


def members(file: Positioned, encoding: str = "utf-8") -> Iterator[Member]:
    """The members of a tar, but for folders; Damaged where these cannot be all of them.

    encoding: of names that no PAX header gives.
    """
    position = 0
    everywhere: dict[str, str] = {}
    own: dict[str, str] = {}
    while (block := file.read(position, BLOCK)).strip(b"\0"):
        header, data = read_header(block, encoding), position + BLOCK
        if header.type in ABOUT_THE_NEXT:
            size = header.size
            if header.type == tarfile.XGLTYPE:
                everywhere |= _attributes(_content(file, data, size))
            elif header.type in PAX:
                own |= _attributes(_content(file, data, size))
            else:
                name = _content(file, data, size).partition(b"\0")[0].decode(encoding, "surrogateescape")
                own = {LONG[header.type]: name} | own
        else:
            attributes, own = everywhere | own, {}
            if header.type == tarfile.GNUTYPE_SPARSE:
                data = _behind_sparse_map(file, block, data)
            size = 0 if header.type in EMPTY else _number(attributes.get("size"), header.size)
            name = attributes.get("path") or header.name
            if not file.reaches(data + size):
                raise Damaged(f"it ends within {name[:200]!r}: cut off")
            if header.type != tarfile.DIRTYPE:
                link = _link(header.type, name, attributes.get("linkpath") or header.linkname)
                raw = name.encode("utf-8", "surrogateescape") if NO_TEXT.search(name) else b""
                yield Member(name, data, size, _refusal(header.type, attributes), link, raw)
        position = data + -(-size // BLOCK) * BLOCK
    _check_end(file, position, block)


def read_header(block: bytes, encoding: str = "utf-8") -> tarfile.TarInfo:
    """What the block before a member says of it; Damaged where it is none."""
    try:
        header = tarfile.TarInfo.frombuf(block, encoding, "surrogateescape")
    except tarfile.HeaderError as error:
        raise Damaged(f"a header cannot be read ({error})") from error
    if header.size < 0:
        raise Damaged("a header names a size below zero")
    return header


def _refusal(kind: bytes, attributes: dict[str, str]) -> str:
    if SPARSE in attributes:
        return KINDS[tarfile.GNUTYPE_SPARSE]
    return KINDS.get(kind, "" if kind in PLAIN else f"of the unknown type {kind!r}")


def _link(kind: bytes, name: str, target: str) -> str:
    """What a link stands for: a hard link's target is named from the root, a symbolic link's from its folder."""
    if kind == tarfile.LNKTYPE:
        return target
    return posixpath.join(posixpath.dirname(name), target) if kind == tarfile.SYMTYPE else ""


def _content(file: Positioned, start: int, size: int) -> bytes:
    """What a header says that is not itself a member's."""
    if size > MAX_HEADER:
        raise Damaged(f"a header of {size:,} bytes")
    return file.read(start, size)


def _attributes(data: bytes) -> dict[str, str]:
    """Where a member is, from the records "LENGTH KEY=VALUE\\n" of a PAX header; other attributes are dropped."""
    found: dict[str, str] = {}
    start = 0
    while start < len(data):
        length = LENGTH.match(data, start)
        end = start + int(length[1]) if length else 0
        if length is None or not length.end() < end <= len(data):
            raise Damaged("the attributes of a member cannot be read")
        key, _, value = data[length.end() : end - 1].partition(b"=")
        if key.startswith(SPARSE.encode()):
            found[SPARSE] = ""
        elif key in (b"path", b"linkpath", b"size"):
            found[key.decode()] = value.decode("utf-8", "surrogateescape")
        start = end
    return found


def _number(text: str | None, otherwise: int) -> int:
    if not text:
        return otherwise
    if re.fullmatch(r"[0-9]{1,19}", text) is None:
        raise Damaged(f"a size that is no number: {text[:40]!r}")
    return int(text)


def _behind_sparse_map(file: Positioned, block: bytes, position: int) -> int:
    """Where the bytes of GNU's old sparse files begin: behind further blocks of their map."""
    more = block[482]
    while more:
        block = file.read(position, BLOCK)
        position += BLOCK
        more = block[504] if len(block) == BLOCK else 0
    return position


def _check_end(file: Positioned, position: int, block: bytes) -> None:
    """Damaged where the blocks of zeros at the end are missing, or something follows them."""
    if len(block) < BLOCK:
        raise Damaged("it has no end: cut off")
    left = file.read(position, MAX_PADDING + 1)
    if len(left) > MAX_PADDING or left.strip(b"\0"):
        raise Damaged("something follows its end: several tars in one?")
