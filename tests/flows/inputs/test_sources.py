"""A source is a folder, a zip, a tar or shards: the images are the same, and what cannot be taken is told."""

import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from flows.inputs.contents import list_images
from flows.report import ReportOptions, report
from flows.shard import ShardOptions, shard
from flows.upscale import UpscaleOptions, upscale
from storage.archives.source import open_source
from storage.stores.location import Location, StorageError
from tests.web_server import Site, serving

KINDS = ("folder", "zip", "tar", "tar.xz")


@pytest.fixture
def sources(photographs: Path, tmp_path: Path) -> dict[str, str]:
    """The twelve photographs, as a source of each kind."""
    root = tmp_path / "sources"
    root.mkdir()
    with (
        zipfile.ZipFile(root / "photographs.zip", "w") as archive,
        tarfile.open(root / "photographs.tar", "w") as tar,
    ):
        for path in sorted(photographs.rglob("*.png")):
            archive.write(path, path.relative_to(photographs))
            tar.add(path, path.relative_to(photographs))
    (root / "photographs.tar.xz").write_bytes(lzma.compress((root / "photographs.tar").read_bytes(), preset=0))
    return {
        "folder": str(photographs),
        "tar.xz": str(root / "photographs.tar.xz"),
        "zip": str(root / "photographs.zip"),
        "tar": str(root / "photographs.tar"),
    }


def upscaled(source: str, target: Path, **options: object) -> dict[str, bytes]:
    upscale.fn(UpscaleOptions.model_validate({"source": source, "target": str(target), **options}))
    return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*.png")}


def tars(source: str, target: Path, **options: object) -> list[bytes]:
    shard.fn(ShardOptions.model_validate({"source": source, "target": str(target), "max_failed": 1, **options}))
    return [path.read_bytes() for path in sorted(target.glob("*.tar"))]


@pytest.mark.slow
def test_every_kind_gives_the_same_results_under_the_same_names(sources: dict[str, str], tmp_path: Path) -> None:
    bicubic = {"method": "bicubic", "scale": 2}
    made = {kind: upscaled(sources[kind], tmp_path / kind.replace(".", "-"), **bicubic) for kind in KINDS}
    assert made["folder"] == made["zip"] == made["tar"] == made["tar.xz"]
    assert len(made["folder"]) == 12


@pytest.mark.slow
def test_every_kind_gives_the_same_shards(sources: dict[str, str], tmp_path: Path) -> None:
    made = {kind: tars(sources[kind], tmp_path / kind, samples_per_shard=5) for kind in KINDS}
    assert made["folder"] == made["zip"] == made["tar"] == made["tar.xz"]
    assert len(made["folder"]) == 3


@pytest.mark.slow
def test_shards_are_a_source_with_the_shard_in_the_names(sources: dict[str, str], tmp_path: Path) -> None:
    tars(sources["folder"], tmp_path / "shards", samples_per_shard=5)
    made = upscaled(str(tmp_path / "shards"), tmp_path / "large", method="nearest", scale=2)
    expected = upscaled(sources["folder"], tmp_path / "expected", method="nearest", scale=2)
    assert [made[key] for key in sorted(made)] == [expected[key] for key in sorted(expected)]
    assert {"shard-000000/000000000.png", "shard-000002/000000011.png"} <= made.keys()


@pytest.mark.slow
def test_a_report_takes_archives(sources: dict[str, str], tmp_path: Path) -> None:
    given = {
        "hr": sources["zip"],
        "lr": sources["tar"],
        "sr": {"same": sources["folder"]},
        "out": str(tmp_path / "out"),
    }
    report.fn(ReportOptions.model_validate(given))
    metrics = pd.read_parquet(tmp_path / "out" / "metrics.parquet")
    assert len(metrics) == 12
    assert (metrics.lpips == 0).all()


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_on_s3_is_read_where_it_lies(kind: str, sources: dict[str, str], s3: str, tmp_path: Path) -> None:
    Location.of(s3).upload(f"in/photographs.{kind}", Path(sources[kind]))
    made = tars(f"{s3}/in/photographs.{kind}", tmp_path / "made", samples_per_shard=5)
    assert made == tars(sources["folder"], tmp_path / "expected", samples_per_shard=5)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_hostile_members_are_told_and_write_nothing_outside(
    kind: str, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (photographs / "00000" / "00000.png").read_bytes()
    names = ["good.png", "../outside.png", "/absolute.png", "a/../../b.png", "good.png", "C:\\evil.png"]
    path = tmp_path / f"hostile.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, data)
            archive.writestr("broken.png", data[:100])
    else:
        with tarfile.open(path, "w") as tar:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            link = tarfile.TarInfo("link.png")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
            broken = tarfile.TarInfo("broken.png")
            broken.size = 100
            tar.addfile(broken, io.BytesIO(data[:100]))
    target = tmp_path / "deep" / "target"
    given = {"source": str(path), "target": str(target), "method": "nearest", "scale": 2, "max_failed": 1}
    upscale.fn(UpscaleOptions.model_validate(given))
    manifest = pd.read_parquet(target / "manifest.parquet").set_index("key")
    ok = manifest[manifest.status == "ok"]
    assert list(ok.index) == ["good.png"]
    links = {"link.png"} if kind == "tar" else set()
    refused = {"../outside.png", "/absolute.png", "a/../../b.png", "good.png (2)", "C:\\\\evil.png", *links}
    assert {*manifest.index} == {*ok.index, "broken.png", *refused}
    assert "second member of this name" in manifest.reason["good.png (2)"]
    assert sorted(p.name for p in tmp_path.rglob("*.png")) == ["good.png"]
    assert "../outside.png: a name that leads out of the archive" in capsys.readouterr().err


def test_a_damaged_archive_is_one_line_and_nothing_is_written(sources: dict[str, str], tmp_path: Path) -> None:
    for kind in ("zip", "tar"):
        path = Path(sources[kind])
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(StorageError, match=f"not a {kind} that can be read"):
            tars(str(path), tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_an_archive_that_has_to_be_unpacked_says_so(tmp_path: Path) -> None:
    (tmp_path / "photographs.7z").write_bytes(b"7z\xbc\xaf\x27\x1c")
    with pytest.raises(StorageError, match="unpack it"):
        tars(str(tmp_path / "photographs.7z"), tmp_path / "target")


@pytest.mark.slow
def test_an_archive_that_changed_makes_its_results_anew(sources: dict[str, str], tmp_path: Path) -> None:
    bicubic = {"method": "bicubic", "scale": 2}
    before = upscaled(sources["zip"], tmp_path / "target", **bicubic)
    members = {}
    with zipfile.ZipFile(sources["zip"]) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    first, second, *_ = members
    with zipfile.ZipFile(sources["zip"], "w") as archive:
        for name, data in (members | {first: members[second]}).items():
            archive.writestr(name, data)
    after = upscaled(sources["zip"], tmp_path / "target", **bicubic)
    assert after == before | {first: before[second]}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder of files of many kinds, by their names."""
    for name in ("a.heic", "b.HEIC", "c.heif", "sub/d.CR2", "e.svg", "f.txt", "g.pdf", ".h.heic"):
        path = tmp_path / "mixed" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "mixed"


def test_images_of_kinds_that_are_not_read_are_told_apart(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mixed / "z.png").write_bytes(b"x")
    assert [entry.key for entry in list_images(open_source(str(mixed)))] == ["z.png"]
    assert capsys.readouterr().err.splitlines() == [
        f"{mixed}: left out: 5 images of kinds that are not read (.heic 2, .heif 1, .svg 1, .cr2 1); convert them",
        f"{mixed}: left out: 1 hidden file, such as .h.heic; names that begin with a dot are not read",
        f"{mixed}: left out: 2 files, such as f.txt, without an image's suffix",
    ]


def test_a_source_of_nothing_but_such_images_says_so(mixed: Path) -> None:
    with pytest.raises(StorageError, match=r"no images there but 5 images of kinds .*\(\.heic 2, .*; convert them"):
        list_images(open_source(str(mixed)))
    with pytest.raises(StorageError, match=r"no images there but 1 image of kinds .*\(\.cr2 1\)"):
        list_images(open_source(str(mixed / "sub")))


def bmp(colour: str) -> bytes:
    """An image of one colour; those of all colours have one size in bytes."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(out, "BMP")
    return out.getvalue()


@pytest.mark.parametrize("etag", ["strong", ""])
@pytest.mark.parametrize("kind", ["folder", "file", "zip"])
def test_a_change_on_a_web_server_is_made_again(
    kind: str, etag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def files(colour: str) -> dict[str, bytes]:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr(zipfile.ZipInfo("a.bmp"), bmp(colour))
            archive.writestr(zipfile.ZipInfo("b.bmp"), bmp("white"))
        return {"in/a.bmp": bmp(colour), "in/b.bmp": bmp("white"), "photos.zip": packed.getvalue()}

    with serving(Site(files("red"), etag=etag)) as site:
        source = {"folder": "in", "file": "in/a.bmp", "zip": "photos.zip"}[kind]
        options = {"method": "nearest", "scale": 2}
        red = upscaled(f"{site.address}/{source}", tmp_path / "out", **options)
        said = capsys.readouterr()
        is_read_through = not etag and kind != "zip"  # whose members have sums
        assert ("read whole at each run" in said.out + said.err) is is_read_through
        made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
        assert upscaled(f"{site.address}/{source}", tmp_path / "out", **options) == red
        assert {path: path.stat().st_mtime_ns for path in made} == made
        site.files = files("blue")
        blue = upscaled(f"{site.address}/{source}", tmp_path / "out", **options)
        assert {name for name in red if red[name] != blue[name]} == {"a.png"}


def test_where_no_change_could_be_noticed_the_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Site({"a.bmp": bmp("red")})) as site:
        upscaled(f"simplecache::{site.address}/a.bmp", tmp_path / "out", method="nearest", scale=2)
    said = capsys.readouterr()
    assert "1 image, such as a.bmp: nothing but the size says whether it changed" in said.out + said.err
