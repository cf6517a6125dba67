"""How much memory there is, by files as Linux has them."""

import resource
from pathlib import Path

import pytest

from storage.images import limits

GIB = 2**30


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 3 GiB available and no limits, whose files tests may write."""
    monkeypatch.setattr(limits, "PROC", tmp_path / "proc")
    monkeypatch.setattr(limits, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr("resource.getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    put(tmp_path, "proc/meminfo", f"MemTotal: 9999 kB\nMemAvailable: {3 * 2**20} kB\nHugePages_Free: 0\n")
    put(tmp_path, "proc/self/status", f"Name:\tpython\nVmSize:\t{2**20} kB\nVmData:\t{2**19} kB\n")
    return tmp_path


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_limits_it_is_what_the_machine_has(system: Path) -> None:
    assert limits.available() == 3 * GIB
    assert limits.memory() > 0


def test_a_container_s_cached_files_make_room(system: Path) -> None:
    put(system, "proc/self/cgroup", "0::/\n")
    put(system, "cgroup/memory.max", f"{2 * GIB}\n")
    put(system, "cgroup/memory.current", f"{GIB}\n")
    put(system, "cgroup/memory.stat", f"anon 7\ninactive_file {GIB // 4}\nactive_file {GIB // 4}\n")
    assert limits.memory() == 2 * GIB
    assert limits.available() == 3 * GIB // 2


def test_a_group_has_no_more_than_those_around_it(system: Path) -> None:
    put(system, "proc/self/cgroup", "0::/a/b\n")
    for folder, most in (("a", str(GIB)), ("a/b", "max")):
        put(system, f"cgroup/{folder}/memory.max", f"{most}\n")
        put(system, f"cgroup/{folder}/memory.current", f"{GIB // 2}\n")
    assert limits.memory() == GIB
    assert limits.available() == GIB // 2


def test_the_first_version_of_cgroups_counts_too(system: Path) -> None:
    put(system, "proc/self/cgroup", "4:cpu,memory:/of/the/host\n0::/\n")
    put(system, "cgroup/memory/memory.limit_in_bytes", f"{2 * GIB}\n")
    put(system, "cgroup/memory/memory.usage_in_bytes", f"{GIB}\n")
    put(system, "cgroup/memory/memory.stat", f"inactive_file 1\ntotal_inactive_file {GIB // 2}\n")
    assert limits.available() == 3 * GIB // 2


@pytest.mark.parametrize(("kind", "used"), [(resource.RLIMIT_AS, GIB), (resource.RLIMIT_DATA, GIB // 2)])
def test_a_process_s_own_limits_count(kind: int, used: int, system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {kind: (2 * GIB, resource.RLIM_INFINITY)}
    monkeypatch.setattr("resource.getrlimit", lambda which: given.get(which, (resource.RLIM_INFINITY,) * 2))
    assert limits.memory() == 2 * GIB
    assert limits.available() == 2 * GIB - used


def test_what_is_taken_beyond_a_limit_leaves_nothing(system: Path) -> None:
    put(system, "proc/self/cgroup", "0::/\n")
    put(system, "cgroup/memory.max", "1000\n")
    put(system, "cgroup/memory.current", "2000\n")
    assert limits.available() == 0
