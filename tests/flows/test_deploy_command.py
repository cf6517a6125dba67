"""`dtls deploy`: the deployments of prefect.yaml, run from installed packages."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.deploy import DECLARED, installed
from tests.command_line import Command
from tests.prefect_services import PrefectServer
from tests.services import isolated_environment

ROOT = Path(__file__).parents[2]


def test_what_is_installed_is_what_the_checkout_declares() -> None:
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    assert yaml.safe_load(DECLARED.read_text()) == declared
    found = installed(declared, "ours")
    assert found["pull"] == []
    for before, after in zip(declared["deployments"], found["deployments"], strict=True):
        assert after["entrypoint"] == before["entrypoint"].replace("/", ".").replace(".py:", ".")
        assert after["work_pool"]["name"] == "ours"
        assert after["work_pool"]["job_variables"]["env"]["PYTHONSAFEPATH"] == "1"
        assert {**after, "entrypoint": 0, "work_pool": 0} == {**before, "entrypoint": 0, "work_pool": 0}


def test_without_a_server_nothing_is_deployed(dtls: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with temporary_settings(restore_defaults={PREFECT_API_URL}):  # others' flow runs here have a server
        ended = dtls("deploy")
    line = "dtls: no Prefect server is named; set PREFECT_API_URL=http://HOST:4200/api\n"
    assert (ended.code, ended.stderr) == (1, line)


@pytest.mark.integration
def test_a_pool_that_is_not_there_is_told_with_how_to_make_it(prefect_server: PrefectServer, dtls: Command) -> None:
    with temporary_settings(prefect_server.settings()):
        refused = dtls("deploy", "--pool", "nobody-s")
    line = "dtls: no work pool nobody-s: prefect work-pool create nobody-s --type process\n"
    assert (refused.code, refused.stderr) == (1, line)


@pytest.mark.integration
@pytest.mark.slow
def test_workers_run_what_dtls_deploy_registers(deployed: PrefectServer, photographs: Path, tmp_path: Path) -> None:
    """Here, they are interpreters that are started, as ever."""
    command = [sys.executable, "-m", "dtls", "deploy"]
    environment = isolated_environment(deployed.environment())
    shutil.copy(photographs / "00000" / "00000.png", tmp_path / "one.png")
    try:
        ended = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith("deployed to the work pool dtls: dtls/shard, dtls/train, dtls/upscale, ")
        found = deployed.api("GET", "/deployments/name/dtls/upscale")
        assert (found["entrypoint"], found["pull_steps"], found["paused"]) == ("flows.upscale.upscale", [], False)
        assert [schedule["active"] for schedule in found["schedules"]] == [False]
        options = {"source": str(tmp_path / "one.png"), "target": str(tmp_path / "large"), "scale": 2}
        run = deployed.start_run("dtls/upscale", {"options": {**options, "method": "nearest", "checkpoint": None}})
        assert deployed.wait_for_final_state(run, 120) == "COMPLETED", deployed.flow_run_logs(run)
        assert (tmp_path / "large" / "one.png").exists()
    finally:
        deployed.deploy_all()
