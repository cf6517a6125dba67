"""What a target holds already: nothing of it is lost, taken for another's, or left over, whatever runs come after."""

import io
import json
import shutil
import tarfile
import warnings
import zipfile
from collections.abc import Set
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flows.engine.job import outdated
from flows.inputs.contents import Contents, contents_of
from flows.inputs.options import SourceOptions
from flows.interface.errors import RunError
from flows.shard import ShardOptions, shard
from flows.transform import plan as planning
from flows.upscale import UpscaleOptions, upscale
from storage.archives.source import Source, open_source
from storage.receipts.receipts import Receipts
from storage.receipts.survey import Stale
from storage.receipts.units import Row, Unit
from storage.stores.location import Entry, StorageError

TARGETS = ("large", "large.zip", "large.tar.gz")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six small images."""
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    return folder


def run(source: Path | str, target: Path | str, **options: object) -> str:
    settings = {"source": str(source), "target": str(target), "method": "nearest", "scale": 2, "max_failed": 1}
    return upscale.fn(UpscaleOptions.model_validate({**settings, **options}))


def contents(address: Path) -> dict[str, bytes]:
    """The images of a folder or an archive by their keys."""
    opened = open_source(str(address))
    return {e.key: opened.fetch(e) for e in opened.list() if e.key[-3:] in ("png", "jpg", "tar") and e.key[0] != "."}


def rows(target: Path) -> dict[str, str]:
    beside = target if target.is_dir() else target.with_name(f"{target.name}.dtls")
    manifest = pd.read_parquet(beside / "manifest.parquet")
    return dict(zip(manifest["key"], manifest["status"], strict=True))


@pytest.mark.parametrize("name", TARGETS)
def test_a_choice_adds_nothing_to_results_that_were_made_otherwise(name: str, source: Path, tmp_path: Path) -> None:
    target = tmp_path / name
    run(source, target)
    before = contents(target)
    with pytest.raises(StorageError, match=r"made otherwise, such as that of 1\.png.*choose another target"):
        run(source, target, include=["0.png"], scale=3)
    assert contents(target) == before
    assert len(rows(target)) == 6


@pytest.mark.parametrize("name", TARGETS)
def test_a_choice_makes_its_own_results_anew_with_other_options(name: str, source: Path, tmp_path: Path) -> None:
    target = tmp_path / name
    run(source, target, limit=2)
    assert run(source, target, limit=2, scale=3, overwrite=True) == "2 done"
    assert set(contents(target)) == {"0.png", "1.png"}


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_not_chosen_stays_even_where_its_source_is_another_or_gone(
    name: str, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / name
    run(source, target)
    before = contents(target)
    shutil.copyfile(source / "0.png", source / "4.png")
    (source / "5.png").unlink()
    assert run(source, target, include=["3.png"]) == "6 already done"
    assert contents(target) == before
    assert rows(target) == dict.fromkeys((f"{n}.png" for n in range(6)), "ok")


def test_a_choice_takes_names_from_all_images(source: Path, tmp_path: Path) -> None:
    (source / "0.jpg").write_bytes(b"broken")
    run(source, tmp_path / "large", exclude=["*.jpg"])
    before = contents(tmp_path / "large")
    assert run(source, tmp_path / "large", include=["0.jpg"]) == "6 already done, 1 failed"
    assert contents(tmp_path / "large") == before


def test_keys_that_are_not_there_move_no_name(source: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("0.jpg\n0.png\n")
    assert run(source, tmp_path / "large", key_list=str(keys), format="jpeg") == "1 done, 1 failed"
    assert set(contents(tmp_path / "large")) == {"0.jpg"}


def test_keys_that_are_not_there_fail_alone_where_shards_become_shards(source: Path, tmp_path: Path) -> None:
    shard.fn(ShardOptions(source=str(source), target=str(tmp_path / "shards"), samples_per_shard=3))
    keys = tmp_path / "keys.txt"
    keys.write_text("shard-000000/000000001.png\nshard-000000/nobody.png\nother/1.png\n")
    told = run(tmp_path / "shards", tmp_path / "out", key_list=str(keys), samples_per_shard=3)
    assert told == "1 done, 2 failed"
    assert set(contents(tmp_path / "out")) == {"shard-000000/000000001.png"}


@pytest.mark.parametrize("name", ["0.png", "manifest.parquet"])
def test_somebody_s_files_are_not_overwritten(name: str, source: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_bytes(b"mine")
    with pytest.raises(StorageError, match=rf"{name} is there already, and not made by dtls; choose another folder"):
        run(source, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [name]
    assert (tmp_path / "mine" / name).read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["shard-000007.tar", "shard-0123456789abcdef.tar"])
def test_somebody_s_shards_are_not_taken_for_old_ones(name: str, source: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / name
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    sharding = ShardOptions(source=str(source), target=str(mine.parent), samples_per_shard=3)
    upscaling = UpscaleOptions(
        source=str(source), target=str(mine.parent), method="nearest", scale=2, samples_per_shard=3
    )
    make = partial(shard.fn, sharding) if name == "shard-000007.tar" else partial(upscale.fn, upscaling)
    with pytest.raises(StorageError, match="not made by dtls"):
        make()
    assert mine.read_bytes() == b"mine"


def test_other_files_of_somebody_may_lie_there(source: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_bytes(b"mine")
    assert run(source, tmp_path / "mine") == "6 done"


@pytest.mark.slow
def test_another_format_replaces_the_results_of_the_first(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "large")
    (tmp_path / "large" / "mine.png").write_bytes(b"mine")
    run(source, tmp_path / "large", format="jpeg", overwrite=True)
    assert set(contents(tmp_path / "large")) == {*(f"{n}.jpg" for n in range(6)), "mine.png"}
    run(source, tmp_path / "large", samples_per_shard=100, overwrite=True)
    assert {name for name in contents(tmp_path / "large") if not name.endswith(".tar")} == {"mine.png"}
    run(source, tmp_path / "large", overwrite=True)
    assert set(contents(tmp_path / "large")) == {*(f"{n}.png" for n in range(6)), "mine.png"}


def test_results_of_images_that_are_gone_stay_in_a_folder(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "large")
    (source / "5.png").unlink()
    run(source, tmp_path / "large", format="jpeg", overwrite=True)
    assert set(contents(tmp_path / "large")) == {*(f"{n}.jpg" for n in range(5)), "5.png"}


@pytest.mark.parametrize("name", TARGETS)
def test_what_cannot_be_read_this_time_keeps_its_result(
    name: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / name
    run(source, target)
    before = contents(target)

    def list_and_change(where: Source, options: SourceOptions, asked: Set[str]) -> Contents:
        found = contents_of(where, options, asked)
        changed = [Entry(e.key, e.size, "another") if e.key == "3.png" else e for e in found.images]
        return replace(found, images=changed)

    monkeypatch.setattr(planning, "contents_of", list_and_change)
    assert run(source, target) == "5 already done, 1 failed"
    assert contents(target) == before


@pytest.mark.parametrize("name", TARGETS)
def test_names_that_no_place_can_hold_fail_alone(name: str, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "teal").save(image)
    with zipfile.ZipFile(tmp_path / "small.zip", "w") as archive, warnings.catch_warnings():
        for key in ("good.png", "x" * 300 + ".png"):
            archive.write(image, key)
    folder = tmp_path / "small"
    folder.mkdir()
    for key in ("good.png", "back\\slash.png", "line\nbreak.png"):
        shutil.copyfile(image, folder / key)
    (folder / "broken\\.png").write_bytes(b"broken")
    assert run(folder, tmp_path / name) == "1 done, 3 failed"
    assert run(folder, tmp_path / name) == "1 already done, 3 failed"
    if name == "large":
        assert run(tmp_path / "small.zip", tmp_path / "long") == "1 done, 1 failed"


def test_names_that_are_no_text_fail_alone(source: Path, tmp_path: Path) -> None:
    try:
        shutil.copyfile(source / "0.png", f"{source}/caf\udce9.png")
    except OSError:
        pytest.skip("this disk takes names in UTF-8 only")
    assert run(source, tmp_path / "large") == "6 done, 1 failed"
    manifest = pd.read_parquet(tmp_path / "large" / "manifest.parquet").set_index("key")
    assert manifest.loc["caf%E9.png", "reason"] == f"{source}/caf%E9.png: its name is not UTF-8; rename it"


def test_receipts_that_may_tell_of_the_same_outputs_are_found_by_name_and_by_keys() -> None:
    def unit(name: str, *keys: str) -> Unit:
        return Unit.of("upscale", name, [Entry(key, 1, "") for key in keys], {})

    todo = [unit("a", "b", "m"), unit("missing", "c", "z"), unit("b", "n", "p"), unit("c", "x")]
    stale = [Stale("of a", "gone", "d", "e"), Stale("of b", "b", "~", "~"), Stale("of b, c", "old", "o", "x")]
    stale += [Stale("of none", "old", "A", "a"), Stale("of nobody", "old", "~", "~"), Stale("empty", "old", "", "")]
    assert outdated(todo, stale) == {
        "a": ["of a"],
        "missing": ["of a", "of b, c"],
        "b": ["of b", "of b, c"],
        "c": ["of b, c"],
    }


@pytest.mark.slow
def test_a_run_that_dies_leaves_no_receipt_of_what_it_has_replaced(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Units of another size have other names and the same outputs."""
    target = tmp_path / "large"
    run(source, target)
    before = contents(target)

    def fails(*_: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Receipts, "write", fails)
        with pytest.raises(RunError, match="came to nothing"):
            run(source, target, unit_size=2, method="bilinear", overwrite=True)
    assert contents(target) != before
    assert not list((target / ".dtls" / "receipts" / "upscale").iterdir())
    run(source, target, overwrite=True)
    assert contents(target) == before


def unreadable(image: Path) -> None:
    """It is listed, and cannot be read this time."""
    image.unlink(missing_ok=True)
    image.symlink_to("nowhere")


@pytest.mark.slow
def test_names_that_were_replaced_go_even_after_a_run_that_died(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, write = tmp_path / "large", Receipts.write
    run(source, target, unit_size=1)

    def fails_at_last(receipts: Receipts, unit: Unit, rows: list[Row]) -> None:
        if unit.samples[0].key == "4.png":
            raise StorageError("the disk is full")
        write(receipts, unit, rows)

    with monkeypatch.context() as patched:
        patched.setattr(Receipts, "write", fails_at_last)
        with pytest.raises(RunError, match="came to nothing"):
            run(source, target, unit_size=1, format="jpeg", overwrite=True)
    run(source, target, unit_size=1, format="jpeg")
    assert set(contents(target)) == {f"{n}.jpg" for n in range(6)}


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_choice_leaves_what_could_not_be_read_where_it_is(name: str, source: Path, tmp_path: Path) -> None:
    target = tmp_path / name
    run(source, target)
    before = contents(target)
    unreadable(source / "3.png")
    run(source, target)
    run(source, target, include=["1.png"])
    assert contents(target) == before


def test_a_choice_that_would_cost_a_shard_another_s_sample_is_refused(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "shards"
    run(source, target, samples_per_shard=10, include=["[012].png"])
    before = contents(target)
    (source / "2.png").unlink()
    with pytest.raises(StorageError, match=r"the result of 2\.png would have to be made again.*take all images"):
        run(source, target, samples_per_shard=10, include=["3.png"])
    assert contents(target) == before
    assert run(source, target, samples_per_shard=10, include=["1.png"]) == "3 already done"


@pytest.mark.parametrize(("first", "second"), [({}, {"samples_per_shard": 10}), ({"samples_per_shard": 10}, {})])
def test_a_choice_does_not_turn_files_into_shards_nor_back(
    first: dict[str, int], second: dict[str, int], source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "large"
    run(source, target, **first)
    before = contents(target)
    with pytest.raises(StorageError, match="made otherwise"):
        run(source, target, include=["3.png"], **second)
    assert contents(target) == before


def test_a_choice_does_not_take_the_name_of_an_image_that_is_gone(source: Path, tmp_path: Path) -> None:
    (source / "0.png").rename(source / "0.bmp")
    run(source, tmp_path / "large")
    before = contents(tmp_path / "large")
    (source / "0.bmp").rename(source / "0.png")
    with pytest.raises(StorageError, match=r"the result of 0\.bmp would have to be made again"):
        run(source, tmp_path / "large", include=["0.png"])
    assert contents(tmp_path / "large") == before


def test_a_shard_that_is_gone_stops_no_choice(source: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shard.fn(ShardOptions(source=str(source), target=str(shards), samples_per_shard=3))
    run(shards, tmp_path / "out", samples_per_shard=3)
    before = contents(tmp_path / "out")
    (shards / "shard-000001.tar").unlink()
    assert run(shards, tmp_path / "out", samples_per_shard=3, include=["shard-000000/*"]) == "6 already done"
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("name", TARGETS)
def test_a_result_is_not_kept_for_another_image(name: str, source: Path, tmp_path: Path) -> None:
    """The first one moves to its longer name, and what has its old name cannot be read yet."""
    target = tmp_path / name
    (source / "0.png").rename(source / "0.bmp")
    run(source, target)
    unreadable(source / "0.png")
    run(source, target)
    assert set(contents(target)) == {"0.bmp.png", *(f"{n}.png" for n in range(1, 6))}


@pytest.mark.slow
def test_another_format_leaves_the_result_of_what_cannot_be_read(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "large")
    unreadable(source / "3.png")
    run(source, tmp_path / "large", format="jpeg", overwrite=True)
    run(source, tmp_path / "large", format="jpeg")
    assert set(contents(tmp_path / "large")) == {"3.png", *(f"{n}.jpg" for n in (0, 1, 2, 4, 5))}
    shutil.copyfile(source / "2.png", tmp_path / "3.png")
    (source / "3.png").unlink()
    (tmp_path / "3.png").rename(source / "3.png")
    run(source, tmp_path / "large", format="jpeg")
    assert set(contents(tmp_path / "large")) == {f"{n}.jpg" for n in range(6)}


def tarred(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_samples_of_two_images_do_not_have_one_name_in_a_shard(source: Path, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    image = (source / "0.png").read_bytes()
    tarred(tmp_path / "shards" / "a.tar", {"0.png": image, "0.PNG": image, "1.png": image})
    assert run(tmp_path / "shards", tmp_path / "out", samples_per_shard=9, format="same") == "3 done"
    with tarfile.open(tmp_path / "out" / "a.tar") as tar:
        names = tar.getnames()
    assert len(names) == len(set(names)) == 6


def test_a_hostile_json_costs_a_shard_nothing(source: Path, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    image = (source / "0.png").read_bytes()
    jsons = {"0.json": b'{"c": "\\ud800"}', "1.json": b"[1]", "2.json": b"{" * 9000, "3.json": b'{"c": "fine"}'}
    tarred(tmp_path / "shards" / "a.tar", {**jsons, **{f"{n}.png": image for n in range(4)}})
    assert run(tmp_path / "shards", tmp_path / "out", samples_per_shard=9) == "4 done"
    with tarfile.open(tmp_path / "out" / "a.tar") as tar:
        found = [json.load(tar.extractfile(f"{n}.json") or io.BytesIO()) for n in range(4)]
    assert [facts.get("c") for facts in found] == [None, None, None, "fine"]


def test_a_choice_that_fails_says_so(source: Path, tmp_path: Path) -> None:
    (source / "7.png").write_bytes(b"broken")
    with pytest.raises(RunError, match="1 of 1 images failed"):
        run(source, tmp_path / "large", include=["7.png"], max_failed=0)
