"""Operating it: cancelled runs, one GPU for one run at a time, runs that died, schedules, and what the log says."""

import io
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from flows.shard import ShardOptions, shard
from flows.training.settings import states_in
from storage.images.jpeg import MAX_SCANS, SCAN
from storage.receipts.owners import LEASE
from tests.prefect_services import PrefectServer, PrefectWorker
from tests.services import descendants, is_running, isolated_environment, wait_until

ROOT = Path(__file__).parents[2]
ZOMBIES = ROOT / "deploy" / "zombies.yaml"
GRACE, SOON = 30.0, 120.0
"""Seconds that a cancelled run may take to stop, and anything else to come about."""
MANY = 2000
MODEL = {"dim": 8, "dim_mults": [1, 2], "size": 32, "lr_size": 8, "stride": 8, "residual": True}

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class Installation:
    """A Prefect server with what prefect.yaml declares, one GPU's worth of runs, and a worker."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack = folder, stack
        self.server = stack.enter_context(PrefectServer(folder / "server"))
        self.server.create_work_pool(PrefectWorker.pool)
        self.ask("deploy", "--all")
        self.ask("work-queue", "set-concurrency-limit", "gpu", "1", "--pool", "dtls")
        self.worker = self.start_worker("first")

    def start_worker(self, name: str) -> PrefectWorker:
        return self.stack.enter_context(PrefectWorker(self.folder / name, self.server, ROOT, {}))

    def ask(self, *arguments: str) -> str:
        """What the command line `prefect` answers."""
        done = self.server.cli(*arguments, cwd=ROOT)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def apply(self, automation: Path) -> None:
        """Make the automation of a file, as the README says."""
        done = subprocess.run(
            [sys.executable, "-m", "flows.automation", str(automation)],
            cwd=ROOT,
            env=isolated_environment(self.server.environment()),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def within(self, run: str, name: str) -> list[str]:
        """The runs of flows that a run has called, by how their names begin."""
        called = {"flow_runs": {"parent_flow_run_id": {"any_": [run]}, "name": {"like_": name}}}
        return [found["id"] for found in self.server.api("POST", "/flow_runs/filter", called)]

    def has_said(self, run: str, name: str, words: str) -> bool:
        """Whether a run that this run has called has logged these words."""
        return any(words in self.server.flow_run_logs(called) for called in self.within(run, name))

    def start(self, name: str, options: dict[str, Any]) -> str:
        return self.server.start_deployment(f"dtls/{name}", {"options": options})

    def processes(self) -> list[int]:
        """Those of the worker's flow runs."""
        return descendants(self.worker.process.pid) if self.worker.process else []

    def ends(self, run: str, state: str, *words: str) -> str:
        """The log of a run that ends so, and says these words; a log may come after its run's end."""
        assert self.server.wait_for_final_state(run, SOON) == state, self.server.flow_run_logs(run)
        assert wait_until(lambda: all(word in self.server.flow_run_logs(run) for word in words), GRACE), words
        return self.server.flow_run_logs(run)

    def cancel(self, run: str, folder: Path) -> None:
        """Cancel a run: its work in a folder ends in time, and its processes when Prefect calls it cancelled."""
        processes = self.processes()
        assert processes
        self.server.cancel(run)
        assert wait_until(lambda: not list(folder.rglob("lease.json")), GRACE)
        assert self.server.wait_for_final_state(run, SOON) == "CANCELLED"
        assert wait_until(lambda: not any(map(is_running, processes)), GRACE)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with ExitStack() as stack:
        yield Installation(tmp_path_factory.mktemp("installation"), stack)


@pytest.fixture
def many(photographs: Path, tmp_path: Path) -> str:
    """Two thousand names of one small image."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(MANY):
        os.link(photographs / "00000" / "00000.png", folder / f"{number:04}.png")
    return str(folder)


def receipts(target: Path) -> int:
    return len(list((target / ".dtls" / "receipts").rglob("*.parquet")))


@pytest.mark.parametrize("name", ["shard", "upscale", "report"])
def test_a_cancelled_run_stops_in_time_keeps_what_is_done_and_the_next_goes_on(
    name: str, installation: Installation, many: str, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    options: dict[str, Any] = {
        "shard": {"source": many, "target": str(target), "samples_per_shard": 3},
        "upscale": {"source": many, "target": str(target), "method": "lanczos", "scale": 2, "unit_size": 5},
        "report": {"hr": many, "sr": {"same": many}, "out": str(target), "gallery": 1},
    }[name]
    run = installation.start(name, options)
    assert wait_until(lambda: receipts(target) > 1, SOON), installation.server.flow_run_logs(run)
    installation.cancel(run, target)
    done = receipts(target)
    assert done > 1
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
    processes, cancelled = installation.processes(), time.monotonic()
    installation.server.cancel(run)
    assert installation.server.wait_for_final_state(run, GRACE) == "CANCELLED"
    assert wait_until(lambda: not any(map(is_running, processes)), cancelled + GRACE - time.monotonic())
    assert (target / LEASE).exists()
    (source / "0.jpg").unlink()
    installation.ends(installation.start("upscale", options), "COMPLETED", " already done")
    assert not (target / LEASE).exists()


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


def test_a_run_waits_while_another_has_the_gpu_and_others_do_not(
    installation: Installation, photographs: Path, tmp_path: Path
) -> None:
    shard.fn(ShardOptions(source=str(photographs), target=str(tmp_path / "shards")))
    model = tmp_path / "model"
    training = installation.start(
        "train",
        {"source": str(tmp_path / "shards"), "target": str(model), "batch_size": 2, "steps": 1_000_000}
        | {"save_every": 1, **MODEL},
    )
    server = installation.server
    assert wait_until(lambda: model.exists() and bool(states_in(model)), SOON), server.flow_run_logs(training)
    large = {"source": str(photographs), "target": str(tmp_path / "large"), "method": "lanczos", "scale": 2}
    waiting = installation.start("upscale", large)
    again = {"source": str(photographs), "target": str(tmp_path / "again")}
    installation.ends(installation.start("shard", again), "COMPLETED")
    assert (server.flow_run_state(training), server.flow_run_state(waiting)) == ("RUNNING", "SCHEDULED")
    installation.cancel(training, model)
    installation.ends(waiting, "COMPLETED")


def test_a_run_that_died_with_its_worker_becomes_crashed_and_makes_room_for_the_next(
    installation: Installation, many: str, tmp_path: Path
) -> None:
    """The automation is the one that ships, but that it waits for 10 s, less than from one heartbeat to the next."""
    zombies, hasty = yaml.safe_load(ZOMBIES.read_text()), tmp_path / "zombies.yaml"
    hasty.write_text(yaml.safe_dump(zombies | {"trigger": zombies["trigger"] | {"within": 10}}))
    installation.apply(hasty)
    installation.apply(hasty)
    automations = installation.server.api("POST", "/automations/filter", {})
    assert [automation["name"] for automation in automations] == [zombies["name"]]

    target = tmp_path / "large"
    options = {"source": many, "target": str(target), "method": "lanczos", "scale": 2, "unit_size": 5}
    run = installation.start("upscale", options)
    assert wait_until(lambda: receipts(target) > 1, SOON), installation.server.flow_run_logs(run)
    assert installation.worker.process
    for pid in (installation.worker.process.pid, *installation.processes()):
        os.kill(pid, signal.SIGKILL)
    assert installation.server.flow_run_state(run) == "RUNNING"
    assert installation.server.wait_for_final_state(run, SOON) == "CRASHED"
    installation.ask("automation", "delete", zombies["name"])
    assert "run it again" in installation.server.api("GET", f"/flow_runs/{run}")["state"]["message"]
    installation.worker.stop()
    next_run = installation.start("upscale", options)
    installation.worker = installation.start_worker("second")
    installation.ends(next_run, "COMPLETED", " already done")


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


@pytest.mark.parametrize("says", ["active: false", ""])
def test_deploying_again_makes_a_schedule_what_the_file_says_or_else_leaves_it_as_it_was_switched(
    says: str, installation: Installation, tmp_path: Path
) -> None:
    def schedules() -> list[tuple[str, bool]]:
        told = installation.server.api("GET", "/deployments/name/dtls/upscale")["schedules"]
        return [(schedule["slug"], schedule["active"]) for schedule in told]

    text = (ROOT / "prefect.yaml").read_text()
    assert text.count("        active: false\n") == 4
    (tmp_path / "prefect.yaml").write_text(text.replace("active: false\n", f"{says}\n"))
    assert schedules() == [("hourly", False)]
    installation.ask("deployment", "schedule", "resume", "--all")
    installation.ask("deploy", "--name", "upscale", "--prefect-file", str(tmp_path / "prefect.yaml"))
    assert schedules() == [("hourly", not says)]
    installation.ask("deploy", "--all")
    assert schedules() == [("hourly", False)]
    queue = installation.server.api("GET", "/work_pools/dtls/queues/gpu")
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
