"""The tar writer: webdataset's bytes, whole or an error, and never a thread left behind."""

import errno
import hashlib
import io
import random
import resource
import signal
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import webdataset

from storage.archives.tar import PLAIN
from storage.archives.tar_writer import ALONE, TOGETHER, UNDER_WAY, TarWriter

BLOCK, RECORD = 512, 10_240
Samples = list[tuple[str, dict[str, bytes]]]
"""Keys, and by their suffixes the members of each."""


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def made(samples: Samples) -> tuple[bytes, int, str]:
    """What our writer makes of samples, and what it says of that."""
    file = io.BytesIO()
    with TarWriter(file) as tar:
        for key, members in samples:
            for suffix in sorted(members):
                tar.add(f"{key}.{suffix}", members[suffix])
        size, digest = tar.close()
    return file.getvalue(), size, digest


def theirs(samples: Samples) -> bytes:
    file = io.BytesIO()
    with webdataset.TarWriter(file, encoder=False, mtime=0) as tar:
        for key, members in samples:
            tar.write({"__key__": key, **members})
    return file.getvalue()


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def of_sizes(*sizes: int) -> Samples:
    return [(f"{number:09d}", {"png": noise(size, number)}) for number, size in enumerate(sizes)]


AROUND_A_RECORD = tuple(
    RECORD * records + beside for records in (1, 2) for beside in (-1537, -1536, -1025, -1024, -513, -512, -1, 0, 1)
)
CASES: dict[str, Samples] = {
    "none": [],
    **{f"one of {size}": of_sizes(size) for size in (0, 1, 511, 512, 513, *AROUND_A_RECORD)},
    "a few MB": of_sizes(3 * 2**20 + 1, 0, 5 * 2**20, 1),
    "around a piece": of_sizes(TOGETHER - BLOCK - 1, TOGETHER - BLOCK, TOGETHER - BLOCK + 1, TOGETHER),
    "around what is written alone": of_sizes(7, ALONE - 1, ALONE, ALONE + 1, 0, ALONE + BLOCK - 1, 7, ALONE),
    "many": of_sizes(*(random.Random(7).choices((0, 1, 100, 511, 512, 513, 2000), k=3000))),
    "images with their facts": [
        (f"{number:09d}", {"jpg": noise(700 * number), "json": b'{"key": "%d"}' % number}) for number in range(50)
    ],
    "names of all lengths": [("k" * length, {"png": b"x" * length}) for length in range(1, 97)],
}


@pytest.mark.parametrize("samples", CASES.values(), ids=CASES)
def test_the_bytes_are_those_of_webdatasets_writer(samples: Samples) -> None:
    data, size, digest = made(samples)
    assert data == theirs(samples)
    assert size == len(data)
    assert size % RECORD == 0
    assert digest == hashlib.sha256(data).hexdigest()


def test_tarfile_gnu_tar_and_webdataset_read_every_member(tmp_path: Path) -> None:
    samples = [*CASES["images with their facts"], *((f"z{key}", members) for key, members in CASES["a few MB"])]
    expected = {f"{key}.{suffix}": data for key, members in samples for suffix, data in members.items()}
    path = tmp_path / "made.tar"
    path.write_bytes(made(samples)[0])

    with tarfile.open(path) as tar:
        members = tar.getmembers()
        assert {member.name: member.size for member in members} == {n: len(d) for n, d in expected.items()}
        assert {(m.mtime, m.mode, m.uid, m.gid, m.uname, m.gname) for m in members} == {
            (0, 0o444, 0, 0, "bigdata", "bigdata")
        }
    listed = subprocess.run(["tar", "-tvf", path], capture_output=True, text=True, check=True)
    assert listed.stderr == ""
    assert [line.split()[-1] for line in listed.stdout.splitlines()] == list(expected)
    (tmp_path / "out").mkdir()
    unpacked = subprocess.run(
        ["tar", "-xf", path, "-C", tmp_path / "out"], capture_output=True, text=True, check=True
    )
    assert unpacked.stderr == ""
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == expected
    read = webdataset.WebDataset(str(path), shardshuffle=False)
    assert {
        f"{sample['__key__']}.{suffix}": data
        for sample in read
        for suffix, data in sample.items()
        if not suffix.startswith("__")
    } == expected


class Sparing(io.RawIOBase):
    """A file that takes at most so many bytes at a time, as raw files may."""

    def __init__(self, most: int) -> None:
        self.taken, self.most = bytearray(), most

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.taken += data[: self.most]
        return min(self.most, len(data))


@pytest.mark.parametrize("most", [1000, TOGETHER - 1])
def test_a_file_that_takes_less_than_it_is_given_is_given_the_rest(most: int) -> None:
    file, samples = Sparing(most), of_sizes(3 * 2**20, 700)
    with TarWriter(file) as tar:
        for key, members in samples:
            tar.add(f"{key}.png", members["png"])
        size, digest = tar.close()
    assert bytes(file.taken) == theirs(samples)
    assert (size, digest) == (len(file.taken), hashlib.sha256(file.taken).hexdigest())


def test_a_disk_that_fills_up_within_the_last_write_is_an_error(tmp_path: Path) -> None:
    """A write into the last bytes of a disk succeeds, with fewer bytes than were given; only the next one fails."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with (tmp_path / "full.tar").open("wb", buffering=0) as file, TarWriter(file) as tar:
            tar.add("0.png", bytes(20_000))
            resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, before[1]))
            with pytest.raises(OSError, match="too large") as raised:
                tar.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert raised.value.errno == errno.EFBIG


class Failing(io.BytesIO):
    """A file on a disk that is full from so many bytes on."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if self.tell() + len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def add(tar: TarWriter, megabytes: int) -> None:
    for number in range(megabytes):
        tar.add(f"{number}.png", bytes(2**20))


def fill(tar: TarWriter, megabytes: int) -> None:
    add(tar, megabytes)
    tar.close()


@pytest.mark.parametrize("room", [0, 2**20, 5 * 2**20])
@pytest.mark.parametrize("megabytes", [0, 1, 6, 40])
def test_an_error_of_writing_comes_out_of_add_or_close(room: int, megabytes: int) -> None:
    with TarWriter(Failing(room)) as tar:
        if room > megabytes * 1.1 * 2**20 + RECORD:
            fill(tar, megabytes)
            return
        with pytest.raises(OSError, match="No space left") as raised:
            fill(tar, megabytes)
    assert raised.value.errno == errno.ENOSPC


def test_add_gives_up_soon_after_writing_failed() -> None:
    with TarWriter(Failing(0)) as tar, pytest.raises(OSError, match="No space left"):
        add(tar, 5)


@pytest.mark.parametrize("megabytes", [0, 10])
def test_a_full_device_is_an_error(megabytes: int) -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as file,
        TarWriter(file) as tar,
        pytest.raises(OSError, match="No space left") as raised,
    ):
        fill(tar, megabytes)
    assert raised.value.errno == errno.ENOSPC


class Huge(bytes):
    """Says that it has 8 GiB."""

    def __len__(self) -> int:
        return 8 * 2**30


@pytest.mark.parametrize(
    ("name", "data"), [("n" * 97 + ".png", b""), ("ü.png", b""), ("\udc80.png", b""), ("huge.png", Huge())]
)
def test_names_and_sizes_that_do_not_fit_are_refused_and_leave_no_trace(name: str, data: bytes) -> None:
    file = io.BytesIO()
    with TarWriter(file) as tar:
        tar.add("a.png", b"before")
        with pytest.raises(ValueError, match=r"too long a name|ascii"):
            tar.add(name, data)
        tar.add("b.png", b"after")
        tar.close()
    assert file.getvalue() == theirs([("a", {"png": b"before"}), ("b", {"png": b"after"})])


def test_what_waits_for_a_slow_file_is_bounded() -> None:
    ahead = threading.Event()

    class Slow(io.BytesIO):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            ahead.wait(0.2)  # for a writer that does not wait
            return super().write(data)

    with TarWriter(file := Slow()) as tar:
        for number in range(4 * UNDER_WAY):
            tar.add(f"{number}.png", bytes(TOGETHER))
            if (number + 1) * TOGETHER - file.tell() > (UNDER_WAY + 1) * TOGETHER:
                ahead.set()
    assert not ahead.is_set()


def test_leaving_after_an_error_ends_the_thread() -> None:
    before = set(threading.enumerate())
    started: list[threading.Thread] = []

    def interrupted() -> None:
        with TarWriter(io.BytesIO()) as tar:
            add(tar, 2)
            started.extend(set(threading.enumerate()) - before)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [thread.is_alive() for thread in started] == [False]


def test_names_that_no_plain_header_holds_are_written_as_tarfile_writes_them() -> None:
    names = ["a.png", "ü/é.png", "x" * 101, "folder/" * 30 + "ü.png"]
    ours, theirs = io.BytesIO(), io.BytesIO()
    with TarWriter(ours, PLAIN) as tar:
        for name in names:
            tar.add(name, name.encode())
        size, _ = tar.close()
    with tarfile.open(fileobj=theirs, mode="w", format=tarfile.PAX_FORMAT) as other:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(name.encode()), 0o644
            other.addfile(info, io.BytesIO(name.encode()))
    assert ours.getvalue() == theirs.getvalue()
    assert size == len(ours.getvalue())
