"""How many pixels may be on their way at a time, so that large pictures do not fill the machine's memory."""

import os
from pathlib import Path

SHARE, BYTES = 4, 32
"""Results may take a quarter of the memory, at so many bytes a pixel: three as they are read, four to sixteen while
they are computed, three as they come out, and as many once more while they are encoded."""
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where a container says how much it has: version 2 of Linux's cgroups, and version 1."""


def memory() -> int:
    """The bytes of memory of this machine, or of this container."""
    least = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in LIMITS:
        try:
            least = min(least, int(file.read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return least


def pixels_at_once(units: int) -> int:
    """How many pixels of results each of `units` units may have on their way."""
    return memory() // (SHARE * BYTES * units)
