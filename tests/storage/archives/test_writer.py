"""Results that wait in a folder become an archive, whole; wherever a run dies, nothing is lost."""

import hashlib
import os
import subprocess
import tracemalloc
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import fsspec
import pytest

from storage.archives.source import open_source
from storage.archives.tar import TarGz
from storage.archives.writer import Packing, _adding, is_archive
from storage.receipts.lease import sweep
from storage.stores.entry import is_hidden
from storage.stores.location import Entry, Location, StorageError, UnavailableError
from tests.storage.archives.test_source import content, refusal

KINDS = ("zip", "tar", "tar.gz", "tgz")
RECEIPT = ".dtls/receipts/upscale/unit.parquet"
NAMES = (
    "a b.png",
    "ü ß/日本 🙂.png",
    "a...png",
    "long/" + "n" * 120 + ".png",
    "ö" * 90 + ".png",
    "deep/" * 60 + "x.png",
    "deep/" * 190 + "x.png",
)
MANY = {key: key.encode() * 40 for key in (*NAMES, *(f"{n // 50:05}/{n:05}.png" for n in range(93)))}


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.integration)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty place, of every kind."""
    if request.param == "s3":
        yield request.getfixturevalue("s3")
    elif request.param == "memory":
        yield f"memory://{uuid.uuid4().hex}/place"
        fsspec.filesystem("memory").store.clear()
    else:
        yield str(tmp_path / "place")


def staged(packing: Packing, members: Mapping[str, bytes]) -> Packing:
    """With members, and a receipt, that wait beside it."""
    for key, data in {RECEIPT: b"receipt", "manifest.parquet": b"table", **members}.items():
        packing.staging.write(key, data)
    return packing


def pack(packing: Packing, *keys: str) -> int:
    """Pack, and tell how many members were told."""
    told: list[int] = []
    packing.pack(keys, told.append)
    return sum(told)


def waiting(packing: Packing) -> list[str]:
    return [entry.key for entry in packing.staging.list() if not is_hidden(entry.key)]


def sha256(path: Path | str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *((f"s3://bucket/x.{kind}", True) for kind in KINDS),
        ("out/X.TAR.GZ", True),
        ("x.Zip/", True),
        ("x.gz", False),
        ("x.tar.bz2", False),
        ("out/.zip", False),
        ("x.zip/folder", False),
        ("zip", False),
    ],
)
def test_an_archive_is_known_by_its_name(address: str, expected: bool) -> None:
    assert is_archive(address) is expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_packed_is_read_back_by_the_same_keys(kind: str, place: str) -> None:
    packing = staged(Packing(f"{place}/x.{kind}"), MANY)
    assert packing.sizes() == {}
    assert pack(packing, *MANY) == len(MANY) == 100
    source = open_source(str(packing))
    assert content(source) == MANY
    assert source.refused == []
    assert packing.sizes() == {key: len(data) for key, data in MANY.items()}
    assert waiting(packing) == ["manifest.parquet"]
    assert packing.staging.read(RECEIPT) == b"receipt"


@pytest.mark.slow
def test_other_tools_read_what_is_packed(tmp_path: Path) -> None:
    for kind in KINDS:
        pack(staged(Packing(str(tmp_path / f"x.{kind}")), MANY), *MANY)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == list(MANY)
    subprocess.run(["unzip", "-tq", tmp_path / "x.zip"], check=True, capture_output=True)
    for kind in KINDS[1:]:
        out = subprocess.run(
            ["tar", "--quoting-style=literal", "-tf", tmp_path / f"x.{kind}"], check=True, capture_output=True
        )
        assert (out.stdout.decode().splitlines(), out.stderr) == (list(MANY), b"")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_images_make_the_same_archive(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members, sums = {"b.png": b"two", "a.png": b"one"}, set()
    for number, year in enumerate((1_000_000_000, 1_700_000_000)):
        packing = staged(Packing(str(tmp_path / f"{number}.{kind}")), members)
        for key in members:
            os.utime(packing.staging.path(key), (year, year))
        monkeypatch.setattr("time.time", lambda year=year: year)
        pack(packing, *members)
        sums.add(sha256(str(packing)))
    pack(staged(packing, {"b.png": b"two"}), *members)  # once more, the other from the archive
    assert sums == {sha256(str(packing))}


@pytest.mark.parametrize("kind", KINDS)
def test_what_waits_goes_before_what_was_packed_and_what_is_not_asked_for_goes(kind: str, place: str) -> None:
    packing = staged(Packing(f"{place}/x.{kind}"), {"a.png": b"1", "b.png": b"2", "c.png": b"3"})
    pack(packing, "a.png", "b.png", "c.png")
    staged(packing, {"b.png": b"new", "d.png": b"4", "other.png": b"5"})
    assert pack(packing, "a.png", "b.png", "d.png") == 3
    assert content(open_source(str(packing))) == {"a.png": b"1", "b.png": b"new", "d.png": b"4"}
    assert waiting(packing) == ["manifest.parquet", "other.png"]


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_changed_nothing_is_written(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packing = staged(Packing(str(tmp_path / f"x.{kind}")), {"a.png": b"1", "b.png": b"2"})
    pack(packing, "a.png", "b.png")
    monkeypatch.setattr(Location, "writing", None)
    assert pack(Packing(str(packing)), "a.png", "b.png") == 0
    with pytest.raises(TypeError):
        pack(packing, "a.png")


def test_an_archive_of_no_members_is_one(tmp_path: Path) -> None:
    for kind in KINDS:
        packing = staged(Packing(str(tmp_path / f"x.{kind}")), {})
        assert pack(packing) == 0
        assert open_source(str(packing)).list() == []


def test_hidden_files_never_go_in_and_stay(tmp_path: Path) -> None:
    packing = staged(Packing(str(tmp_path / "x.zip")), {"a.png": b"1", ".dtls/x.png": b"", "a/.b/c.png": b""})
    assert pack(packing, "a.png", ".dtls/x.png", "a/.b/c.png", RECEIPT) == 1
    assert list(packing.sizes()) == ["a.png"]
    assert packing.staging.exists("a/.b/c.png")


def test_a_key_that_is_nowhere_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    packing = staged(Packing(str(tmp_path / "x.zip")), {"a.png": b"1"})
    refusal(partial(pack, packing, "a.png", "b.png"), str(packing), "b.png is neither in it nor in")
    assert not (tmp_path / "x.zip").exists()
    assert waiting(packing) == ["a.png", "manifest.parquet"]


@pytest.mark.parametrize("key", ["C:x.png", "a\x7f.png", "a//b.png", "n" * 1025])
def test_a_key_that_no_member_may_have_is_refused_before_anything_is_written(key: str, tmp_path: Path) -> None:
    refusal(lambda: Packing("x.zip").check_name(key), "x.zip", repr(key), "choose a folder")
    packing = staged(Packing(str(tmp_path / "x.zip")), {"a.png": b"1"})
    refusal(partial(pack, packing, "a.png", key), str(packing), "cannot be in an archive")
    assert not (tmp_path / "x.zip").exists()


def test_every_key_that_is_plain_may_be_packed() -> None:
    for key in MANY:
        Packing("x.zip").check_name(key)


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_was_not_made_here_is_refused_and_left(kind: str, place: str) -> None:
    theirs = staged(Packing(f"{place}/theirs.{kind}"), {"a.png": b"1"})
    pack(theirs, "a.png")
    data = Location.of(place).read(f"theirs.{kind}")
    Location.of(place).write(f"mine.{kind}", data)
    packing = Packing(f"{place}/mine.{kind}")
    packing.staging.write("b.png", b"2")
    for do in (packing.sizes, partial(pack, packing, "b.png")):
        refusal(do, str(packing), "choose another name")
    assert Location.of(place).read(f"mine.{kind}") == data


def test_a_folder_is_no_archive(place: str) -> None:
    Location.of(f"{place}/x.zip").write("a.png", b"image")
    packing = staged(Packing(f"{place}/x.zip"), {"b.png": b"2"})
    for do in (packing.sizes, partial(pack, packing, "b.png")):
        refusal(do, str(packing), "is a folder", "choose another name")


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_archive_says_what_to_do(kind: str, tmp_path: Path) -> None:
    packing = staged(Packing(str(tmp_path / f"x.{kind}")), {"a.png": b"1"})
    (tmp_path / f"x.{kind}").write_bytes(b"damaged")
    refusal(packing.sizes, str(packing), "remove it, and the next run makes it anew")
    (tmp_path / f"x.{kind}").unlink()
    pack(packing, "a.png")
    assert packing.sizes() == {"a.png": 1}


def test_a_place_out_of_reach_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packing = staged(Packing(str(tmp_path / "x.tgz")), {"a.png": b"1"})
    pack(packing, "a.png")
    monkeypatch.setattr(Location, "fetch", _fails(UnavailableError("away")))
    message = refusal(Packing(str(packing)).sizes, "away", kind=UnavailableError)
    assert "remove" not in message


def test_an_archive_is_listed_again_only_when_it_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes a walk over the whole of a tar.gz."""
    packing = staged(Packing(str(tmp_path / "x.tgz")), {"a.png": b"1", "b.png": b"2"})
    pack(packing, "a.png", "b.png")
    lists, whole = list[str](), TarGz.list

    def counted(self: TarGz) -> list[Entry]:
        lists.append(str(self))
        return whole(self)

    monkeypatch.setattr(TarGz, "list", counted)
    assert packing.sizes() == packing.sizes() == {"a.png": 1, "b.png": 1}
    assert packing.read("b.png") == b"2"
    assert len(lists) == 1
    pack(packing, "a.png")
    assert packing.sizes() == {"a.png": 1}
    assert len(lists) == 2
    refusal(lambda: packing.read("b.png"), "x.tgz", "no such member")


def _fails(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@contextmanager
def _killed_in_place(self: Location, key: str) -> Iterator[Path]:
    """As when a run dies before its file is in place: it was written, and vanishes."""
    path = Path(self.path(key)).with_name(".new")
    yield path
    assert path.stat().st_size
    path.unlink()
    raise StorageError("killed")


def _killed_at(at: str) -> Callable[..., object]:
    """Location's method that works but for one key."""
    works: dict[str, Callable[..., object]] = {"fetch": Location.fetch, "delete": Location.delete}

    def do(self: Location, key: Entry | str, *more: object) -> object:
        if (key.key if isinstance(key, Entry) else key) == "5.png":
            raise StorageError("killed")
        return works[at](self, key, *more)

    return do


CRASHES = {"writing": _killed_in_place, "fetch": _killed_at("fetch"), "delete": _killed_at("delete")}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", CRASHES)
def test_a_run_that_dies_while_packing_loses_nothing_and_the_next_ends_it(
    kind: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packing = staged(Packing(str(tmp_path / f"x.{kind}")), {f"{n}.png": b"old" for n in range(4)})
    pack(packing, *(f"{n}.png" for n in range(4)))
    new = {f"{n}.png": b"new" * n for n in range(2, 9)}
    staged(packing, new)
    before, wanted = sha256(str(packing)), {"0.png": b"old", "1.png": b"old"} | new
    with monkeypatch.context() as patch:
        patch.setattr(Location, method, CRASHES[method])
        refusal(partial(pack, Packing(str(packing)), *wanted), "killed")
    if method == "delete":
        assert content(open_source(str(packing))) == wanted
        assert "5.png" in waiting(packing)
    else:
        assert sha256(str(packing)) == before
        assert {key: packing.staging.read(key) for key in new} == new
    assert pack(Packing(str(packing)), *wanted) == len(wanted)
    assert content(open_source(str(packing))) == wanted
    assert waiting(packing) == ["manifest.parquet"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"x.{kind}", f"x.{kind}.dtls"]


@pytest.mark.integration
@pytest.mark.parametrize("kind", KINDS)
def test_an_upload_that_fails_leaves_the_old_archive_and_what_waits(
    kind: str, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packing = staged(Packing(f"{s3}/x.{kind}"), {"a.png": b"old"})
    pack(packing, "a.png")
    staged(packing, {"b.png": b"new"})
    store = type(packing.staging.store)
    with monkeypatch.context() as patch:
        patch.setattr(store, "upload", _fails(ConnectionError("gone")))
        refusal(partial(pack, packing, "a.png", "b.png"), str(packing), "gone", kind=UnavailableError)
    assert content(open_source(str(packing))) == {"a.png": b"old"}
    assert waiting(packing) == ["b.png", "manifest.parquet"]
    pack(packing, "a.png", "b.png")
    assert content(open_source(str(packing))) == {"a.png": b"old", "b.png": b"new"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_packing_takes_the_memory_of_some_members(kind: str, tmp_path: Path) -> None:
    members = {f"{n:03}.png": n for n in range(100)}
    packing = staged(Packing(str(tmp_path / f"x.{kind}")), {})
    for key, number in members.items():
        packing.staging.write(key, bytes([number]) * 2**20)
    tracemalloc.start()
    pack(packing, *members)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * 2**20


def test_an_archive_that_is_being_packed_lies_where_the_next_run_sweeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packing = staged(Packing(str(tmp_path / "out.zip")), {"a.png": b"a"})
    seen: list[Path] = []

    @contextmanager
    def adding(path: Path, name: str) -> Iterator[Callable[[str, bytes], None]]:
        seen.append(path)
        with _adding(path, name) as add:
            yield add

    monkeypatch.setattr("storage.archives.writer._adding", adding)
    assert pack(packing, "a.png") == 1
    (temporary,) = seen
    assert temporary.parent == tmp_path / "out.zip.dtls"
    temporary.touch()  # as of a run that was killed
    sweep(packing.staging, [entry.key for entry in packing.staging.list()])
    assert not temporary.exists()
    assert packing.sizes() == {"a.png": 1}


@pytest.mark.integration
def test_the_unfinished_upload_of_an_archive_is_given_up_before_the_next_one(s3: str) -> None:
    packing = staged(Packing(f"{s3}/out.zip"), {"a.png": b"a"})
    bucket, _, prefix = packing.location.root.partition("/")
    call = packing.location.store.fs.call_s3  # type: ignore[attr-defined]
    for key in (prefix, f"{prefix}-of-another"):
        call("create_multipart_upload", Bucket=bucket, Key=key)
    assert pack(packing, "a.png") == 1
    left = call("list_multipart_uploads", Bucket=bucket, Prefix=prefix)["Uploads"]
    assert [upload["Key"] for upload in left] == [f"{prefix}-of-another"]
