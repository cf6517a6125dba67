"""The main job as a team runs it: prefect.yaml on a real Prefect server and worker, a bucket on a real S3 server."""

import io
import json
import sqlite3
import uuid
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from prefect.blocks.system import Secret
from prefect.settings import temporary_settings
from pydantic import SecretStr

from flows.downscale import DownscaleOptions, downscale
from flows.shard import ShardOptions, shard
from flows.training.settings import states
from storage.receipts.owners import LEASE
from storage.stores.location import Location
from tests.command_line import Command
from tests.prefect_services import UUID, PrefectServer, PrefectWorker
from tests.services import S3Server, Service, wait_until
from tests.warm import Starter

ROOT = Path(__file__).parents[2]
MODEL = {"dim": 8, "dim_mults": [1, 2], "size": 32, "lr_size": 8, "stride": 8, "residual": True}
DEPLOYMENTS = (
    *("shard", "train", "upscale", "degrade", "restore", "generate", "report", "reproduce", "compare", "benchmark"),
)
SCHEDULED = ("shard", "train", "upscale", "restore", "report")

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.usefixtures("warm")]


class Keyless(PrefectWorker):
    """A worker of another pool, which lets its runs have keys that the worker itself has not."""

    pool = "keyless"


def upload(folder: Path, target: Location) -> None:
    for path in sorted(folder.rglob("*.png")):
        target.upload(str(path.relative_to(folder)), path)


def run(server: PrefectServer, name: str, options: dict[str, Any]) -> str:
    """Run a deployment as a user does, who watches it; what was told."""
    result = server.run_deployment(f"dtls/{name}", {"options": options})
    assert result.exit_code == 0, result.report
    return result.report


def complete(server: PrefectServer, name: str, options: dict[str, Any]) -> None:
    """The same, asked of the API, and nobody watches."""
    flow_run = server.start_run(f"dtls/{name}", {"options": options})
    assert server.wait_for_final_state(flow_run, 300) == "COMPLETED", server.flow_run_logs(flow_run)


@pytest.fixture(scope="module")
def reported(deployed: PrefectServer, s3_server: S3Server, photographs: Path) -> str:
    """Where in the bucket four deployments have made shards, a model, larger images and a report."""
    address = s3_server.url(uuid.uuid4().hex)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in s3_server.environment().items():
            environment.setenv(name, value)
        bucket = Location.of(address)
        upload(photographs, bucket / "hr")
        (bucket / "hr").write("00000/broken.png", b"\x89PNG, but not for long")
        downscale.fn(DownscaleOptions(source=f"{address}/hr", target=f"{address}/lr", scale=4, max_failed=0.2))

    hr, lr, sr, shards, model = (f"{address}/{name}" for name in ("hr", "lr", "sr", "shards", "model"))
    run(deployed, "shard", {"source": hr, "target": shards, "samples_per_shard": 5})
    complete(deployed, "train", {"source": shards, "target": model, "steps": 3, "batch_size": 2, **MODEL})
    complete(deployed, "upscale", {"source": lr, "target": sr, "checkpoint": model, "scale": 4})
    report = {"hr": hr, "lr": lr, "sr": {"dtls": sr}, "out": f"{address}/report", "max_failed": 0.2}
    complete(deployed, "report", report)
    return address


@pytest.mark.usefixtures("s3")
def test_the_four_deployments_turn_a_bucket_of_photographs_into_a_report(reported: str) -> None:
    bucket = Location.of(reported)
    keys = {entry.key for entry in bucket.list()}
    assert {f"shards/shard-{i:06d}.tar" for i in range(3)} <= keys
    model = ("config.json", "model.safetensors", "training-000000003.safetensors", "loss.csv")
    assert {f"model/{name}" for name in model} <= keys
    assert {"report/metrics.parquet", "report/summary.json", "report/index.html"} <= keys
    assert Image.open(io.BytesIO(bucket.read("sr/00000/00003.png"))).size == (64, 64)
    shards = pd.read_parquet(io.BytesIO(bucket.read("shards/manifest.parquet")))
    assert shards.set_index("key").status.to_dict()["00000/broken.png"] == "failed"
    table = pd.read_parquet(io.BytesIO(bucket.read("report/metrics.parquet"))).set_index("key")
    assert (table.loc["00000/00000", ["psnr", "ssim"]] > [10, 0.1]).all()
    assert table.loc["00000/broken"].status == "failed"
    assert json.loads(bucket.read("report/summary.json"))["methods"][0]["ok"] == 12


def in_bucket(bucket: Location) -> Iterator[tuple[str, bytes]]:
    """Each object, and each table as text too: its columns are compressed."""
    for entry in bucket.list():
        data = bucket.read(entry.key)
        yield entry.key, data
        if entry.key.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(data))
            schema = table.schema.to_string(truncate_metadata=False)
            yield f"{entry.key}, read", f"{schema} {table.to_pylist()}".encode()


def on_disk(service: Service) -> Iterator[tuple[str, bytes]]:
    """Each file of a server or worker, and each database as SQL too: its files split long values."""
    for path in sorted(service.folder.rglob("*")):
        if path.is_file():
            yield path.name, path.read_bytes()
        if path.suffix == ".db":
            with closing(sqlite3.connect(path)) as database:
                yield f"{path.name}, read", "\n".join(database.iterdump()).encode()


def shown(server: PrefectServer) -> Iterator[tuple[str, bytes]]:
    """What anybody may ask the API for."""
    for kind in ("flow_runs", "task_runs", "logs", "artifacts", "deployments", "work_pools", "block_documents"):
        yield f"{kind} of the API", json.dumps(server.api("POST", f"/{kind}/filter", {"limit": 200})).encode()


def telling(found: Iterable[tuple[str, bytes]], s3: S3Server, server: PrefectServer) -> tuple[set[str], list[str]]:
    """The names of all that was found, and of what has a secret in it: S3's keys, or the server's password."""
    secrets = [s3.secret_key, s3.access_key, server.password, b64encode(server.auth_string.encode()).decode()]
    names, told = set(), []
    for name, data in found:
        names.add(name)
        told += [name] * any(secret.encode() in data for secret in secrets)
    return names, told


@pytest.mark.usefixtures("s3")
def test_no_key_or_password_is_in_anything_that_deployments_write_or_tell(
    reported: str, deployed: PrefectServer, prefect_worker: PrefectWorker, s3_server: S3Server
) -> None:
    everywhere = (in_bucket(Location.of(reported)), on_disk(deployed), on_disk(prefect_worker), shown(deployed))
    names, told = telling(chain(*everywhere), s3_server, deployed)
    assert told == []
    assert {
        *("shards/manifest.parquet, read", "sr/manifest.parquet, read", "model/config.json"),
        *("report/metrics.parquet, read", "report/index.html", "report/summary.json"),
        *("prefect-server.log", "prefect.db", "prefect.db, read", "prefect-worker.log", "logs of the API"),
    } <= names
    assert any("/.dtls/receipts/" in name for name in names)


PASSWORD = "the-password-in-an-address"
WITH_SECRETS = (
    f"ftp://user:{PASSWORD}@nowhere.invalid/x",
    f"hdfs:user:{PASSWORD}@nowhere.invalid/x",
    f"https://nowhere.invalid/x.zip?X-Amz-Expires=60&X-Amz-Signature={PASSWORD}",
    f"simplecache::https://nowhere.invalid/x.zip?sv=1&sig={PASSWORD}",
)


def test_an_address_with_a_secret_is_refused_before_prefect_stores_it(deployed: PrefectServer) -> None:
    for address in WITH_SECRETS:
        options = {"source": address, "target": "/nowhere", "method": "nearest", "scale": 2}
        with pytest.raises(RuntimeError, match="source"):
            deployed.start_run("dtls/upscale", {"options": options})
    assert [name for name, data in chain(on_disk(deployed), shown(deployed)) if PASSWORD.encode() in data] == []


def test_a_run_that_is_given_a_secret_ends_in_a_line_without_it(deployed: PrefectServer) -> None:
    method = f"spandrel:https://user:{PASSWORD}@nowhere.invalid/x.pth"
    options = {"source": "/nowhere", "target": "/nowhere", "method": method, "scale": 2}
    flow_run = deployed.start_run("dtls/upscale", {"options": options})
    assert deployed.wait_for_final_state(flow_run) in ("FAILED", "CRASHED")
    message = deployed.api("GET", f"/flow_runs/{flow_run}")["state"]["message"]
    assert "spandrel:https://…@nowhere.invalid/x.pth: credentials do not belong in an address" in message
    assert PASSWORD not in f"{message}{deployed.flow_run_logs(flow_run)}"


def test_a_worker_without_keys_gets_them_from_the_secret_blocks_that_its_pool_names(
    deployed: PrefectServer, s3: str, s3_server: S3Server, photographs: Path, starter: Starter, tmp_path: Path
) -> None:
    upload(photographs, Location.of(s3) / "hr")
    environment = s3_server.environment()
    blocks = {
        "AWS_ACCESS_KEY_ID": ("dtls-s3-key", environment.pop("AWS_ACCESS_KEY_ID")),
        "AWS_SECRET_ACCESS_KEY": ("dtls-s3-secret", environment.pop("AWS_SECRET_ACCESS_KEY")),
    }
    with temporary_settings(deployed.settings()):
        for block, value in blocks.values():
            Secret(value=SecretStr(value)).save(block)

    template = deployed.api("GET", f"/work_pools/{PrefectWorker.pool}")["base_job_template"]
    template["variables"]["properties"]["env"]["default"] = {
        name: f"{{{{ prefect.blocks.secret.{block} }}}}" for name, (block, _) in blocks.items()
    }
    (tmp_path / "pool.json").write_text(json.dumps(template))
    template_file = ("--base-job-template", str(tmp_path / "pool.json"))
    deployed.ask("work-pool", "create", Keyless.pool, "--type", "process", *template_file)
    deployed.ask("deploy", "flows/shard.py:shard", "--name", "keyless", "--pool", Keyless.pool)

    options = {"source": f"{s3}/hr", "target": f"{s3}/shards"}
    missing = {"AWS_SECRET_ACCESS_KEY": "{{ prefect.blocks.secret.nowhere }}"}
    with Keyless(tmp_path / "worker", deployed, ROOT, environment, starter) as worker:
        complete(deployed, "keyless", options)
        crashed = deployed.start_run("dtls/keyless", {"options": options}, env=missing)
        assert deployed.wait_for_final_state(crashed) == "CRASHED"
        told = telling(chain(on_disk(worker), on_disk(deployed), shown(deployed)), s3_server, deployed)[1]
    assert Location.of(s3).exists("shards/manifest.parquet")
    message = deployed.api("GET", f"/flow_runs/{crashed}")["state"]["message"]
    assert "Block not found: 'nowhere' of type 'secret'" in message
    assert told == []


def steps_done(bucket: Location) -> int:
    """Those that a training in a bucket has written down; it does so when it saves."""
    return len(bucket.read("model/loss.csv").splitlines()) - 1


def test_a_training_has_the_gpu_until_it_is_cancelled_and_its_retry_goes_on(
    deployed: PrefectServer, prefect_worker: PrefectWorker, s3: str, photographs: Path, tmp_path: Path
) -> None:
    """Another run on the GPU waits for it, and one on the CPU does not; what it has done is saved."""
    bucket = Location.of(s3)
    shard.fn(ShardOptions(source=str(photographs), target=f"{s3}/shards"))
    options = {"source": f"{s3}/shards", "target": f"{s3}/model", "batch_size": 2, "cache": str(tmp_path), **MODEL}
    endless = {"options": {**options, "steps": 100_000, "save_every": 1}}
    training = deployed.start_run("dtls/train", endless)
    assert wait_until(lambda: deployed.flow_run_state(training) == "RUNNING", 60), deployed.flow_run_logs(training)
    assert "tests.warm_process" in Path(f"/proc/{prefect_worker.flow_runs()[0]}/cmdline").read_text()
    large = {"source": str(photographs), "target": str(tmp_path / "large"), "method": "lanczos", "scale": 2}
    waiting = deployed.start_run("dtls/upscale", {"options": large})
    complete(deployed, "shard", {"source": str(photographs), "target": str(tmp_path / "again")})
    saved = bucket / "model"
    assert wait_until(lambda: bool(states(entry.key for entry in saved.list())), 60), deployed.flow_run_logs(training)
    assert (deployed.flow_run_state(training), deployed.flow_run_state(waiting)) == ("RUNNING", "SCHEDULED")
    deployed.cancel(training)
    assert deployed.wait_for_final_state(training) == "CANCELLED"
    assert not bucket.exists(f"model/{LEASE}")
    assert deployed.wait_for_final_state(waiting) == "COMPLETED", deployed.flow_run_logs(waiting)
    done = steps_done(bucket)
    assert done > 0

    deployed.ask("flow-run", "retry", training)  # with its options, which do not say that it resumes
    assert wait_until(lambda: steps_done(bucket) > done, timeout=60), deployed.flow_run_logs(training)
    deployed.cancel(training)
    assert deployed.wait_for_final_state(training) == "CANCELLED"
    assert f"resuming after step {done:,}" in deployed.flow_run_logs(training)
    assert wait_until(lambda: not prefect_worker.flow_runs(), timeout=30)


@pytest.mark.nightly
def test_a_training_that_is_run_again_goes_on_until_nothing_is_left_to_do(
    deployed: PrefectServer, s3: str, photographs: Path, tmp_path: Path
) -> None:
    bucket = Location.of(s3)
    shard.fn(ShardOptions(source=str(photographs), target=f"{s3}/shards"))
    options = {"source": f"{s3}/shards", "target": f"{s3}/model", "batch_size": 2, "cache": str(tmp_path), **MODEL}
    for steps in (2, 4):
        run(deployed, "train", {**options, "steps": steps, "save_every": 1, "resume": True})
        assert steps_done(bucket) == steps
    told = run(deployed, "train", {**options, "steps": 4, "save_every": 1, "resume": True})
    assert "finished successfully in 'NothingToDo'" in told
    assert "nothing left to do: 4 of 4 steps are done; a larger steps trains on" in told


@pytest.mark.usefixtures("prefect_worker")
def test_a_schedule_that_is_switched_on_runs_a_deployment_by_itself(
    prefect_server: PrefectServer, photographs: Path, tmp_path: Path
) -> None:
    options = {"source": str(photographs), "target": str(tmp_path / "shards")}
    deploy = ["deploy", "flows/shard.py:shard", "--name", "scheduled", "--pool", PrefectWorker.pool]
    once = ["--concurrency-limit", "1", "--collision-strategy", "CANCEL_NEW"]
    prefect_server.ask(*deploy, "--interval", "10", *once, "--params", json.dumps({"options": options}))
    deployment = prefect_server.api("GET", "/deployments/name/dtls/scheduled")["id"]
    wanted = {"flow_runs": {"deployment_id": {"any_": [deployment]}}, "sort": "EXPECTED_START_TIME_ASC", "limit": 1}
    try:
        assert wait_until(lambda: bool(prefect_server.api("POST", "/flow_runs/filter", wanted)), timeout=60)
        (scheduled,) = prefect_server.api("POST", "/flow_runs/filter", wanted)
        assert prefect_server.wait_for_final_state(scheduled["id"], 120) == "COMPLETED"
    finally:
        prefect_server.api("DELETE", f"/deployments/{deployment}")  # with the runs to come
    assert scheduled["auto_scheduled"]
    assert (tmp_path / "shards" / "shard-000000.tar").exists()
    assert prefect_server.tracebacks() == []


def has_finished(server: PrefectServer, run: str) -> bool:
    return "Finished" in server.flow_run_logs(run)


def test_a_flow_run_that_s3_refuses_ends_with_the_line_of_the_command_line(
    deployed: PrefectServer, s3: str, dtls: Command
) -> None:
    places = {"source": f"{s3}/nothing", "target": f"{s3}/shards"}
    wrong = deployed.cli(
        *("deployment", "run", "dtls/shard", "--watch", "--job-variable", 'env={"AWS_SECRET_ACCESS_KEY": "wrong"}'),
        *("--params", json.dumps({"options": places})),
    )
    said = dtls("shard", *places.values(), AWS_SECRET_ACCESS_KEY="wrong")
    assert said.code == 1
    [line] = [line for line in said.stderr.splitlines() if line.startswith("dtls: ")]
    refused = line.removeprefix("dtls: ")
    flow_run = UUID.search(wrong.stdout)
    assert flow_run, wrong.stdout
    assert deployed.api("GET", f"/flow_runs/{flow_run[0]}")["state"]["message"] == refused
    assert "".join(refused.split()) in "".join(wrong.stdout.split())  # it is cut into lines
    assert "Traceback" not in wrong.stdout
    assert len(deployed.flow_run_logs(flow_run[0]).splitlines()) < 12


@pytest.mark.nightly
def test_each_flow_run_whose_folder_is_missing_ends_with_the_line_of_the_command_line(
    deployed: PrefectServer, tmp_path: Path
) -> None:
    nothing, other, out = (str(tmp_path / name) for name in ("nothing", "other", "out"))
    small = {"source": nothing, "test": other, "out": out, "size": 32}
    options: dict[str, dict[str, Any]] = {
        "shard": {"source": nothing, "target": out},
        "train": {"source": nothing, "target": out},
        "upscale": {"source": nothing, "target": out, "method": "bicubic", "scale": 2},
        "degrade": {"source": nothing, "target": out, "task": "deblur:2"},
        "restore": {"source": nothing, "target": out, "task": "inpaint", "method": "membrane"},
        "report": {"hr": nothing, "sr": {"a": other}, "out": out},
        "reproduce": {"table": "B1", **small},
        "benchmark": {"lr_sizes": [8], **small},
    }
    runs = {name: deployed.start_run(f"dtls/{name}", {"options": given}) for name, given in options.items()}
    missing = [f"{folder}: no such folder, prefix or bucket" for folder in (nothing, other)]  # either comes first
    for name, run_id in runs.items():
        assert deployed.wait_for_final_state(run_id, timeout=120) == "FAILED", name
        message = deployed.api("GET", f"/flow_runs/{run_id}")["state"]["message"]
        assert message in missing, name
        assert wait_until(partial(has_finished, deployed, run_id), timeout=30), name
        log = deployed.flow_run_logs(run_id)
        assert "Traceback" not in log, name
        assert [line for line in log.splitlines() if message in line and "Finished" not in line] == [message], name


def test_wrong_options_are_refused_before_there_is_a_run(deployed: PrefectServer) -> None:
    result = deployed.invoke(
        "deployment", "run", "dtls/train", "--params", '{"options": {"source": "a", "target": "b", "steps": 0}}'
    )
    assert result.returncode == 1
    assert "0 is less than the minimum of 1" in result.stdout


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_each_deployment_shows_its_options_as_a_form_and_its_schedule_is_paused(
    deployed: PrefectServer, name: str
) -> None:
    deployment = deployed.api("GET", f"/deployments/name/dtls/{name}")
    schema = deployment["parameter_openapi_schema"]
    fields = next(iter(schema["definitions"].values()))["properties"]
    assert all("description" in field for field in fields.values())
    assert [schedule["active"] for schedule in deployment["schedules"]] == [False] * (name in SCHEDULED)
    assert deployment["concurrency_options"] is not None
    assert "dtls" in deployment["tags"]


def test_prefect_yaml_declares_exactly_these_deployments() -> None:
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert [deployment["name"] for deployment in declared] == list(DEPLOYMENTS)


def test_prefect_yaml_names_no_secret_blocks() -> None:
    """`prefect deploy` would put what they hold into the deployments, for all to read."""
    assert "prefect.blocks" not in json.dumps(yaml.safe_load((ROOT / "prefect.yaml").read_text()))
