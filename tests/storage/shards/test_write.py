"""Shards: read by WebDataset, the same bytes every time, and never silently short."""

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from flows.shard import ShardOptions, shard
from storage.images import decode as codec
from storage.receipts.receipts import read_manifest
from storage.shards.read import LocalShard, ShardReader, list_shards, local_shards
from storage.stores.cache import Cache
from storage.stores.location import Location, StorageError


def make(source: Path, target: Path, **options: object) -> list[Path]:
    """Shard `source` and return the tars."""
    shard.fn(ShardOptions(source=str(source), target=str(target), max_failed=1, **options))
    return sorted(target.glob("*.tar"))


def samples(paths: list[Path]) -> list[dict[str, Any]]:
    return list(webdataset.WebDataset([str(path) for path in paths], shardshuffle=False))


def fetched(source: Location, cache: Path) -> list[LocalShard]:
    with local_shards(source, list_shards(source), Cache(cache), lambda _: None) as shards:
        return shards


def reader(target: Path) -> ShardReader:
    return ShardReader(fetched(Location.of(target), target))


def test_webdataset_reads_them_in_order_with_the_images_own_names(photographs: Path, tmp_path: Path) -> None:
    read = samples(make(photographs, tmp_path, samples_per_shard=5))
    names = [str(p.relative_to(photographs)) for p in sorted(photographs.rglob("*.png"))]
    assert [sample["__key__"] for sample in read] == [f"{i:09d}" for i in range(12)]
    assert [json.loads(sample["json"])["key"] for sample in read] == names
    assert all(sample["png"] == (photographs / name).read_bytes() for sample, name in zip(read, names, strict=True))


def test_with_a_size_every_image_is_a_png_of_that_size(photographs: Path, tmp_path: Path) -> None:
    for sample in samples(make(photographs, tmp_path, size=16)):
        assert codec.decode(sample["png"]).shape == (16, 16, 3)
        assert json.loads(sample["json"])["width"] == 16


def test_the_same_source_gives_the_same_bytes_with_any_number_of_workers(photographs: Path, tmp_path: Path) -> None:
    one, many = (
        make(photographs, tmp_path / "1", workers=1, in_flight=1),
        make(photographs, tmp_path / "8", workers=8),
    )
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in many]


def test_broken_images_are_left_out_and_their_numbers_stay_free(
    photographs: Path, bad_images: dict[str, Path], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    Image.open(photographs / "00000" / "00000.png").save(source / "a.png")
    (source / "b.png").write_bytes(bad_images["truncated.png"].read_bytes())
    Image.open(photographs / "00000" / "00001.png").save(source / "c.png")
    assert [s["__key__"] for s in samples(make(source, tmp_path / "shards"))] == ["000000000", "000000002"]


def test_random_access_gives_every_images_bytes(photographs: Path, tmp_path: Path) -> None:
    make(photographs, tmp_path, samples_per_shard=5)
    found = reader(tmp_path)
    expected = [path.read_bytes() for path in sorted(photographs.rglob("*.png"))]
    assert [found.read(i) for i in reversed(range(len(found)))] == expected[::-1]
    assert found.name(7).endswith("shard-000001.tar, 000000007.png")


def test_a_shard_cut_between_two_members_is_refused(photographs: Path, tmp_path: Path) -> None:
    [path] = make(photographs, tmp_path)
    with tarfile.open(path) as tar:
        boundary = tar.getmembers()[-4].offset
    path.write_bytes(path.read_bytes()[:boundary] + bytes(1024))
    with pytest.raises(StorageError, match="10 images where the manifest says 12"):
        reader(tmp_path)


def test_what_is_no_tar_is_named(tmp_path: Path) -> None:
    path = tmp_path / "shard-000000.tar"
    path.write_bytes(b"nonsense" * 100)
    with pytest.raises(StorageError, match=f"{path}: not a readable tar"):
        ShardReader([LocalShard(path, None)])


def test_shards_of_other_tools_need_no_manifest(photographs: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "theirs.tar", "w") as tar:
        tar.add(photographs / "00000" / "00000.png", "face.png")
    assert len(reader(tmp_path)) == 1


def test_numbers_go_on_from_shard_to_shard_and_names_may_have_dots(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for name in ("a.v2.final.png", "b c.PNG", "ü.png"):
        (tmp_path / "source" / name).write_bytes((photographs / "00000" / "00000.png").read_bytes())
    paths = make(tmp_path / "source", tmp_path / "shards", samples_per_shard=2)
    assert [path.name for path in paths] == ["shard-000000.tar", "shard-000001.tar"]
    read = samples(paths)
    assert [sample["__key__"] for sample in read] == ["000000000", "000000001", "000000002"]
    assert [json.loads(sample["json"])["key"] for sample in read] == ["a.v2.final.png", "b c.PNG", "ü.png"]
    assert all(sample["png"] == (photographs / "00000" / "00000.png").read_bytes() for sample in read)


def test_broken_images_are_in_the_manifest_with_their_reason(
    photographs: Path, bad_images: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    good = {"good.png": photographs / "00000" / "00000.png"}
    for name, path in (good | {f"{path.suffix[1:]}-{name}": path for name, path in bad_images.items()}).items():
        (tmp_path / "source" / name).write_bytes(path.read_bytes())
    [tar] = make(tmp_path / "source", tmp_path / "shards")
    assert len(samples([tar])) == 1
    manifest = read_manifest(Location.of(tmp_path / "shards"))
    assert manifest is not None
    rows = {row["key"]: row for row in manifest.to_pylist()}
    assert rows["good.png"]["status"] == "ok"
    assert rows["good.png"]["sha256"] == hashlib.sha256(tar.read_bytes()).hexdigest()
    assert rows["good.png"]["output_bytes"] == tar.stat().st_size
    assert rows["png-text.png"]["reason"] == "not an image (18 bytes)"
    assert rows["png-empty.png"]["reason"] == "not an image (0 bytes)"
    for name in ("jpg-truncated.jpg", "png-truncated.png"):
        assert rows[name]["reason"].startswith("broken image: ")
    assert sorted(row["status"] for row in rows.values()) == ["failed"] * 4 + ["ok"]


def test_images_smaller_than_the_size_are_left_out(photographs: Path, tmp_path: Path) -> None:
    assert make(photographs, tmp_path, size=65) == []
    manifest = read_manifest(Location.of(tmp_path))
    assert manifest is not None
    assert set(manifest.column("reason").to_pylist()) == {"64×64 is smaller than the size 65"}


@pytest.mark.integration
def test_shards_on_s3_are_fetched_once_and_again_when_they_change(photographs: Path, s3: str, tmp_path: Path) -> None:
    source, cache = Location.of(s3), tmp_path / "cache"
    for path in make(photographs, tmp_path / "made", samples_per_shard=5):
        source.upload(path.name, path)
    source.upload("manifest.parquet", tmp_path / "made" / "manifest.parquet")
    first = fetched(source, cache)
    found = ShardReader(first)
    expected = [path.read_bytes() for path in sorted(photographs.rglob("*.png"))]
    assert [found.read(i) for i in range(len(found))] == expected
    times = {shard.path: shard.path.stat().st_mtime_ns for shard in first}
    assert {s.path: s.path.stat().st_mtime_ns for s in fetched(source, cache)} == times
    source.upload("shard-000000.tar", tmp_path / "made" / "shard-000001.tar")
    with pytest.raises(StorageError, match=r"shard-000000\.tar: not what its manifest says \(sha256\)"):
        fetched(source, cache)
    source.delete("manifest.parquet")
    again = fetched(source, cache)
    assert [shard.path in times for shard in again] == [False, True, True]
    assert ShardReader(again).read(0) == expected[5]


@pytest.mark.parametrize("columns", [{"url": ["a"]}, {"key": ["a"], "output": ["shard-000000.tar"], "sha256": [7]}])
def test_a_manifest_of_somebody_else_beside_shards_says_nothing_of_them(
    columns: dict[str, list[object]], photographs: Path, tmp_path: Path
) -> None:
    [path] = make(photographs, tmp_path)
    pq.write_table(pa.table(columns), tmp_path / "manifest.parquet")
    assert fetched(Location.of(tmp_path), tmp_path) == [LocalShard(path, None)]


def test_a_tar_cut_within_a_member_is_refused(photographs: Path, tmp_path: Path) -> None:
    [path] = make(photographs, tmp_path)
    for kept in (path.stat().st_size // 2, 700, 100, 0):
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(StorageError, match=str(path)):
            reader(tmp_path)


def test_no_shards_are_a_line_that_says_how_to_make_some(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=rf"{tmp_path}: no shard \(\*\.tar\) there; make some with `dtls shard`"):
        list_shards(Location.of(tmp_path))
    with pytest.raises(StorageError, match="no image in any shard"):
        ShardReader([])
