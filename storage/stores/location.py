"""Where bytes are stored: a local path or an fsspec URL (`s3://bucket/prefix`, `memory://…`), as keys below it.

Credentials come from where AWS users keep them (environment, profile, role), never from the address. Whatever goes
wrong leaves this room as a `StorageError` of one line that names the address. Files appear whole or not at all:
locally by a temporary file and a rename, elsewhere by one upload.
"""

import os
import re
from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, Self
from urllib.parse import urlsplit

from storage.stores.addresses import WEB, without_secrets
from storage.stores.entry import STATE, Entry
from storage.stores.errors import (
    ChangedError,
    StorageError,
    UnavailableError,
    aws_errors,
    failures,
    in_one_line,
    translating_errors,
)
from storage.stores.fence import Ask, fenced
from storage.stores.local import TEMPORARY, LocalDisk, renamed
from storage.stores.scratch import scratch_folder

__all__ = ["TEMPORARY", "ChangedError", "Entry", "Location", "StorageError", "UnavailableError"]

NO_PATH = re.compile(r"//|(?:\A|/)\.(?:\Z|/)|/\Z")
"""In keys that are the path of another on a disk."""
SCHEME = re.compile(
    r"(?!file:)([a-z][a-z0-9+.-]+):/(?!/)|(s3a?|https?|gs|gcs|abfs|az|hf|s?ftp|memory):(?![/:])", re.IGNORECASE
)
"""What an address begins with that lacks a slash, or both."""
NO_KEY = re.compile(r"\A\Z|\A/|\\|[\x00-\x1f]|(?:\A|/)\.\.(?:\Z|/)")


class Store(Hashable, Protocol):
    """What each kind of place does in its own way: `local`, `s3`, `web` and `fsspec_store`."""

    def list(self, root: str) -> list[Entry]: ...
    def read(self, path: str) -> bytes: ...
    def fetch(self, path: str, entry: Entry, start: int, length: int | None) -> bytes: ...
    def write(self, path: str, data: bytes) -> None: ...
    def create(self, path: str, data: bytes) -> bool: ...
    def replace(self, path: str, entry: Entry, data: bytes) -> bool: ...
    def remove(self, path: str, entry: Entry) -> bool: ...
    def age(self, path: str) -> float | None: ...
    def upload(self, path: str, file: Path) -> None: ...
    def download(self, path: str, file: Path) -> None: ...
    def delete(self, path: str) -> None: ...
    def kind(self, path: str) -> str: ...
    def is_file(self, path: str) -> bool: ...
    def info(self, path: str, key: str) -> Entry: ...
    def versions(self, root: str, keys: Sequence[str]) -> dict[str, Entry] | None: ...
    def abort_uploads(self, root: str, but_below: Sequence[str]) -> None: ...


@dataclass(frozen=True)
class Location:
    """A folder or prefix that holds keys. `str()` gives the address as the user wrote it."""

    url: str
    store: Store
    root: str

    @classmethod
    def of(cls, url: str | os.PathLike[str], *, follow_links: bool = False) -> Self:
        """The location at a path or URL; StorageError where the address cannot be understood.

        follow_links: of this machine, whether a listing goes through links that lead out of the folder.
        """
        address = os.fspath(url)
        check_secrets(address)
        with translating_errors(address):
            parts = urlsplit(address)
        if not address:
            raise StorageError("an empty address is no place")
        if parts.scheme in ("s3", "s3a") and "://" in address:
            if not parts.netloc:
                raise StorageError(f"{address}: names no bucket")
            if parts.path.endswith("//"):
                raise StorageError(f"{address}: ends in a part without a name; write it with one slash at its end")
        elif lacking := SCHEME.match(address):
            scheme, what = lacking[1] or lacking[2], "a slash is" if lacking[1] else "two slashes are"
            raise StorageError(
                f"{address}: {what} missing: write {scheme}://{address[lacking.end() :]}, or "
                f"./{address} for a folder of that name"
            )
        with translating_errors(address):
            store, root = _connect(address, parts.scheme)
            if follow_links and isinstance(store, LocalDisk):
                store = LocalDisk(follow_links=True)
        return cls(address.rstrip("/") or "/", store, root.rstrip("/") or "/")

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, key: str) -> Self:
        return type(self)(self.address(key), self.store, self.path(key))

    @property
    def local(self) -> Path | None:
        """The path on this machine, if it is one."""
        return Path(self.root) if isinstance(self.store, LocalDisk) else None

    @property
    def absolute(self) -> str:
        """The address that means the same from any folder; links stay what they are."""
        return self.url if self.local is None else str(self.local)

    @property
    def parent(self) -> "Location | None":
        """The folder or prefix around it; None for a bucket, and for the root."""
        if self.local is not None:
            around = self.local.parent
            return type(self)(str(around), self.store, str(around)) if around != self.local else None
        root, _, name = self.root.rpartition("/")
        return type(self)(self.url.removesuffix(f"/{name}"), self.store, root) if root else None

    def within(self, other: "Location") -> bool:
        """Whether this is `other`, or is below it."""
        if self.local is not None and other.local is not None:
            return self.local.resolve().is_relative_to(other.local.resolve())
        return self.store == other.store and f"{self.root}/".startswith(f"{other.root}/")

    def address(self, key: str) -> str:
        return f"{'' if self.url == '/' else self.url}/{key}"

    def path(self, key: str) -> str:
        """The key as the store wants it; StorageError for a key that would leave this location."""
        if NO_KEY.search(key) or (isinstance(self.store, LocalDisk) and NO_PATH.search(key)):
            raise StorageError(f"{self}: {key!r} is no name for a file below it ({_reason(key)}); rename that")
        return f"{'' if self.root == '/' else self.root}/{key}"

    def list(self) -> list[Entry]:
        """Every file below, sorted by key, from one fresh listing; empty where there is nothing."""
        with translating_errors(self.url):
            return sorted(self.store.list(self.root))

    def read(self, key: str, most: int | None = None) -> bytes:
        """What is at `key` now; StorageError where that is not a file, or has more than `most` bytes."""
        if most is not None:
            self._check_more(key, self.info(key).size, most)
        with translating_errors(self.address(key)):
            data = self.store.read(self.path(key))
        if most is not None:
            self._check_more(key, len(data), most)
        return data

    def _check_more(self, key: str, size: int, most: int) -> None:
        if size > most:
            raise StorageError(f"{self.address(key)}: {size:,} bytes, and such a file has {most:,} at most")

    def read_if_there(self, key: str, most: int | None = None) -> bytes | None:
        """What is at `key` now, as `read` has it, or None where nothing is; StorageError where that is not known."""
        try:
            return self.read(key, most)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                return None
            raise

    def fetch(self, entry: Entry, start: int = 0, length: int | None = None) -> bytes:
        """The bytes of a file as it was listed, or `length` of them from `start` on.

        ChangedError where the file is another by now, or gone. Nothing short or damaged is ever returned: lengths
        are compared, and on S3 the version (If-Match) and the checksum of a whole object.
        """
        path = self.path(entry.key)
        try:
            return self.store.fetch(path, entry, start, length)
        except ChangedError as error:
            raise ChangedError(f"{self.address(entry.key)}: {error}") from error
        except FileNotFoundError as error:
            raise ChangedError(f"{self.address(entry.key)}: gone since it was listed") from error
        except failures() as error:
            raise in_one_line(self.address(entry.key), error) from error

    def info(self, key: str) -> Entry:
        """What a listing would say of `key` now."""
        with translating_errors(self.address(key)):
            return self.store.info(self.path(key), key)

    def versions(self, keys: Sequence[str]) -> dict[str, Entry] | None:
        """What a listing would say of some keys now, those that are there; None where its tags do not prove bytes."""
        for key in keys:
            self.path(key)
        with translating_errors(self.url):
            return self.store.versions(self.root, keys)

    def exists(self, key: str) -> bool:
        with translating_errors(self.address(key)):
            return self.store.kind(self.path(key)) != "nothing"

    def what_is_there(self) -> str:
        """`nothing`, a `file`, or a `folder` (or prefix, or bucket)."""
        with translating_errors(self.url):
            return self.store.kind(self.root)

    @property
    def is_file(self) -> bool:
        """Whether this is a file; on S3 one request, where `what_is_there` may take two."""
        with translating_errors(self.url):
            return self.store.is_file(self.root)

    def write(self, key: str, data: bytes) -> None:
        """Put `data` at `key`, whole."""
        with translating_errors(self.address(key)):
            self.store.write(self.path(key), data)

    def create(self, key: str, data: bytes) -> bool:
        """Put `data` at `key`, whole, if nothing is there; False where something is.

        Exact on a local disk that has hard links and on S3 servers that know conditional puts, whoever else tries;
        elsewhere a look and then a write.
        """
        with translating_errors(self.address(key)):
            return self.store.create(self.path(key), data)

    def replace(self, entry: Entry, data: bytes) -> bool:
        """Put `data` at the key of `entry`, whole, if what is there is still as it was listed; else False.

        Exact on a local disk that has locks and on S3 servers that know conditional puts, whoever else tries;
        elsewhere a look and then a write.
        """
        with translating_errors(self.address(entry.key)):
            return self.store.replace(self.path(entry.key), entry, data)

    def remove(self, entry: Entry) -> bool:
        """Remove what is at the key of `entry` if it is still as it was listed; else False. As exact as `replace`."""
        with translating_errors(self.address(entry.key)):
            return self.store.remove(self.path(entry.key), entry)

    def age(self, key: str) -> float | None:
        """Seconds since `key` was written, by the store's own clock; None where it does not tell its time."""
        with translating_errors(self.address(key)):
            return self.store.age(self.path(key))

    @contextmanager
    def fenced(self, ask: Ask, also: "Sequence[Location]" = ()) -> Iterator[None]:
        """While the body runs, this process calls `ask` just before each change here, below, and at the others."""
        with ExitStack() as stack:
            for place in (self, *also):
                stack.enter_context(fenced(place.store, place.root, ask))
            yield

    @contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        """A new local file to fill, which is put at `key`, whole, when the body succeeds; else it vanishes.

        Until then that of an archive is in the folder where its results wait, which the next run sweeps.
        """
        address, path = self.address(key), self.path(key)
        try:
            if self.local is not None:
                with renamed(Path(path), within=Path(f"{path}{STATE}")) as temporary:
                    yield temporary
            else:
                with scratch_folder() as folder:
                    temporary = folder / PurePosixPath(key).name
                    yield temporary
                    with translating_errors(address):
                        self.store.upload(path, temporary)
        except StorageError:
            raise
        except Exception as error:
            if not isinstance(error, (OSError, *aws_errors("BotoCoreError"))):
                raise
            raise in_one_line(address, error) from error

    def upload(self, key: str, file: Path) -> None:
        """Put a local file at `key`, whole."""
        with translating_errors(self.address(key)):
            self.store.upload(self.path(key), file)

    def download(self, key: str, file: Path) -> None:
        """Get `key` as a local file that appears whole."""
        with translating_errors(self.address(key)):
            self.store.download(self.path(key), file)

    @contextmanager
    def as_file(self, key: str) -> Iterator[Path]:
        """The file at `key` as one on this machine: itself, or a copy that is removed afterwards."""
        if self.local is not None:
            yield Path(self.path(key))
            return
        with scratch_folder() as folder:
            path = folder / PurePosixPath(key).name
            self.download(key, path)
            yield path

    def delete(self, key: str) -> None:
        """Remove `key`; nothing happens where it is gone already."""
        with translating_errors(self.address(key)):
            self.store.delete(self.path(key))

    def abort_uploads(self, but_below: Sequence[str] = ()) -> None:
        """Give up the uploads below that a killed run left unfinished, but for those below some folders."""
        with translating_errors(self.url):
            self.store.abort_uploads(self.root, but_below)


def check_secrets(address: str) -> None:
    """StorageError, which shows none, for an address with a password, a signature or a token in it."""
    if (shown := without_secrets(address)) != address:
        raise StorageError(
            f"{shown}: credentials do not belong in an address, which is shown and kept; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, a profile, or what fsspec reads (FSSPEC_FTP_PASSWORD); download what a signed "
            "URL gives"
        )


def _reason(key: str) -> str:
    """Why a key is no name for a file."""
    parts = set(key.split("/"))
    for is_so, why in (
        (".." in parts, "it leads out"),
        ("\\" in key, "it has a backslash"),
        (re.search(r"[\x00-\x1f]", key), "it has control characters"),
        ("" in parts, "a part of it is empty"),
    ):
        if is_so:
            return why
    return "a part of it is a dot"


def _connect(address: str, scheme: str) -> tuple[Store, str]:
    """The store behind an address, and its path there; the libraries of others than this machine's take seconds."""
    if "://" not in address and scheme not in ("s3", "s3a", "file", *WEB):
        return LocalDisk(), str(Path(address).expanduser().absolute())
    from storage.stores import fsspec_store, s3, web

    if scheme in ("s3", "s3a"):
        return s3.connect(address)
    if scheme == "file":
        return LocalDisk(), fsspec_store.connect(address)[1]
    return web.connect(address) if scheme in WEB else fsspec_store.connect(address)
