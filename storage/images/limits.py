"""How much memory this process may have: by the machine, by its container, and by its own limits (`ulimit -v`)."""

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
RULES = {
    "": ("", "memory.max", "memory.current", ""),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
}
"""By the controllers in a line of /proc/self/cgroup, of versions 2 and 1: where their folders are, the files for the
most and for what is used, and what names in memory.stat begin with."""
CACHED = ("inactive_file", "active_file")
"""What is used by cached files, which make room where it is wanted."""
RESOURCES = ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData"))
"""A process's own limits, and what /proc/self/status calls that which counts against each."""


def memory() -> int:
    """The bytes of memory that this process could have if nothing else were there."""
    return min(_physical(), *(most for most, _ in _limits()))


def available() -> int:
    """The bytes of memory that this process may take now, beyond what it has."""
    told = _numbers(PROC / "meminfo").get("MemAvailable")
    free = told * 1024 if told is not None else _physical()
    return max(0, min(free, *(most - used for most, used in _limits())))


def _physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _limits() -> Iterator[tuple[int, int]]:
    """The bytes that each limit allows, and how many of them are used; at least one, which is no limit."""
    yield 1 << 63, 0
    for folder, (_, most, used, prefix) in _groups():
        with suppress(OSError, ValueError):  # not there, or "max"
            stat = _numbers(folder / "memory.stat")
            cached = sum(stat.get(prefix + name, 0) for name in CACHED)
            yield int((folder / most).read_text()), int((folder / used).read_text()) - cached
    status = _numbers(PROC / "self" / "status")
    for kind, name in RESOURCES:
        if (soft := resource.getrlimit(kind)[0]) != resource.RLIM_INFINITY:
            yield soft, status.get(name, 0) * 1024


def _groups() -> Iterator[tuple[Path, tuple[str, str, str, str]]]:
    """The folders of the control groups that this process is in, each below those around it, and their rules.

    Within a container the path is often that of the host, and what counts is the root.
    """
    with suppress(OSError):
        for line in (PROC / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                if rules := RULES.get(controller):
                    root = CGROUPS / rules[0]
                    inner = root / path.lstrip("/")
                    yield from ((folder, rules) for folder in (inner, *inner.parents) if folder.is_relative_to(root))


def _numbers(path: Path) -> dict[str, int]:
    """The numbers of a file of lines "name 7" or "Name: 7 kB" by name; none where it is not there."""
    found = {}
    with suppress(OSError):
        for line in path.read_text().splitlines():
            name, *rest = line.split()[:2]
            if rest and rest[0].isdecimal():
                found[name.rstrip(":")] = int(rest[0])
    return found
