"""What an archive is, its bytes say; its name only where they do not. A file that is an image is a source, too."""

import bz2
import gzip
import lzma
import random
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pytest
from PIL import Image

from storage.archives import kinds as archive_kinds
from storage.archives import unpacked
from storage.archives.kinds import by_content, by_name
from storage.archives.source import Single, open_source
from storage.stores import web as web_sources
from storage.stores.location import ChangedError, Location
from tests.storage.archives.test_source import content, opened, packed, refusal

MEMBERS = {"a/1.png": b"one" * 5000, "b.png": b"two"}
TAR = packed("tar", MEMBERS)


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


PACKED: dict[str, Callable[[bytes], bytes]] = {"tar.bz2": bz2.compress, "tar.xz": lzma.compress, "tar.zst": zstd}
ALL = {"zip": packed("zip", MEMBERS), "tar": TAR, "tar.gz": gzip.compress(TAR, mtime=0)} | {
    kind: pack(TAR) for kind, pack in PACKED.items()
}


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("ending", ["cbz", "tar", "tar.gz", "txz", "tzst", "TBZ2", "7z", "bin"])
def test_an_archive_is_read_as_what_it_is_whatever_its_name(kind: str, ending: str, tmp_path: Path) -> None:
    assert getattr(by_content(ALL[kind][:512]), "kind", None) == kind
    assert content(opened(tmp_path, ending, ALL[kind])) == MEMBERS


def test_names_say_kinds() -> None:
    kinds = {
        "a.cbz": "zip",
        "b/a.TAR.ZST": "tar.zst",
        "a.tbz2": "tar.bz2",
        "a.cbr": "rar",
        "a.png": None,
        ".zip": None,
    }
    assert {name: getattr(by_name(name), "kind", None) for name in kinds} == kinds


@pytest.mark.parametrize("kind", PACKED)
def test_streams_that_follow_each_other_are_one(kind: str, tmp_path: Path) -> None:
    halves = PACKED[kind](TAR[:3000]) + PACKED[kind](TAR[3000:])
    assert content(opened(tmp_path, kind, halves)) == MEMBERS


def test_a_zstd_that_begins_with_a_frame_to_skip_is_read(tmp_path: Path) -> None:
    skipped = b"\x50\x2a\x4d\x18" + struct.pack("<I", 4) + bytes(4)
    assert content(opened(tmp_path, "tar.zst", skipped + zstd(TAR[:3000]) + skipped + zstd(TAR[3000:]))) == MEMBERS


@pytest.mark.parametrize("kind", PACKED)
def test_what_is_packed_badly_is_refused_in_a_line(kind: str, tmp_path: Path) -> None:
    data = ALL[kind]
    for bad in (data[:-9], data[:40], data[:30] + b"junk" + data[34:], PACKED[kind](b"text" * 1000), b""):
        refusal(opened(tmp_path, kind, bad).list, f"images.{kind}: not a packed tar that can be read")


@pytest.mark.parametrize("kind", PACKED)
def test_what_is_packed_and_cut_off_is_told_from_what_is_damaged(kind: str, tmp_path: Path) -> None:
    data = PACKED[kind](random.Random(0).randbytes(100_000).hex().encode())
    cut, damaged = data[: len(data) // 2], data[:50_000] + b"junk" * 9 + data[50_036:]
    refusal(opened(tmp_path, kind, cut).list, "it ends within what is packed: cut off)")
    if kind != "tar.zst":  # which has no sums unless asked for
        refusal(opened(tmp_path, kind, damaged).list, "(what is packed is damaged)")


@pytest.mark.slow
@pytest.mark.parametrize("kind", PACKED)
def test_a_bomb_is_refused_before_it_fills_the_disk(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacked, "LARGE", 2**22)
    refusal(opened(tmp_path, kind, PACKED[kind](bytes(2**25))).list, "a bomb")


def test_a_packed_tar_that_changes_while_it_is_unpacked_is_noticed(tmp_path: Path) -> None:
    source = opened(tmp_path, "tar.xz", ALL["tar.xz"])
    [first, _] = source.list()
    opened(tmp_path, "tar.xz", lzma.compress(packed("tar", {"a/1.png": b"six", "b.png": b""})))
    other = open_source(str(source))
    assert first not in other.list()
    refusal(lambda: other.fetch(first), "not as it was listed", kind=ChangedError)


def test_no_room_to_unpack_is_of_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, _: bytes) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    refusal(opened(tmp_path, "tar.xz", ALL["tar.xz"]).list, "No space left", "images.tar.xz is unpacked")


@pytest.mark.parametrize("name", ["photo.jpg", "photo", "photo.dat"])
def test_an_image_file_is_a_source_of_one(name: str, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / name, "JPEG")
    source = open_source(str(tmp_path / name))
    assert isinstance(source, Single)
    assert content(source) == {name: (tmp_path / name).read_bytes()}
    assert str(source) == str(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.txt", b"text", "nor an image"),
        ("a.pdf", b"%PDF-1", "nor an image, but a PDF document"),
        ("a.nef", b"II*\0" + bytes(99), "neither"),
        ("a", b"", "neither"),
    ],
)
def test_a_file_of_another_kind_is_no_source(name: str, data: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    refusal(lambda: open_source(str(tmp_path / name)), str(tmp_path / name), says)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server that sends whole files only."""
    Image.new("RGB", (8, 8)).save(tmp_path / "photo", "JPEG")
    for name in ("photo.jpg", "folder/photo.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "photo", tmp_path / name)
    for kind in ("zip", "tar.xz"):
        (tmp_path / f"photos.{kind}").write_bytes(ALL[kind])

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_on_the_web_images_and_archives_are_told_from_folders(web: str, tmp_path: Path) -> None:
    photo = (tmp_path / "photo").read_bytes()
    assert content(open_source(f"{web}/photo.jpg")) == {"photo.jpg": photo}
    assert content(open_source(f"{web}/photo.jpg?width=ab")) == {"photo.jpg": photo}
    assert content(open_source(f"{web}/photo")) == {"photo": photo}
    assert content(open_source(f"{web}/folder")) == {"photo.jpg": photo}
    for kind in ("zip", "tar.xz"):
        assert content(open_source(f"{web}/photos.{kind}")) == MEMBERS


def test_a_large_file_of_a_server_without_parts_is_refused_in_true_words(
    web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_sources, "WHOLE", 10)
    monkeypatch.setattr(archive_kinds, "HEAD", 8)
    refusal(lambda: open_source(f"{web}/photos.zip"), "photos.zip: the server sends whole files only", "download it")


@pytest.mark.integration
def test_an_image_on_s3_is_a_source_of_one(s3: str) -> None:
    Location.of(s3).write("in/photo.jpg", b"image")
    Location.of(s3).write("in/cut.tar", ALL["tar.zst"])
    assert content(open_source(f"{s3}/in/photo.jpg")) == {"photo.jpg": b"image"}
    assert content(open_source(f"{s3}/in/cut.tar")) == MEMBERS
