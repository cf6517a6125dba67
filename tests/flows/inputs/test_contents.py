"""Every file of a source is an image, a row with a reason, or counted as skipped; and nothing else of it is lost."""

import io
import json
import tarfile
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import ValidationError

from flows.inputs.contents import contents_of
from flows.inputs.options import SourceOptions
from flows.inputs.sources import SourceSpec
from flows.interface.errors import RunError
from flows.shard import ShardOptions, shard
from flows.upscale import UpscaleOptions, upscale
from storage.archives.source import open_source
from storage.stores.location import Location, StorageError
from tests.storage.archives.test_source import raw_zip, tarred

JAPANESE = ("家族/写真.png", "家族/表.png")


def image(kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), "red").save(buffer, kind)
    return buffer.getvalue()


def filled(root: Path, *keys: str, data: bytes | None = None) -> Path:
    for key in keys:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image() if data is None else data)
    return root


def run(source: Path | str, target: Path | str, **options: object) -> str:
    given = {"source": str(source), "target": str(target), "method": "nearest", "scale": 2, **options}
    return upscale.fn(UpscaleOptions.model_validate(given))


def rows(target: Path) -> dict[str, str]:
    """By key, `ok` or why it failed."""
    table = pq.read_table(target / "manifest.parquet", columns=["key", "reason"]).to_pylist()
    return {row["key"]: row["reason"] or "ok" for row in table}


def skipped(target: Path) -> Mapping[str, object]:
    told = (pq.read_schema(target / "manifest.parquet").metadata or {}).get(b"dtls.skipped", b"{}")
    found: Mapping[str, object] = json.loads(told)
    return found


JUNK = (".DS_Store", "a/._1.png", ".git/x.png", "__MACOSX/1.png", "Thumbs.db", "a/@eaDir/1.png", ".Trash-1000/1.png")


def test_a_signature_in_the_name_of_what_is_skipped_is_not_kept(tmp_path: Path) -> None:
    run(filled(tmp_path / "in", "a.png", "notes.md?sig=PASSWORD"), tmp_path / "out")
    assert skipped(tmp_path / "out") == {"other": {"count": 1, "example": "notes.md?sig=…"}}


def test_what_is_skipped_is_counted_and_told_but_for_junk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = filled(
        tmp_path / "in", "a/1.png", *JUNK, ".photos/2.png", ".b.png", "c.zip", "d.tar.xz", "e.txt", "g.heic"
    )
    assert run(source, tmp_path / "out") == "1 done"
    assert skipped(tmp_path / "out") == {
        "junk": {"count": len(JUNK), "example": ".DS_Store"},
        "hidden": {"count": 2, "example": ".b.png"},
        "archive": {"count": 2, "example": "c.zip"},
        "other": {"count": 1, "example": "e.txt"},
        "unread": {"count": 1, "example": "g.heic"},
    }
    told = [line.removeprefix(f"{source}: ") for line in capsys.readouterr().err.splitlines()]
    assert told[:4] == [
        "left out: 1 image of kinds that are not read (.heic 1); convert them",
        "left out: 2 archives (c.zip, d.tar.xz); give each as a source of its own",
        "left out: 2 hidden files, such as .b.png; names that begin with a dot are not read",
        "left out: 1 file, such as e.txt, without an image's suffix",
    ]


def test_a_name_that_begins_with_several_dots_is_not_hidden(tmp_path: Path) -> None:
    source = filled(tmp_path / "in", "...And Justice For All/1.png", "plain/..2.png")
    assert run(source, tmp_path / "out.zip") == "2 done"
    assert {entry.key for entry in open_source(str(tmp_path / "out.zip")).list()} == {
        "...And Justice For All/1.png",
        "plain/..2.png",
    }


def test_what_a_target_keeps_for_itself_is_not_told_where_it_is_a_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(filled(tmp_path / "in", "1.png"), tmp_path / "out")
    capsys.readouterr()
    run(tmp_path / "out", tmp_path / "further")
    assert "left out" not in capsys.readouterr().err
    assert skipped(tmp_path / "further") == {}


def test_members_that_are_refused_are_rows_and_do_no_harm(tmp_path: Path) -> None:
    data = image()
    names = ("a.png", "./a.png", "../b.png", "note\n.txt", "c.png", "x/../c.png")
    (tmp_path / "in.tar").write_bytes(tarred(*((name, data) for name in names)))
    target = tmp_path / "out"
    with pytest.raises(RunError, match="3 of 5 images failed"):
        run(tmp_path / "in.tar", target)
    found = rows(target)
    assert [key for key, said in found.items() if said == "ok"] == ["a.png", "c.png"]
    assert found["./a.png"] == "a second member of this name; the first one counts"
    assert "leads out" in found["../b.png"]
    assert skipped(target) == {
        "refused": {"count": 1, "example": "note\\n.txt"},
    }
    assert run(tmp_path / "in.tar", target, max_failed=1) == "2 already done, 3 failed"
    assert run(tmp_path / "in.tar", target, max_failed=1, retry_failed=True) == "2 already done, 3 failed"
    assert {path.name for path in tmp_path.rglob("*.png")} == {"a.png", "c.png"}


def test_refused_members_of_one_name_are_rows_of_their_own_and_leave_results_alone(tmp_path: Path) -> None:
    (tmp_path / "in.tar").write_bytes(tarred(*(("a.png", image()) for _ in range(3))))
    assert run(tmp_path / "in.tar", tmp_path / "out", max_failed=1) == "1 done, 2 failed"
    assert {*rows(tmp_path / "out")} == {"a.png", "a.png (2)", "a.png (3)"}
    assert (tmp_path / "out" / "a.png").exists()
    assert run(tmp_path / "in.tar", tmp_path / "out", max_failed=1, retry_failed=True) == "1 already done, 2 failed"
    assert (tmp_path / "out" / "a.png").exists()


def test_refused_members_are_rows_of_shards_too(tmp_path: Path) -> None:
    (tmp_path / "in.tar").write_bytes(tarred(("a.png", image()), ("../b.png", image())))
    given = {"source": str(tmp_path / "in.tar"), "target": str(tmp_path / "shards"), "max_failed": 1}
    assert shard.fn(ShardOptions.model_validate(given)) == "1 done, 1 failed"
    assert {*rows(tmp_path / "shards")} == {"a.png", "../b.png"}
    assert shard.fn(ShardOptions.model_validate(given)) == "1 already done, 1 failed"
    assert run(tmp_path / "in.tar", tmp_path / "large", samples_per_shard=5, max_failed=1) == "1 done, 1 failed"
    assert len(list((tmp_path / "large").glob("*.tar"))) == 1


def test_a_choice_may_be_of_refused_members(tmp_path: Path) -> None:
    (tmp_path / "in.tar").write_bytes(tarred(("a.png", image()), ("../b.png", image())))
    assert run(tmp_path / "in.tar", tmp_path / "one", include=["a*"]) == "1 done"
    assert run(tmp_path / "in.tar", tmp_path / "two", exclude=["a*"], max_failed=1) == "1 failed"
    assert run(tmp_path / "in.tar", tmp_path / "two", include=["a*"], max_failed=1) == "1 done, 1 failed"


def test_only_what_shards_hold_besides_images_and_their_json_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "s.tar").write_bytes(tarred(("1.png", image()), ("1.json", b"{}"), ("1.txt", b"caption")))
    (tmp_path / "in" / "notes.md").touch()
    assert run(tmp_path / "in", tmp_path / "out", by_content=True) == "1 done"
    assert skipped(tmp_path / "out") == {"other": {"count": 2, "example": "notes.md"}}
    assert "left out: 2 files, such as notes.md, without an image's suffix" in capsys.readouterr().err


def test_files_without_a_suffix_are_taken_by_their_content_if_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = filled(tmp_path / "in", "a.png", "b")
    filled(source, "c.dat", data=image("JPEG"))
    filled(source, "d", "e.unknown", data=b"text")
    filled(source, "f.txt")
    filled(source, "g", data=b"")
    assert run(source, tmp_path / "plain") == "1 done"
    assert "--by-content takes those that begin as an image does" in capsys.readouterr().err
    assert run(source, tmp_path / "out", by_content=True) == "3 done"
    assert {*rows(tmp_path / "out")} == {"a.png", "b", "c.dat"}
    assert {path.name for path in (tmp_path / "out").rglob("*.png")} == {"a.png", "b.png", "c.dat.png"}
    assert skipped(tmp_path / "out") == {"other": {"count": 4, "example": "d"}}
    given = {"source": str(source), "target": str(tmp_path / "shards"), "by_content": True}
    shard.fn(ShardOptions.model_validate(given))
    with tarfile.open(tmp_path / "shards" / "shard-000000.tar") as tar:
        assert [name for name in tar.getnames() if not name.endswith("json")] == [
            "000000000.png",
            "000000001.png",
            "000000002.jpg",
        ]


def test_a_member_without_a_suffix_is_taken_too(tmp_path: Path) -> None:
    (tmp_path / "in.zip").write_bytes(raw_zip((b"a", image()), (b"b", b"text")))
    with pytest.raises(StorageError, match="no images there, only 2 other files such as a"):
        run(tmp_path / "in.zip", tmp_path / "out")
    assert run(tmp_path / "in.zip", tmp_path / "out", by_content=True) == "1 done"


def test_a_key_that_is_listed_is_read_whatever_its_suffix(tmp_path: Path) -> None:
    source = filled(tmp_path / "in", "a.png", "b", "c.txt", ".h/d.png")
    (source / "c.txt").write_text("text")
    (tmp_path / "keys").write_text("b\nc.txt\n.h/d.png\ngone.png\n")
    assert run(source, tmp_path / "out", key_list=str(tmp_path / "keys"), max_failed=1) == "1 done, 3 failed"
    found = rows(tmp_path / "out")
    assert found["b"] == "ok"
    assert found["c.txt"].startswith("not an image")
    assert found[".h/d.png"] == "hidden: names that begin with a dot are not read"
    assert found["gone.png"] == "not in the source"
    assert skipped(tmp_path / "out") == {"hidden": {"count": 1, "example": ".h/d.png"}}
    assert run(source, tmp_path / "out", include=["a*"]) == "1 done, 1 already done"


@pytest.mark.slow
def test_a_listed_key_is_meant_in_whatever_unicode_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = filled(tmp_path / "in", unicodedata.normalize("NFD", "Café/été.png"), "a.png")
    (tmp_path / "keys").write_text(unicodedata.normalize("NFC", "Café/été.png"))
    assert run(source, tmp_path / "out", key_list=str(tmp_path / "keys")) == "1 done"
    assert "not in the source" not in capsys.readouterr().err
    forms = [unicodedata.normalize(form, "\u212b.png") for form in ("NFC", "NFD")]
    source = filled(tmp_path / "duplicates", *forms)
    (tmp_path / "keys").write_text("\u212b.png")
    (tmp_path / "one").write_text(forms[0])
    with pytest.raises(StorageError, match="none of the 2 images is chosen"):
        run(source, tmp_path / "two", key_list=str(tmp_path / "keys"))
    assert run(source, tmp_path / "two", key_list=str(tmp_path / "one")) == "1 done"
    (tmp_path / "both").write_text(f"{forms[1]}\n\u212b.png")
    assert (
        run(source, tmp_path / "two", key_list=str(tmp_path / "both"), max_failed=1)
        == "1 done, 1 already done, 1 failed"
    )
    assert "Unicode form only (NFC, NFD)" in rows(tmp_path / "two")["\u212b.png"]


def test_one_image_is_a_source(tmp_path: Path) -> None:
    source = filled(tmp_path / "in", "photo.png", "other.png")
    assert run(source / "photo.png", tmp_path / "out") == "1 done"
    assert run(source / "photo.png", tmp_path / "out") == "1 already done"
    assert run(source / "photo.png", tmp_path / "out.zip") == "1 done"
    assert rows(tmp_path / "out") == {"photo.png": "ok"}
    before = (source / "photo.png").read_bytes()
    for target in (source, source / "."):
        with pytest.raises(StorageError, match=r"in: holds the source .*photo\.png; choose another folder"):
            run(source / "photo.png", target)
    assert (source / "photo.png").read_bytes() == before
    assert not (source / ".dtls").exists()
    with pytest.raises(StorageError, match="no such folder"):
        run(source / "gone.png", tmp_path / "out")


@pytest.mark.integration
def test_one_image_on_s3_is_a_source(s3: str, tmp_path: Path) -> None:
    Location.of(s3).write("in/photo.png", image())
    assert run(f"{s3}/in/photo.png", tmp_path / "out") == "1 done"
    with pytest.raises(StorageError, match="holds the source"):
        run(f"{s3}/in/photo.png", f"{s3}/in")


def test_names_of_an_untold_encoding_are_told_and_read_once_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members = [(name.encode("shift_jis"), image()) for name in JAPANESE]
    (tmp_path / "in.zip").write_bytes(raw_zip(*members, system=0))
    with pytest.raises(RunError, match="1 of 2 images failed"):
        run(tmp_path / "in.zip", tmp_path / "out")
    told = capsys.readouterr().err
    assert "2 names in an encoding that is not told, such as " in told
    assert "--names-encoding says which: shift_jis or " in told
    assert run(tmp_path / "in.zip", tmp_path / "right", names_encoding="shift_jis") == "2 done"
    assert rows(tmp_path / "right") == dict.fromkeys(JAPANESE, "ok")
    assert "encoding" not in capsys.readouterr().err
    assert run(tmp_path / "in.zip", tmp_path / "right", names_encoding="cp932") == "2 already done"


def test_another_process_reads_names_in_the_same_encoding(tmp_path: Path) -> None:
    (tmp_path / "in.zip").write_bytes(raw_zip((JAPANESE[1].encode("gbk"), image()), system=0))
    source = open_source(str(tmp_path / "in.zip"), "gbk")
    [entry] = contents_of(source).images
    assert SourceSpec.of(str(tmp_path / "in.zip"), source, "gbk").open().fetch(entry) == image()


@pytest.mark.parametrize("encoding", ["nonsense", "utf-16", "rot13", "idna", "base64", ""])
def test_what_is_no_encoding_of_names_is_refused(encoding: str) -> None:
    with pytest.raises(ValidationError, match="no encoding of names that Python knows"):
        SourceOptions(names_encoding=encoding)


@pytest.mark.parametrize("encoding", ["shift_jis", "CP932", "gb18030", "big5", "euc-kr", "cp866", "latin-1", "utf-8"])
def test_encodings_are_known_by_pythons_names(encoding: str) -> None:
    assert SourceOptions(names_encoding=encoding).names_encoding == encoding
