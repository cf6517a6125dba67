"""Files that fsspec reaches and this machine does not have: memory, SFTP, other clouds."""

from collections.abc import Callable, Hashable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from storage.stores.entry import Entry
from storage.stores.errors import IMPATIENCE, PATIENCE, ChangedError, DamagedError, failures, may_pass, retried
from storage.stores.fence import ask_before_changing
from storage.stores.local import renamed

Out = TypeVar("Out")

WHOLE = 2**26
"""Of larger files nothing is read from servers that do not send parts of them."""
CONTENT = ("ETag", "etag", "content_hash", "blob_id", "sha", "CRC")
WRITTEN = (
    *("mtime", "LastModified", "modify", "modified", "last_modified", "updated", "modificationTime"),
    *("last_write_time", "date_time", "created"),
)
"""How the file systems that fsspec knows call what changes with the bytes, and the time of writing."""
_answered: set[Hashable] = set()
"""The places that answered the last time."""


class Remote:
    """What a `Location` does through any fsspec file system."""

    def __init__(self, fs: Any) -> None:
        self.fs = fs

    def __eq__(self, other: object) -> bool:
        """Whether both reach the same files; fsspec itself takes those of two threads for two."""
        return isinstance(other, Remote) and _made_of(self.fs) == _made_of(other.fs)

    def __hash__(self) -> int:
        return hash(type(self.fs))

    def list(self, root: str) -> list[Entry]:
        prefix = root.rstrip("/") + "/"
        found = self._retried(root, lambda: self._fresh().find(root, detail=True))
        return [
            Entry(name.removeprefix(prefix), int(info["size"] or 0), _tag(info))
            for name, info in found.items()
            if name.startswith(prefix) and info["type"] == "file" and not name.endswith("/")
        ]

    def read(self, path: str) -> bytes:
        data: bytes = self._retried(path, lambda: self._fresh().cat_file(path))
        return data

    def fetch(self, path: str, entry: Entry, start: int, length: int | None) -> bytes:
        wanted = entry.size - start if length is None else length
        whole = wanted == entry.size
        known = bool(entry.size)  # some servers tell no sizes

        def get() -> bytes:
            data: bytes = self.fs.cat_file(path) if whole else self.fs.cat_file(path, start, start + wanted)
            if not whole and len(data) == entry.size:  # of a server that knows no parts
                if entry.size > WHOLE:
                    raise OSError("the server sends whole files only, not parts of them; download it first")
                data = data[start : start + wanted]
            if known and len(data) < wanted:
                raise DamagedError(f"{len(data):,} bytes came, and {wanted:,} were listed")
            return data

        try:
            data = self._retried(path, get)
        except FileNotFoundError as error:
            raise ChangedError("gone since it was listed") from error
        if known and (len(data) > wanted or (not whole and self.info(path, entry.key).etag != entry.etag)):
            raise ChangedError("changed since it was listed")
        return data

    def write(self, path: str, data: bytes) -> None:
        self._change(path, lambda: self.fs.pipe_file(path, data))

    def create(self, path: str, data: bytes) -> bool:
        """Put `data` at `path` unless something is there: a look and then a write."""
        if self.kind(path) != "nothing":
            return False
        self.write(path, data)
        return True

    def replace(self, path: str, entry: Entry, data: bytes) -> bool:
        """Put `data` at `path` if what is there is as it was listed: a look and then a write."""
        if self.kind(path) != "file" or self.info(path, entry.key) != entry:
            return False
        self.write(path, data)
        return True

    def remove(self, path: str, entry: Entry) -> bool:
        """Remove what is at `path` if it is as it was listed: a look and then a removal."""
        if self.kind(path) != "file" or self.info(path, entry.key) != entry:
            return False
        self.delete(path)
        return True

    def age(self, _: str) -> None:
        """Nothing: few of these tell their own time."""

    def upload(self, path: str, file: Path) -> None:
        self._change(path, lambda: self.fs.put_file(str(file), path))

    def download(self, path: str, file: Path) -> None:
        with renamed(file) as temporary:
            self._retried(path, lambda: self.fs.get_file(path, str(temporary)))

    def delete(self, path: str) -> None:
        if self.kind(path) == "file":
            self._change(path, lambda: self.fs.rm_file(path))

    def kind(self, path: str) -> str:
        try:
            info = self._retried(path, lambda: self._fresh().info(path))  # `exists` takes every error for a no
        except FileNotFoundError:
            return "nothing"
        return "folder" if info["type"] == "directory" else "file"

    def is_file(self, path: str) -> bool:
        return self.kind(path) == "file"

    def info(self, path: str, key: str) -> Entry:
        info = self._retried(path, lambda: self._fresh().info(path))
        return Entry(key, int(info["size"] or 0), _tag(info))

    def versions(self, _: str, __: Sequence[str]) -> None:
        """Nothing: most of these tell a time for a tag."""

    def abort_uploads(self, root: str, but_below: Sequence[str]) -> None:
        """Nothing: what such file systems keep of an unfinished upload is their own affair."""

    def _change(self, path: str, do: Callable[[], object]) -> None:
        def change() -> None:
            ask_before_changing(self, path)
            do()

        self._retried(path, change)

    def _place(self, _: str) -> Hashable:
        """What answers, or does not, for a path."""
        return self.fs

    def _retried(self, path: str, do: Callable[[], Out]) -> Out:
        """`do`, with patience for a place that answered the last time."""
        place = self._place(path)
        try:
            out = retried(do, PATIENCE if place in _answered else IMPATIENCE)
        except failures() as error:
            (_answered.discard if may_pass(error) else _answered.add)(place)
            raise
        _answered.add(place)
        return out

    def _fresh(self) -> Any:
        self.fs.invalidate_cache()
        return self.fs


def connect(address: str) -> tuple[Remote, str]:
    """The file system of an address, and the path in it."""
    fs, root = fsspec.core.url_to_fs(address)
    return Remote(fs), root


def _made_of(fs: Any) -> tuple[Any, ...]:
    """What makes a file system the one that it is."""
    return type(fs), fs.storage_args, fs.storage_options


def _tag(info: dict[str, Any]) -> str:
    """What changes when the bytes do: the store's ETag or sum, else the time of writing; empty where it has none."""
    told = next((info[field] for field in (*CONTENT, *WRITTEN) if info.get(field) is not None), "")
    return str(told.timestamp() if isinstance(told, datetime) else told).strip('"')
