"""What is told as done is on the disk: the bytes of a file before its name, and the name before what proves it.

A file that is renamed, and a folder that has a new name in it, may still be in memory alone: when the machine goes
down, names without bytes are left. So each file is brought to the disk before it is renamed, and its folder after;
files of one unit together, many at a time, as disks take them faster so. `unsynced` leaves all of it out.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from storage.parallel import ordered_map

SYNCS_AT_ONCE = 16
"""A disk takes so many together in little more time than one."""
NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)
"""What file systems answer that cannot bring a folder to the disk: some network mounts, and FUSE."""
_is_synced: ContextVar[bool] = ContextVar("is synced", default=True)
_names_later: ContextVar[bool] = ContextVar("names later", default=False)


@contextmanager
def unsynced(*, applies: bool = True) -> Iterator[None]:
    """While the body runs, what it writes gets to the disk when the system brings it there; if this `applies`."""
    token = _is_synced.set(_is_synced.get() and not applies)
    try:
        yield
    finally:
        _is_synced.reset(token)


@contextmanager
def names_later() -> Iterator[None]:
    """While the body runs, only the bytes of files are brought to the disk; `sync_folders` has to come later."""
    token = _names_later.set(True)
    try:
        yield
    finally:
        _names_later.reset(token)


def sync_file(path: Path) -> None:
    """Bring the bytes of a file to the disk; OSError where they do not get there."""
    if _is_synced.get():
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, if it is there still, and its file system can."""
    if _names_later.get():
        return
    try:
        sync_file(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise


def sync_folders(folders: Iterable[Path], root: Path) -> None:
    """Bring the names in folders below `root` to the disk, many at a time, and those of the folders themselves."""
    around = {above for folder in folders for above in (folder, *folder.parents) if above.is_relative_to(root)}
    for _ in ordered_map(sync_folder, around if _is_synced.get() else (), SYNCS_AT_ONCE):
        pass


def make_folder(folder: Path) -> None:
    """Make a folder, and those around it that are missing, with their names on the disk."""
    if folder.is_dir():
        return
    missing = [folder, *(around for around in folder.parents if not around.exists())]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)
