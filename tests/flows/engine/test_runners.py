"""Units in processes and on a cluster: results and receipts of threads, and nothing lost when parts of it die."""

import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from subprocess import PIPE, Popen
from threading import Thread
from typing import Any

import dask
import pandas as pd
import pytest
import torch
from distributed import Client
from PIL import Image
from pydantic import ValidationError

from dtls.checkpoints.checkpoint import save_checkpoint
from dtls.models.dtls import DTLS
from flows.downscale import DownscaleOptions, downscale
from flows.engine import cluster, runners
from flows.engine.cluster import Workers
from flows.engine.job import Work, WorkerSpec
from flows.engine.options import BatchOptions
from flows.engine.runners import Cluster
from flows.engine.ticks import Ticks
from flows.engine.worker import do_unit
from flows.report import ReportOptions, report
from flows.shard import ShardOptions, shard
from flows.upscale import UpscaleOptions, upscale
from storage.receipts import lease as leases
from storage.receipts.claims import Claim
from storage.receipts.lease import hold
from storage.receipts.owners import LEASE
from storage.receipts.units import Unit
from storage.stores.location import Location, StorageError, UnavailableError
from tests.dask_services import DaskScheduler, DaskWorker
from tests.flows.generating import generated, save_prior
from tests.killing import Place
from tests.mounts import private_mounts
from tests.services import free_ports, is_running, wait_until
from tests.warm import Starter

SOON = 60.0
SMALL = {"unit_size": 4, "in_flight": 2}

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.usefixtures("warm")]


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskScheduler]:
    with DaskScheduler(tmp_path_factory.mktemp("dask") / "scheduler") as running:
        yield running


@pytest.fixture(scope="module")
def workers(scheduler: DaskScheduler) -> Iterator[list[DaskWorker]]:
    """Two workers that stay."""
    folder = scheduler.folder
    with (
        DaskWorker(folder / "a", scheduler.address, "a") as first,
        DaskWorker(folder / "b", scheduler.address, "b") as second,
    ):
        yield [first, second]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save_checkpoint(DTLS(dim=8, multipliers=(1, 2), residual=True, size=32, stride=8, steps=3), folder)
    return str(folder)


@pytest.fixture(scope="module")
def source(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Thirty-seven images, of which two would have the same name, and one that is broken."""
    folder = tmp_path_factory.mktemp("source")
    for copy in "abc":
        shutil.copytree(photographs, folder / copy)
    first = next((folder / "a").rglob("*.png"))
    shutil.copy(first, first.with_suffix(".tif"))
    (folder / "broken.png").write_bytes(first.read_bytes()[:-100])
    return str(folder)


def enlarged(source: str, target: Path, **options: Any) -> str:
    settings = {"source": source, "target": str(target), "method": "bicubic", "scale": 2, **SMALL, **options}
    return upscale.fn(UpscaleOptions.model_validate(settings))


KINDS: dict[str, dict[str, Any]] = {
    "folder": {},
    "zip": {},
    "shards": {"samples_per_shard": 8},
    "jpeg": {"format": "jpeg", "suffix": "_x2"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_results_and_receipts_are_those_of_threads(
    kind: str, source: str, scheduler: DaskScheduler, workers: list[DaskWorker], warm: Starter, tmp_path: Path
) -> None:
    name = "large.zip" if kind == "zip" else "large"
    for folder, runner in by_runner(tmp_path, scheduler):
        with warm.paused() if kind == "folder" else nullcontext():  # once with processes that are started
            assert enlarged(source, folder / name, **KINDS[kind], **runner) == "37 done, 1 failed"
    all_the_same(tmp_path)


def test_a_model_in_another_process_makes_the_same_images(
    source: str, checkpoint: str, scheduler: DaskScheduler, workers: list[DaskWorker], tmp_path: Path
) -> None:
    model = {"method": "dtls", "checkpoint": checkpoint, "batch_size": 4, "device": "cpu", "include": ["a/*"]}
    for folder, runner in by_runner(tmp_path, scheduler):
        assert enlarged(source, folder / "large", **model, **runner) == "13 done"
    all_the_same(tmp_path)


def test_generated_images_are_those_of_threads(
    scheduler: DaskScheduler, workers: list[DaskWorker], tmp_path: Path
) -> None:
    model = save_prior(tmp_path / "model")
    for folder, runner in by_runner(tmp_path / "runs", scheduler):
        assert generated(model, folder / "samples", count=10, **runner) == "10 done"
    all_the_same(tmp_path / "runs")


def test_shards_lr_images_and_reports_are_those_of_threads(
    source: str, scheduler: DaskScheduler, workers: list[DaskWorker], tmp_path: Path
) -> None:
    hr = tmp_path / "hr"
    shutil.copytree(f"{source}/b/00000", hr)
    for folder, runner in by_runner(tmp_path / "runs", scheduler):
        common = {"in_flight": 2, **runner}
        shard.fn(ShardOptions(source=str(hr), target=str(folder / "shards"), size=32, samples_per_shard=5, **common))
        downscale.fn(DownscaleOptions(source=str(hr), target=str(folder / "lr"), scale=2, **common))
        shards = str(tmp_path / "runs/0/shards")
        downscale.fn(DownscaleOptions(source=shards, target=str(folder / "of-shards"), scale=2, **common))
        enlarged(str(tmp_path / "runs/0/lr"), folder / "sr", **runner)
    all_the_same(tmp_path / "runs", "shards", "lr", "of-shards", "sr")
    tables = []
    for folder, runner in by_runner(tmp_path / "reports", scheduler):
        there = {"lr": str(tmp_path / "runs/0/lr"), "sr": {"x": str(tmp_path / "runs/0/sr")}, "hr": str(hr)}
        report.fn(
            ReportOptions.model_validate({**there, "out": str(folder), "gallery": 0, "device": "cpu", **runner})
        )
        tables.append(pd.read_parquet(folder / "metrics.parquet"))
    for other in tables[1:]:
        pd.testing.assert_frame_equal(other, tables[0], rtol=0, atol=1e-6)


def by_runner(folder: Path, scheduler: DaskScheduler) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A folder for each runner, and the options that choose it."""
    choices: list[dict[str, Any]] = [{}, {"runner": "processes"}, {"runner": "dask", "scheduler": scheduler.address}]
    for number, runner in enumerate(choices):
        yield folder / str(number), runner


def all_the_same(folder: Path, *names: str) -> None:
    """Whether runners left the same files, receipts included, but for the time it took."""
    for name in names or ("",):
        here, *others = (Place(str(folder / str(number) / name), None).files() for number in range(3))
        assert here
        for other in others:
            assert other.keys() == here.keys()
            assert other == here


def test_a_worker_that_is_killed_costs_nothing_but_time(source: str, tmp_path: Path) -> None:
    """Dask starts its unit again on the other."""
    enlarged(source, tmp_path / "0/large", unit_size=1)
    with (
        DaskScheduler(tmp_path / "dask") as scheduler,
        DaskWorker(tmp_path / "stays", scheduler.address, "stays"),
        DaskWorker(tmp_path / "dies", scheduler.address, "dies", None, "--no-nanny") as dies,
    ):
        with in_the_background(
            lambda: enlarged(source, tmp_path / "1/large", unit_size=1, runner="dask", scheduler=scheduler.address)
        ) as run:
            assert wait_until(lambda: bool(list(tmp_path.glob("1/large/.dtls/receipts/*/*"))), SOON)
            dies.kill()
        assert run.said == "37 done, 1 failed"
        assert dies.process is not None
        assert not is_running(dies.process.pid)
    enlarged(source, tmp_path / "1/large", unit_size=1)  # sweeps what the killed worker was writing
    assert Place(str(tmp_path / "0"), None).files() == Place(str(tmp_path / "1"), None).files()


def test_a_run_whose_scheduler_dies_stops_with_one_line_and_goes_on_without_it(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "large"
    with DaskScheduler(tmp_path / "dask") as scheduler, DaskWorker(tmp_path / "worker", scheduler.address, "w"):
        with in_the_background(
            lambda: enlarged(source, target, unit_size=1, runner="dask", scheduler=scheduler.address)
        ) as run:
            assert wait_until(lambda: bool(list(target.glob(".dtls/receipts/*/*"))), SOON)
            assert scheduler.process is not None
            scheduler.process.kill()
        assert isinstance(run.error, StorageError)
        assert scheduler.address in str(run.error)
        assert "run it again to resume" in str(run.error)
    monkeypatch.setattr(leases, "LASTS", 3.0)
    left = Location.of(target)  # its lease stays, as a worker may still write, and runs out
    assert wait_until(lambda: (left.age(LEASE) or 0.0) > leases.LASTS, SOON)
    assert "already done" in enlarged(source, target, unit_size=1)


@pytest.fixture
def long_run(
    source: str, scheduler: DaskScheduler, workers: list[DaskWorker], tmp_path: Path
) -> Iterator[tuple[Popen[str], Path]]:
    """A run of one unit of 3,000 images that has made some of them, and its target."""
    many, target = tmp_path / "many", tmp_path / "large"
    image = next(Path(source, "a").rglob("*.png"))
    many.mkdir()
    for number in range(3000):
        (many / f"{number}.png").hardlink_to(image)
    options = ["--method", "lanczos", "--scale", "4", "--unit-size", "3000", "--workers", "1", "--in-flight", "1"]
    where = ["--runner", "dask", "--scheduler", scheduler.address]
    with Popen(
        [sys.executable, "-m", "flows", "upscale", many, target, *options, *where], stderr=PIPE, text=True
    ) as run:
        assert wait_until(lambda: bool(list(target.glob("*.png"))), SOON)
        yield run, target
        run.kill()


def test_a_unit_of_a_run_that_is_gone_ends_at_its_next_sample(
    long_run: tuple[Popen[str], Path], scheduler: DaskScheduler
) -> None:
    """A run that is killed leaves nobody to tell the workers; Dask sees that it is gone."""
    run, target = long_run
    run.kill()
    run.wait()
    with Client(scheduler.address, set_as_default=False) as client:
        assert wait_until(lambda: not any(client.run(threads).values()), SOON)
    assert 0 < len(list(target.glob("*.png"))) < 3000


def test_a_run_that_is_stopped_lets_go_of_its_target_when_no_unit_writes_any_longer(
    long_run: tuple[Popen[str], Path], scheduler: DaskScheduler
) -> None:
    run, target = long_run
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=SOON)
    left = len(list(target.glob("*.png")))
    assert run.returncode == 130, said
    assert not (target / LEASE).exists()
    with Client(scheduler.address, set_as_default=False) as client:
        assert not any(client.run(threads).values())
    assert len(list(target.glob("*.png"))) == left < 3000


def threads(dask_worker: Any) -> int:
    return len(dask_worker.active_threads)


def test_a_scheduler_that_is_not_there_and_one_without_workers_are_told(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 2.0)
    nobody = f"tcp://127.0.0.1:{free_ports()}"
    with pytest.raises(StorageError, match=f"{nobody}: no Dask scheduler answers there"):
        enlarged(source, tmp_path / "large", runner="dask", scheduler=nobody)
    with DaskScheduler(tmp_path / "dask") as alone:
        says = f"{alone.address}: no worker came; start some by `dask worker {alone.address} --nthreads 1`"
        with pytest.raises(StorageError, match=re.escape(says)):
            enlarged(source, tmp_path / "large", runner="dask", scheduler=alone.address)
    assert not (tmp_path / "large" / LEASE).exists()


def test_a_gpu_is_asked_for_where_workers_offer_one_and_missed_where_none_does(
    source: str, checkpoint: str, tmp_path: Path
) -> None:
    model: dict[str, Any] = {"method": "dtls", "checkpoint": checkpoint, "include": ["a/*"], "precision": "fp32"}
    with (
        DaskScheduler(tmp_path / "dask") as scheduler,
        DaskWorker(tmp_path / "plain", scheduler.address, "plain"),
        Client(scheduler.address, set_as_default=False) as client,
    ):
        where = {"runner": "dask", "scheduler": scheduler.address}
        says = "no worker offers a GPU for --device cuda; start some by `dask worker tcp"
        with pytest.raises(StorageError, match=says):
            enlarged(source, tmp_path / "none", **model, **where, device="cuda")
        with DaskWorker(tmp_path / "gpu", scheduler.address, "gpu", None, "--resources", "GPU=1"):
            assert enlarged(source, tmp_path / "large", **model, **where) == "13 done"
            names = {
                address: worker["name"] for address, worker in client.scheduler_info(n_workers=-1)["workers"].items()
            }
            worked = {names[address]: bool(count) for address, count in client.run(units_done).items()}
    assert worked == {"plain": False, "gpu": True}


def units_done(dask_worker: Any) -> int:
    return int(dask_worker.state.executed_count)


def works_kept() -> int:
    from flows.engine.worker import _works

    return len(_works)


def test_a_worker_forgets_a_run_that_has_ended_and_sees_what_is_another_by_then(
    source: str, scheduler: DaskScheduler, workers: list[DaskWorker], tmp_path: Path
) -> None:
    where = {"runner": "dask", "scheduler": scheduler.address}
    archive, target = tmp_path / "source.zip", tmp_path / "large"
    with Client(scheduler.address, set_as_default=False) as client:
        before = client.run(works_kept)
    shutil.make_archive(str(archive.with_suffix("")), "zip", f"{source}/a")
    assert enlarged(str(archive), target, provenance=False, **where) == "13 done"
    with Client(scheduler.address, set_as_default=False) as client:
        assert client.run(works_kept) == before
    others = Path(shutil.copytree(f"{source}/a", tmp_path / "others"))
    for number, image in enumerate(others.rglob("*.png")):
        Image.new("RGB", (20 + number, 30), "teal").save(image)
    shutil.make_archive(str(archive.with_suffix("")), "zip", str(others))
    assert enlarged(str(archive), target, provenance=False, **where) == "12 done, 1 already done"


def test_links_and_relative_addresses_are_what_they_are_here(
    source: str,
    checkpoint: str,
    scheduler: DaskScheduler,
    workers: list[DaskWorker],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = {"runner": "dask", "scheduler": scheduler.address}
    shutil.make_archive(str(tmp_path / "blob"), "zip", f"{source}/a")
    (tmp_path / "blob.zip").rename(tmp_path / "blob")
    (tmp_path / "in.zip").symlink_to("blob")
    (tmp_path / "store").mkdir()
    (tmp_path / "out.zip").symlink_to("store/out.zip")
    monkeypatch.chdir(tmp_path)
    assert enlarged("in.zip", Path("out.zip"), **where) == "13 done"
    shutil.copytree(checkpoint, tmp_path / "model")
    model = {"method": "dtls", "checkpoint": "model", "device": "cpu", "limit": 2}
    assert enlarged("in.zip", Path("sr"), **model, **where) == "2 done"


def test_results_that_cannot_be_seen_from_here_stop_the_run(
    source: str, scheduler: DaskScheduler, workers: list[DaskWorker]
) -> None:
    with pytest.raises(
        StorageError,
        match=r"the lease of the run is not to be seen there from this process: .* \(give addresses that mean",
    ):
        upscale.fn(
            UpscaleOptions(
                source=source, target="memory://nowhere/large", method="bicubic", scale=2,
                runner="dask", scheduler=scheduler.address,
            )
        )  # fmt: skip


class SecludedWorker(DaskWorker):
    """A worker that sees what others write to a folder, while what it writes there is seen by nobody else."""

    def __init__(self, folder: Path, scheduler: str, shared: Path) -> None:
        super().__init__(folder, scheduler, "secluded", None, "--no-nanny")
        self.shared = shared

    def command(self) -> list[str]:
        script = (
            "mount -t tmpfs tmpfs /mnt && mkdir /mnt/upper /mnt/work && "
            'mount -t overlay -o "lowerdir=$0,upperdir=/mnt/upper,workdir=/mnt/work" overlay "$0" && exec "$@"'
        )
        return [*private_mounts(), "sh", "-c", script, str(self.shared), *super().command()]


def test_older_results_are_not_taken_for_those_of_a_worker_that_writes_elsewhere(source: str, tmp_path: Path) -> None:
    """It sees the run's lease, and its own results; here, the files are those of other options."""
    shared = tmp_path / "shared"
    shared.mkdir()
    with DaskScheduler(tmp_path / "dask") as scheduler, SecludedWorker(tmp_path / "w", scheduler.address, shared):
        where = {"runner": "dask", "scheduler": scheduler.address}
        for name, more in {"large": {}, "large.zip": {}, "shards": {"samples_per_shard": 8}}.items():
            common: dict[str, Any] = {"include": ["a/*"], "overwrite": True, **more}
            enlarged(source, shared / name, **common)
            with pytest.raises(StorageError, match="is not what is there, as seen from here; give addresses"):
                enlarged(source, shared / name, scale=3, **where, **common)
            assert "already done" not in enlarged(source, shared / name, scale=3, **common)


def test_processes_listen_to_this_machine_alone_and_want_no_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = BatchOptions(runner="processes", in_flight=1)
    missing = str(tmp_path / "dask.pem")
    elsewhere: dict[str, Any] = {cluster.CA_FILE: missing, "distributed.comm.require-encryption": True}
    elsewhere |= {f"distributed.comm.tls.{role}.cert": missing for role in ("client", "worker", "scheduler")}
    for name, value in elsewhere.items():
        monkeypatch.setenv(f"DASK_{name.upper().replace('.', '__').replace('-', '_')}", str(value))
    with dask.config.set(elsewhere), cluster.connected(options, uses_gpu=False) as client:
        assert cluster.workers_of(client)
        heard = [host for pid in (*client.run(os.getpid).values(), os.getpid()) for host in listening(pid)]
    assert set(heard) == {"0100007F"}


def listening(pid: int) -> list[str]:
    """The hosts, as /proc has them, that a process listens on."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            inodes.add(link.readlink().name.removeprefix("socket:[").removesuffix("]"))
    lines = [line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()]
    return [line[1].split(":")[0] for line in lines if line[3] == "0A" and line[9] in inodes]


def test_an_error_travels_without_what_it_comes_from(
    scheduler: DaskScheduler, workers: list[DaskWorker], tmp_path: Path
) -> None:
    claim = Claim(str(tmp_path), "run", 1.0)
    with Client(scheduler.address, set_as_default=False) as client:
        unit = Unit("upscale", "unit", (), "", "")
        future = client.submit(do_unit, WorkerSpec(fails, uses_gpu=False), 1, unit, "run", claim, sync=True)
        error = future.exception()
    assert isinstance(error, UnavailableError)
    assert str(error) == "no network"
    assert error.__cause__ is None
    assert error.__context__ is None


def fails(_: int) -> Work:
    raise UnavailableError("no network") from ValueError("Authorization: secret")


@pytest.mark.parametrize("device", ["cuda:1", "cuda"])
def test_devices_that_processes_cannot_have_are_refused(
    device: str, source: str, checkpoint: str, tmp_path: Path
) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    model: dict[str, Any] = {"method": "dtls", "checkpoint": checkpoint, "precision": "fp32", "runner": "processes"}
    says = {"cuda": "this machine has no GPU", "cuda:1": "say --device cuda, and by CUDA_VISIBLE_DEVICES"}
    with pytest.raises(StorageError, match=says[device]):
        enlarged(source, tmp_path / "large", **model, device=device)


def test_a_scheduler_that_wants_what_is_not_installed_is_one_line(source: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"tls://127\.0\.0\.1:9: no Dask scheduler answers there"):
        enlarged(source, tmp_path / "large", runner="dask", scheduler="tls://127.0.0.1:9")


def test_a_run_without_workers_says_so_and_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deserted:
        def scheduler_info(self, n_workers: int) -> dict[str, Any]:
            return {"workers": {}}

    workers = Workers(Deserted(), {})
    assert workers.threads() == 0
    assert workers.deserted_for() < 60
    monkeypatch.setattr(time, "monotonic", lambda: time.perf_counter() + 10**6)
    told: list[str] = []
    with hold(Location.of(tmp_path), "upscale") as lease:
        lonely = Cluster(None, WorkerSpec(fails, uses_gpu=False), BatchOptions(), lease, workers, 1, log=told.append)
        with pytest.raises(UnavailableError, match="no worker is connected that does this"):
            lonely._check_desertion()
    assert lease.target.exists(LEASE)  # the worker may still be there, and write
    monkeypatch.setattr(runners, "DESERTED", 10.0**9)
    lonely._check_desertion()
    lonely._check_desertion()
    assert told == ["the processes: no worker is connected that does this; waiting for one, ten minutes at most"]


def test_a_unit_that_is_started_again_is_counted_once() -> None:
    told: list[tuple[int, int]] = []
    ticks = Ticks(lambda count, failed=0: told.append((count, failed)))
    for done, failed in ((3, 1), (5, 1), (2, 0), (6, 2), (6, 2)):
        ticks.reach(done, failed)
    assert told == [(3, 1), (2, 0), (1, 1)]


def test_a_scheduler_is_for_dask_alone_and_has_an_address() -> None:
    for wrong in ({"scheduler": "tcp://host:8786"}, {"runner": "dask", "scheduler": "host"}):
        with pytest.raises(ValidationError):
            UpscaleOptions.model_validate({"source": "a", "target": "b", "method": "nearest", "scale": 2, **wrong})


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    options = BatchOptions(runner="dask", scheduler="tls://127.0.0.1:9")
    with (
        dask.config.set({cluster.CA_FILE: str(tmp_path / "dask.pem")}),
        pytest.raises(StorageError, match=r"/dask\.pem: no certificate there for tls://127\.0\.0\.1:9"),
        cluster.connected(options, uses_gpu=False),
    ):
        pass


ANY, OURS = "tcp://any:8786", "tls://ours:8786"


@pytest.mark.parametrize(
    ("known", "asked", "is_deployed", "expected"),
    [
        (None, ANY, False, ANY),
        (OURS, ANY, False, ANY),
        (OURS, None, False, OURS),
        (OURS, None, True, OURS),
        (OURS, OURS, True, OURS),
        (OURS, ANY, True, f"{ANY}: not the Dask scheduler of this worker"),
        (None, ANY, True, f"{ANY}: not the Dask scheduler of this worker"),
        (None, None, True, "set DTLS_SCHEDULER in the worker's environment"),
        (None, None, False, "set DTLS_SCHEDULER in the environment, or give --scheduler"),
        ("", None, False, "no Dask scheduler is known"),
        ("tcp://user:secret@ours:8786", None, False, "tcp://…@ours:8786: credentials do not belong in an address"),
    ],
)
def test_a_deployments_run_takes_the_scheduler_of_its_workers_environment_and_no_other(
    known: str | None, asked: str | None, is_deployed: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DTLS_SCHEDULER", raising=False)
    for name, value in {"DTLS_SCHEDULER": known, "PREFECT__FLOW_RUN_ID": "1" if is_deployed else None}.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    options = BatchOptions(runner="dask", scheduler=asked)
    if expected in (ANY, OURS):
        assert cluster.scheduler_of(options) == expected
    else:
        with pytest.raises(StorageError, match=re.escape(expected)):
            cluster.scheduler_of(options)


def test_a_scheduler_that_a_deployments_run_may_not_choose_is_never_connected_to(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hostile:
        address = f"tcp://127.0.0.1:{hostile.getsockname()[1]}"
        monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "1")
        with pytest.raises(StorageError, match=f"{address}: not the Dask scheduler of this worker"):
            enlarged(source, tmp_path / "large", runner="dask", scheduler=address)
        hostile.setblocking(False)
        with pytest.raises(BlockingIOError):
            hostile.accept()
    assert not (tmp_path / "large").exists()


class Background:
    """What a run in a thread came to."""

    said: str | None = None
    error: BaseException | None = None


@contextmanager
def in_the_background(run: Callable[[], str]) -> Iterator[Background]:
    """A run in a thread, which has ended when the body has."""
    found = Background()

    def work() -> None:
        try:
            found.said = run()
        except BaseException as error:
            found.error = error

    thread = Thread(target=work)
    thread.start()
    try:
        yield found
    finally:
        thread.join(SOON)
        assert not thread.is_alive()
