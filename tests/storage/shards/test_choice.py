"""Of a sample with several images one is trained on, and shards of validation and test are not."""

import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from storage.shards.read import LocalShard, ShardReader, is_held_out, list_shards
from storage.stores.location import Location, StorageError

Reading = tuple[list[str], list[str]]


def shard(path: Path, *names: str) -> LocalShard:
    with tarfile.open(path, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, BytesIO(name.encode()))
    return LocalShard(path, None)


def read(reader: ShardReader) -> list[str]:
    """The names of what is trained on: each member's content here."""
    return [reader.read(index).decode() for index in range(len(reader))]


@pytest.mark.parametrize(
    ("names", "chosen", "others"),
    [
        (["1.jpg", "1.json", "1.mask.png", "2.jpg", "2.mask.png"], ["1.jpg", "2.jpg"], "2 .mask.png"),
        (["1.png", "1.jpg", "2.jpg", "2.png"], ["1.jpg", "2.jpg"], "2 .png"),
        (["1.seg.png", "1.JPEG", "a/1.webp", "a/1.png"], ["1.JPEG", "a/1.png"], "1 .seg.png, 1 .webp"),
        (["1.jpg", "1.seg.png", "2.seg.png"], ["1.jpg"], "2 .seg.png"),  # a mask is none where its image is missing
        (["1.hr.png", "2.hr.png", "2.json"], ["1.hr.png", "2.hr.png"], ""),
        (["photo.v1.jpg", "photo.v2.jpg", "a.b/c.png"], ["photo.v1.jpg", "photo.v2.jpg", "a.b/c.png"], ""),
        (["1.heic", "1.mask.png", "2.jpg", "2.heic"], ["1.heic", "2.jpg"], "1 .mask.png, 1 .heic"),
        (["000000042.json", "000000042.png", "000000043.tif"], ["000000042.png", "000000043.tif"], ""),
    ],
)
def test_the_image_of_a_sample_is_the_one_with_the_plain_extension(
    names: list[str], chosen: list[str], others: str, tmp_path: Path
) -> None:
    reader = ShardReader([shard(tmp_path / "a.tar", *names)])
    assert read(reader) == chosen
    assert reader.others().partition(", such as")[0] == others


def test_what_stands_beside_an_image_in_one_shard_is_no_image_in_another(tmp_path: Path) -> None:
    shards = [shard(tmp_path / "a.tar", "1.seg.png"), shard(tmp_path / "b.tar", "2.seg.png", "2.jpg")]
    reader = ShardReader(shards)
    assert read(reader) == ["2.jpg"]
    assert reader.others() == f"2 .seg.png, such as {tmp_path / 'a.tar'}, 1.seg.png"


def test_the_extension_can_be_named_whatever_it_is(tmp_path: Path) -> None:
    shards = [shard(tmp_path / "a.tar", "1.jpg", "1.hr.png", "2.jpg", "2.input", "3.txt")]
    assert read(ShardReader(shards, ("hr.png", "jpg"))) == ["1.hr.png", "2.jpg"]
    assert read(ShardReader(shards, ("input",))) == ["2.input"]
    with pytest.raises(StorageError, match=r"no sample has an image webp; there are 2 \.jpg, 1 \.hr\.png, such as"):
        ShardReader(shards, ("webp",))


def test_samples_with_several_images_and_none_that_is_plain_are_refused(tmp_path: Path) -> None:
    shards = [shard(tmp_path / "a.tar", "1.rgb.png", "1.depth.png", "2.rgb.png", "2.depth.png")]
    with pytest.raises(StorageError) as refused:
        ShardReader(shards)
    assert str(refused.value) == (
        f"{tmp_path / 'a.tar'}: the sample 1 has several images (depth.png, rgb.png); "
        "--image-ext says which one to train on"
    )
    assert read(ShardReader(shards, ("rgb.png",))) == ["1.rgb.png", "2.rgb.png"]


@pytest.mark.parametrize(
    ("key", "held_out"),
    [
        *(("val-000000.tar", True), ("valid_00.tar", True), ("validation-0.tar", True), ("test_000000.tar", True)),
        *(("coco_val2017-01.tar", True), ("imagenet.eval.003.tar", True), ("val/000000.tar", True)),
        *(("a/Test/00.tar", True), ("training-sets/dev-00.tar", True), ("TEST-0.tar", True)),
        *(("train-000000.tar", False), ("shard-000000.tar", False), ("valley-000.tar", False)),
        *(("val/train-0.tar", False), ("train-test-split-0.tar", False), ("contest-00.tar", False)),
    ],
)
def test_shards_for_validation_and_test_are_known_by_their_names(key: str, held_out: bool) -> None:
    assert is_held_out(key) == held_out


def listed(folder: Path, *patterns: str) -> Reading:
    told: list[str] = []
    found = list_shards(Location.of(folder), patterns, told.append)
    return [entry.key for entry in found], [line.removeprefix(f"{folder}: ") for line in told]


def test_shards_that_are_left_out_are_told_and_patterns_choose_others(tmp_path: Path) -> None:
    for name in ("test_0.tar", "train-0.tar", "train-1.tar", "val-0.tar", "train-2.tar.gz", "._train-0.tar"):
        shard(tmp_path / name, "1.jpg")
    packed = "left out: train-2.tar.gz: compressed; unpack them to .tar"
    by_name = "of validation or test, by their names; --shards chooses others"
    assert listed(tmp_path) == (
        ["train-0.tar", "train-1.tar"],
        [packed, f"left out: 2 shards, such as test_0.tar: {by_name}"],
    )
    assert listed(tmp_path, "*-0.tar") == (
        ["train-0.tar", "val-0.tar"],
        [packed, "left out: 2 shards, such as test_0.tar: not chosen by --shards"],
    )
    assert listed(tmp_path, "*")[0] == ["test_0.tar", "train-0.tar", "train-1.tar", "val-0.tar"]
    with pytest.raises(
        StorageError, match=r"train-0\.tar: is a file; give the folder it is in, with --shards and its"
    ):
        listed(tmp_path / "train-0.tar")
    with pytest.raises(StorageError, match="nowhere: no such folder, prefix or bucket"):
        listed(tmp_path / "nowhere")
    with pytest.raises(StorageError, match=f"{tmp_path}: --shards chooses none of its 4 shards, such as test_0.tar"):
        listed(tmp_path, "none-*")
