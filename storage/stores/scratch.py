"""Folders on this machine for what a process needs for a while; those of a process that was killed, the next sweeps.

Each is locked by whoever made it. The lock ends with the process, however that ends, so that a folder without one is
nobody's. They are in the system's folder for temporary files (`TMPDIR`), under names of their own.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "dtls-temporary-"
NAME = re.compile(rf"{PREFIX}[a-z0-9_]{{8}}")


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder, which is gone afterwards."""
    sweep_scratch()
    folder, lock = _made()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep_scratch() -> None:
    """Remove the folders that processes of this user left behind which were killed."""
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as found:
        for entry in [entry for entry in found if NAME.fullmatch(entry.name)]:
            with suppress(OSError):  # gone meanwhile, locked, or somebody else's
                _sweep(Path(entry.path))


def _sweep(folder: Path) -> None:
    lock = _locked(folder)
    try:
        if os.fstat(lock).st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _made() -> tuple[Path, int]:
    """A new folder with its lock; one that another process took for left over in between is made again."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            lock = _locked(folder)
        except (BlockingIOError, FileNotFoundError):
            continue
        if folder.exists():
            return folder, lock
        os.close(lock)


def _locked(folder: Path) -> int:
    """The lock of a folder, as an open file; OSError where another has it, or where it is a link."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(opened)
        raise
    return opened
