"""Runs over S3 that misbehaves, and onto disks that are full or closed: the right results in the end, or one line.

Whoever stops says where and why, writes no sample off for it, and the next run does what is left and no more.
"""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import s3fs

from flows.shard import ShardOptions, shard
from flows.upscale import UpscaleOptions, upscale
from storage.receipts.owners import LEASE
from storage.stores.location import Location, StorageError
from storage.stores.s3 import CONFIG
from tests.faulty_s3 import (
    Fault,
    FaultyS3,
    Request,
    corrupt,
    hang,
    reset,
    reset_within,
    slow,
    status,
    status_after,
    truncate,
    truncate_silently,
)
from tests.killing import Place
from tests.mounts import private_mounts
from tests.services import S3Server, isolated_environment

PATIENCE, READ_TIMEOUT = 5.0, 0.5
"""Seconds: enough for what passes."""
SOON = 0.5
"""Seconds after which what does not pass is given up."""
ENOUGH = 5
"""Images that are read before a server goes away."""
ROOT = Path(__file__).parents[2]

Flow = Callable[..., str]


def sharded(source: str, target: str, **options: Any) -> str:
    given = {"source": source, "target": target, "samples_per_shard": 3, "workers": 2, "max_failed": 1.0}
    return shard.fn(ShardOptions.model_validate({**given, **options}))


def upscaled(source: str, target: str, **options: Any) -> str:
    given = {"source": source, "target": target, "method": "bicubic", "scale": 2, "unit_size": 3, "workers": 2}
    return upscale.fn(UpscaleOptions.model_validate({**given, "max_failed": 1.0, **options}))


FLOWS = pytest.mark.parametrize("flow", [sharded, upscaled])


@dataclass(frozen=True)
class Bucket:
    """A source of images behind a proxy, and places for results."""

    server: S3Server
    direct: Any
    """A client that goes past the proxy."""
    proxy: FaultyS3
    url: str

    @property
    def source(self) -> Place:
        return Place(f"{self.url}/source", self.server)

    def target(self, name: str) -> Place:
        return Place(f"{self.url}/{name}", self.server)

    def put(self, key: str, data: bytes) -> None:
        self.direct.put_object(Bucket=self.server.bucket, Key=self._prefix + key, Body=data)

    def remove(self, key: str) -> None:
        self.direct.delete_object(Bucket=self.server.bucket, Key=self._prefix + key)

    def is_read(self, request: Request) -> bool:
        return request.method == "GET" and request.key.startswith(self._prefix)

    def read(self) -> list[str]:
        """The images that were asked for."""
        return [request.key.removeprefix(self._prefix) for request in filter(self.is_read, self.proxy.requests)]

    @property
    def _prefix(self) -> str:
        return self.source.url.removeprefix(self.server.url()) + "/"


@pytest.fixture(scope="module")
def running(s3_server: S3Server) -> Iterator[FaultyS3]:
    """Give a proxy to all tests."""
    with FaultyS3(s3_server) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def direct(s3_server: S3Server) -> Any:
    """Give a client that goes past the proxy."""
    return s3_server.client()


@pytest.fixture
def bucket(
    running: FaultyS3, direct: Any, s3: str, s3_server: S3Server, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bucket]:
    """Give twelve images behind a proxy without faults; tries follow each other soon."""
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr("storage.stores.errors.FIRST_WAIT", 0.01)
    monkeypatch.setattr("storage.stores.errors.MAX_WAIT", 0.05)
    monkeypatch.setattr("storage.stores.s3.PATIENCE", PATIENCE)
    monkeypatch.setattr("storage.stores.s3.IMPATIENCE", PATIENCE)
    monkeypatch.setitem(CONFIG, "read_timeout", READ_TIMEOUT)
    bucket = Bucket(s3_server, direct, running, s3)
    for path in sorted(photographs.rglob("*.png")):
        bucket.put(str(path.relative_to(photographs)), path.read_bytes())
    running.requests.clear()
    yield bucket
    running.clear()


def receipts(target: Place) -> list[dict[str, Any]]:
    """The rows of all receipts below a target."""
    found = [rows for key, rows in target.files().items() if "/receipts/" in key]
    return [row for rows in found if isinstance(rows, list) for row in rows]


def rows_of(target: Place) -> dict[str, dict[str, Any]]:
    """The rows of the manifest, by key."""
    rows = target.files()["manifest.parquet"]
    assert isinstance(rows, list)
    return {row["key"]: row for row in rows}


@pytest.mark.integration
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.nightly)])
@FLOWS
def test_a_disturbed_run_makes_what_an_undisturbed_one_makes(flow: Flow, seed: int, bucket: Bucket) -> None:
    calm, disturbed = bucket.target("calm"), bucket.target("disturbed")
    said = flow(bucket.source.url, calm.url)
    bucket.proxy.requests.clear()
    luck = random.Random(seed)
    for fault in (
        *(status(503, "SlowDown"), status(500, "InternalError"), status_after(500, "InternalError"), reset()),
        *(reset_within(100), truncate(500), truncate_silently(500), slow(100_000)),
    ):
        bucket.proxy.inject(fault, when=lambda _: luck.random() < 0.05, times=6)
    bucket.proxy.inject(corrupt(), when=lambda r: bucket.is_read(r) and luck.random() < 0.1, times=3)
    bucket.proxy.inject(hang(), when=bucket.is_read, times=1, after=3)
    assert flow(bucket.source.url, disturbed.url) == said == "12 done"
    assert sum(bool(request.fault) for request in bucket.proxy.requests) > 8
    bucket.proxy.clear()
    assert disturbed.files() == calm.files()
    bucket.proxy.requests.clear()
    assert flow(bucket.source.url, disturbed.url) == "12 already done"
    assert bucket.read() == []


@pytest.mark.quiet  # it has 15 seconds
@pytest.mark.integration
@pytest.mark.parametrize(
    ("flow", "fault", "cause"),
    [
        pytest.param(
            flow, fault, cause, id=f"{flow.__name__}-{name}", marks=[pytest.mark.nightly] * (flow is not first)
        )
        for first, name, fault, cause in (
            (sharded, "expired", status(400, "ExpiredToken"), "ExpiredToken"),
            (upscaled, "busy", status(503, "SlowDown"), "SlowDown"),
            (sharded, "resets", reset(), "onnect"),
            (upscaled, "hangs", hang(), "Read timeout"),
        )
        for flow in (sharded, upscaled)
    ],
)
def test_a_run_whose_server_goes_away_stops_in_time_and_the_next_does_what_is_left(
    flow: Flow, fault: Fault, cause: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, target = bucket.target("calm"), bucket.target("target")
    flow(bucket.source.url, calm.url)
    for name in ("errors.IMPATIENCE", "s3.PATIENCE", "s3.IMPATIENCE"):
        monkeypatch.setattr(f"storage.stores.{name}", SOON)
    bucket.proxy.requests.clear()
    read: list[Request] = []

    def is_late(request: Request) -> bool:
        if bucket.is_read(request):
            read.append(request)
        return len(read) > ENOUGH

    bucket.proxy.inject(fault, when=is_late)
    started = time.monotonic()
    with pytest.raises(StorageError) as stopped:
        flow(bucket.source.url, target.url, in_flight=1)
    assert time.monotonic() - started < 15
    message = str(stopped.value)
    assert "\n" not in message
    assert message.startswith(bucket.url), message
    assert cause in message
    assert message.endswith("stopped, run it again to resume")
    rows = receipts(target)
    assert 0 < len(rows) < 12
    assert {row["status"] for row in rows} == {"ok"}

    bucket.proxy.clear()
    bucket.proxy.requests.clear()
    Location.of(target.url).delete(LEASE)  # which could not be removed, as if it had ended by now
    assert flow(bucket.source.url, target.url) == f"{12 - len(rows)} done, {len(rows)} already done"
    assert set(bucket.read()) == {f"00000/{n:05}.png" for n in range(12)} - {row["key"] for row in rows}
    assert target.files() == calm.files()


@pytest.mark.integration
@pytest.mark.parametrize("what", ["changed", "gone"])
@FLOWS
def test_an_image_that_changes_or_goes_after_the_plan_is_a_failed_row_that_the_next_run_mends(
    flow: Flow, what: str, bucket: Bucket
) -> None:
    key, target = "00000/00011.png", bucket.target("target")
    other = bucket.source.files()["00000/00003.png"]
    assert isinstance(other, bytes)

    def at_the_first_image(request: Request) -> bool:
        if bucket.is_read(request) and len(bucket.read()) == 0:
            bucket.put(key, other) if what == "changed" else bucket.remove(key)
        return False

    bucket.proxy.inject(reset(), when=at_the_first_image)
    assert flow(bucket.source.url, target.url, workers=1, in_flight=1) == "11 done, 1 failed"
    rows = rows_of(target)
    assert len(rows) == 12
    assert {k: row["reason"] for k, row in rows.items() if row["status"] == "failed"} == {
        key: f"{bucket.source.url}/{key}: {what} since it was listed"
    }
    assert {row["key"] for row in receipts(target)} == rows.keys()

    bucket.proxy.clear()
    bucket.proxy.requests.clear()
    flow(bucket.source.url, target.url)
    redone = set(bucket.read())
    fresh = bucket.target("fresh")
    flow(bucket.source.url, fresh.url)
    assert target.files() == fresh.files()
    if flow is sharded:
        assert redone == {f"00000/{n:05}.png" for n in (9, 10, 11)} & rows_of(target).keys()
    else:
        assert redone == ({key} if what == "changed" else set())


SCRIPT = """
set -u
target=$1; out=$2; size=$3; shift 3
run() { "$@" > "$out/$name.log" 2>&1; echo $? > "$out/$name.code"; cp -a "$target/." "$out/$name"; }
mkdir "$target"
mount -t tmpfs -o "size=$size" tmpfs "$target" || exit 99
name=full; run "$@"
mount -o remount,size=64m,ro "$target" || exit 99
name=closed; run "$@"
mount -o remount,rw "$target" || exit 99
name=open; run "$@"
"""
"""A command three times: onto a small disk, onto one that is read-only, and onto one that is neither."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flow", "size", "options"),
    [
        (sharded, "72k", ["shard", "--samples-per-shard", "3"]),
        pytest.param(
            *(upscaled, "200k", ["upscale", "--method", "bicubic", "--scale", "2", "--unit-size", "3"]),
            marks=pytest.mark.nightly,
        ),
    ],
    ids=["shard", "upscale"],
)
def test_a_full_or_closed_disk_stops_a_run_which_goes_on_when_there_is_room(
    flow: Flow, size: str, options: list[str], photographs: Path, tmp_path: Path
) -> None:
    calm, target = tmp_path / "calm", tmp_path / "target"
    flow(str(photographs), str(calm))
    command = [
        sys.executable,
        "-m",
        "flows",
        *options,
        str(photographs),
        str(target),
        "--workers",
        "2",
        "--in-flight",
        "1",
    ]
    script = [*private_mounts(), "sh", "-c", SCRIPT, "sh", str(target), str(tmp_path), size, *command]
    subprocess.run(script, cwd=ROOT, env=isolated_environment(), check=True, timeout=120)
    files = {name: Place(str(tmp_path / name), None).files() for name in ("full", "closed", "open", "calm")}
    said = {name: (tmp_path / f"{name}.log").read_text() for name in ("full", "closed", "open")}
    codes = [int((tmp_path / f"{name}.code").read_text()) for name in said]
    assert codes == [1, 1, 0], said

    for name, cause in (("full", "No space left on device"), ("closed", "Read-only file system")):
        lines = [line for line in said[name].splitlines() if line.startswith("dtls: ")]
        assert len(lines) == 1, said[name]
        assert lines[0].startswith(f"dtls: {target}/")
        assert cause in lines[0]
        assert "Traceback" not in said[name]
    assert files["full"] == files["closed"]
    unfinished = files["full"].pop(".dtls/unfinished")
    assert isinstance(unfinished, bytes)
    assert json.loads(unfinished) == {"orphans": [], "there": {}}
    done = [rows for key, rows in files["full"].items() if "/receipts/" in key]
    assert 0 < len(done) < len([key for key in files["calm"] if "/receipts/" in key])
    assert {key: content for key, content in files["full"].items() if content != files["calm"].get(key)} == {}
    assert files["open"] == files["calm"]
    rows = sum(map(len, done))
    assert f"{12 - rows} done, {rows} already done" in said["open"]
