"""A cluster of a team: S3, Prefect's server and worker, Dask's scheduler and workers; any may go in a run."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from flows.upscale import UpscaleOptions, upscale
from storage.stores.location import Location
from tests.dask_services import DaskScheduler, DaskWorker
from tests.killing import Place
from tests.prefect_services import PrefectServer, PrefectWorker
from tests.services import S3Server, wait_until
from tests.warm import Starter

ROOT = Path(__file__).parents[3]
IMAGES, UNIT_SIZE, SOON = 120, 4, 180.0
HOW = {"method": "lanczos", "scale": 6, "unit_size": UNIT_SIZE}

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.usefixtures("warm")]


class ClusterWorker(PrefectWorker):
    """A worker of another pool, whose flows know of Dask's scheduler."""

    pool = "cluster"


class Cluster:
    """What it has of its own: Dask's scheduler and workers, and a worker of Prefect's."""

    def __init__(
        self, folder: Path, server: PrefectServer, keys: Mapping[str, str], starter: Starter, stack: ExitStack
    ) -> None:
        self.folder, self.server, self.keys, self.starter, self.stack = folder, server, keys, starter, stack
        self.scheduler = stack.enter_context(DaskScheduler(folder / "scheduler"))
        self.workers = [self.dask_worker(name) for name in "ab"]
        server.create_work_pool(ClusterWorker.pool)
        server.ask("deploy", "flows/upscale.py:upscale", "--name", "cluster", "--pool", ClusterWorker.pool)
        self.worker = self.prefect_worker("first")

    def dask_worker(self, name: str) -> DaskWorker:
        return self.stack.enter_context(DaskWorker(self.folder / name, self.scheduler.address, name, self.keys))

    def prefect_worker(self, name: str) -> PrefectWorker:
        environment = {**self.keys, "DTLS_SCHEDULER": self.scheduler.address}
        worker = ClusterWorker(self.folder / name, self.server, ROOT, environment, self.starter)
        return self.stack.enter_context(worker)

    def start(self, source: str, target: str, **options: Any) -> str:
        return self.server.start_run(
            "dtls/cluster", {"options": {"source": source, "target": target, "runner": "dask", **HOW, **options}}
        )

    def begin(self, source: str, target: str) -> str:
        """Start a run, and wait until some of its units are done, and by far not all."""
        run = self.start(source, target)
        assert wait_until(lambda: begun(target), SOON), self.server.flow_run_logs(run)
        return run

    def ends(self, run: str) -> str:
        """The final state of a run, with its log where that is not COMPLETED."""
        state = self.server.wait_for_final_state(run, timeout=SOON)
        return state if state == "COMPLETED" else f"{state}\n{self.server.flow_run_logs(run)}"


@pytest.fixture(scope="module")
def cluster(
    prefect_server: PrefectServer, s3_server: S3Server, starter: Starter, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    folder, keys = tmp_path_factory.mktemp("cluster"), s3_server.environment()
    with ExitStack() as stack:
        yield Cluster(folder, prefect_server, keys, starter, stack)


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> Iterator[str]:
    """A place in the bucket that all tests read from, with its keys in the environment."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in s3_server.environment().items():
            environment.setenv(name, value)
        yield s3_server.url("cluster")


@pytest.fixture(scope="module")
def source(bucket: str, photographs: Path) -> str:
    """So many images in a bucket."""
    files = sorted(photographs.rglob("*.png"))
    for number in range(IMAGES):
        Location.of(bucket).upload(f"small/{number:03d}.png", files[number % len(files)])
    return f"{bucket}/small"


@pytest.fixture(scope="module")
def expected(source: str, bucket: str, s3_server: S3Server) -> dict[str, Any]:
    """What a run in threads of this process leaves."""
    settings = {"source": source, "target": f"{bucket}/here", **HOW}
    assert upscale.fn(UpscaleOptions.model_validate(settings)) == f"{IMAGES} done"
    return Place(f"{bucket}/here", s3_server).files()


def begun(target: str) -> bool:
    """Whether some units are done."""
    receipts = [entry for entry in Location.of(target).list() if "/receipts/" in entry.key]
    return len(receipts) > 2


def test_a_run_completes_though_a_worker_is_killed_and_leaves_what_a_local_run_does(
    cluster: Cluster, source: str, expected: dict[str, Any], s3: str, s3_server: S3Server
) -> None:
    run = cluster.begin(source, f"{s3}/large")
    cluster.workers[0].kill()
    assert cluster.ends(run) == "COMPLETED"
    assert Place(f"{s3}/large", s3_server).files() == expected
    cluster.workers[0].stop()
    cluster.workers[0] = cluster.dask_worker("again")


def test_a_run_goes_on_while_the_prefect_server_is_restarted(
    cluster: Cluster, source: str, expected: dict[str, Any], s3: str, s3_server: S3Server
) -> None:
    run = cluster.begin(source, f"{s3}/large")
    cluster.server.stop()
    cluster.server.__enter__()
    assert cluster.ends(run) == "COMPLETED"
    assert Place(f"{s3}/large", s3_server).files() == expected


def test_a_run_whose_prefect_worker_is_killed_is_gone_and_the_next_one_goes_on(
    cluster: Cluster, source: str, expected: dict[str, Any], s3: str, s3_server: S3Server
) -> None:
    """The flow is a process of the worker's; Prefect goes on to call it running, until an automation finds out."""
    run = cluster.begin(source, f"{s3}/large")
    cluster.worker.kill()
    assert cluster.server.flow_run_state(run) == "RUNNING"
    cluster.server.api("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CRASHED"}, "force": True})
    cluster.worker = cluster.prefect_worker("second")
    assert cluster.ends(cluster.start(source, f"{s3}/large")) == "COMPLETED"
    assert Place(f"{s3}/large", s3_server).files() == expected


def test_a_run_that_names_a_scheduler_of_its_own_is_refused(cluster: Cluster, source: str, s3: str) -> None:
    run = cluster.start(source, f"{s3}/large", scheduler="tcp://127.0.0.1:9")
    assert cluster.server.wait_for_final_state(run, timeout=SOON) == "FAILED"
    message = cluster.server.api("GET", f"/flow_runs/{run}")["state"]["message"]
    assert message.startswith("tcp://127.0.0.1:9: not the Dask scheduler of this worker; leave scheduler out")
