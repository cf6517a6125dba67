"""Sharding as a run: which image goes where, who made it, and the same bytes from any machine."""

import errno
import io
import json
import os
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import webdataset
from PIL import Image

from flows.shard import ShardOptions, shard
from flows.transform.sharding import METADATA
from storage.shards.ffhq import by_hash
from storage.shards.read import list_shards
from storage.stores import local
from storage.stores.entry import Entry
from storage.stores.location import Location, StorageError, UnavailableError

LICENCE = {"license": "Attribution License", "license_url": "https://creativecommons.org/licenses/by/2.0/"}


def sharded(source: object, target: object, **options: Any) -> str:
    return shard.fn(ShardOptions(source=str(source), target=str(target), **options))


def samples(target: Path, names: str = "*.tar") -> dict[str, dict[str, Any]]:
    """By the images' own names, what webdataset reads in the shards."""
    paths = [str(path) for path in sorted(target.glob(names))]
    read = webdataset.WebDataset(paths, shardshuffle=False, empty_check=False) if paths else []
    return {json.loads(sample["json"])["key"]: sample for sample in read}


def tars(target: str | Path) -> dict[str, bytes]:
    where = Location.of(target)
    return {entry.key: where.fetch(entry) for entry in where.list() if entry.key.endswith(".tar")}


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def upload(folder: Path, url: str) -> None:
    place = Location.of(url)
    for path in folder.rglob("*"):
        if path.is_file():
            place.upload(str(path.relative_to(folder)), path)


def entry(number: int, author: str | None = None) -> dict[str, Any]:
    """What FFHQ's metadata says of an image."""
    texts = {"author": author or f"Ægir {number}", "photo_url": f"https://flickr/{number}", "country": "", **LICENCE}
    return {"category": "training" if number < 60_000 else "validation", "metadata": texts, "image": {"pixels": [1]}}


def put_metadata(folder: Path, author: str | None = None) -> Path:
    """Metadata of the first images of a folder, all but 11."""
    path = folder / METADATA
    path.write_text(json.dumps({str(number): entry(number, author) for number in range(11)}))
    return path


@pytest.fixture
def ffhq(photographs: Path, tmp_path: Path) -> Path:
    """A folder as FFHQ's, with images on both sides of its split."""
    source = tmp_path / "ffhq" / "images1024x1024"
    shutil.copytree(photographs, source)
    for number in (59_999, 60_000, 69_999):
        folder = source / f"{number // 1000 * 1000:05}"
        folder.mkdir(exist_ok=True)
        shutil.copy(photographs / "00000" / f"{number % 10:05}.png", folder / f"{number:05}.png")
    return source


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "shards"


def test_the_published_split_is_ffhqs(ffhq: Path, target: Path) -> None:
    assert sharded(ffhq, target, split="published", samples_per_shard=10) == "15 done"
    train, validation = samples(target, "train-*.tar"), samples(target, "validation-*.tar")
    assert sorted(validation) == ["60000/60000.png", "69000/69999.png"]
    assert len(train) == 13
    assert "59000/59999.png" in train
    assert sorted(tars(target)) == ["train-000000.tar", "train-000001.tar", "validation-000000.tar"]
    outputs = pd.read_parquet(target / "manifest.parquet").set_index("key").output
    assert outputs["59000/59999.png"] == "train-000001.tar"
    assert outputs["60000/60000.png"] == "validation-000000.tar"


def test_samples_are_numbered_within_their_side(ffhq: Path, target: Path) -> None:
    sharded(ffhq, target, split="published", samples_per_shard=10)
    for names, count in (("train-*.tar", 13), ("validation-*.tar", 2)):
        found = samples(target, names).values()
        assert [sample["__key__"] for sample in found] == [f"{number:09d}" for number in range(count)]


@pytest.mark.parametrize("name", ["70000.png", "face.png", "-1.png"])
def test_what_is_no_image_of_ffhq_refuses_the_published_split(ffhq: Path, target: Path, name: str) -> None:
    shutil.copy(ffhq / "00000" / "00000.png", ffhq / name)
    with pytest.raises(StorageError, match=f"'{name}': no name of FFHQ's.*; split by hash instead") as refused:
        sharded(ffhq, target, split="published")
    assert "\n" not in str(refused.value)
    assert not target.exists()


@pytest.mark.slow
def test_a_split_by_hash_gives_each_side_its_share(photographs: Path, tmp_path: Path, target: Path) -> None:
    source, data = tmp_path / "many", (photographs / "00000" / "00000.png").read_bytes()
    source.mkdir()
    for number in range(400):
        (source / f"{number}.png").write_bytes(data)
    sharded(source, target, split="hash", validation_share=0.25, size=8)
    train, validation = samples(target, "train-*.tar"), samples(target, "validation-*.tar")
    assert train.keys() | validation.keys() == {f"{number}.png" for number in range(400)}
    assert train.keys().isdisjoint(validation)
    assert 70 < len(validation) < 130  # 3.5 standard deviations
    assert set(validation) == {key for key in (f"{n}.png" for n in range(400)) if by_hash(key, 0.25) == "validation"}


def test_no_image_changes_sides_when_others_come(photographs: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(photographs, source)
    sharded(source, tmp_path / "few", split="hash", validation_share=0.5)
    for number in range(50):
        shutil.copy(photographs / "00000" / "00000.png", source / f"00000-{number}.png")
    sharded(source, tmp_path / "many", split="hash", validation_share=0.5)
    before, after = (samples(tmp_path / name, "validation-*.tar").keys() for name in ("few", "many"))
    assert 0 < len(before) < 12
    assert {key for key in after if key.startswith("00000/")} == before
    assert len(after) > len(before)


def test_training_leaves_the_validation_shards_out(ffhq: Path, target: Path) -> None:
    sharded(ffhq, target, split="published", samples_per_shard=10)
    assert [found.key for found in list_shards(Location.of(target))] == ["train-000000.tar", "train-000001.tar"]
    for path in target.glob("train-*.tar"):
        path.unlink()
    with pytest.raises(
        StorageError, match=r"only shards of validation or test there, by their names \(validation-000000\.tar\)"
    ):
        list_shards(Location.of(target))


def test_a_side_without_images_has_no_shard(photographs: Path, target: Path) -> None:
    sharded(photographs, target, split="published")
    assert sorted(tars(target)) == ["train-000000.tar"]


def test_another_split_replaces_the_shards_of_the_one_before(ffhq: Path, target: Path) -> None:
    sharded(ffhq, target)
    sharded(ffhq, target, split="published", overwrite=True)
    assert sorted(tars(target)) == ["train-000000.tar", "validation-000000.tar"]
    assert len(pd.read_parquet(target / "manifest.parquet")) == 15


@pytest.mark.parametrize("where", ["in it", "around it", "named"])
def test_authors_and_licences_are_in_the_table_and_beside_the_images(
    ffhq: Path, target: Path, tmp_path: Path, where: str
) -> None:
    folder = {"in it": ffhq, "around it": ffhq.parent, "named": tmp_path}[where]
    path = put_metadata(folder)
    sharded(f"{ffhq}/", target, metadata=str(path) if where == "named" else None)
    check_origins(pd.read_parquet(target / "manifest.parquet"), samples(target))


def check_origins(manifest: pd.DataFrame, found: dict[str, dict[str, Any]]) -> None:
    rows = manifest.set_index("key")
    for key, sample in found.items():
        number, facts = int(Path(key).stem), json.loads(sample["json"])
        row = rows.loc[key]
        assert facts["key"] == key
        if number < 11:
            expected = {"author": f"Ægir {number}", "photo_url": f"https://flickr/{number}", **LICENCE}
            assert {name: row[name] for name in expected} == expected
            assert facts == {"key": key, "width": 64, "height": 64, **expected}
        else:
            assert row[["author", "license", "license_url", "photo_url"]].isna().all()
            assert facts == {"key": key, "width": 64, "height": 64}
    assert sorted(found) == sorted(manifest.key)


def test_metadata_named_goes_before_that_in_the_source(ffhq: Path, target: Path, tmp_path: Path) -> None:
    put_metadata(ffhq, "nobody")
    sharded(ffhq, target, metadata=str(put_metadata(tmp_path)))
    check_origins(pd.read_parquet(target / "manifest.parquet"), samples(target))


def test_the_folder_around_is_found_from_a_name_alone(
    ffhq: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_metadata(ffhq.parent)
    monkeypatch.chdir(ffhq.parent)
    sharded(ffhq.name, target)
    check_origins(pd.read_parquet(target / "manifest.parquet"), samples(target))


def test_without_metadata_nothing_is_said_of_authors(ffhq: Path, target: Path) -> None:
    sharded(ffhq, target)
    manifest = pd.read_parquet(target / "manifest.parquet")
    assert manifest[["author", "license", "license_url", "photo_url"]].isna().all().all()
    assert {tuple(json.loads(s["json"])) for s in samples(target).values()} == {("height", "key", "width")}


def test_images_that_are_no_numbers_have_no_author(photographs: Path, tmp_path: Path, target: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    put_metadata(source)
    shutil.copy(photographs / "00000" / "00000.png", source / "face.png")
    assert sharded(source, target) == "1 done"
    assert pd.read_parquet(target / "manifest.parquet").author.isna().all()


def test_metadata_that_changed_redoes_the_shards_and_unchanged_does_not(ffhq: Path, target: Path) -> None:
    put_metadata(ffhq.parent)
    assert sharded(ffhq, target) == "15 done"
    assert sharded(ffhq, target) == "15 already done"
    put_metadata(ffhq.parent, "somebody else")
    assert sharded(ffhq, target) == "15 done"
    assert {json.loads(s["json"]).get("author") for s in samples(target).values()} == {"somebody else", None}
    (ffhq.parent / METADATA).unlink()
    assert sharded(ffhq, target) == "15 done"
    assert pd.read_parquet(target / "manifest.parquet").author.isna().all()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"0": {"metadata": {', "no JSON, or broken after 0 entries; download it again"),
        (b"", "no JSON, or broken after 0 entries"),
        (b"[]", "not FFHQ's metadata"),
        (b"\x1f\x8b\x08", "no JSON"),
    ],
)
def test_broken_metadata_is_one_line_and_nothing_is_written(
    ffhq: Path, target: Path, content: bytes, says: str
) -> None:
    (ffhq.parent / METADATA).write_bytes(content)
    with pytest.raises(StorageError, match=re.escape(f"{ffhq.parent / METADATA}: {says}")) as refused:
        sharded(ffhq, target)
    assert "\n" not in str(refused.value)
    assert list(target.rglob("*")) == []


@pytest.mark.parametrize("name", ["gone.json", "folder/"])
def test_metadata_that_is_not_there_is_one_line(ffhq: Path, target: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match=re.escape(str(tmp_path))) as refused:
        sharded(ffhq, target, metadata=f"{tmp_path}/{name}")
    assert "\n" not in str(refused.value)
    assert not target.exists()


def test_metadata_that_is_a_folder_is_one_line(ffhq: Path, target: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=re.escape(str(tmp_path))):
        sharded(ffhq, target, metadata=str(tmp_path))


def test_metadata_out_of_reach_is_not_taken_for_missing(
    ffhq: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the shards would be made without authors, and all of them again at the next run."""
    put_metadata(ffhq)

    def out_of_reach(disk: local.LocalDisk, path: str, key: str) -> Entry:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(local.LocalDisk, "info", out_of_reach)
    with pytest.raises(UnavailableError, match=METADATA):
        sharded(ffhq, target)
    assert not target.exists()


@pytest.mark.integration
@pytest.mark.parametrize("where", ["in it", "around it", "named"])
def test_metadata_in_a_bucket_is_found_in_the_same_places(
    photographs: Path, s3: str, target: Path, tmp_path: Path, where: str
) -> None:
    upload(photographs, f"{s3}/ffhq/images")
    folder = {"in it": f"{s3}/ffhq/images", "around it": f"{s3}/ffhq", "named": f"{s3}/elsewhere"}[where]
    Location.of(folder).upload(METADATA, put_metadata(tmp_path))
    sharded(f"{s3}/ffhq/images", target, metadata=f"{folder}/{METADATA}" if where == "named" else None)
    check_origins(pd.read_parquet(target / "manifest.parquet"), samples(target))


@pytest.mark.integration
def test_a_bucket_can_be_a_source(photographs: Path, s3: str, target: Path) -> None:
    bucket = s3.rpartition("/")[0]
    upload(photographs, f"{s3}")
    try:
        assert "done" in sharded(bucket, target, max_failed=1)
    finally:
        for found in Location.of(s3).list():
            Location.of(s3).delete(found.key)


def images_of_every_suffix(folder: Path) -> dict[str, bytes]:
    """An image of each kind, the suffix in capitals, too."""
    folder.mkdir()
    image, made = Image.effect_noise((24, 16), 64).convert("RGB"), {}
    kinds = {"bmp": "BMP", "gif": "GIF", "jpeg": "JPEG", "jpg": "JPEG", "png": "PNG", "tif": "TIFF", "tiff": "TIFF"}
    for number, (suffix, kind) in enumerate([*kinds.items(), ("webp", "WEBP"), ("PNG", "PNG"), ("JpG", "JPEG")]):
        path = folder / f"{number}.{suffix}"
        image.save(path, kind)
        made[path.name] = path.read_bytes()
    return made


def test_without_a_size_the_bytes_of_every_kind_of_image_are_copied(tmp_path: Path, target: Path) -> None:
    made = images_of_every_suffix(tmp_path / "source")
    for check in (False, True):
        assert sharded(tmp_path / "source", target / str(check), check=check) == "10 done"
        found = samples(target / str(check))
        assert {key: sample[key.rpartition(".")[2].lower()] for key, sample in found.items()} == made
        assert {(json.loads(s["json"])["width"], json.loads(s["json"])["height"]) for s in found.values()} == {
            (24, 16)
        }
    assert tars(target / "True") == tars(target / "False")


def test_with_a_size_every_kind_of_image_becomes_a_png(tmp_path: Path, target: Path) -> None:
    made = images_of_every_suffix(tmp_path / "source")
    assert sharded(tmp_path / "source", target, size=16) == "10 done"
    found = samples(target)
    assert found.keys() == made.keys()
    assert {Image.open(io.BytesIO(sample["png"])).size for sample in found.values()} == {(16, 16)}


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_damage_within_an_image_is_found_by_the_check_alone(tmp_path: Path, target: Path, suffix: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    Image.effect_noise((64, 64), 64).convert("RGB").save(source / f"whole.{suffix}")
    data = bytearray((source / f"whole.{suffix}").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = b"\xff\xc4\0\x04" * 10  # in a JPEG, tables where there can be none
    (source / f"damaged.{suffix}").write_bytes(data)
    assert sharded(source, target / "copied") == "2 done"
    assert samples(target / "copied")[f"damaged.{suffix}"][suffix] == bytes(data)
    assert sharded(source, target / "checked", check=True, max_failed=0.5) == "1 done, 1 failed"
    rows = pd.read_parquet(target / "checked" / "manifest.parquet").set_index("key")
    assert rows.reason[f"damaged.{suffix}"].startswith("broken image: ")
    assert list(samples(target / "checked")) == [f"whole.{suffix}"]


@pytest.fixture(scope="module")
def source(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of all kinds and sizes, some broken, with authors."""
    source = tmp_path_factory.mktemp("any") / "source"
    images_of_every_suffix(source)
    shutil.copytree(photographs / "00000", source / "00000")
    put_metadata(source)
    generator = random.Random(0)
    for number in range(150):
        image = Image.frombytes("L", (40, 40 + number), generator.randbytes(40 * (40 + number)))
        image.save(source / f"n{number}.png")
    (source / "broken.png").write_bytes(b"no image")
    (source / "ü b.png").write_bytes((source / "n0.png").read_bytes())
    Image.effect_noise((1200, 1100), 64).convert("RGB").save(source / "large.png")  # more than a piece
    return source


@pytest.fixture(scope="module", params=[None, 16], ids=["copied", "reduced"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"size": request.param, "samples_per_shard": 60, "split": "hash", "validation_share": 0.3}


@pytest.fixture(scope="module")
def expected(source: Path, options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    target = tmp_path_factory.mktemp("expected")
    sharded(source, target, **options, workers=1, in_flight=1)
    made = tars(target)
    assert len(made) == 4
    return made


@pytest.mark.slow
@pytest.mark.parametrize("in_flight", [1, 2, 4])
@pytest.mark.parametrize("workers", [1, 2, 8])
def test_the_same_bytes_come_from_any_number_of_workers(
    source: Path,
    options: dict[str, Any],
    expected: dict[str, bytes],
    target: Path,
    workers: int,
    in_flight: int,
) -> None:
    sharded(source, target, **options, workers=workers, in_flight=in_flight)
    assert tars(target) == expected


@pytest.mark.slow
def test_the_same_bytes_come_in_whatever_order_and_whenever_the_files_were_made(
    source: Path,
    options: dict[str, Any],
    expected: dict[str, bytes],
    tmp_path: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy, generator = tmp_path / "copy", random.Random(1)
    paths = [path for path in source.rglob("*") if path.is_file()]
    generator.shuffle(paths)
    for path in paths:
        there = copy / path.relative_to(source)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(path.read_bytes())
        os.utime(there, ns=(0, generator.randrange(2**60)))
        there.chmod(0o600)
    listed = local.LocalDisk.list

    def shuffled(disk: local.LocalDisk, root: str) -> list[Entry]:
        entries = listed(disk, root)
        generator.shuffle(entries)
        return entries

    monkeypatch.setattr(local.LocalDisk, "list", shuffled)
    sharded(copy, target, **options)
    assert tars(target) == expected


@pytest.mark.integration
@pytest.mark.parametrize(("from_bucket", "to_bucket"), [(True, False), (False, True), (True, True)])
def test_the_same_bytes_come_from_and_to_a_bucket(
    source: Path,
    options: dict[str, Any],
    expected: dict[str, bytes],
    target: Path,
    s3: str,
    from_bucket: bool,
    to_bucket: bool,
) -> None:
    if from_bucket:
        upload(source, f"{s3}/any")
    made_at = f"{s3}/made" if to_bucket else str(target)
    sharded(f"{s3}/any" if from_bucket else source, made_at, **options)
    assert tars(made_at) == expected


@pytest.mark.slow
def test_the_same_bytes_come_after_a_run_that_was_stopped_and_one_that_went_on(
    source: Path,
    options: dict[str, Any],
    expected: dict[str, bytes],
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        fetched, left = local.LocalDisk.fetch, iter(range(100))

        def fetch(disk: local.LocalDisk, path: str, entry: Entry, start: int, length: int | None) -> bytes:
            if path == str(source / entry.key) and next(left, None) is None:
                raise OSError(errno.EIO, "Input/output error")
            return fetched(disk, path, entry, start, length)

        patched.setattr(local.LocalDisk, "fetch", fetch)
        with pytest.raises(StorageError, match="stopped, run it again to resume"):
            sharded(source, target, **options, workers=2, in_flight=1)
    sharded(source, target, **options)
    assert tars(target) == expected
