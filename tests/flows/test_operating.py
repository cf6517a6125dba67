"""Operating it: cancelled runs, runs that died, a server that restarts, schedules, and what the log says."""

import io
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from prefect.settings import temporary_settings

from flows import automation
from flows.training.settings import states_in
from storage.images.jpeg import MAX_SCANS, SCAN
from storage.receipts.owners import LEASE
from tests.prefect_services import PrefectServer, PrefectWorker
from tests.services import is_running, wait_until

ROOT = Path(__file__).parents[2]
ZOMBIES = ROOT / "deploy" / "zombies.yaml"
GRACE, SOON = 30.0, 120.0
"""Seconds that a cancelled run may take to stop, and anything else to come about."""
LARGE = {"method": "lanczos", "scale": 2, "unit_size": 5}
MANY, FEW = 2000, 40
"""Images of a run that is stopped before it is through, and of which the next run has at least so many."""

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class Installation:
    """What prefect.yaml declares on a Prefect server with a worker."""

    def __init__(self, server: PrefectServer, worker: PrefectWorker) -> None:
        self.server, self.worker = server, worker

    def within(self, run: str, name: str) -> list[str]:
        """The runs of flows that a run has called, by how their names begin."""
        called = {"flow_runs": {"parent_flow_run_id": {"any_": [run]}, "name": {"like_": name}}}
        return [found["id"] for found in self.server.api("POST", "/flow_runs/filter", called)]

    def has_said(self, run: str, name: str, words: str) -> bool:
        """Whether a run that this run has called has logged these words."""
        return any(words in self.server.flow_run_logs(called) for called in self.within(run, name))

    def start(self, name: str, options: dict[str, Any]) -> str:
        return self.server.start_run(f"dtls/{name}", {"options": options})

    def begins(self, run: str, target: Path) -> None:
        """Wait until a run has done some units."""
        assert wait_until(lambda: receipts(target) > 1, SOON), self.server.flow_run_logs(run)

    def ends(self, run: str, state: str, *words: str) -> str:
        """The log of a run that ends so, and says these words; a log may come after its run's end."""
        assert self.server.wait_for_final_state(run, SOON) == state, self.server.flow_run_logs(run)
        assert wait_until(lambda: all(word in self.server.flow_run_logs(run) for word in words), GRACE), words
        return self.server.flow_run_logs(run)

    def cancel(self, run: str, folder: Path) -> None:
        """Cancel a run: its work in a folder ends in time, and its processes when Prefect calls it cancelled."""
        processes = self.worker.flow_runs()
        assert processes
        self.server.cancel(run)
        assert wait_until(lambda: not list(folder.rglob("lease.json")), GRACE)
        assert self.server.wait_for_final_state(run, SOON) == "CANCELLED"
        assert wait_until(lambda: not any(map(is_running, processes)), GRACE)


@pytest.fixture
def installation(deployed: PrefectServer, prefect_worker: PrefectWorker) -> Installation:
    return Installation(deployed, prefect_worker)


@pytest.fixture
def many(photographs: Path, tmp_path: Path) -> Path:
    """Two thousand names of one small image."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(MANY):
        os.link(photographs / "00000" / "00000.png", folder / f"{number:04}.png")
    return folder


def shorten(many: Path, target: Path) -> None:
    """Leave all that is done, and little to do."""
    done = receipts(target) * 5
    for path in sorted(many.iterdir())[max(done + FEW, 2 * FEW) :]:
        path.unlink()


def receipts(target: Path) -> int:
    return len(list((target / ".dtls" / "receipts").rglob("*.parquet")))


@pytest.mark.parametrize(
    "name",
    ["upscale", pytest.param("shard", marks=pytest.mark.nightly), pytest.param("report", marks=pytest.mark.nightly)],
)
def test_a_cancelled_run_stops_in_time_keeps_what_is_done_and_the_next_goes_on(
    name: str, installation: Installation, many: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    options: dict[str, Any] = {
        "shard": {"source": str(many), "target": str(target), "samples_per_shard": 5},
        "upscale": {"source": str(many), "target": str(target), **LARGE},
        "report": {"hr": str(many), "sr": {"same": str(many)}, "out": str(target), "gallery": 1},
    }[name]
    run = installation.start(name, options)
    installation.begins(run, target)
    installation.cancel(run, target)
    done = receipts(target)
    assert done > 1
    if name != "report":  # whose units are of other sizes
        shorten(many, target)
    installation.ends(installation.start(name, options), "COMPLETED", " already done")
    assert receipts(target) > done


def of_many_scans(side: int) -> bytes:
    """A sound grey JPEG, small as a file, that takes minutes to decode: its last scan comes again and again."""
    buffer = io.BytesIO()
    Image.new("L", (side, side), 128).save(buffer, "jpeg", progressive=True)
    scans, end = buffer.getvalue()[:-2], buffer.getvalue()[-2:]
    return scans + scans[scans.rindex(SCAN) :] * (MAX_SCANS - scans.count(SCAN)) + end


@pytest.mark.nightly
def test_a_cancelled_run_whose_image_is_decoded_for_minutes_is_over_in_time_and_the_next_goes_on(
    installation: Installation, photographs: Path, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(photographs / "00000", source)
    (source / "0.jpg").write_bytes(of_many_scans(9000))
    options = {"source": str(source), "target": str(target), "method": "lanczos", "scale": 2, "unit_size": 1}
    run = installation.start("upscale", options)
    assert wait_until(lambda: receipts(target) > 0, SOON), installation.server.flow_run_logs(run)
    processes, cancelled = installation.worker.flow_runs(), time.monotonic()
    installation.server.cancel(run)
    assert installation.server.wait_for_final_state(run, GRACE) == "CANCELLED"
    assert wait_until(lambda: not any(map(is_running, processes)), cancelled + GRACE - time.monotonic())
    assert (target / LEASE).exists()
    (source / "0.jpg").unlink()
    installation.ends(installation.start("upscale", options), "COMPLETED", " already done")
    assert not (target / LEASE).exists()


@pytest.mark.nightly
def test_a_cancelled_reproduction_saves_its_model_and_the_next_uses_what_is_done(
    installation: Installation, photographs: Path, others: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        **{"table": "B1", "source": str(photographs), "test": str(others)},
        **{"out": str(tmp_path / "out"), "size": 32, "dim": 8, "batch_size": 2, "steps": 1_000_000},
    }
    run = installation.start("reproduce", options)
    models = tmp_path / "out" / "models"
    assert wait_until(lambda: installation.has_said(run, "train ", "train: "), SOON), (
        installation.server.flow_run_logs(run)
    )
    installation.cancel(run, tmp_path / "out")
    assert [bool(states_in(model)) for model in models.iterdir()] == [True]
    run = installation.start("reproduce", options | {"steps": 2})
    installation.ends(run, "COMPLETED")
    (sharding,) = installation.within(run, "shard ")
    installation.ends(sharding, "COMPLETED", ": 12 already done")


@pytest.fixture
def hasty(installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The automation that ships, but that it waits for 10 s, less than from one heartbeat to the next."""
    zombies, file = yaml.safe_load(ZOMBIES.read_text()), tmp_path / "zombies.yaml"
    file.write_text(yaml.safe_dump(zombies | {"trigger": zombies["trigger"] | {"within": 10}}))
    monkeypatch.setattr("sys.argv", ["automation", str(file)])
    with temporary_settings(installation.server.settings()):
        assert [automation.main() for _ in range(2)] == [0, 0]
    (made,) = installation.server.api("POST", "/automations/filter", {})
    assert made["name"] == zombies["name"]
    yield
    installation.server.api("DELETE", f"/automations/{made['id']}")


@pytest.mark.usefixtures("hasty")
def test_a_run_that_died_with_its_worker_becomes_crashed_and_makes_room_for_the_next(
    installation: Installation, many: Path, tmp_path: Path
) -> None:
    worker, target = installation.worker, tmp_path / "large"
    options = {"source": str(many), "target": str(target), **LARGE}
    run = installation.start("upscale", options)
    installation.begins(run, target)
    try:
        worker.kill()
        assert installation.server.flow_run_state(run) == "RUNNING"
        shorten(many, target)
        assert installation.server.wait_for_final_state(run, SOON) == "CRASHED"
        assert "run it again" in installation.server.api("GET", f"/flow_runs/{run}")["state"]["message"]
    finally:
        worker.__enter__()
    installation.ends(installation.start("upscale", options), "COMPLETED", " already done")


def test_a_run_outlives_a_restart_of_its_server(installation: Installation, many: Path, tmp_path: Path) -> None:
    """Of a server on SQLite; test_postgres.py has one on PostgreSQL that is away for half a minute."""
    target = tmp_path / "large"
    for path in sorted(many.iterdir())[MANY // 3 :]:
        path.unlink()
    run = installation.start("upscale", {"source": str(many), "target": str(target), **LARGE})
    installation.begins(run, target)
    installation.server.stop()
    done = receipts(target)
    assert wait_until(lambda: receipts(target) > done, SOON), "it works without its server"
    installation.server.__enter__()
    installation.ends(run, "COMPLETED")
    assert len(list(target.glob("*.png"))) == MANY // 3


def test_zombies_are_given_time_for_six_heartbeats() -> None:
    time = yaml.safe_load(ZOMBIES.read_text())["trigger"]["within"]
    for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        environment = deployment["work_pool"]["job_variables"]["env"]
        assert time == 6 * int(environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])


def test_what_needs_no_gpu_is_given_none() -> None:
    for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        pool = deployment["work_pool"]
        variables = pool["job_variables"]
        given = (pool.get("work_queue_name"), variables.get("gpus"), variables["env"].get("CUDA_VISIBLE_DEVICES"))
        assert given == (("gpu", None, None) if "gpu" in deployment["tags"] else (None, 0, ""))


def test_deploying_again_makes_a_schedule_what_the_file_says_or_else_leaves_it_as_it_was_switched(
    installation: Installation, tmp_path: Path
) -> None:
    server = installation.server

    def schedules() -> list[tuple[str, bool]]:
        told = server.api("GET", "/deployments/name/dtls/upscale")["schedules"]
        return [(schedule["slug"], schedule["active"]) for schedule in told]

    text = (ROOT / "prefect.yaml").read_text()
    assert text.count("        active: false\n") == 5
    (tmp_path / "prefect.yaml").write_text(text.replace("active: false\n", "\n"))
    assert schedules() == [("hourly", False)]
    server.ask("deployment", "schedule", "resume", "--all")
    assert schedules() == [("hourly", True)]
    server.ask("deploy", "--name", "upscale", "--prefect-file", str(tmp_path / "prefect.yaml"))
    assert schedules() == [("hourly", True)]
    server.ask("deploy", "--name", "upscale")
    assert schedules() == [("hourly", False)]
    queue = server.api("GET", "/work_pools/dtls/queues/gpu")
    assert queue["concurrency_limit"] == 1


def test_the_log_has_a_line_for_each_unit_and_image_that_failed_and_none_for_units_that_did_not(
    installation: Installation, photographs: Path, tmp_path: Path
) -> None:
    source, target = tmp_path / "small", tmp_path / "shards"
    shutil.copytree(photographs / "00000", source)
    (source / "broken.png").write_bytes(b"none")
    (target / "shard-000001.tar").mkdir(parents=True)  # nothing can be put there
    run = installation.start("shard", {"source": str(source), "target": str(target), "samples_per_shard": 4})
    installation.ends(run, "FAILED", "1 of 4 units came to nothing")
    logged = installation.server.api("POST", "/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}})
    assert [line["message"] for line in logged if line["task_run_id"]] == []
    messages = [line["message"] for line in logged]
    unit = f"shard-000001 (from 00004.png): {target}/shard-000001.tar: Is a directory"
    told = [message for message in messages if "shard-000001.tar" in message or "broken.png" in message]
    assert sorted(told) == ["  failed: broken.png: not an image (4 bytes)", f"  failed: {unit}", unit]
    assert next(line["message"] for line in logged if line["level"] == logging.ERROR) == unit
