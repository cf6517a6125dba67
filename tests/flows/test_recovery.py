"""What a killed run, an outage, or a run beside it leaves is set right by the next, and nothing that counts is lost.

The runs that are killed are processes of their own, which die just before they would write a receipt, or the table.
"""

import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence, Set
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, NoReturn

import fsspec
import pyarrow.parquet as pq
import pytest
import s3fs
from PIL import Image
from prefect import flow

from flows.engine import run as fanout
from flows.engine.job import Job, WorkerSpec
from flows.engine.options import BatchOptions
from flows.evaluation.collection import Collection
from flows.evaluation.gallery import Gallery
from flows.evaluation.publish import Publication
from flows.inputs.contents import Contents, contents_of
from flows.inputs.options import SourceOptions
from flows.interface.console import Advance
from flows.interface.errors import RunError
from flows.report import ReportOptions, report
from flows.shard import ShardOptions, shard
from flows.transform import plan as planning
from flows.upscale import UpscaleOptions, upscale
from storage.archives.source import Source
from storage.receipts.lease import Lease, hold
from storage.receipts.owners import LEASE
from storage.receipts.receipts import Receipts
from storage.receipts.survey import UNFINISHED
from storage.receipts.units import Row, Unit
from storage.shards.read import ShardReader, list_shards, local_shards
from storage.stores.cache import Cache
from storage.stores.location import Entry, Location, StorageError, UnavailableError
from tests.faulty_s3 import FaultyS3, status
from tests.killing import Place, Runs
from tests.services import S3Server, wait_until
from tests.warm import Starter

SOON = 10.0
KEYS = [f"00000/{number:05}.png" for number in range(6)]


def sharded(source: str | Path, target: str | Path, **options: Any) -> str:
    given = {"source": str(source), "target": str(target), "samples_per_shard": 3, "workers": 1, "in_flight": 1}
    return shard.fn(ShardOptions.model_validate({**given, **options}))


def upscaled(source: str | Path, target: str | Path, **options: Any) -> str:
    given = {"source": str(source), "target": str(target), "method": "bicubic", "scale": 2, "unit_size": 3}
    return upscale.fn(UpscaleOptions.model_validate({**given, "workers": 1, "in_flight": 1, **options}))


def reported(compared: Path, out: Path, **options: Any) -> str:
    """A report on a result below `compared`."""
    given = {"hr": str(compared / "hr"), "lr": str(compared / "lr"), "sr": {"bicubic": str(compared / "bicubic")}}
    return report.fn(ReportOptions.model_validate({**given, "out": str(out), "device": "cpu", **options}))


class DiesBeforeReceipts(Receipts):
    def write(self, unit: Unit, rows: Sequence[Row]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class DiesBeforeTable(Receipts):
    def gather(self, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class DiesBeforePruning(Receipts):
    def prune(self, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def source(photographs: Path, tmp_path: Path) -> Path:
    """Six photographs of one's own."""
    for key in KEYS:
        path = tmp_path / "source" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(photographs / key, path)
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.fixture(scope="module")
def compared(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HR and LR images, and a result; not to be changed."""
    folder = tmp_path_factory.mktemp("compared")
    for name in ("hr", "lr"):
        (folder / name).mkdir()
    for path in sorted(photographs.rglob("*.png"))[:2]:
        shutil.copy(path, folder / "hr")
        with Image.open(path) as image:
            image.reduce(2).save(folder / "lr" / path.name)
    upscaled(folder / "lr", folder / "bicubic")
    return folder


@pytest.fixture
def kill_sharding(warm: Starter, source: Path, target: Path, tmp_path: Path) -> Callable[..., None]:
    """Shard in a process that dies where its receipts say."""
    (tmp_path / "runs").mkdir()

    def kill(receipts: type[Receipts], **options: Any) -> None:
        settings = (("flows.shard", "Receipts", receipts),)
        runs = Runs(partial(sharded, **options), Place(str(source), None), tmp_path / "runs", settings)
        assert runs.run(Place(str(target), None)).killed

    return kill


def rows_of(target: Path) -> dict[str, Row]:
    """The rows of the manifest, by key."""
    return {row["key"]: row for row in pq.read_table(target / "manifest.parquet").to_pylist()}


def pngs(target: Path) -> dict[str, bytes]:
    return {str(path.relative_to(target)): path.read_bytes() for path in sorted(target.rglob("*.png"))}


def test_a_run_that_is_killed_before_its_table_over_an_older_one_leaves_the_table_to_the_next(
    source: Path, target: Path, photographs: Path, kill_sharding: Callable[..., None]
) -> None:
    sharded(source, target)
    shutil.copytree(photographs, source, dirs_exist_ok=True)  # six more, in further shards
    kill_sharding(DiesBeforeTable)
    assert len(list(target.glob(".dtls/receipts/*/*"))) == 4
    assert len(rows_of(target)) == 6
    assert sharded(source, target) == "12 already done"
    assert len(rows_of(target)) == 12
    assert not (target / UNFINISHED).exists()


def test_a_shard_that_was_made_of_another_image_is_made_again_when_the_image_is_back(
    source: Path, target: Path, kill_sharding: Callable[..., None]
) -> None:
    sharded(source, target)
    before = (target / "shard-000000.tar").read_bytes()
    image = source / KEYS[1]
    data, stamp = image.read_bytes(), image.stat()
    Image.new("RGB", (64, 64), "teal").save(image)
    image.write_bytes(image.read_bytes().ljust(len(data), b"\0"))
    kill_sharding(DiesBeforeReceipts)
    other = (target / "shard-000000.tar").read_bytes()
    assert len(other) == len(before)
    assert other != before
    image.write_bytes(data)
    os.utime(image, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert sharded(source, target) == "3 done, 3 already done"
    assert (target / "shard-000000.tar").read_bytes() == before


def test_a_shard_without_a_receipt_is_not_trained_on_and_goes_when_the_plan_is_another(
    source: Path, target: Path, kill_sharding: Callable[..., None]
) -> None:
    kill_sharding(DiesBeforeReceipts)
    assert (target / "shard-000000.tar").exists()
    with pytest.raises(StorageError) as refused:
        list_shards(Location.of(target))
    assert str(refused.value) == f"{target}: not all of its shards are made; run `dtls shard` there again"
    sharded(source, target, split="hash", validation_share=0.5)
    tars = {path.name for path in target.glob("*.tar")}
    assert tars == {row["output"] for row in rows_of(target).values()}
    assert not [name for name in tars if name.startswith("shard")]
    assert {entry.key for entry in list_shards(Location.of(target))} == {n for n in tars if n.startswith("train")}


def test_shards_of_an_earlier_plan_are_not_trained_on_while_they_are_there(
    source: Path, target: Path, kill_sharding: Callable[..., None]
) -> None:
    sharded(source, target)
    kill_sharding(DiesBeforePruning, split="hash", validation_share=0.5, overwrite=True)
    assert (target / "shard-000000.tar").exists()
    with pytest.raises(StorageError, match="run `dtls shard` there again"):
        list_shards(Location.of(target))
    sharded(source, target, split="hash", validation_share=0.5)
    assert {entry.key for entry in list_shards(Location.of(target))} == {"train-000000.tar"}


@pytest.mark.slow
def test_a_source_that_is_away_for_a_while_costs_no_result_and_is_tried_again_when_it_is_back(
    source: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upscaled(source, target)
    before = pngs(target)

    def list_and_lose(where: Source, options: SourceOptions, asked: Set[str]) -> Contents:
        found = contents_of(where, options, asked)
        source.rename(tmp_path / "away")
        return found

    with monkeypatch.context() as lost:
        lost.setattr(planning, "contents_of", list_and_lose)
        with pytest.raises(RunError, match="images failed"):
            upscaled(source, target, scale=3, overwrite=True)
    assert pngs(target) == before
    assert {key: row["reason"] for key, row in rows_of(target).items()} == {
        key: f"{source}/{key}: gone since it was listed" for key in KEYS
    }
    (tmp_path / "away").rename(source)
    assert upscaled(source, target, scale=3) == "6 done"
    upscaled(source, tmp_path / "undisturbed", scale=3)
    assert pngs(target) == pngs(tmp_path / "undisturbed")


def _unreachable(*_: object) -> NoReturn:
    raise UnavailableError("s3://bucket: no network")


@pytest.mark.slow
def test_a_page_is_not_made_without_images_that_are_out_of_reach(
    compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes, data = Gallery.scenes, Collection.data

    def all_but_one(self: Collection, key: str) -> bytes:
        return data(self, key) if key != "00001" else _unreachable()

    def outage(self: Gallery) -> Any:
        with monkeypatch.context() as away:
            away.setattr(Collection, "data", all_but_one)
            return scenes(self)

    with monkeypatch.context() as broken:
        broken.setattr(Gallery, "scenes", outage)
        with pytest.raises(UnavailableError, match="no network"):
            reported(compared, tmp_path / "report")
    reported(compared, tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_bytes()
    assert page.count(b"data:image") == 2 * len(("LR", "SR", "its map", "HR"))


@pytest.mark.slow
def test_pages_are_written_under_the_lease(compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, make = tmp_path / "report", Publication.make

    def beside_another(*given: Any) -> None:
        assert (out / LEASE).exists()
        with pytest.raises(StorageError, match="another run works here"):
            reported(compared, out, title="Another")
        make(*given)

    with monkeypatch.context() as watched:
        watched.setattr(Publication, "make", beside_another)
        reported(compared, out, title="The first")
    assert b"<h1>The first</h1>" in (out / "index.html").read_bytes()
    assert not (out / LEASE).exists()


@pytest.mark.integration
def test_in_a_prefect_flow_run_a_unit_in_flight_ends_before_the_lease_is_given_back(
    tmp_path: Path, flow_runs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, remove = Location.of(tmp_path / "target"), Lease.remove
    working, removed = Event(), Event()
    order: list[str] = []

    def work(unit: Unit, samples: Sequence[Entry], advance: Advance) -> list[Row]:
        if unit.name == "first":
            assert working.wait(SOON)
            _unreachable()
        working.set()
        assert wait_until(lambda: _is_stopped(advance), SOON)
        removed.wait(1.0)
        order.append("the unit ended")
        return [{"key": sample.key, "status": "failed", "reason": "stopped"} for sample in samples]

    def remove_and_tell(lease: Lease) -> None:
        remove(lease)
        order.append("the lease was removed")
        removed.set()

    units = [Unit.of("upscale", name, [Entry(f"{name}.png", 1, "tag")], {}) for name in ("first", "second")]
    monkeypatch.setattr(Lease, "remove", remove_and_tell)

    @flow
    def run() -> None:
        elsewhere = WorkerSpec(lambda _: work, uses_gpu=False)
        with pytest.raises(StorageError, match="no network; stopped, run it again to resume"):
            fanout.run(Job("upscale", units, work, elsewhere, Receipts(target, "upscale")), BatchOptions(in_flight=2))

    run()
    assert order == ["the unit ended", "the lease was removed"]


def _is_stopped(advance: Advance) -> bool:
    try:
        advance(0)
    except RunError:
        return True
    return False


def test_rows_are_kept_only_where_they_can_be_of_use(tmp_path: Path) -> None:
    target = Location.of(tmp_path)
    receipts, first, second = Receipts(target, "upscale"), Entry("a.png", 1, "tag"), Entry("b.png", 1, "tag")
    made = Unit.of("upscale", "unit", [first], {"scale": 2})
    target.write("a.png", b"pixels")
    row = {"key": "a.png", "status": "ok", "output": "a.png", "output_bytes": 6, "options": made.options}
    receipts.write(made, [row])
    grown = [Unit.of("upscale", "unit", [first, second], {"scale": 2})]
    assert set(receipts.survey(grown).kept) == {"a.png"}
    assert receipts.survey(grown, divisible=False).kept == {}
    assert receipts.survey([Unit.of("upscale", "unit", [first, second], {"scale": 3})]).kept == {}


@pytest.fixture
def bucket() -> Iterator[Location]:
    """A place whose shards have to be fetched."""
    yield Location.of("memory://shards")
    fsspec.filesystem("memory").store.clear()


def test_a_shard_that_vanishes_while_it_is_read_is_named(bucket: Location, source: Path, tmp_path: Path) -> None:
    sharded(source, tmp_path / "made", samples_per_shard=6, size=16)
    bucket.upload("shard-000000.tar", tmp_path / "made" / "shard-000000.tar")
    with local_shards(bucket, list_shards(bucket), Cache(tmp_path / "cache"), lambda _: None) as [shard]:
        reader = ShardReader([shard])
        shard.path.unlink()
        with pytest.raises(StorageError) as refused:
            reader.read(0)
    assert str(refused.value) == f"{shard.path}, 000000000.png: No such file or directory"


@pytest.mark.integration
@pytest.mark.parametrize("code", ["AccessDenied", "InvalidObjectState"])
def test_one_image_that_is_closed_to_us_is_one_failed_sample(
    code: str, source: Path, target: Path, faulty: FaultyS3, s3: str
) -> None:
    faulty.inject(status(403, code), when=f"GET *{KEYS[1]}")
    assert upscaled(bucketed(source, s3), target, max_failed=1.0) == "5 done, 1 failed"
    assert code in rows_of(target)[KEYS[1]]["reason"]


@pytest.mark.integration
@pytest.mark.parametrize(("number", "code"), [(403, "AccountSuspended"), (400, "KMS.DisabledException")])
def test_an_account_that_is_closed_to_us_stops_the_run_and_fails_no_sample(
    number: int, code: str, source: Path, target: Path, faulty: FaultyS3, s3: str
) -> None:
    faulty.inject(status(number, code), when="GET *.png")
    with pytest.raises(StorageError, match=f"{code}.*stopped, run it again to resume"):
        upscaled(bucketed(source, s3), target, max_failed=1.0)
    assert list(target.glob(".dtls/receipts/*/*")) == []
    faulty.clear()
    assert upscaled(f"{s3}/source", target) == "6 done"


@pytest.fixture
def faulty(s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """Let all that is asked of S3 go through a proxy."""
    with FaultyS3(s3_server) as proxy:
        for name, value in proxy.environment().items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield proxy


def bucketed(source: Path, s3: str) -> str:
    for key in KEYS:
        Location.of(f"{s3}/source").upload(key, source / key)
    return f"{s3}/source"


def test_a_file_that_a_run_below_is_writing_is_left_alone(source: Path, target: Path) -> None:
    inner, left = Location.of(target / "inner"), target / f".{'a' * 32}.tmp"
    target.mkdir()
    left.write_bytes(b"of a killed run")
    with hold(inner, "upscale"), inner.writing("x.png") as temporary:
        temporary.write_bytes(b"pixels")
        assert upscaled(source, target) == "6 done"
        assert temporary.read_bytes() == b"pixels"
    assert inner.read("x.png") == b"pixels"
    assert not left.exists()


@pytest.mark.integration
def test_an_upload_of_a_run_below_is_left_alone(source: Path, s3: str, s3_server: S3Server) -> None:
    target, client = Place(f"{s3}/target", s3_server), s3_server.client()
    prefix = target.url.removeprefix(s3_server.url())
    with hold(Location.of(f"{target.url}/inner"), "upscale"):
        for key in ("inner/x.png", "x.png"):
            client.create_multipart_upload(Bucket=s3_server.bucket, Key=f"{prefix}/{key}")
        assert upscaled(source, target.url) == "6 done"
    assert target.unfinished() == [f"{prefix}/inner/x.png"]
    Location.of(target.url).abort_uploads()
    assert target.unfinished() == []
