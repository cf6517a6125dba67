"""Shards: read by WebDataset, the same bytes every time, and never silently short."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import webdataset
from PIL import Image

from flows.shard import ShardOptions, shard
from storage import images
from storage.locations import Location, StorageError
from storage.shards import LocalShard, ShardReader, local_shards


def make(source: Path, target: Path, **options: object) -> list[Path]:
    """Shard `source` and return the tars."""
    shard.fn(ShardOptions(source=str(source), target=str(target), max_failed=1, **options))
    return sorted(target.glob("*.tar"))


def samples(paths: list[Path]) -> list[dict[str, Any]]:
    return list(webdataset.WebDataset([str(path) for path in paths], shardshuffle=False))


def reader(target: Path) -> ShardReader:
    return ShardReader(local_shards(Location.of(target), target, lambda _: None))


def test_webdataset_reads_them_in_order_with_the_pictures_own_names(photographs: Path, tmp_path: Path) -> None:
    read = samples(make(photographs, tmp_path, samples_per_shard=5))
    names = [str(p.relative_to(photographs)) for p in sorted(photographs.rglob("*.png"))]
    assert [sample["__key__"] for sample in read] == [f"{i:09d}" for i in range(12)]
    assert [json.loads(sample["json"])["key"] for sample in read] == names
    assert all(sample["png"] == (photographs / name).read_bytes() for sample, name in zip(read, names, strict=True))


def test_with_a_size_every_picture_is_a_png_of_that_size(photographs: Path, tmp_path: Path) -> None:
    for sample in samples(make(photographs, tmp_path, size=16)):
        assert images.decode(sample["png"]).shape == (16, 16, 3)
        assert json.loads(sample["json"])["width"] == 16


def test_the_same_source_gives_the_same_bytes_with_any_number_of_workers(photographs: Path, tmp_path: Path) -> None:
    one, many = (
        make(photographs, tmp_path / "1", workers=1, in_flight=1),
        make(photographs, tmp_path / "8", workers=8),
    )
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in many]


def test_broken_pictures_are_left_out_and_their_numbers_stay_free(
    photographs: Path, bad_images: dict[str, Path], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    Image.open(photographs / "00000" / "00000.png").save(source / "a.png")
    (source / "b.png").write_bytes(bad_images["truncated.png"].read_bytes())
    Image.open(photographs / "00000" / "00001.png").save(source / "c.png")
    assert [s["__key__"] for s in samples(make(source, tmp_path / "shards"))] == ["000000000", "000000002"]


def test_random_access_gives_every_pictures_bytes(photographs: Path, tmp_path: Path) -> None:
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
    with pytest.raises(StorageError, match="10 pictures where the manifest says 12"):
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
