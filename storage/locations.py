"""Where bytes lie: a local path or an fsspec URL (`s3://bucket/prefix`, `memory://…`), and what goes wrong there.

Credentials come from where AWS users keep them (environment, profile, role), never from the address. Whatever a
file system raises leaves this room as a `StorageError` of one line that names the address. Files appear whole or
not at all: locally by a temporary file and a rename, elsewhere by one upload.
"""

import errno
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self
from urllib.parse import urlsplit

import fsspec
from botocore.exceptions import BotoCoreError, ClientError

S3_OPTIONS = {"config_kwargs": {"connect_timeout": 10, "retries": {"max_attempts": 4, "mode": "standard"}}}
TAKEN = ("PreconditionFailed", "ConditionalRequestConflict", "412")
"""What S3 servers answer to a conditional put where something is, or is being put by another."""
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
"""What disks without hard links (exFAT, some network mounts) answer."""


class StorageError(OSError):
    """Bytes that cannot be read or written, in one line: where, and why."""


@dataclass(frozen=True, order=True)
class Entry:
    """A file of a listing: its key (path below the location), size in bytes, and a tag that changes with it."""

    key: str
    size: int
    etag: str


@dataclass(frozen=True)
class Location:
    """A folder or prefix that holds keys. `str()` gives the address as the user wrote it."""

    url: str
    fs: Any
    root: str

    @classmethod
    def of(cls, url: str | os.PathLike[str]) -> Self:
        """The location at a path or URL; StorageError where the address cannot be understood."""
        address = os.fspath(url)
        with _errors(address):
            parts = urlsplit(address)
        if parts.username or parts.password:
            raise StorageError(
                f"{parts.scheme}://…@{parts.hostname or ''}{parts.path}: credentials do not belong in "
                "an address; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
            )
        if not address:
            raise StorageError("an empty address is no place")
        if parts.scheme in ("s3", "s3a") and not parts.netloc:
            raise StorageError(f"{address}: names no bucket")
        options = S3_OPTIONS if parts.scheme in ("s3", "s3a") else {}
        with _errors(address):
            if "://" in address:
                fs, root = fsspec.core.url_to_fs(address, **options)
            else:
                fs, root = fsspec.filesystem("file"), str(Path(address).expanduser().absolute())
        return cls(os.fspath(url).rstrip("/") or "/", fs, root.rstrip("/") or "/")

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, key: str) -> Self:
        return type(self)(self.address(key), self.fs, self.path(key))

    @property
    def local(self) -> Path | None:
        """The path on this machine, if it is one."""
        return Path(self.root) if _is_local(self.fs) else None

    def within(self, other: "Location") -> bool:
        """Whether this is `other`, or lies below it."""
        if self.local is not None and other.local is not None:
            return self.local.resolve().is_relative_to(other.local.resolve())
        return self.fs == other.fs and f"{self.root}/".startswith(f"{other.root}/")

    def address(self, key: str) -> str:
        return f"{self.url.rstrip('/')}/{key}"

    def path(self, key: str) -> str:
        """The key as the file system wants it; StorageError for a key that would leave this location."""
        parts = PurePosixPath(key).parts
        if not key or key.startswith("/") or ".." in parts or "\\" in key or any(ord(c) < 32 for c in key):
            raise StorageError(f"{self}: {key!r} is no name for a file below it")
        return f"{self.root.rstrip('/')}/{key}"

    def list(self) -> list[Entry]:
        """Every file below, sorted by key, from one fresh listing; empty where there is nothing."""
        if self.local is not None:
            with _errors(self.url):
                return sorted(_walk(self.local))
        with _errors(self.url):
            self.fs.invalidate_cache()
            found = self.fs.find(self.root, detail=True)
        prefix = self.root.rstrip("/") + "/"
        entries = (
            Entry(name.removeprefix(prefix), int(info["size"] or 0), _etag(info))
            for name, info in found.items()
            if name.startswith(prefix) and info["type"] == "file" and not name.endswith("/")
        )
        return sorted(entries)

    def read(self, key: str) -> bytes:
        with _errors(self.address(key)):
            data: bytes = self.fs.cat_file(self.path(key))
            return data

    def exists(self, key: str) -> bool:
        with _errors(self.address(key)):
            self.fs.invalidate_cache()
            return bool(self.fs.exists(self.path(key)))

    def what_is_there(self) -> str:
        """`nothing`, a `file`, or a `folder` (or prefix, or bucket)."""
        with _errors(self.url):
            if not self.fs.exists(self.root):
                return "nothing"
            return "file" if self.fs.isfile(self.root) else "folder"

    def write(self, key: str, data: bytes) -> None:
        """Put `data` at `key`, whole."""
        with _errors(self.address(key)):
            if self.local is None:
                self.fs.pipe_file(self.path(key), data)
                return
            with _renamed(Path(self.path(key))) as temporary:
                temporary.write_bytes(data)

    def create(self, key: str, data: bytes) -> bool:
        """Put `data` at `key`, whole, if nothing is there; False where something is.

        Exact on a local disk that has hard links and on S3 servers that know conditional puts, whoever else tries;
        elsewhere a look and then a write.
        """
        with _errors(self.address(key)):
            if self.local is not None:
                return _linked(Path(self.path(key)), data)
            try:
                self.fs.pipe_file(self.path(key), data, mode="create")
            except OSError as error:
                code = (_refusal(error) or {}).get("Code")
                if isinstance(error, FileExistsError) or code in TAKEN:
                    return False
                if code != "NotImplemented":
                    raise
                if self.exists(key):
                    return False
                self.fs.pipe_file(self.path(key), data)
            return True

    def upload(self, key: str, file: Path) -> None:
        """Put a local file at `key`, whole."""
        with _errors(self.address(key)):
            if self.local is None:
                self.fs.put_file(str(file), self.path(key))
                return
            with _renamed(Path(self.path(key))) as temporary:
                fsspec.filesystem("file").cp_file(str(file), str(temporary))

    def download(self, key: str, file: Path) -> None:
        """Get `key` as a local file that appears whole."""
        with _errors(self.address(key)), _renamed(file) as temporary:
            self.fs.get_file(self.path(key), str(temporary))

    def delete(self, key: str) -> None:
        """Remove `key`; nothing happens where it is gone already."""
        with _errors(self.address(key)):
            if self.fs.exists(self.path(key)):
                self.fs.rm_file(self.path(key))


@contextmanager
def _renamed(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the body succeeds and vanishes when it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _linked(path: Path, data: bytes) -> bool:
    """Let a file of `data` appear at `path`, unless something is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(data)
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if path.exists():
            return False
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _walk(folder: Path) -> Iterator[Entry]:
    """The files below a local folder, through links, each folder once; broken links are files of no size."""
    seen: set[str] = set()
    if not folder.is_dir():
        return
    for where, below, names in os.walk(folder, followlinks=True, onerror=_raise):
        real = os.path.realpath(where)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        for name in names:
            path = Path(where, name)
            key = str(path.relative_to(folder).as_posix())
            if not key.isprintable() and any("\udc80" <= c <= "\udcff" for c in key):
                raise StorageError(f"{folder}: the name {os.fsencode(key)!r} is not UTF-8; rename it")
            try:
                info = path.stat()
            except FileNotFoundError:
                yield Entry(key, 0, "broken link")
                continue
            if stat.S_ISREG(info.st_mode):
                yield Entry(key, info.st_size, str(info.st_mtime_ns))


def _raise(error: OSError) -> None:
    raise error


def _is_local(fs: Any) -> bool:
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    return "file" in protocols


def _etag(info: dict[str, Any]) -> str:
    """What changes when the bytes do: the store's ETag, else the time of writing."""
    for field in ("ETag", "etag", "mtime", "created", "LastModified"):
        if info.get(field) is not None:
            return str(info[field]).strip('"')
    return ""


@contextmanager
def _errors(address: str) -> Iterator[None]:
    """Turn whatever the file system raises into one line that names the address."""
    try:
        yield
    except StorageError:
        raise
    except (OSError, ClientError, BotoCoreError, ImportError, ValueError, TypeError, RuntimeError) as error:
        raise StorageError(f"{address}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file, folder or bucket"
    if details := _refusal(error):
        return f"refused by the S3 server: {details['Code']} ({details.get('Message', 'no message')})"
    if isinstance(error, PermissionError):
        return f"no permission ({error.strerror or error})"
    return " ".join(str(error).split()) or type(error).__name__


def _refusal(error: BaseException) -> dict[str, str] | None:
    """What an S3 server said, if it was one that refused."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ClientError):
            return {"Code": "?", **cause.response.get("Error", {})}
        cause = cause.__cause__
    return None
