"""Files of this machine: read as listed, written whole: a temporary file is on the disk before it is renamed."""

import errno
import fcntl
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from storage.stores.durable import make_folder, sync_file, sync_folder, unsynced
from storage.stores.entry import (
    FOLDER_LINK,
    FOLDER_LINK_OUT,
    LINK_OUT,
    TEMPORARY_NAME,
    TOUCHED,
    UNLISTED,
    Entry,
    is_junk,
    is_still,
)
from storage.stores.errors import ChangedError, StorageError, in_one_line
from storage.stores.fence import ask_before_changing

TEMPORARY = re.compile(rf"(?:.*/)?{TEMPORARY_NAME}", re.DOTALL)
"""Keys of files that were about to be written when their run was killed."""
BROKEN, NO_TEXT, NO_FILE = "broken link", "name that is not UTF-8", "pipe, socket or device"
"""The tags of what is listed and cannot be read."""
NO_UTF8 = re.compile("[\udc80-\udcff]")
LOCKED = 10.0
"""Seconds to wait for another process that is about to replace the same file."""
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
"""What disks without locks answer."""
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
"""What disks without hard links (exFAT, some network mounts) answer."""


class LocalDisk:
    """What a `Location` does on this machine; paths are absolute.

    follow_links: to files and folders that are not below what is listed, too.
    """

    def __init__(self, *, follow_links: bool = False) -> None:
        self.follow_links = follow_links

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalDisk)

    def __hash__(self) -> int:
        return hash(LocalDisk)

    def list(self, root: str) -> list[Entry]:
        """The files below a folder, each folder once; broken links are files of no size.

        So are pipes and devices, and files whose names are not UTF-8: their keys have %E9 and the like for the bytes
        that are no text. Links that are not followed, and folders below that cannot be listed, are named alone: see
        `storage.stores.entry`. StorageError where the folder itself cannot be listed.
        """
        if not Path(root).is_dir():
            return []
        walk = _Walk(os.path.realpath(root), self.follow_links)
        walk.folder(root, "")
        return walk.entries

    def read(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def fetch(self, path: str, entry: Entry, start: int, length: int | None) -> bytes:
        if entry.etag == BROKEN:
            raise ChangedError("a broken link: no such file")
        if entry.etag == NO_TEXT:
            raise StorageError("its name is not UTF-8; rename it")
        if entry.etag == LINK_OUT:
            raise StorageError("a link that leads out of the source; --follow-links takes it")
        if entry.etag == NO_FILE:
            raise StorageError("a pipe, a socket or a device, not a file")
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            wanted = entry.size - start if length is None else length
            data = os.pread(file, wanted, start)
            if len(data) < wanted:
                data += _rest(file, start + len(data), wanted - len(data))
            info = os.fstat(file)
        finally:
            os.close(file)
        if (
            info.st_size != entry.size
            or str(info.st_mtime_ns) != entry.etag.partition(TOUCHED)[0]
            or len(data) != wanted
        ):
            raise ChangedError("changed since it was listed")
        return data

    def write(self, path: str, data: bytes) -> None:
        with renamed(Path(path)) as temporary:
            temporary.write_bytes(data)

    def create(self, path: str, data: bytes) -> bool:
        """Let a file of `data` appear at `path`, unless something is there."""
        final = Path(path)
        make_folder(final.parent)
        temporary = _temporary(final)
        try:
            temporary.write_bytes(data)
            ask_before_changing(self, path)
            os.link(temporary, final)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            if final.exists():
                return False
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def upload(self, path: str, file: Path) -> None:
        with renamed(Path(path)) as temporary:
            shutil.copyfile(file, temporary)

    def download(self, path: str, file: Path) -> None:
        with renamed(file, synced=False) as temporary:
            shutil.copyfile(path, temporary)

    def replace(self, path: str, entry: Entry, data: bytes) -> bool:
        """Put `data` at `path` if what is there is as it was listed, whoever else does so or removes it.

        For leases, which nobody misses when the machine has gone down.
        """
        with _alone(path):
            if not is_still(self.info, path, entry):
                return False
            with unsynced():
                self.write(path, data)
        return True

    def remove(self, path: str, entry: Entry) -> bool:
        """Remove what is at `path` if it is as it was listed, whoever else does so or replaces it."""
        with _alone(path):
            if not is_still(self.info, path, entry):
                return False
            self.delete(path)
        return True

    def delete(self, path: str) -> None:
        ask_before_changing(self, path)
        with suppress(FileNotFoundError, NotADirectoryError):
            Path(path).unlink()

    def kind(self, path: str) -> str:
        found = Path(path)
        if not found.exists():
            return "nothing"
        return "folder" if found.is_dir() else "file"

    def is_file(self, path: str) -> bool:
        return Path(path).is_file()

    def info(self, path: str, key: str) -> Entry:
        found = Path(path).stat()
        return Entry(key, found.st_size, str(found.st_mtime_ns), found.st_ctime_ns)

    def versions(self, _: str, __: Sequence[str]) -> None:
        """Nothing: the time of a file does not prove its bytes, and machines that share a disk may see it unlike."""

    def age(self, path: str) -> float:
        """Seconds since a file was written, by the clock of its disk, which may be another machine's."""
        probe = _temporary(Path(path))
        try:
            probe.touch()
            return probe.stat().st_mtime - Path(path).stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    def abort_uploads(self, root: str, but_below: Sequence[str]) -> None:
        """Nothing: what is unfinished here are files, which a listing shows."""


@contextmanager
def renamed(path: Path, *, within: Path | None = None, synced: bool = True) -> Iterator[Path]:
    """A temporary path that takes the place of `path` when the body succeeds and vanishes when it fails.

    It is made `within` another folder if that exists and is on the same disk. Afterwards the file and its name are on
    the disk, unless it need not be `synced`: what can be had again.
    """
    make_folder(path.parent)
    temporary = _temporary(path)
    if within is not None and within.is_dir() and within.stat().st_dev == path.parent.stat().st_dev:
        temporary = within / temporary.name
    try:
        yield temporary
        if synced:
            with suppress(FileNotFoundError):  # who took over has removed it, as asking says
                sync_file(temporary)
        ask_before_changing(LocalDisk(), str(path))
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if synced:
        sync_folder(path.parent)


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """While the body runs, no other process replaces or removes the file at `path` by way of this function.

    The lock is one on the file itself, so that a process that dies leaves none behind. A file that another has put
    in its place is locked in its stead. NFS has such locks as well, from version 4 on or with its lock daemon; on
    disks without any, and where there is no file, the body runs all the same. StorageError where another keeps it.
    """
    deadline = time.monotonic() + LOCKED
    while (file := _opened(path)) is not None:
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise StorageError(f"{path}: locked by a process that seems to be paused; end that") from error
                time.sleep(LOCKED / 1000)
                continue
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            if (now := _opened(path)) is not None:
                with now:
                    is_current = os.path.sameopenfile(file.fileno(), now.fileno())
                if is_current:
                    yield
                    return
    yield


def _opened(path: str) -> IO[bytes] | None:
    """The file at `path`, for writing where that is permitted, as NFS wants it of who locks; None without one."""
    try:
        return Path(path).open("r+b", buffering=0)
    except PermissionError:
        return Path(path).open("rb", buffering=0)
    except FileNotFoundError:
        return None


def _temporary(path: Path) -> Path:
    return path.with_name(f".{uuid.uuid4().hex}.tmp")


def _rest(file: int, start: int, length: int) -> bytes:
    """So many bytes of an open file; fewer where it ends before. The system reads at most 2 GiB at once."""
    pieces = []
    while length and (piece := os.pread(file, length, start)):
        pieces.append(piece)
        start, length = start + len(piece), length - len(piece)
    return b"".join(pieces)


class _Walk:
    """Goes through a folder and those below; keys start with a prefix."""

    def __init__(self, root: str, follow_links: bool) -> None:
        self.root, self.follow_links = root, follow_links
        self.entries: list[Entry] = []
        self.seen = {root}

    def folder(self, path: str, prefix: str) -> None:
        """Add what is in a folder; a folder without its files where it, or what is in it, is not for us to see."""
        try:
            with os.scandir(path) as found:
                children = sorted(found, key=lambda child: child.name)
            if children:
                os.stat(f"{path}/.")  # noqa: PTH116 - pathlib has no dot; refused where nothing in it is for us
        except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
            self._unlisted(path, prefix, error)
            return
        for child in children:
            try:
                self._add(child, prefix + child.name)
            except StorageError:
                raise
            except PermissionError as error:  # of what a link leads to: names here are for us to see
                self.entries.append(Entry(_as_text(prefix + child.name), 0, self._tag_of_closed(child.path, error)))
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ELOOP):
                    raise in_one_line(child.path, error) from error
                self.entries.append(Entry(_as_text(prefix + child.name), 0, BROKEN))

    def _tag_of_closed(self, link: str, error: OSError) -> str:
        """The tag of a link to what is not for us to see."""
        is_followed = self.follow_links or self._is_below(os.path.realpath(link))
        return f"{UNLISTED}{error.strerror}" if is_followed else LINK_OUT

    def _add(self, child: os.DirEntry[str], key: str) -> None:
        is_link_out = child.is_symlink() and not self._is_below(os.path.realpath(child.path))
        told = _as_text(key)
        if child.is_dir():
            real = os.path.realpath(child.path)
            if child.is_symlink() and not (is_link_out and self.follow_links):
                self.entries.append(Entry(told, 0, FOLDER_LINK_OUT if is_link_out else FOLDER_LINK))
            elif real not in self.seen:
                self.seen.add(real)
                self.folder(child.path, f"{key}/")
            return
        info = child.stat()
        if told != key or not stat.S_ISREG(info.st_mode):
            self.entries.append(Entry(told, 0, NO_TEXT if told != key else NO_FILE))
        elif is_link_out and not self.follow_links:
            self.entries.append(Entry(key, info.st_size, LINK_OUT))
        else:
            self.entries.append(Entry(key, info.st_size, str(info.st_mtime_ns), info.st_ctime_ns))

    def _is_below(self, real: str) -> bool:
        return real == self.root or real.startswith(f"{self.root.rstrip('/')}/")

    def _unlisted(self, path: str, prefix: str, error: OSError) -> None:
        folder = prefix.rstrip("/")
        if is_junk(folder) or path.endswith("/lost+found"):
            return
        if not folder:
            raise StorageError(f"{path}: cannot be listed: {error.strerror}; make it readable") from error
        self.entries.append(Entry(_as_text(folder), 0, f"{UNLISTED}{error.strerror}"))


def _as_text(key: str) -> str:
    """The key with %E9 and the like for bytes that are no UTF-8, which Python has as lone surrogates."""
    return key if key.isascii() else NO_UTF8.sub(lambda found: f"%{ord(found[0]) - 0xDC00:02X}", key)
