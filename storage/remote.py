"""Files that fsspec reaches and this machine does not have: memory, HTTP, SFTP, other clouds."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from storage.entries import Entry
from storage.errors import ChangedError, DamagedError, retried
from storage.fence import ask_before_changing
from storage.local import renamed

Out = TypeVar("Out")

WHOLE = 2**26
"""Of larger files nothing is read from servers that do not send parts of them."""


class Remote:
    """What a `Location` does through any fsspec file system."""

    def __init__(self, fs: Any) -> None:
        self.fs = fs

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and bool(self.fs == other.fs)

    def __hash__(self) -> int:
        return hash(self.fs)

    def list(self, root: str) -> list[Entry]:
        prefix = root.rstrip("/") + "/"
        return [
            Entry(name.removeprefix(prefix), int(info["size"] or 0), _tag(info))
            for name, info in retried(lambda: self._fresh().find(root, detail=True)).items()
            if name.startswith(prefix) and info["type"] == "file" and not name.endswith("/")
        ]

    def read(self, path: str) -> bytes:
        data: bytes = retried(lambda: self._fresh().cat_file(path))
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
            data = retried(get)
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
            retried(lambda: self.fs.get_file(path, str(temporary)))

    def delete(self, path: str) -> None:
        if self.kind(path) == "file":
            self._change(path, lambda: self.fs.rm_file(path))

    def kind(self, path: str) -> str:
        try:
            info = retried(lambda: self._fresh().info(path))  # `exists` takes every error for a no
        except FileNotFoundError:
            return "nothing"
        return "folder" if info["type"] == "directory" else "file"

    def is_file(self, path: str) -> bool:
        return self.kind(path) == "file"

    def info(self, path: str, key: str) -> Entry:
        info = retried(lambda: self._fresh().info(path))
        return Entry(key, int(info["size"] or 0), _tag(info))

    def versions(self, _: str, __: Sequence[str]) -> None:
        """Nothing: most of these tell a time for a tag."""

    def abort_uploads(self, root: str, but_below: Sequence[str]) -> None:
        """Nothing: what such file systems keep of an unfinished upload is their own affair."""

    def _change(self, path: str, do: Callable[[], object]) -> None:
        def change() -> None:
            ask_before_changing(self, path)
            do()

        retried(change)

    def _fresh(self) -> Any:
        self.fs.invalidate_cache()
        return self.fs


def connect(address: str) -> tuple[Remote, str]:
    """The file system of an address, and the path in it."""
    fs, root = fsspec.core.url_to_fs(address)
    return Remote(fs), root


def _tag(info: dict[str, Any]) -> str:
    """What changes when the bytes do: the store's ETag, else the time of writing."""
    for field in ("ETag", "etag", "mtime", "created", "LastModified"):
        if info.get(field) is not None:
            return str(info[field]).strip('"')
    return ""
