"""Files from elsewhere that are kept on this machine: looked at whenever they are used, bounded in bytes and in age.

A file's name says where it is from, which version of it, and the hash that its bytes had when they were fetched; it
gets that name once it is whole. Whoever uses files keeps a list of them there, locked for as long: what is on such a
list is not removed. Everything else goes when it has not been used for long, or, the oldest first, for want of room.
"""

import fcntl
import hashlib
import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from storage.stores.entry import TEMPORARY_NAME
from storage.stores.errors import ChangedError, StorageError, translating_errors
from storage.stores.location import Entry, Location

DAY = 86_400.0
MUTEX = "lock"
NAME = re.compile(r"([0-9a-f]{16}-[0-9a-f]{16})-(?:([0-9a-f]{64})-)?.+", re.DOTALL)
"""Of a kept file; those of earlier versions of dtls lack the hash, and are not used any more."""
LIST = re.compile(r"use-[0-9a-f]{32}")
LONGEST = 150
"""Bytes of its own name that a kept file's name ends in."""


@dataclass(frozen=True)
class Cache:
    """A folder of files from elsewhere.

    most_bytes: all of them together, but for those in use. most_seconds: since one was used the last time.
    tell: hears of files that are not as they were fetched.
    """

    folder: Path
    most_bytes: float = 200e9
    most_seconds: float = 30 * DAY
    tell: Callable[[str], None] = field(default=lambda _: None, compare=False)

    @contextmanager
    def using(self, source: Location, entries: Iterable[Entry]) -> Iterator[Callable[[Entry, str | None], Path]]:
        """What fetches one of `entries`, of a sha256 that may be known, for as long as the body runs.

        ChangedError where it is not as it was listed, StorageError for another sha256 than the known one.
        """
        wanted = {_prefix(source, entry): entry for entry in entries}
        with translating_errors(f"{self.folder} (--cache)"):
            self._prepare()
            files = self._listed(wanted)
        try:
            here = {prefix: path for path in self._kept() if (prefix := _parts(path)[0]) in wanted}
            self._make_room(sum(entry.size for prefix, entry in wanted.items() if prefix not in here))

            def fetch(entry: Entry, sha256: str | None) -> Path:
                path = here.get(_prefix(source, entry))
                if path is not None and self._is_sound(path, entry, sha256):
                    return path
                return self._fetch(source, entry, sha256)

            yield fetch
        finally:
            with suppress(OSError):
                files.close()
                self._make_room(0)

    def _prepare(self) -> None:
        """StorageError for a folder in which somebody else may put files."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.folder.stat().st_mode & stat.S_IWOTH:
            raise StorageError(f"{self.folder} (--cache): anybody may write there; choose a folder of your own")

    def _listed(self, prefixes: Iterable[str]) -> "_Locked":
        """A list of what is in use, which stays until it is closed."""
        with self._alone():
            files = _Locked(self.folder / f"use-{uuid.uuid4().hex}")
            files.write("\n".join(prefixes))
        return files

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While the body runs, no other process removes files, or begins to use some."""
        with (self.folder / MUTEX).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _is_sound(self, path: Path, entry: Entry, sha256: str | None) -> bool:
        """Whether a kept file has the bytes that were fetched; one that has not is told, and will be replaced."""
        known, info = _parts(path)[1], path.stat()
        if sha256 in (None, known) and info.st_size == entry.size and _sha256(path) == known:
            os.utime(path, ns=(time.time_ns(), info.st_mtime_ns))
            return True
        self.tell(f"{path}: not as it was fetched; it is fetched again")
        return False

    def _fetch(self, source: Location, entry: Entry, sha256: str | None) -> Path:
        temporary = self.folder / f".{uuid.uuid4().hex}.tmp"
        address = source.address(entry.key)
        try:
            source.download(entry.key, temporary)
            found = _sha256(temporary)
            if temporary.stat().st_size != entry.size or source.info(entry.key) != entry:
                raise ChangedError(f"{address}: changed since it was listed")
            if sha256 not in (None, found):
                raise StorageError(f"{address}: not what its manifest says (sha256); see `dtls verify {source}`")
            name = PurePosixPath(entry.key).name.encode()[-LONGEST:].decode(errors="ignore")
            path = self.folder / f"{_prefix(source, entry)}-{found}-{name}"
            return temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _kept(self) -> Iterator[Path]:
        """The files that are kept; links and other things in the folder are none."""
        with os.scandir(self.folder) as found:
            for file in found:
                if NAME.fullmatch(file.name) and file.is_file(follow_symlinks=False):
                    yield Path(file.path)

    def _make_room(self, coming: float) -> None:
        """Remove what nobody uses: what is old, what killed runs left, and as much as `coming` bytes want."""
        with translating_errors(f"{self.folder} (--cache)"), self._alone():
            used = self._used()
            sizes = {path: path.stat() for path in self._kept()}
            total = coming + sum(info.st_size for info in sizes.values())
            unused = (path for path in sizes if _parts(path)[0] not in used)
            for path in sorted(unused, key=lambda path: sizes[path].st_atime):
                if total > self.most_bytes or sizes[path].st_atime < time.time() - self.most_seconds:
                    path.unlink(missing_ok=True)
                    total -= sizes[path].st_size
            for path in self.folder.iterdir():
                if re.fullmatch(TEMPORARY_NAME, path.name):
                    with suppress(FileNotFoundError):
                        if path.stat().st_mtime < time.time() - DAY:  # no download pauses for so long
                            path.unlink()

    def _used(self) -> set[str]:
        """What is on the lists of those that still run; other lists go."""
        used: set[str] = set()
        for path in self.folder.iterdir():
            if LIST.fullmatch(path.name):
                with suppress(FileNotFoundError), path.open() as file:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        used |= {*file.read().split()}
                    else:
                        path.unlink(missing_ok=True)
        return used


class _Locked:
    """A file that is locked until it is closed, or its process ends; then it is gone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        self._file.close()


def _parts(path: Path) -> tuple[str, str | None]:
    """What a kept file's name says: where it is from and which version it is, and the hash of its bytes."""
    found = NAME.fullmatch(path.name)
    return (found[1], found[2]) if found else ("", None)


def _prefix(source: Location, entry: Entry) -> str:
    return f"{_digest(source, entry.key)}-{_digest(entry)}"


def _digest(*what: object) -> str:
    return hashlib.sha256("\n".join(map(str, what)).encode()).hexdigest()[:16]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
