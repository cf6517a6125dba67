"""Zips, tars, shards and folders are one stream of images; what is hostile in them is seen, and does no harm."""

import gzip
import io
import os
import random
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from storage.archives import gzips
from storage.archives.archive import MAX_BYTES
from storage.archives.source import Source, open_source
from storage.stores.location import ChangedError, Entry, Location, StorageError, UnavailableError

KINDS = ("zip", "tar", "tar.gz")
MEMBERS = {f"{number // 4:05}/{number:05}.png": bytes([number]) * (500 * number) for number in range(12)}


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def tarred(*members: tarfile.TarInfo | tuple[str, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of plain files (name, bytes), and of whatever else."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind, errors="surrogateescape") as archive:
        for member in members:
            if isinstance(member, tuple):
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
            else:
                archive.addfile(member)
    return buffer.getvalue()


def packed(kind: str, members: Mapping[str, bytes]) -> bytes:
    return zipped(members) if kind == "zip" else as_kind(kind, tarred(*members.items()))


def as_kind(kind: str, tar: bytes) -> bytes:
    """A tar as it is, or packed."""
    return gzip.compress(tar, compresslevel=1, mtime=0) if kind == "tar.gz" else tar


def raw_zip(*members: tuple[bytes, bytes], extra: bytes = b"", **lies: int) -> bytes:
    """A zip of stored members by the names' bytes, of which the directory may tell lies. extra: a field of each."""
    body, directory = b"", b""
    for name, data in members:
        crc, place = zlib.crc32(data), len(body)
        body += struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 33, crc, len(data), len(data), len(name), 0)
        body += name + data
        told = (lies.get("flags", 0), lies.get("method", 0), 0, 33, crc)
        sizes = (lies.get("packed", len(data)), lies.get("size", len(data)))
        rest = (len(name), len(extra), 0, 0, 0, lies.get("mode", 0) << 16, lies.get("offset", place))
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", lies.get("system", 3) << 8, 20, *told, *sizes, *rest)
        directory += name + extra
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(members), len(members), len(directory), len(body), 0)
    return body + directory + end


def opened(folder: Path, kind: str, data: bytes) -> Source:
    path = folder / f"images.{kind}"
    path.write_bytes(data)
    return open_source(str(path))


def content(source: Source) -> dict[str, bytes]:
    return {entry.key: source.fetch(entry) for entry in source.list()}


def refusal(do: Callable[[], object], *named: str, kind: type[StorageError] = StorageError) -> str:
    """The one line with which something is refused; it names all of `named`."""
    with pytest.raises(kind) as refused:
        do()
    message = str(refused.value)
    assert "\n" not in message
    assert all(name in message for name in named), message
    return message


def test_every_kind_of_source_has_the_same_images_by_the_same_keys(location: Location) -> None:
    for key, data in MEMBERS.items():
        location.write(f"folder/{key}", data)
    for kind in KINDS:
        location.write(f"images.{kind}", packed(kind, MEMBERS))
    for address in (f"{location}/folder", *(f"{location}/images.{kind}" for kind in KINDS)):
        source = open_source(address)
        assert str(source) == address
        entries = source.list()
        assert [(entry.key, entry.size) for entry in entries] == [(key, len(MEMBERS[key])) for key in sorted(MEMBERS)]
        assert content(source) == MEMBERS
        assert source.refused == []


def test_shards_are_one_source_whose_keys_name_the_shard(location: Location) -> None:
    sample = {"000000000.png": b"image", "000000000.json": b"{}"}
    for shard in ("shard-000000", "more/shard-000001"):
        location.write(f"{shard}.tar", tarred(*sample.items()))
    location.write("manifest.parquet", b"")
    location.write(".dtls/receipts/shard/x.parquet", b"")
    source = open_source(str(location))
    keys = [f"{shard}/000000000.png" for shard in ("more/shard-000001", "shard-000000")]
    assert [entry.key for entry in source.list()] == keys
    assert content(source) == dict.fromkeys(keys, b"image")


def test_where_there_are_images_tars_are_files_like_others(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"image")
    (tmp_path / "shard-000000.tar").write_bytes(tarred(("b.png", b"another")))
    assert [entry.key for entry in open_source(str(tmp_path)).list()] == ["a.png", "shard-000000.tar"]


def test_hidden_images_and_hidden_tars_do_not_count(tmp_path: Path) -> None:
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / ".thumbnails" / "a.png").write_bytes(b"small")
    (tmp_path / ".half.tar").write_bytes(b"half")
    (tmp_path / "shard.tar").write_bytes(tarred(("a.png", b"image")))
    assert content(open_source(str(tmp_path))) == {"shard/a.png": b"image"}


def test_shards_whose_keys_could_meet_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name, member in (("a.tar", "b/c.png"), ("a/b.tar", "c.png")):
        (tmp_path / name).write_bytes(tarred((member, b"")))
    refusal(open_source(str(tmp_path)).list, str(tmp_path), "a.tar and a/b.tar", "rename one")


def test_what_is_refused_in_a_shard_is_told_with_the_shard(tmp_path: Path) -> None:
    (tmp_path / "shard.tar").write_bytes(tarred(("../a.png", b""), ("b.png", b"")))
    source = open_source(str(tmp_path))
    assert [entry.key for entry in source.list()] == ["shard/b.png"]
    assert [name for name, _ in source.refused] == ["shard/../a.png"]


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "good.tar").write_bytes(tarred(("a.png", b"")))
    (tmp_path / "bad.tar").write_bytes(tarred(("a.png", b""))[:512])
    refusal(open_source(str(tmp_path)).list, str(tmp_path / "bad.tar"), "cut off")


@pytest.mark.parametrize("kind", KINDS)
def test_many_threads_read_members_at_once(kind: str, tmp_path: Path) -> None:
    members = {f"{number}.png": os.urandom(2000 + number) for number in range(200)}
    source = opened(tmp_path, kind, packed(kind, members))
    entries = source.list() * 3
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(source.fetch, entries)) == [members[entry.key] for entry in entries]


def test_of_a_zip_made_anew_only_changed_members_have_other_tags(tmp_path: Path) -> None:
    before = {e.key: e.etag for e in opened(tmp_path, "zip", zipped({"a.png": b"one", "b.png": b"two"})).list()}
    after = {e.key: e.etag for e in opened(tmp_path, "zip", zipped({"a.png": b"one", "b.png": b"six"})).list()}
    assert before["a.png"] == after["a.png"]
    assert before["b.png"] != after["b.png"]


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_of_a_tar_made_anew_all_members_have_other_tags(kind: str, location: Location) -> None:
    tags = []
    for data in (b"one", b"two"):
        location.write(f"x.{kind}", packed(kind, {"a.png": data, "b.png": b""}))
        source = open_source(f"{location}/x.{kind}")
        tags.append([entry.etag for entry in source.list()])
    assert len({*tags[0], *tags[1]}) == 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["local", pytest.param("s3", marks=pytest.mark.integration)])
def test_an_archive_that_changes_while_it_is_read_is_noticed(
    kind: str, where: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    location = Location.of(request.getfixturevalue("s3") if where == "s3" else tmp_path)
    location.write(f"x.{kind}", packed(kind, {"a.png": b"one", "b.png": b"two"}))
    source = open_source(f"{location}/x.{kind}")
    [first, _] = source.list()
    assert source.fetch(first) == b"one"
    location.write(f"x.{kind}", packed(kind, {"a.png": b"six", "b.png": b"two"}))
    refusal(lambda: source.fetch(first), f"x.{kind}", kind=ChangedError)
    location.delete(f"x.{kind}")
    refusal(lambda: source.fetch(first), f"x.{kind}", kind=ChangedError)


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_of_another_listing_is_not_read(kind: str, tmp_path: Path) -> None:
    source = opened(tmp_path, kind, packed(kind, {"a.png": b"one"}))
    [entry] = source.list()
    for other in (Entry("a.png", 3, "another"), Entry("b.png", 3, entry.etag)):
        refusal(partial(source.fetch, other), other.key, "not as it was listed", kind=ChangedError)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("./a.png", "a.png"),
        ("a//b/./c.png", "a/b/c.png"),
        ("ü ß/日本.png", "ü ß/日本.png"),
        ("at 10.00\u202fAM.png", "at 10.00\u202fAM.png"),
        ("...png", "...png"),
        ("a/" * 500 + "b.png", "a/" * 500 + "b.png"),
    ],
)
def test_keys_are_names_made_plain(kind: str, name: str, key: str, tmp_path: Path) -> None:
    assert content(opened(tmp_path, kind, packed(kind, {name: b"image"}))) == {key: b"image"}


BAD_NAMES = {
    b"../../x.png": "leads out",
    b"a/../../x.png": "leads out",
    b"/etc/x.png": "leads out",
    b"..\\x.png": "another system",
    b"a\\x.png": "another system",
    b"C:/x.png": "another system",
    b"c:x.png": "another system",
    b"a\nb.png": "control characters",
    b"a\x1b[2Jb.png": "control characters",
    b"a\x7fb.png": "control characters",
    b"a\xe2\x80\xa8b.png": "control characters",
    b"./.": "empty",
    b"x.png/": "a folder's",
    b"n" * 1021 + b".png": "1,024 bytes",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "reason"), BAD_NAMES.items())
def test_names_that_are_no_keys_are_refused_and_told(kind: str, name: bytes, reason: str, tmp_path: Path) -> None:
    tar = tarred((os.fsdecode(name), b"bad"), ("good.png", b"good"), kind=tarfile.GNU_FORMAT)
    source = opened(
        tmp_path, kind, raw_zip((name, b"bad"), (b"good.png", b"good")) if kind == "zip" else as_kind(kind, tar)
    )
    assert content(source) == {"good.png": b"good"}
    [(told, why)] = source.refused
    assert reason in why
    assert told.isprintable()
    assert len(told) < 1000


def test_an_empty_name_in_a_zip_is_refused(tmp_path: Path) -> None:
    source = opened(tmp_path, "zip", raw_zip((b"", b"bad")))
    assert (source.list(), source.refused) == ([], [("", "a name that is empty, or a folder's")])


def test_names_that_are_not_utf_8_are_refused_but_for_old_zips(tmp_path: Path) -> None:
    latin = "ä.png".encode("latin-1")
    for data in (raw_zip((latin, b""), flags=0x800), tarred((os.fsdecode(latin), b""), kind=tarfile.GNU_FORMAT)):
        source = opened(tmp_path, "zip" if data.startswith(b"PK") else "tar", data)
        assert source.list() == []
        assert "UTF-8" in source.refused[0][1]
    assert list(content(opened(tmp_path, "zip", raw_zip(("ä.png".encode("cp437"), b"x"))))) == ["ä.png"]
    assert list(content(opened(tmp_path, "zip", raw_zip(("ä.png".encode(), b"x"))))) == ["ä.png"]


def test_a_hostile_name_never_leads_out_of_a_target(tmp_path: Path) -> None:
    target = Location.of(tmp_path / "target")
    for name in BAD_NAMES:
        if b".." in name or b"\\" in name or name.startswith(b"/"):
            refusal(partial(target.write, os.fsdecode(name), b""), "is no name for a file below it")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_of_members_with_one_key_the_first_counts_and_the_others_are_told(kind: str, tmp_path: Path) -> None:
    names = [("a.png", b"first"), ("./a.png", b"second"), ("b.png", b"other")]
    data = (
        raw_zip(*((name.encode(), data) for name, data in names)) if kind == "zip" else as_kind(kind, tarred(*names))
    )
    source = opened(tmp_path, kind, data)
    assert content(source) == {"a.png": b"first", "b.png": b"other"}
    assert source.refused == [("./a.png", "a second member of this name; the first one counts")]


@pytest.mark.parametrize("kind", KINDS)
def test_folders_and_archives_within_are_no_images_and_nothing_to_tell(kind: str, tmp_path: Path) -> None:
    inner = packed(kind, {"inner.png": b"inner"})
    folder = tarfile.TarInfo("folder")
    folder.type = tarfile.DIRTYPE
    members = {"folder/a.png": b"image", f"inner.{kind}": inner}
    data = zipped({"folder/": b""} | members) if kind == "zip" else as_kind(kind, tarred(folder, *members.items()))
    source = opened(tmp_path, kind, data)
    assert content(source) == members
    assert source.refused == []


@pytest.mark.parametrize(
    ("type_", "reason"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (b"V", "unknown type b'V'"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused_and_told(type_: bytes, reason: str, tmp_path: Path) -> None:
    bad = tarfile.TarInfo("bad.png")
    bad.type, bad.linkname = type_, "/etc/passwd"
    source = opened(tmp_path, "tar", tarred(("a.png", b"before"), bad, ("b.png", b"after")))
    assert content(source) == {"a.png": b"before", "b.png": b"after"}
    [(name, why)] = source.refused
    assert name == "bad.png"
    assert reason in why


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o010666])
def test_links_devices_and_pipes_in_a_zip_are_refused_and_told(mode: int, tmp_path: Path) -> None:
    source = opened(tmp_path, "zip", raw_zip((b"bad.png", b"/etc/passwd"), mode=mode))
    assert (source.list(), source.refused) == ([], [("bad.png", "a link, a device or a pipe")])


def test_sparse_members_are_refused_and_what_follows_them_is_read(tmp_path: Path) -> None:
    disk = tmp_path / "sparse"
    disk.mkdir()
    with (disk / "sparse.png").open("wb") as file:
        for place in range(60):
            file.seek(place * 1_000_000)
            file.write(b"data")
    (disk / "z.png").write_bytes(b"after")
    for kind in ("gnu", "pax"):
        path = tmp_path / f"{kind}.tar"
        subprocess.run(
            ["tar", "--sparse", f"--format={kind}", "-cf", path, "-C", disk, "sparse.png", "z.png"], check=True
        )
        assert path.stat().st_size < 1_000_000
        source = open_source(str(path))
        assert content(source) == {"z.png": b"after"}
        assert [why for _, why in source.refused] == ["a sparse file"]


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_later_attributes_are_read(kind: int, tmp_path: Path) -> None:
    name = "folder/" * 40 + "ü.png"
    info = tarfile.TarInfo("b.png")
    info.pax_headers = {"comment": "hello", "SCHILY.xattr.user.x": "y" * 5000}
    assert content(opened(tmp_path, "tar", tarred((name, b"long"), info, ("c.png", b"c"), kind=kind))) == {
        name: b"long",
        "b.png": b"",
        "c.png": b"c",
    }


def test_a_header_of_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    for type_ in (b"x", b"g", b"L"):
        info = tarfile.TarInfo("header")
        info.type, info.size = type_, 5 * 2**30
        path = tmp_path / "x.tar"
        path.write_bytes(info.tobuf())
        os.truncate(path, 6 * 2**30)
        refusal(open_source(str(path)).list, str(path), "a header of 5,368,709,120 bytes")


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        (b"99 path=x\n", "attributes"),
        (b"nonsense", "attributes"),
        (b"12 size=-1\n\n", "no number"),
        (b"0 \n", "attr"),
    ],
)
def test_attributes_that_make_no_sense_are_refused(attributes: bytes, reason: str, tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = b"x", len(attributes)
    data = header.tobuf() + attributes.ljust(512, b"\0") + tarred(("a.png", b""))
    refusal(opened(tmp_path, "tar", data).list, "images.tar", reason)


@pytest.mark.parametrize(("size", "reason"), [(-1024, "a size below zero"), (2**80, "ends within 'a.png': cut off")])
def test_sizes_that_cannot_be_are_refused(size: int, reason: str, tmp_path: Path) -> None:
    block = bytearray(tarfile.TarInfo("a.png").tobuf(tarfile.GNU_FORMAT))
    block[124:136] = (size % 2**96 | 1 << 95).to_bytes(12, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    refusal(opened(tmp_path, "tar", bytes(block) + bytes(1024)).list, "images.tar", reason)


def test_a_link_has_no_bytes_whatever_its_size(tmp_path: Path) -> None:
    link = tarfile.TarInfo("link.png")
    link.type, link.linkname, link.size = tarfile.LNKTYPE, "a.png", 700
    data = link.tobuf() + tarred(("b.png", b"after"))
    assert content(opened(tmp_path, "tar", data)) == {"b.png": b"after"}


def test_attributes_for_all_members_count_where_a_member_has_none(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", pax_headers={"comment": "a commit", "path": "all.png"}) as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
        archive.addfile(tarfile.TarInfo("ü.png"))
    assert list(content(opened(tmp_path, "tar", buffer.getvalue()))) == ["all.png", "ü.png"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_cut_anywhere_is_refused(kind: str, tmp_path: Path) -> None:
    whole = packed(kind, {f"{number}.png": bytes(300 * number) for number in range(6)})
    end = whole.rstrip(b"\0")
    cuts = {*range(0, len(end), 512), *range(0, len(end), 97), *([len(whole) - 1] if kind == "zip" else [])}
    for cut in cuts:
        refusal(opened(tmp_path, kind, whole[:cut]).list, f"images.{kind}", f"not a {kind} that can be read")


@pytest.mark.parametrize("kind", KINDS)
def test_several_archives_in_one_file_are_refused(kind: str, tmp_path: Path) -> None:
    one, two = packed(kind, {"a.png": b"one"}), packed(kind, {"b.png": b"two"})
    refusal(opened(tmp_path, kind, one + two).list, f"several {kind.removesuffix('.gz')}s in one")


@pytest.mark.parametrize("more", [b"more", zipped({})[:-1]])
def test_what_follows_the_end_of_a_zip_is_refused(more: bytes, tmp_path: Path) -> None:
    refusal(opened(tmp_path, "zip", zipped({"a.png": b"one"}) + more).list, "not a zip that can be read")


def test_a_zip_that_starts_with_a_program_is_refused(tmp_path: Path) -> None:
    refusal(opened(tmp_path, "zip", b"MZ" + zipped({"a.png": b"one"})).list, "bytes that its directory does not know")


@pytest.mark.parametrize(("count", "reason"), [(1, "does not end where it says"), (3, "ends after 2 of 3 members")])
def test_a_zip_whose_members_are_miscounted_is_refused(count: int, reason: str, tmp_path: Path) -> None:
    data = bytearray(zipped({"a.png": b"one", "b.png": b"two"}))
    data[-12:-10] = struct.pack("<H", count)
    refusal(opened(tmp_path, "zip", bytes(data)).list, "images.zip", reason)


def test_a_damaged_header_in_the_middle_is_not_the_end(tmp_path: Path) -> None:
    data = bytearray(tarred(("a.png", b"a"), ("b.png", b"b"), ("c.png", b"c")))
    data[1024 + 3] ^= 1
    refusal(opened(tmp_path, "tar", bytes(data)).list, "images.tar", "a header cannot be read (bad checksum)")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_another_kind_of_file_is_refused(kind: str, photographs: Path, tmp_path: Path) -> None:
    others = (b"", b"x", bytes(9 * 2**20), os.urandom(5000), (photographs / "00000" / "00000.png").read_bytes())
    for data in others:
        refusal(opened(tmp_path, kind, data).list, f"images.{kind}", f"not a {kind} that can be read")


@pytest.mark.parametrize("suffix", ["7z", "CBR", "tar.lz"])
def test_archives_that_have_to_be_unpacked_say_so(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    path.touch()
    refusal(lambda: open_source(str(path)), str(path), "unpack it")


@pytest.mark.parametrize("name", ["x.zip", "x.tgz", "x.tar", "x.tar.gz"])
def test_a_folder_may_be_named_like_an_archive(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.png").write_bytes(b"image")
    assert content(open_source(str(tmp_path / name))) == {"a.png": b"image"}


def test_archives_are_found_by_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("X.ZIP").write_bytes(zipped({"a.png": b"image"}))
    for address in ("X.ZIP", "./X.ZIP", f"../{tmp_path.name}/X.ZIP", f"file://{tmp_path}/X.ZIP"):
        assert content(open_source(address)) == {"a.png": b"image"}


@pytest.mark.parametrize(
    ("lies", "reason"),
    [
        ({"flags": 1}, "encrypted"),
        ({"method": 12}, "packed by method 12"),
        ({"method": 8}, "damaged"),
        ({"size": 3}, "damaged"),
        ({"size": 100}, "damaged"),
        ({"packed": 3}, "damaged"),
        ({"packed": 90}, "overlaps"),
        ({"offset": 7}, "does not begin where"),
        ({"offset": 60_000}, "does not begin where"),
        ({"size": MAX_BYTES + 1}, "more than an image may have"),
        ({"packed": MAX_BYTES + 1}, "more than it may have"),
        ({"packed": 2**32 - 1, "size": 2**32 - 1, "offset": 2**32 - 1}, "more than"),
    ],
)
def test_a_member_that_cannot_be_read_is_listed_and_says_why(
    lies: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    source = opened(tmp_path, "zip", raw_zip((b"a.png", b"image"), **lies))
    [entry] = source.list()
    refusal(lambda: source.fetch(entry), "images.zip: a.png: ", reason)


def test_damaged_bytes_are_noticed_and_the_other_members_are_read(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.png": b"one" * 99, "b.png": b"two"}, zipfile.ZIP_STORED))
    data[100] ^= 1
    source = opened(tmp_path, "zip", bytes(data))
    bad, good = source.list()
    refusal(lambda: source.fetch(bad), "a.png", "checksum")
    assert source.fetch(good) == b"two"


@pytest.mark.slow
def test_a_bomb_goes_no_further_than_it_said(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.png": bytes(2**28)}))
    directory = data.rindex(b"PK\1\2")
    data[directory + 24 : directory + 28] = struct.pack("<L", 1000)
    source = opened(tmp_path, "zip", bytes(data))
    [entry] = source.list()
    assert entry.size == 1000
    tracemalloc.start()
    refusal(lambda: source.fetch(entry), "damaged")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * len(data) + 2**20


def test_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    same = opened(tmp_path, "zip", raw_zip((b"a.png", b"same"), (b"b.png", b"same"), offset=0))
    for entry in same.list():
        refusal(partial(same.fetch, entry), "overlaps")
    quoted = raw_zip((b"b.png", b"inner"))[:40]
    outer = bytearray(raw_zip((b"a.png", quoted + b"padding"), (b"b.png", b"inner")))
    place = len(outer) - 22 - 4 - len(b"b.png")
    outer[place : place + 4] = struct.pack("<L", 35)
    source = opened(tmp_path, "zip", bytes(outer))
    first, second = source.list()
    refusal(lambda: source.fetch(first), "a.png", "overlaps")
    assert source.fetch(second) == b"inner"


def test_files_larger_than_any_image_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder" / "a.png", tmp_path / "x.tar"):
        info = tarfile.TarInfo("a.png")
        info.size = MAX_BYTES + 512
        path.write_bytes(info.tobuf())
        os.truncate(path, MAX_BYTES + 4096)
        source = open_source(str(tmp_path / "folder" if path.suffix == ".png" else path))
        [entry] = source.list()
        refusal(partial(source.fetch, entry), "a.png", "more than an image may have")


@pytest.mark.slow
def test_zip64_is_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        with archive.open("long.png", "w", force_zip64=True) as member:
            member.write(b"long")
        for number in range(70_000):  # as FFHQ has; more than 65,535 want zip64
            archive.writestr(zipfile.ZipInfo(f"{number}.png"), b"")
    source = opened(tmp_path, "zip", buffer.getvalue())
    entries = source.list()
    assert len(entries) == 70_001
    assert source.fetch(entries[-1]) == b"long"


def test_members_and_places_beyond_4_gb_are_read(tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        archive.writestr("a.png", b"before")
        assert archive.fp is not None
        archive.fp.seek(5 * 2**30)  # a hole
        archive.start_dir = 5 * 2**30
        archive.writestr("b.png", b"behind")
    assert content(open_source(str(path))) == {"a.png": b"before", "b.png": b"behind"}


def test_a_zip_in_parts_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.png": b""}))
    data[-18:-16] = b"\1\0"
    refusal(opened(tmp_path, "zip", bytes(data)).list, "one part of several")


def test_a_zip_may_have_a_comment(tmp_path: Path) -> None:
    buffer = io.BytesIO(zipped({"a.png": b"image"}))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"taken in spring " * 100
    assert content(opened(tmp_path, "zip", buffer.getvalue())) == {"a.png": b"image"}


@pytest.mark.slow
def test_an_index_jumps_over_large_members_and_takes_small_ones_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, lengths = Location.fetch, list[int]()

    def counted(self: Location, entry: Entry, start: int = 0, length: int | None = None) -> bytes:
        data = fetch(self, entry, start, length)
        lengths.append(len(data))
        return data

    monkeypatch.setattr(Location, "fetch", counted)
    small = opened(tmp_path, "tar", tarred(*((f"{number}.png", bytes(700)) for number in range(3000))))
    assert len(small.list()) == 3000
    assert len(lengths) <= 7
    lengths.clear()
    large = opened(tmp_path, "tar", tarred(*((f"{number}.png", bytes(2_000_000)) for number in range(20))))
    assert len(large.list()) == 20
    assert sum(lengths) < 2 * 2**20


MANY = """
import resource, sys
from storage.archives.source import open_source
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
entries = open_source(sys.argv[1]).list()
print(len(entries), peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_small_members_take_little_memory(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"many.{kind}"
    path.write_bytes(packed(kind, {f"{number // 1000:05}/{number:09}.png": b"" for number in range(40_000)}))
    output = subprocess.run([sys.executable, "-c", MANY, path], check=True, capture_output=True, text=True).stdout
    count, kilobytes = map(int, output.split())
    assert count == 40_000
    assert kilobytes < 20_000  # half a kilobyte each; a million in 500 MB


def test_what_other_tools_packed_is_read(photographs: Path, tmp_path: Path) -> None:
    expected = {str(p.relative_to(photographs)): p.read_bytes() for p in photographs.rglob("*.png")}
    subprocess.run(["tar", "-cf", tmp_path / "theirs.tar", "-C", photographs, "."], check=True)
    subprocess.run(["tar", "-czf", tmp_path / "THEIRS.TGZ", "-C", photographs, "."], check=True)
    subprocess.run(
        [sys.executable, "-m", "zipfile", "-c", tmp_path / "theirs.zip", photographs / "00000"], check=True
    )
    for name in ("theirs.tar", "THEIRS.TGZ", "theirs.zip"):
        assert content(open_source(str(tmp_path / name))) == expected


@pytest.mark.slow
def test_a_zip_of_members_that_would_grow_without_end_is_refused_before_they_grow(tmp_path: Path) -> None:
    path = tmp_path / "bombs.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("0.png", "1.png"):
            with archive.open(name, "w") as member:
                for _ in range(200):
                    member.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    source = open_source(str(path))
    entries = source.list()
    tracemalloc.start()
    for entry in entries:
        refusal(lambda entry=entry: source.fetch(entry), entry.key, "a bomb", "would become 209,715,200")  # type: ignore[misc]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(entries) == 2
    assert peak < 2**20


def test_an_image_that_is_packed_to_a_thousandth_is_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (2000, 1500), "teal").save(buffer, "BMP")
    image = buffer.getvalue()
    data = zipped({"sky.bmp": image})
    assert len(data) < len(image) / 200
    assert content(opened(tmp_path, "zip", data)) == {"sky.bmp": image}


def noise(count: int, size: int) -> dict[str, bytes]:
    """Members that gzip cannot shrink, the same each time."""
    generator = random.Random(0)
    return {f"{number:04}.png": generator.randbytes(size + number) for number in range(count)}


@pytest.mark.slow
@pytest.mark.parametrize("most", [4, 4096])
def test_members_of_a_gzip_are_read_in_any_order_from_many_threads(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few points that lie far apart, and with many."""
    monkeypatch.setattr(gzips, "SPACING", 100_000)
    monkeypatch.setattr(gzips, "MAX_POINTS", most)
    members = noise(300, 10_000)
    source = opened(tmp_path, "tar.gz", packed("tar.gz", members))
    entries = source.list()
    everything = entries + random.Random(1).sample(entries, len(entries)) + entries[::-1]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(source.fetch, everything)) == [members[entry.key] for entry in everything]


@pytest.mark.slow
def test_a_member_of_a_gzip_costs_what_lies_between_it_and_a_point_or_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, lengths = Location.fetch, list[int]()

    def counted(self: Location, entry: Entry, start: int = 0, length: int | None = None) -> bytes:
        lengths.append(length or 0)
        return fetch(self, entry, start, length)

    members = noise(120, 200_000)
    data = packed("tar.gz", members)
    source = opened(tmp_path, "tar.gz", data)
    monkeypatch.setattr(Location, "fetch", counted)
    entries = source.list()
    assert sum(lengths) == len(data)
    lengths.clear()
    assert source.fetch(entries[100]) == members["0100.png"]
    assert sum(lengths) <= gzips.SPACING + 2 * gzips.PIECE
    lengths.clear()
    assert {entry.key: source.fetch(entry) for entry in entries} == members
    assert sum(lengths) < 1.5 * len(data)


@pytest.mark.slow
def test_the_points_in_a_gzip_take_a_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gzips, "SPACING", 2**16)
    monkeypatch.setattr(gzips, "MAX_POINTS", 20)
    monkeypatch.setattr(gzips, "AHEAD", 2**18)
    source = opened(tmp_path, "tar.gz", packed("tar.gz", noise(100, 300_000)))
    tracemalloc.start()
    assert len(source.list()) == 100
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 2**17 + 12 * 2**18 + 2**20


def test_gzips_in_one_file_are_one_and_zeros_may_follow(tmp_path: Path) -> None:
    members = noise(5, 3000)
    tar = tarred(*members.items())
    cuts = (0, 100, 512, 5000, 5001, len(tar) - 700, len(tar))
    parts = [gzip.compress(tar[start:end]) for start, end in pairwise(cuts)]
    for data in (
        b"".join(parts),
        b"".join(parts) + bytes(100_000),
        bytes(9).join(parts),
        b"".join((*parts, gzip.compress(b""))),
    ):
        assert content(opened(tmp_path, "tar.gz", data)) == members


@pytest.mark.parametrize(
    "more", [b"more", gzip.compress(b"more", mtime=0), packed("tar", {"b.png": b""}), bytes(99) + b"x"]
)
def test_what_follows_the_end_of_a_tar_in_a_gzip_is_refused(more: bytes, tmp_path: Path) -> None:
    data = packed("tar.gz", {"a.png": b"one"}) + more
    refusal(opened(tmp_path, "tar.gz", data).list, "images.tar.gz", "not a tar.gz that can be read")


@pytest.mark.parametrize(("place", "reason"), [(-5, "incorrect data check"), (-1, "length check"), (5000, "")])
def test_a_gzip_with_other_bytes_than_its_checksum_is_of_is_refused(place: int, reason: str, tmp_path: Path) -> None:
    data = bytearray(packed("tar.gz", noise(5, 3000)))
    data[place] ^= 1
    refusal(opened(tmp_path, "tar.gz", bytes(data)).list, "images.tar.gz", "not a tar.gz", reason)


def test_a_gzip_of_something_else_is_refused(tmp_path: Path) -> None:
    data = gzip.compress(b"text" * 1000)
    refusal(opened(tmp_path, "tar.gz", data).list, "images.tar.gz", "not a tar.gz that can be read")


@pytest.mark.slow
def test_a_gzip_that_grows_without_end_is_refused_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gzips, "LARGE", 2**26)
    info = tarfile.TarInfo("a.png")
    info.size = 2**40
    data = gzip.compress(info.tobuf()) + gzip.compress(bytes(2**24)) * 1000
    source = opened(tmp_path, "tar.gz", data)
    tracemalloc.start()
    message = refusal(source.list, "images.tar.gz", "a bomb")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert int(message.rpartition("become ")[2].rstrip(")").replace(",", "")) < 2**27
    assert peak < len(data) + 2**22


@pytest.mark.slow
def test_a_gzip_that_grows_often_but_not_far_is_read(tmp_path: Path) -> None:
    image = bytes(30_000_000)
    data = gzip.compress(tarred(("black.bmp", image)), compresslevel=9)
    assert len(data) < len(image) / 900
    assert content(opened(tmp_path, "tar.gz", data)) == {"black.bmp": image}


@pytest.mark.parametrize("kind", [UnavailableError, ChangedError, StorageError])
@pytest.mark.parametrize("fails_at", [0, 2])
def test_what_goes_wrong_while_a_gzip_is_read_comes_out_as_it_is(
    kind: type[StorageError], fails_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gzips, "AHEAD", 2**16)
    monkeypatch.setattr(gzips, "PIECE", 2**16)
    source = opened(tmp_path, "tar.gz", packed("tar.gz", noise(2, 300_000)))
    entries, error, fetch = source.list(), kind("as it is"), Location.fetch

    def fails(self: Location, entry: Entry, start: int = 0, length: int | None = None) -> bytes:
        if start >= fails_at * 2**16:
            raise error
        return fetch(self, entry, start, length)

    for do in (partial(source.fetch, entries[0]), source.list):
        with monkeypatch.context() as patch:
            patch.setattr(Location, "fetch", fails)
            with pytest.raises(StorageError) as raised:
                do()
        assert raised.value is error
    assert len(source.list()) == 2
