"""A disk whose power can be cut: an image of a file system, copied while what that keeps in memory stays out.

The mounted file system writes to the image only what it brings to its disk, so a copy of the image is what a machine
that goes down at that moment leaves behind.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

MEGABYTES = 48
COMMIT_SECONDS = 3600
"""The file system writes its journal no sooner than this unless it is told to; on its own it would every 5 s."""


@dataclass
class Disk:
    """An ext4 disk, mounted at `root`."""

    folder: Path
    mounted: list[Path] = field(default_factory=list)

    @property
    def image(self) -> Path:
        return self.folder / "disk.img"

    @property
    def root(self) -> Path:
        return self.folder / "disk"

    def cut(self) -> Path:
        """What is on the disk when the power goes now, mounted elsewhere."""
        number = len(self.mounted)
        copy = self.folder / f"cut-{number}.img"
        shutil.copyfile(self.image, copy)
        return self.mount(copy, self.folder / f"cut-{number}")

    def mount(self, image: Path, at: Path) -> Path:
        at.mkdir()
        options = f"loop,commit={COMMIT_SECONDS}"
        done = subprocess.run(["mount", "-o", options, image, at], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"needs root and loop devices ({done.stderr.strip()})")
        self.mounted.append(at)
        return at


@contextmanager
def disk_in(folder: Path) -> Iterator[Disk]:
    """A new disk; the test is skipped where none can be made."""
    if not (shutil.which("mkfs.ext4") and shutil.which("mount")):
        pytest.skip("needs mkfs.ext4 and mount: apt install e2fsprogs mount")
    disk = Disk(folder)
    with disk.image.open("wb") as file:
        file.truncate(MEGABYTES * 2**20)
    subprocess.run(["mkfs.ext4", "-q", disk.image], check=True)
    try:
        disk.mount(disk.image, disk.root)
        yield disk
    finally:
        for at in reversed(disk.mounted):
            subprocess.run(["umount", "-l", at], check=True)
