"""What members are called: in what encoding, with which slashes, and where links lead."""

import os
import struct
import tarfile
import zlib
from pathlib import Path

import pytest

from storage.archives.archive import key_of
from storage.archives.source import Source, open_source
from storage.shards.read import LocalShard, ShardReader
from tests.storage.archives.test_source import as_kind, content, opened, raw_zip, refusal, tarred

KINDS = ("tar", "tar.gz")
JAPANESE = ("家族/写真 1.png", "家族/表.png")


def told(folder: Path, kind: str, data: bytes, encoding: str | None = None) -> Source:
    """An archive whose names are in an encoding that the user tells."""
    opened(folder, kind, data)
    return open_source(str(folder / f"images.{kind}"), encoding)


def unicode_path(raw: bytes, name: str, version: int = 1) -> bytes:
    content = struct.pack("<BL", version, zlib.crc32(raw)) + name.encode()
    return struct.pack("<HH", 0x7075, len(content)) + content


def test_a_name_in_unicode_counts_where_it_is_of_the_name_in_the_directory(tmp_path: Path) -> None:
    raw = "写真.png".encode("gbk")
    good = unicode_path(raw, "写真.png")
    for extra in (good, struct.pack("<HH4s", 0x5455, 4, b"time") + good):
        assert list(content(opened(tmp_path, "zip", raw_zip((raw, b"x"), extra=extra, system=0)))) == ["写真.png"]
    garbled = raw.decode("cp437")
    others = (unicode_path(b"other", "a.png"), unicode_path(raw, "a.png", 2), good[:8], good[:-1], b"up\1")
    for extra in others:
        assert list(content(opened(tmp_path, "zip", raw_zip((raw, b"x"), extra=extra)))) == [garbled]


def test_a_name_in_unicode_is_checked_like_another(tmp_path: Path) -> None:
    source = opened(tmp_path, "zip", raw_zip((b"a.png", b"x"), extra=unicode_path(b"a.png", "../../a.png")))
    assert source.list() == []
    assert source.refused == [("../../a.png", "a name that leads out of the archive, or is of another system")]


def test_names_of_zips_are_read_in_the_encoding_that_is_told(tmp_path: Path) -> None:
    for encoding in ("shift_jis", "cp932", "euc_jp"):
        data = raw_zip(*((name.encode(encoding), name.encode()) for name in JAPANESE), system=0)
        assert list(content(told(tmp_path, "zip", data, encoding))) == list(JAPANESE)
    flagged = raw_zip(("é.png".encode(), b""), flags=0x800)
    assert list(content(told(tmp_path, "zip", flagged, "shift_jis"))) == ["é.png"]
    source = told(tmp_path, "zip", raw_zip((b"\xff\xff.png", b"")), "shift_jis")
    assert (source.list(), source.refused) == ([], [("\\udcff\\udcff.png", "a name that is not in shift_jis")])


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_tars_are_read_in_the_encoding_that_is_told(kind: str, tmp_path: Path) -> None:
    long = "家" * 120 + ".png"
    names = [os.fsdecode(name.encode("shift_jis")) for name in (*JAPANESE, long)]
    data = as_kind(kind, tarred(*((name, b"x") for name in names), kind=tarfile.GNU_FORMAT))
    assert set(content(told(tmp_path, kind, data, "shift_jis"))) == {*JAPANESE, long}
    pax = as_kind(kind, tarred(("é.png", b"x")))
    assert list(content(told(tmp_path, kind, pax, "shift_jis"))) == ["é.png"]
    source = told(tmp_path, kind, data)
    assert source.list() == []
    assert source.foreign[0] == JAPANESE[0].encode("shift_jis")
    assert all("--names-encoding" in why for _, why in source.refused)


def test_without_an_encoding_a_letter_is_not_taken_for_a_folder_and_its_backslash(tmp_path: Path) -> None:
    raw = "表.png".encode("shift_jis")
    source = opened(tmp_path, "zip", raw_zip((raw, b"x"), system=0))
    assert source.list() == []
    assert source.foreign == [raw]
    [(_, why)] = source.refused
    assert why.endswith("its encoding is not told: --names-encoding")


@pytest.mark.parametrize("system", [0, 10, 11, 14])
def test_backslashes_are_slashes_in_zips_from_dos_and_windows(system: int, tmp_path: Path) -> None:
    names = {
        b"holiday\\day 1\\a.png": "holiday/day 1/a.png",
        b".\\b.png": "b.png",
        "äx\\ö.png".encode("cp437"): "äx/ö.png",
        "é\\x.png".encode(): "é/x.png",
    }
    data = raw_zip(*((name, b"x") for name in names), (b"holiday\\", b""), system=system)
    source = opened(tmp_path, "zip", data)
    assert {*content(source)} == {*names.values()}
    assert source.refused == []


@pytest.mark.parametrize(
    "name", [b"..\\a.png", b"x\\..\\..\\a.png", b"C:\\a.png", b"\\a.png", b"\\\\host\\a.png", b"x/y\\a.png"]
)
def test_backslashes_lead_nowhere_else(name: bytes, tmp_path: Path) -> None:
    source = opened(tmp_path, "zip", raw_zip((name, b"x"), system=0))
    assert source.list() == []
    assert "leads out of the archive" in source.refused[0][1]


def test_a_backslash_behind_a_letter_of_no_told_encoding_is_refused_until_it_is_told(tmp_path: Path) -> None:
    data = raw_zip(("ä\\ö.png".encode("cp437"), b"x"), system=0)
    assert opened(tmp_path, "zip", data).list() == []
    assert list(content(told(tmp_path, "zip", data, "cp437"))) == ["ä/ö.png"]


def test_backslashes_in_a_zip_from_unix_are_refused(tmp_path: Path) -> None:
    source = opened(tmp_path, "zip", raw_zip((b"a\\b.png", b"x"), system=3))
    assert (source.list(), len(source.refused)) == ([], 1)


def link(name: str, target: str, kind: bytes = tarfile.LNKTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def symbolic(name: str, target: str) -> tarfile.TarInfo:
    return link(name, target, tarfile.SYMTYPE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_links_to_members_are_these(kind: str, form: int, tmp_path: Path) -> None:
    long = f"{'d' * 90}/{'n' * 90}.png" if form != tarfile.USTAR_FORMAT else "d/n.png"
    tar = tarred(
        link("early.png", "x/a.png"),
        ("x/a.png", b"one"),
        (long, b"long"),
        link("y/b.png", "./x/a.png"),
        symbolic("y/c.png", "../x/a.png"),
        symbolic("y/d.png", "c.png"),
        link("e.png", long),
        link("f.png", "y/d.png"),
        kind=form,
    )
    source = opened(tmp_path, kind, as_kind(kind, tar))
    ones = dict.fromkeys(("early.png", "x/a.png", "y/b.png", "y/c.png", "y/d.png", "f.png"), b"one")
    assert content(source) == {**ones, long: b"long", "e.png": b"long"}
    assert source.refused == []


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ([link("l.png", "gone.png")], "a hard link to gone.png, which is no file in the archive"),
        ([symbolic("l.png", "/etc/passwd")], "a link that leads out of the archive, to /etc/passwd"),
        ([symbolic("d/l.png", "../../a.png")], "a link that leads out of the archive, to d/../../a.png"),
        ([symbolic("l.png", "m.png"), symbolic("m.png", "l.png")], "a link that leads to itself"),
        ([symbolic("l.png", "l.png")], "a link that leads to itself"),
        ([symbolic("l.png", "d")], "a link to d, which is no file"),
        ([link("a.png", "a.png")], "a second member of this name"),
        ([link("../l.png", "a.png")], "a name that leads out"),
        ([*(symbolic(f"{n}.png", f"{n + 1}.png") for n in range(50)), link("50.png", "a.png")], "too many others"),
    ],
)
def test_links_to_anything_else_are_refused(bad: list[tarfile.TarInfo], says: str, tmp_path: Path) -> None:
    source = opened(tmp_path, "tar", tarred(("a.png", b"one"), *bad))
    assert content(source)["a.png"] == b"one"
    assert says in source.refused[0][1]
    assert all(name.isprintable() and why.isprintable() for name, why in source.refused)


def test_a_link_is_fetched_as_its_target_is(tmp_path: Path) -> None:
    source = opened(tmp_path, "tar", tarred(("a.png", b"one"), link("b.png", "a.png")))
    first, second = source.list()
    assert (second.size, second.etag) == (first.size, first.etag)
    opened(tmp_path, "tar", tarred(("a.png", b"six"), link("b.png", "a.png")))
    refusal(lambda: source.fetch(second), "changed since it was listed")


def test_links_in_shards_are_their_members_and_those_to_nothing_are_empty(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(
        tarred(link("0.png", "2.png"), symbolic("1.png", "gone.png"), ("2.png", b"one"), symbolic("3.png", "0.png"))
    )
    reader = ShardReader([LocalShard(tmp_path / "s.tar", None)])
    found = {reader.name(index).rpartition(" ")[2]: reader.read(index) for index in range(len(reader))}
    assert found == {"0.png": b"one", "1.png": b"", "2.png": b"one", "3.png": b"one"}


def test_a_name_may_begin_with_dots() -> None:
    assert key_of("...And Justice/cover.png") == "...And Justice/cover.png"
