"""What changed is redone, and only that; what did not costs one listing; a target is for one source."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import s3fs
from PIL import Image

from dtls.checkpoints.checkpoint import save_checkpoint
from dtls.models.dtls import DTLS
from flows.downscale import DownscaleOptions, downscale
from flows.report import ReportOptions, report
from flows.shard import ShardOptions, shard
from flows.transform.sharding import METADATA
from flows.upscale import UpscaleOptions, upscale
from storage.receipts.seals import SEALS
from storage.stores import local
from storage.stores.entry import STATE, Entry
from storage.stores.location import Location, StorageError
from tests.faulty_s3 import FaultyS3
from tests.services import S3Server

Flow = Callable[..., str]
"""Runs over a source and a target, with further options."""
Stamps = dict[str, tuple[int, int]]


def sharded(source: object, target: object, **options: Any) -> str:
    given = {"samples_per_shard": 4, **options}
    return shard.fn(ShardOptions.model_validate({"source": str(source), "target": str(target), **given}))


def downscaled(source: object, target: object, **options: Any) -> str:
    given = {"scale": 2, **options}
    return downscale.fn(DownscaleOptions.model_validate({"source": str(source), "target": str(target), **given}))


def upscaled(source: object, target: object, **options: Any) -> str:
    given = {"method": "bicubic", "scale": 1.5, "unit_size": 2, **options}
    return upscale.fn(UpscaleOptions.model_validate({"source": str(source), "target": str(target), **given}))


def reported(source: Path, out: Path, **options: Any) -> str:
    """A report on two results below `source`."""
    sr = {name: str(source / name) for name in ("bicubic", "nearest")}
    given = {"hr": str(source / "hr"), "lr": str(source / "lr"), "sr": sr, "out": str(out), "gallery": 1, **options}
    return report.fn(ReportOptions.model_validate({**given, "device": "cpu"}))


FLOWS = pytest.mark.parametrize("run", [sharded, downscaled, upscaled])


@pytest.fixture
def source(photographs: Path, tmp_path: Path) -> Path:
    """Twelve photographs of one's own."""
    shutil.copytree(photographs, tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("model"))


def saved(folder: Path) -> Path:
    """A tiny model, its weights drawn anew."""
    save_checkpoint(DTLS(dim=8, multipliers=(1, 2), residual=True, size=32, stride=8, steps=3), folder)
    return folder


@pytest.fixture(scope="module")
def compared(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HR and LR images, and two results; not to be changed."""
    folder = tmp_path_factory.mktemp("compared")
    shutil.copytree(photographs, folder / "hr")
    downscaled(folder / "hr", folder / "lr")
    for method in ("nearest", "bicubic"):
        upscaled(folder / "lr", folder / method, method=method, scale=2)
    return folder


def written(folder: Path) -> Stamps:
    """Each file of a target, and what changes when it is written."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): ((info := path.stat()).st_mtime_ns, info.st_ino) for path in paths}


def outputs(stamps: Stamps) -> Stamps:
    return {key: stamp for key, stamp in stamps.items() if key.endswith((".png", ".tar"))}


def receipts(stamps: Stamps) -> Stamps:
    return {key: stamp for key, stamp in stamps.items() if key.startswith(".dtls/receipts/")}


def changed(before: Stamps, after: Stamps) -> set[str]:
    """What was written, or removed."""
    return {key for key, _ in before.items() ^ after.items()}


def units_of(target: Path, image: str) -> set[str]:
    """The receipts that tell of an image."""
    return {
        str(path.relative_to(target))
        for path in target.glob(".dtls/receipts/*/*.parquet")
        if image in set(pd.read_parquet(path).key)
    }


def edit(path: Path) -> None:
    """Another image of the same size in pixels and in bytes."""
    size = path.stat().st_size
    Image.new("RGB", (64, 64), "teal").save(path)
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    assert path.stat().st_size == size


CHANGES: list[tuple[Flow, dict[str, Any], dict[str, Any]]] = [
    (sharded, {}, {"size": 16}),
    (sharded, {"size": 16}, {"size": 32}),
    (sharded, {"size": 16}, {"size": None}),
    (downscaled, {}, {"scale": 4}),
    (downscaled, {"protocol": "reference"}, {"protocol": "antialias"}),
    (upscaled, {}, {"scale": 2}),
    (upscaled, {}, {"scale": None, "size": 100}),
    (upscaled, {"method": "bicubic"}, {"method": "nearest"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("run", "first", "then"), CHANGES)
def test_another_size_method_or_protocol_redoes_everything_and_only_once(
    source: Path, target: Path, run: Flow, first: dict[str, Any], then: dict[str, Any]
) -> None:
    run(source, target, **first)
    before = written(target)
    with pytest.raises(StorageError, match=r"holds \d+ results made with other options \(.* → "):
        run(source, target, **then)
    assert written(target) == before
    assert run(source, target, **then, overwrite=True) == "12 done"
    after = written(target)
    assert outputs(before).keys() == outputs(after).keys()
    assert changed(outputs(before), outputs(after)) == outputs(after).keys()
    assert receipts(before).keys().isdisjoint(receipts(after))
    assert run(source, target, **then) == "12 already done"
    assert written(target) == after


@pytest.mark.slow
def test_another_checkpoint_redoes_everything_and_the_same_one_elsewhere_nothing(
    source: Path, target: Path, checkpoint: Path, tmp_path: Path
) -> None:
    options = {"method": "dtls", "device": "cpu"}
    assert upscaled(source, target, checkpoint=str(checkpoint), **options) == "12 done"
    before = written(target)
    shutil.copytree(checkpoint, tmp_path / "elsewhere")
    assert upscaled(source, target, checkpoint=str(tmp_path / "elsewhere"), **options) == "12 already done"
    assert written(target) == before
    other = str(saved(tmp_path / "other"))
    with pytest.raises(StorageError, match=r"other options \(checkpoint [0-9a-f]{8} → [0-9a-f]{8}\), which would be"):
        upscaled(source, target, checkpoint=other, **options)
    assert written(target) == before
    assert upscaled(source, target, checkpoint=other, **options, overwrite=True) == "12 done"
    assert changed(outputs(before), outputs(written(target))) == outputs(before).keys()


@FLOWS
def test_what_the_results_do_not_depend_on_redoes_nothing(source: Path, target: Path, run: Flow) -> None:
    run(source, target)
    before = written(target)
    for options in ({"workers": 1}, {"in_flight": 1}, {"max_failed": 1}, {"retry_failed": True}, {"overwrite": True}):
        assert run(source, target, **options) == "12 already done"
        assert written(target) == before


@pytest.mark.slow
@FLOWS
def test_an_input_of_other_bytes_redoes_its_unit_alone(source: Path, target: Path, run: Flow) -> None:
    victim = "00000/00005.png"
    run(source, target)
    before, old = written(target), units_of(target, victim)
    edit(source / victim)
    run(source, target)
    after, new = written(target), units_of(target, victim)
    assert changed(receipts(before), receipts(after)) == old | new
    assert len(old) == len(new) == 1
    assert old.isdisjoint(new)
    redone = {victim} if run is not sharded else {"shard-000001.tar"}
    assert changed(outputs(before), outputs(after)) == redone
    assert changed(before, after) == old | new | redone | {
        "manifest.parquet",
        ".dtls/looks.json",
        ".dtls/plan.parquet",
        ".dtls/seals.json",
        ".dtls/source.json",
    }
    row = pd.read_parquet(target / "manifest.parquet").set_index("key").loc[victim]
    assert row.source_tag == str((source / victim).stat().st_mtime_ns)


@pytest.mark.slow
def test_a_shard_is_redone_from_where_an_image_came_or_went(source: Path, target: Path) -> None:
    sharded(source, target)
    first = written(target)
    shutil.copy(source / "00000" / "00000.png", source / "00000" / "99999.png")
    assert sharded(source, target) == "1 done, 12 already done"
    more = written(target)
    assert changed(outputs(first), outputs(more)) == {"shard-000003.tar"}
    (source / "00000" / "00006.png").unlink()
    assert sharded(source, target) == "8 done, 4 already done"
    assert changed(outputs(more), outputs(written(target))) == {f"shard-{n:06d}.tar" for n in (1, 2, 3)}


@pytest.mark.slow
@pytest.mark.parametrize("run", [downscaled, upscaled])
def test_results_of_removed_sources_stay(source: Path, target: Path, run: Flow) -> None:
    run(source, target)
    before = outputs(written(target))
    for number in (3, 4):
        (source / "00000" / f"{number:05}.png").unlink()
    assert run(source, target) == "10 already done"
    assert outputs(written(target)) == before
    assert len(pd.read_parquet(target / "manifest.parquet")) == 10


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of what is fetched as listed: the images."""
    keys: list[str] = []
    fetch = local.LocalDisk.fetch

    def told(disk: local.LocalDisk, path: str, entry: Entry, start: int, length: int | None) -> bytes:
        if not entry.key.startswith(STATE):
            keys.append(entry.key)
        return fetch(disk, path, entry, start, length)

    monkeypatch.setattr(local.LocalDisk, "fetch", told)
    return keys


@pytest.mark.slow
@pytest.mark.parametrize("run", [downscaled, upscaled])
def test_failed_samples_alone_are_tried_again(source: Path, target: Path, run: Flow, read: list[str]) -> None:
    for number in (2, 7):
        (source / "00000" / f"{number:05}.png").write_bytes(b"no image")
    options = {"max_failed": 0.5}
    run(source, target, **options)
    before = written(target)
    read.clear()
    assert run(source, target, **options) == "10 already done, 2 failed"
    assert read == []
    assert run(source, target, **options, retry_failed=True) == "10 already done, 2 failed"
    assert sorted(read) == ["00000/00002.png", "00000/00007.png"]
    assert outputs(written(target)) == outputs(before)
    failed = units_of(target, "00000/00002.png") | units_of(target, "00000/00007.png")
    assert changed(receipts(before), receipts(written(target))) == failed


def test_of_shards_those_with_failed_samples_are_tried_again(source: Path, target: Path, read: list[str]) -> None:
    (source / "00000" / "00005.png").write_bytes(b"no image")
    sharded(source, target)
    before = written(target)
    read.clear()
    assert sharded(source, target, retry_failed=True) == "3 done, 8 already done, 1 failed"
    assert sorted(read) == [f"00000/{number:05}.png" for number in (4, 5, 6, 7)]
    after = written(target)
    assert changed(outputs(before), outputs(after)) == {"shard-000001.tar"}
    assert changed(receipts(before), receipts(after)) == units_of(target, "00000/00005.png")


@pytest.mark.slow
def test_of_a_report_the_rows_of_what_changed_are_measured_again(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "compared", tmp_path / "report"
    shutil.copytree(compared, folder)
    reported(folder, out)
    assert ": 24 done\n" in capsys.readouterr().err
    victim = "00000/00005.png"
    edit(folder / "nearest" / victim)
    reported(folder, out)
    assert ": 1 done, 23 already done\n" in capsys.readouterr().err
    edit(folder / "hr" / victim)
    reported(folder, out)
    assert ": 2 done, 22 already done\n" in capsys.readouterr().err  # those of both methods


@pytest.mark.slow
def test_a_report_on_nothing_new_measures_nothing(compared: Path, tmp_path: Path) -> None:
    reported(compared, tmp_path)
    before = written(tmp_path)
    reported(compared, tmp_path)
    after = written(tmp_path)
    assert receipts(after) == receipts(before)
    assert after["metrics.parquet"] == before["metrics.parquet"]


@pytest.mark.slow
def test_a_report_on_nothing_new_writes_nothing(compared: Path, tmp_path: Path) -> None:
    reported(compared, tmp_path)
    before = written(tmp_path)
    reported(compared, tmp_path)
    assert written(tmp_path) == before


WRITES = ("write", "create", "writing", "upload", "delete", "abort_uploads")
LOOKS = ("list", "read", "fetch", "info", "exists", "what_is_there", "download")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is asked of places, and of which."""
    asked: list[tuple[str, str]] = []

    def told(name: str) -> None:
        method = getattr(Location, name)

        def call(place: Location, *arguments: Any, **named: Any) -> Any:
            asked.append((name, place.url))
            return method(place, *arguments, **named)

        monkeypatch.setattr(Location, name, call)

    for name in (*WRITES, *LOOKS):
        told(name)
    return asked


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["shard", "shard with authors", "downscale", "bicubic", "nearest", "dtls", "failures"]
)
def test_a_run_with_nothing_to_do_costs_one_listing_and_writes_nothing(
    source: Path, target: Path, checkpoint: Path, calls: list[tuple[str, str]], kind: str
) -> None:
    run: Flow = {"shard": sharded, "shard with authors": sharded, "downscale": downscaled}.get(kind, upscaled)
    options: dict[str, Any] = {"method": kind} if kind in ("nearest", "dtls") else {}
    if kind == "dtls":
        options |= {"checkpoint": str(checkpoint), "device": "cpu"}
    if kind == "shard with authors":
        (source / METADATA).write_text(json.dumps({"0": {"metadata": {"author": "somebody"}}}))
    if kind == "failures":
        (source / "broken.png").write_bytes(b"no image")
    run(source, target, **options)
    before = written(target)
    calls.clear()
    assert "12 already done" in run(source, target, **options)
    assert written(target) == before
    assert [call for call in calls if call[0] in WRITES] == []
    assert [call for call in calls if call[0] == "list"] == [("list", str(source)), ("list", str(target))]
    of_target = [name for name, url in calls if url == str(target)]
    kept = ["fetch"] * 2  # source.json and seals.json, as they were listed
    assert sorted(of_target) == [*kept, "info", "list", "read", *["read"] * len(receipts(before))]  # and looks.json
    assert ("fetch", str(source)) not in calls


def test_a_run_with_nothing_to_do_does_not_read_the_metadata(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / METADATA).write_text(json.dumps({"0": {"metadata": {"author": "somebody"}}}))
    sharded(source, target)
    monkeypatch.setattr("flows.transform.sharding.read_metadata", lambda *_: pytest.fail("read"))
    assert sharded(source, target) == "12 already done"


@pytest.mark.integration
@FLOWS
def test_a_run_with_nothing_to_do_in_a_bucket_is_one_listing_and_its_receipts(
    source: Path, s3_server: S3Server, s3: str, monkeypatch: pytest.MonkeyPatch, run: Flow
) -> None:
    for path in source.rglob("*.png"):
        Location.of(f"{s3}/source").upload(str(path.relative_to(source)), path)
    run(f"{s3}/source", f"{s3}/target")
    there = [entry.key for entry in Location.of(f"{s3}/target").list()]
    with FaultyS3(s3_server) as proxy:
        for name, value in proxy.environment().items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        assert run(f"{s3}/source", f"{s3}/target") == "12 already done"
        s3fs.S3FileSystem.clear_instance_cache()
        requests = list(proxy.requests)
    assert {request.method for request in requests} <= {"GET", "HEAD"}
    prefix = s3.partition("//")[2].partition("/")[2]
    listings = [request.query["prefix"] for request in requests if not request.key and "prefix" in request.query]
    assert listings == [f"{prefix}/source/", f"{prefix}/target/"]
    gets = sorted(request.key for request in requests if request.method == "GET" and request.key)
    state = [key for key in there if key.startswith(".dtls/receipts/") or key in (".dtls/source.json", SEALS)]
    assert gets == sorted(f"{prefix}/target/{key}" for key in state)
    looks = 3 if run is sharded else 1  # whether the source is one file, and for metadata
    assert len(requests) == len(listings) + len(gets) + looks


@pytest.mark.slow
@FLOWS
@pytest.mark.parametrize("harm", ["cut", "changed", "gone"])
def test_what_a_run_keeps_is_made_again_where_it_is_harmed(source: Path, target: Path, run: Flow, harm: str) -> None:
    run(source, target)
    before = written(target)
    kept = [key for key in before if key not in outputs(before) | receipts(before)]
    state = {f".dtls/{name}" for name in ("looks.json", "plan.parquet", "seals.json", "source.json")}
    assert set(kept) == {"manifest.parquet", *state}
    for path in (target / key for key in kept):
        path.unlink() if harm == "gone" else path.write_bytes(b"" if harm == "cut" else path.read_bytes()[::-1])
    assert run(source, target) == "12 already done"
    after = written(target)
    assert changed(before, after) <= set(kept)
    assert len(pd.read_parquet(target / "manifest.parquet")) == 12
    assert len(pd.read_parquet(target / ".dtls" / "plan.parquet")) == 12
    assert run(source, target) == "12 already done"
    assert written(target) == after


@FLOWS
def test_a_second_source_is_refused_in_one_line_that_says_what_to_do(
    source: Path, target: Path, tmp_path: Path, photographs: Path, run: Flow
) -> None:
    run(source, target)
    before, other = written(target), tmp_path / "other"
    shutil.copytree(photographs, other)
    says = (
        f"{target}: holds the results of {source}, and a target is for one source; choose another folder, or remove "
    )
    with pytest.raises(StorageError, match=re.escape(says)) as refused:
        run(other, target)
    assert f".dtls/source.json there if {other} is the same source at a new address" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert written(target) == before
    assert run(source, target) == "12 already done"


@FLOWS
def test_a_source_that_moved_is_taken_once_its_old_address_is_forgotten(
    source: Path, target: Path, tmp_path: Path, run: Flow
) -> None:
    run(source, target)
    before = written(target)
    moved = source.rename(tmp_path / "moved")
    (target / ".dtls" / "source.json").unlink()
    assert run(moved, target) == "12 already done"
    assert outputs(written(target)) == outputs(before)


@pytest.mark.slow
@FLOWS
def test_the_same_source_in_another_spelling_is_the_same(
    source: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Flow
) -> None:
    run(source, target)
    before = written(target)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(source)
    monkeypatch.setenv("HOME", str(tmp_path))
    for spelling in (
        f"{source}/",
        "source",
        "./source//",
        f"../{tmp_path.name}/source",
        "link",
        f"{tmp_path}/target/../source",
        "~/source",
        f"file://{source}",
    ):
        assert run(spelling, target) == "12 already done", spelling
        assert written(target) == before, spelling


@pytest.mark.slow
def test_the_same_name_elsewhere_is_another_source(
    source: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    upscaled("source", target)
    shutil.copytree(source, tmp_path / "elsewhere" / "source")
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="a target is for one source"):
        upscaled("source", target)


@pytest.mark.integration
def test_the_same_source_in_a_bucket_in_another_spelling_is_the_same(source: Path, target: Path, s3: str) -> None:
    for path in source.rglob("*.png"):
        Location.of(f"{s3}/source").upload(str(path.relative_to(source)), path)
    upscaled(f"{s3}/source", target)
    before = written(target)
    assert upscaled(f"{s3}/source/", target) == "12 already done"
    with pytest.raises(StorageError, match="source//: ends in a part without a name"):
        upscaled(f"{s3}/source//", target)
    assert written(target) == before


@pytest.mark.integration
def test_s3a_is_s3(source: Path, target: Path, s3: str) -> None:
    for path in source.rglob("*.png"):
        Location.of(f"{s3}/source").upload(str(path.relative_to(source)), path)
    upscaled(f"{s3}/source", target)
    assert upscaled(f"{s3}/source".replace("s3:", "s3a:"), target) == "12 already done"
