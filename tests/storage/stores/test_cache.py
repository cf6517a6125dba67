"""Files kept on this machine: what is not as it was fetched is never used, and what is used is never removed."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from storage.stores.cache import DAY, Cache
from storage.stores.errors import ChangedError
from storage.stores.location import Entry, Location, StorageError

SHA256 = hashlib.sha256(b"a" * 1000).hexdigest()
HOLD = """
import sys
from pathlib import Path
from storage.stores.cache import Cache
from storage.stores.location import Entry, Location
folder, url, key, size, etag = sys.argv[1:]
with Cache(Path(folder)).using(Location.of(url), [Entry(key, int(size), etag)]):
    print("holds", flush=True)
    sys.stdin.read()
"""
"""Another process that uses a file."""


@pytest.fixture
def source() -> Iterator[Location]:
    """A place from which files have to be fetched: a.tar, b.tar, c.tar of 1000 bytes each."""
    source = Location.of("memory://kept")
    for name in "abc":
        source.write(f"{name}.tar", name.encode() * 1000)
    yield source
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def fetched(cache: Cache, source: Location, *names: str) -> list[Path]:
    entries = [entry for entry in source.list() if not names or entry.key.removesuffix(".tar") in names]
    with cache.using(source, entries) as fetch:
        return [fetch(entry, None) for entry in entries]


def kept(cache: Cache) -> set[str]:
    """What is there, by the names that it had."""
    return {path.name.rpartition("-")[2] for path in cache.folder.iterdir()} - {"lock"}


def used(path: Path, days: float) -> None:
    """Let a file be one that was used so long ago."""
    os.utime(path, (time.time() - days * DAY, path.stat().st_mtime))


def test_what_is_there_is_not_fetched_again(cache: Cache, source: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = fetched(cache, source)
    monkeypatch.setattr(Location, "download", None)
    assert fetched(cache, source) == paths
    assert [path.read_bytes() for path in paths] == [name * 1000 for name in (b"a", b"b", b"c")]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"x" * 1000),
        lambda path: path.write_bytes(path.read_bytes()[:500]),
        lambda path: path.write_bytes(b""),
        lambda path: (path.rename(path.with_name("elsewhere")), path.symlink_to("elsewhere")),
        lambda path: path.rename(
            path.with_name(path.name.replace(hashlib.sha256(b"a" * 1000).hexdigest(), "0" * 64))
        ),
    ],
    ids=["other bytes", "half", "nothing", "a link", "another hash"],
)
def test_what_is_not_as_it_was_fetched_is_fetched_again(
    spoil: Callable[[Path], object], source: Location, tmp_path: Path
) -> None:
    said: list[str] = []
    cache = Cache(tmp_path / "cache", tell=said.append)
    [path] = fetched(cache, source, "a")
    spoil(path)
    is_link = path.is_symlink()
    assert fetched(cache, source, "a") == [path]
    assert (path.read_bytes(), path.is_symlink()) == (b"a" * 1000, False)
    assert is_link or (len(said) == 1 and "is fetched again" in said[0])


def test_what_changes_before_it_is_fetched_is_not_kept(cache: Cache, source: Location) -> None:
    [entry, *_] = source.list()
    source.write("a.tar", b"A" * 1000)
    with cache.using(source, [entry]) as fetch, pytest.raises(ChangedError, match=r"kept/a\.tar: changed since"):
        fetch(entry, None)
    with (
        cache.using(source, source.list()) as fetch,
        pytest.raises(StorageError, match=r"kept/a\.tar: not what its manifest says \(sha256\)"),
    ):
        fetch(source.info("a.tar"), "0" * 64)
    assert kept(cache) == set()


def test_what_nobody_has_used_for_long_goes(cache: Cache, source: Location) -> None:
    old, new, _ = fetched(cache, source)
    used(old, 31)
    used(new, 29)
    fetched(cache, source, "c")
    assert kept(cache) == {"b.tar", "c.tar"}


def test_beyond_its_size_what_was_used_first_goes_first(source: Location, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", most_bytes=2500)
    first, second = fetched(cache, source, "a", "b")
    used(first, 1)
    used(second, 2)
    fetched(cache, source, "c")
    assert kept(cache) == {"a.tar", "c.tar"}
    paths = fetched(cache, source)  # more than there may be, and all of it in use
    assert [path.exists() for path in paths].count(True) == 2


def test_files_of_others_stay_and_downloads_of_killed_runs_go(cache: Cache, source: Location) -> None:
    fetched(cache, source, "a")
    theirs, download, dead = (cache.folder / name for name in ("theirs.tar", f".{'a' * 32}.tmp", f".{'b' * 32}.tmp"))
    for path in (theirs, download, dead):
        path.write_bytes(b"half")
    os.utime(theirs, (0, 0))
    os.utime(dead, (0, 0))
    fetched(Cache(cache.folder, most_bytes=0), source, "a")
    assert set(cache.folder.iterdir()) == {theirs, download, cache.folder / "lock"}


@pytest.mark.slow
def test_what_another_process_uses_stays_until_it_ends(source: Location, tmp_path: Path) -> None:
    cache, none = Cache(tmp_path / "cache"), Cache(tmp_path / "cache", most_bytes=0, most_seconds=0)
    fetched(cache, source)
    [entry, *_] = source.list()
    command = [sys.executable, "-c", HOLD, str(cache.folder), str(source), entry.key, str(entry.size), entry.etag]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "holds\n"
        fetched(none, source, "b")
        assert "a.tar" in kept(cache)
        assert "b.tar" not in kept(cache)
        other.kill()
    fetched(none, source, "c")
    assert kept(cache) == set()


def test_a_folder_in_which_anybody_may_write_is_refused(source: Location, tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(StorageError, match=r"\(--cache\): anybody may write there"):
        fetched(Cache(tmp_path), source)


def test_long_names_and_those_of_no_ascii_are_kept(cache: Cache, source: Location) -> None:
    for name in ("n" * 251, "é" * 120):
        source.write(f"{name}.tar", b"long")
    assert [path.read_bytes() for path in fetched(cache, source)][-2:] == [b"long"] * 2


def test_an_entry_of_a_cache_is_of_one_version(cache: Cache, source: Location) -> None:
    [first] = fetched(cache, source, "a")
    source.write("a.tar", b"new")
    [second] = fetched(cache, source, "a")
    assert (first.read_bytes(), second.read_bytes()) == (b"a" * 1000, b"new")
    assert Entry("a.tar", 3, source.info("a.tar").etag) in source.list()
