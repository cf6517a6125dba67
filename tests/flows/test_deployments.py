"""The main job as a team runs it: prefect.yaml on a real Prefect server and worker, a bucket on a real S3 server."""

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from PIL import Image

from flows.downscale import DownscaleOptions, downscale
from flows.shard import ShardOptions, shard
from flows.training_settings import states
from storage.locations import Location
from tests.prefect_services import PrefectServer, PrefectWorker
from tests.services import wait_until

ROOT = Path(__file__).parents[2]
MODEL = {"dim": 8, "dim_mults": [1, 2], "size": 32, "lr_size": 8, "stride": 8, "residual": True}
DEPLOYMENTS = ("shard", "train", "upscale", "report", "reproduce")
SCHEDULED = DEPLOYMENTS[:4]

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def deployed(prefect_server: PrefectServer, prefect_worker: PrefectWorker) -> PrefectServer:
    """The server, with everything in prefect.yaml deployed."""
    result = prefect_server.cli("deploy", "--all", cwd=ROOT)
    assert result.returncode == 0, result.stdout
    return prefect_server


def upload(folder: Path, target: Location) -> None:
    for path in sorted(folder.rglob("*.png")):
        target.upload(str(path.relative_to(folder)), path)


def run(server: PrefectServer, name: str, options: dict[str, Any]) -> str:
    result = server.run_deployment(f"dtls/{name}", {"options": options})
    assert result.exit_code == 0, result.report
    return result.report


def test_the_four_deployments_turn_a_bucket_of_photographs_into_a_report(
    deployed: PrefectServer, s3: str, photographs: Path
) -> None:
    bucket = Location.of(s3)
    upload(photographs, bucket / "hr")
    (bucket / "hr").write("00000/broken.png", b"\x89PNG, but not for long")
    downscale.fn(DownscaleOptions(source=f"{s3}/hr", target=f"{s3}/lr", scale=4, max_failed=0.2))

    run(deployed, "shard", {"source": f"{s3}/hr", "target": f"{s3}/shards", "samples_per_shard": 5})
    run(deployed, "train", {"source": f"{s3}/shards", "target": f"{s3}/model", "steps": 3, "batch_size": 2, **MODEL})
    run(deployed, "upscale", {"source": f"{s3}/lr", "target": f"{s3}/sr", "checkpoint": f"{s3}/model", "scale": 4})
    report = {
        "hr": f"{s3}/hr",
        "lr": f"{s3}/lr",
        "sr": {"dtls": f"{s3}/sr"},
        "out": f"{s3}/report",
        "max_failed": 0.2,
    }
    run(deployed, "report", report)

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


def test_a_cancelled_training_has_saved_and_the_next_run_goes_on(
    deployed: PrefectServer, s3: str, photographs: Path, tmp_path: Path
) -> None:
    bucket = Location.of(s3)
    shard.fn(ShardOptions(source=str(photographs), target=f"{s3}/shards"))
    options = {"source": f"{s3}/shards", "target": f"{s3}/model", "batch_size": 2, "cache": str(tmp_path), **MODEL}

    flow_run = deployed.start_deployment("dtls/train", {"options": {**options, "steps": 100_000, "save_every": 1}})
    model = bucket / "model"
    assert wait_until(lambda: bool(states(entry.key for entry in model.list())), timeout=60), deployed.flow_run_logs(
        flow_run
    )
    deployed.cancel(flow_run)
    assert deployed.wait_for_final_state(flow_run) == "CANCELLED"

    done = len(bucket.read("model/loss.csv").splitlines()) - 1
    assert done > 0
    run(deployed, "train", {**options, "steps": done + 2, "save_every": 1, "resume": True})
    assert len(bucket.read("model/loss.csv").splitlines()) - 1 == done + 2


def test_a_flow_run_that_cannot_do_its_work_fails_with_the_reason(deployed: PrefectServer, s3: str) -> None:
    result = deployed.run_deployment("dtls/shard", {"options": {"source": f"{s3}/nothing", "target": f"{s3}/shards"}})
    assert result.exit_code == 1
    assert "no such folder, prefix or bucket" in result.report


def test_wrong_options_are_refused_before_there_is_a_run(deployed: PrefectServer) -> None:
    result = deployed.cli(
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
