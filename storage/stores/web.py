"""Files of web servers: told apart by what an answer's head says of them, and read as they were listed.

A server may know no HEAD, no parts, no lengths, and compress what it sends. What says nothing by which a change could
be noticed, neither ETag nor Last-Modified, is read through when it is listed: its tag is then the hash of its bytes.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import fsspec
from aiohttp import ClientResponse, ClientResponseError, ClientTimeout
from fsspec.asyn import sync

from storage.parallel import ordered_map
from storage.stores.addresses import WEB
from storage.stores.entry import HASHED, Entry
from storage.stores.errors import ChangedError, DamagedError, is_of_the_place
from storage.stores.fsspec_store import WHOLE, Remote
from storage.stores.local import BROKEN, renamed

Out = TypeVar("Out")

TIMEOUT = ClientTimeout(total=None, sock_connect=10, sock_read=30)
"""Seconds for a connection, and between two pieces of an answer; a large file may take hours."""
AT_ONCE = 16
PIECE = 2**20
DEEPEST = 64
"""Folders in each other; servers that follow links show loops as folders without end."""
RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
PLAIN = ("", "identity")
GONE, OK, PART, NO_PART = (404, 410), 200, 206, 416


@dataclass(frozen=True)
class Head:
    """What an answer says of a file: its bytes if that is told, a tag if there is one, and where a part begins."""

    size: int | None
    tag: str
    start: int = 0
    is_encoded: bool = False

    @classmethod
    def of(cls, answer: ClientResponse) -> "Head":
        headers = answer.headers
        if answer.headers.get("Content-Encoding", "").lower() not in PLAIN:
            return cls(None, _tag(headers), is_encoded=True)  # the lengths are those of something else
        if answer.status in (PART, NO_PART):
            found = RANGE.match(headers.get("Content-Range", ""))
            size = int(found[2]) if found and found[2] != "*" else None
            return cls(size, _tag(headers), int(found[1] or 0) if found else -1)
        length = headers.get("Content-Length", "")
        return cls(int(length) if length.isdecimal() else None, _tag(headers))

    def differs_from(self, entry: Entry) -> bool:
        """Whether it tells of something else than what was listed."""
        if self.size is not None and self.size != entry.size:
            return True
        return not entry.etag.startswith(HASHED) and self.tag != entry.etag


class Web(Remote):
    """What a `Location` does on web servers; paths are whole addresses."""

    def list(self, root: str) -> list[Entry]:
        prefix = root.rstrip("/") + "/"

        def listed(address: str) -> Entry:
            key = address.removeprefix(prefix)
            try:
                return self.info(address, key)
            except (OSError, ClientResponseError) as error:
                if is_of_the_place(error):
                    raise
                return Entry(key, 0, BROKEN)  # whoever fetches it is told why

        return list(ordered_map(listed, sorted(self._links(root)), AT_ONCE))

    def _links(self, root: str) -> set[str]:
        """The addresses of the files below `root` that its pages, and those of its folders, link to."""
        files: set[str] = set()
        folders, seen = [root.rstrip("/") + "/"], set[str]()
        while folders:
            folder = folders.pop()
            if folder.count("/") - root.count("/") > DEEPEST:
                raise OSError(f"folders in folders without end, such as {folder}")
            seen.add(folder)
            for link in self._page(folder):
                name = link.rstrip("/").rpartition("/")[2]
                if not link.startswith(folder) or link == folder or name[:1] in "?#" or name in ("", ".", ".."):
                    continue  # another order of the same page, a place on it, or what is not below
                if not link.endswith("/"):
                    files.add(link)
                elif link not in seen:
                    folders.append(link)
        return files

    def _page(self, folder: str) -> Sequence[str]:
        """The addresses that the page of a folder links to."""
        try:
            links: Sequence[str] = self._retried(folder, lambda: self._fresh().ls(folder, detail=False))
        except FileNotFoundError:
            return ()
        return links

    def info(self, path: str, key: str) -> Entry:
        head = self._head(path)
        if head.size is not None and head.tag:
            return Entry(key, head.size, head.tag)
        size, digest = self._asked(path, _read_through)
        return Entry(key, size, head.tag or f"{HASHED}{digest}")

    def kind(self, path: str) -> str:
        try:
            self._head(path)
        except FileNotFoundError:
            return "nothing"
        return "file"

    def read(self, path: str) -> bytes:
        return self._asked(path, lambda answer: answer.read())

    def fetch(self, path: str, entry: Entry, start: int, length: int | None) -> bytes:
        wanted = entry.size - start if length is None else length
        if not wanted and entry.size:
            return b""
        part = (start, wanted) if wanted != entry.size else None
        is_hashed = entry.etag.startswith(HASHED)

        async def get(answer: ClientResponse) -> tuple[Head, bytes] | None:
            head = Head.of(answer)
            if answer.status == PART and head.is_encoded:
                return None  # a part of something that cannot be unpacked alone
            data = await _body(answer, part)
            if len(data) < wanted and not is_hashed and not head.differs_from(entry):
                raise DamagedError(f"{len(data):,} bytes came, and {wanted:,} were listed")
            return head, data

        try:
            head, data = self._asked(path, get, part) or self._asked(path, get)  # type: ignore[misc]
        except FileNotFoundError as error:
            raise ChangedError("gone since it was listed") from error
        is_other = is_hashed and part is None and _hash(data) != entry.etag
        if len(data) != wanted or is_other or (head.differs_from(entry) and self.info(path, entry.key) != entry):
            raise ChangedError("changed since it was listed")
        return data

    def download(self, path: str, file: Path) -> None:
        with renamed(file) as temporary:

            async def save(answer: ClientResponse) -> None:
                with temporary.open("wb") as out:
                    async for piece in answer.content.iter_chunked(PIECE):
                        out.write(piece)

            self._asked(path, save)

    def _place(self, path: str) -> Hashable:
        return urlsplit(path).netloc

    def _head(self, path: str) -> Head:
        """What is told of a file by HEAD and, where that is refused or tells too little, with its first byte."""
        head = Head(None, "")
        try:
            head = self._asked(path, _head, method="HEAD")
        except (ClientResponseError, OSError) as error:
            if is_of_the_place(error):
                raise
        if head.size is not None and head.tag:
            return head
        more = self._asked(path, _head, (0, 1))
        return replace(more, tag=head.tag or more.tag)

    def _asked(
        self,
        path: str,
        do: Callable[[ClientResponse], Awaitable[Out]],
        part: tuple[int, int] | None = None,
        method: str = "GET",
    ) -> Out:
        """What `do` makes of the answer for a file, or for `part` (start, length) of it."""

        async def ask() -> Out:
            async with self._answer(method, path, part) as answer:
                return await do(answer)

        return self._retried(path, lambda: sync(self.fs.loop, ask))

    @asynccontextmanager
    async def _answer(self, method: str, path: str, part: tuple[int, int] | None) -> AsyncIterator[ClientResponse]:
        """An answer that has the file, or some of it; OSError for one that has not."""
        session = await self.fs.set_session()
        headers = {**self.fs.kwargs.get("headers", {}), "Accept-Encoding": "identity"}
        if part is not None:
            headers["Range"] = f"bytes={part[0]}-{part[0] + part[1] - 1}"
        more = {"allow_redirects": True, **self.fs.kwargs, "headers": headers}
        async with session.request(method, self.fs.encode_url(path), **more) as answer:
            if answer.status in GONE:
                raise FileNotFoundError(path)
            if answer.status == NO_PART and part is not None:
                yield answer
                return
            answer.raise_for_status()
            if answer.status != OK and not (answer.status == PART and part is not None):
                raise OSError(f"the web server answers {answer.status} ({answer.reason}), not with the file")
            yield answer


async def _head(answer: ClientResponse) -> Head:
    return Head.of(answer)


async def _read_through(answer: ClientResponse) -> tuple[int, str]:
    """The size and the hash of a file."""
    size, digest = 0, hashlib.sha256()
    async for piece in answer.content.iter_chunked(PIECE):
        size += len(piece)
        digest.update(piece)
    return size, digest.hexdigest()


async def _body(answer: ClientResponse, part: tuple[int, int] | None) -> bytes:
    """What came, and of `part` these bytes alone, though the server may know no parts."""
    if part is None:
        return await answer.read()
    start, length = part
    if answer.status == NO_PART:
        raise ChangedError("shorter than it was listed")
    if answer.status == PART:
        if Head.of(answer).start != start:
            raise DamagedError("another part came than was asked for")
        return (await answer.read())[:length]
    size = 0
    pieces: list[bytes] = []
    async for piece in answer.content.iter_chunked(PIECE):
        size += len(piece)
        if size > WHOLE or (answer.content_length or 0) > WHOLE:
            raise OSError("the server sends whole files only, not parts of them; download it first")
        pieces.append(piece)
    return b"".join(pieces)[start : start + length]


def _tag(headers: Mapping[str, str]) -> str:
    """The ETag; a weak one, which may outlive a change, with the time of writing; that time where there is none."""
    etag, written = headers.get("ETag", "").strip(), headers.get("Last-Modified", "").strip()
    if etag.startswith("W/"):
        return f"{etag} {written}".strip()
    return etag.strip('"') or written


def _hash(data: bytes) -> str:
    return f"{HASHED}{hashlib.sha256(data).hexdigest()}"


def connect(address: str) -> tuple[Web, str]:
    """The connection for an address, with the user's fsspec options, and the path in it."""
    given: dict[str, Any] = {"timeout": TIMEOUT}
    for scheme in WEB:
        given |= fsspec.config.conf.get(scheme, {}).get("client_kwargs", {})
    fs, root = fsspec.core.url_to_fs(address, client_kwargs=given)
    return Web(fs), root
