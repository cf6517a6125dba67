"""A Prefect server and a process worker for the tests, with what one does with them: deploy, run, cancel, ask."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import httpx
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.settings.legacy import Setting
from prefect.testing.cli import CycloptsCliRunner

from tests.services import Service, descendants, free_ports, is_running, isolated_environment, wait_until
from tests.warm import Starter, only_forks

ROOT = Path(__file__).parents[1]
FINAL_STATES = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
SETTINGS = {
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_LOGS_STREAM_OUT_ENABLED": "true",
    "PREFECT_SERVER_LOGS_STREAM_PUBLISHING_ENABLED": "true",
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "http://127.0.0.1:4200,http://localhost:4200",
}
"""What keeps concurrency leases on disk, so that runs outlive a restart of the server, shows logs to --watch, and
keeps strange pages from acting through a browser."""
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class DeploymentRun:
    """What `prefect deployment run --watch` said and what the server knows of the flow run."""

    exit_code: int
    output: str
    flow_run_id: str
    state: str
    logs: str

    @property
    def report(self) -> str:
        return f"exit code {self.exit_code}, state {self.state}\n{self.output}\n--- logs of the flow run\n{self.logs}"


class PrefectProgram(Service):
    """A program of Prefect's; with a starter, a fork of a process that has imported Prefect and the flows."""

    starter: Starter | None = None

    def __enter__(self) -> Self:
        with self.starter.active() if self.starter else nullcontext():
            return super().__enter__()


class PrefectServer(PrefectProgram):
    """`prefect server start` with a home, an SQLite database and a password of its own."""

    name = "prefect-server"

    def __init__(self, folder: Path, starter: Starter | None = None) -> None:
        super().__init__(folder)
        self.starter = starter
        self.port = free_ports()
        self.api_url = f"http://127.0.0.1:{self.port}/api"
        self.password = secrets.token_hex(20)
        self.auth_string = f"admin:{self.password}"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]

    def process_environment(self) -> dict[str, str]:
        speed = {"PREFECT_SERVER_UI_ENABLED": "false", "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false"}
        guard = {"PREFECT_SERVER_API_AUTH_STRING": self.auth_string, "PREFECT_SERVER_CSRF_TOKEN_EXPIRATION": "P1D"}
        return isolated_environment(self.environment(), speed, SETTINGS, guard)

    def settings(self) -> dict[Setting, str]:
        """The same for clients in this process, as `temporary_settings` takes it."""
        return {PREFECT_API_URL: self.api_url, PREFECT_API_AUTH_STRING: self.auth_string}

    def environment(self) -> dict[str, str]:
        """What a user of this server sets, and what keeps the command line plain and quiet."""
        return {
            "PREFECT_API_URL": self.api_url,
            "PREFECT_API_AUTH_STRING": self.auth_string,
            "PREFECT_HOME": str(self.folder / "home"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_CLI_COLORS": "false",
            "PREFECT_CLI_PROMPT": "false",
            "PREFECT_CLI_WRAP_LINES": "false",
        }

    def is_ready(self) -> bool:
        try:
            return self.api("GET", "/health") is True
        except httpx.TransportError:
            return False

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Call the REST API, as Prefect's client does again while it is too busy; an error raises with the answer."""
        proof = self.proof if method != "GET" else {}
        answers: list[httpx.Response] = []

        def is_answered() -> bool:
            answers.append(self.client.request(method, self.api_url + path, json=body, headers=proof))
            return answers[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

        wait_until(is_answered, timeout=20)
        answer = answers[-1]
        if answer.is_error:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    @cached_property
    def client(self) -> httpx.Client:
        """One for all calls, as each takes 25 ms to make its TLS context; it keeps no connection open."""
        nothing_kept = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(trust_env=False, timeout=30, auth=("admin", self.password), limits=nothing_kept)

    @cached_property
    def proof(self) -> dict[str, str]:
        """The headers by which a change shows that no strange page asks for it; they hold for a day."""
        client = secrets.token_hex(10)
        token = self.api("GET", f"/csrf-token?client={client}")["token"]
        return {"Prefect-Csrf-Client": client, "Prefect-Csrf-Token": token}

    def cli(self, *arguments: str, cwd: Path | None = None, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run the command line `prefect` against this server; stdout and stderr together."""
        return subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=cwd or self.folder,
            env=isolated_environment(self.environment()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )

    def invoke(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The same from the checkout's root, within this process, which has loaded Prefect; not for `--watch`."""
        with temporary_settings(self.settings()), chdir(ROOT):
            done = CycloptsCliRunner().invoke(list(arguments))
        return subprocess.CompletedProcess(arguments, done.exit_code, done.output)

    def ask(self, *arguments: str) -> str:
        """What the command line answers, called within this process; an error raises with the answer."""
        done = self.invoke(*arguments)
        if done.returncode != 0:
            raise RuntimeError(f"prefect {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}")
        return done.stdout

    def create_work_pool(self, name: str) -> None:
        self.ask("work-pool", "create", name, "--type", "process")

    def deploy_all(self) -> None:
        """Make what prefect.yaml declares, and the limit of one run on the GPU that it speaks of."""
        self.ask("deploy", "--all")
        self.ask("work-queue", "set-concurrency-limit", "gpu", "1", "--pool", PrefectWorker.pool)

    def run_deployment(
        self, name: str, parameters: Mapping[str, Any] | None = None, *, timeout: float = 300
    ) -> DeploymentRun:
        """Do what a user does, `prefect deployment run NAME --params JSON --watch`, and cancel what takes longer."""
        watch = ["--watch", "--watch-timeout", str(int(timeout))]
        done = self.cli(
            "deployment", "run", name, "--params", json.dumps(parameters or {}), *watch, timeout=timeout + 60
        )
        created = UUID.search(done.stdout)
        if created is None:
            return DeploymentRun(done.returncode, done.stdout, "", "REFUSED", "")
        state, logs = self.flow_run_state(created[0]), self.flow_run_logs(created[0])
        if state not in FINAL_STATES:
            self.cancel(created[0])
        return DeploymentRun(done.returncode, done.stdout, created[0], state, logs)

    def start_deployment(self, name: str, parameters: Mapping[str, Any] | None = None) -> str:
        """Create a flow run without waiting for it; return its id."""
        done = self.cli("deployment", "run", name, "--params", json.dumps(parameters or {}))
        created = UUID.search(done.stdout)
        if done.returncode != 0 or created is None:
            raise RuntimeError(f"no run of {name}:\n{done.stdout}")
        return created[0]

    def start_run(self, name: str, parameters: Mapping[str, Any], **job_variables: Any) -> str:
        """The same, asked of the API, which takes no second."""
        deployment = self.api("GET", f"/deployments/name/{name}")["id"]
        asked = {"parameters": dict(parameters), "job_variables": job_variables}
        return str(self.api("POST", f"/deployments/{deployment}/create_flow_run", asked)["id"])

    def cancel(self, flow_run_id: str) -> None:
        """Do what `prefect flow-run cancel` does, but at once: starting that takes longer than some runs."""
        cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        answer = self.api("POST", f"/flow_runs/{flow_run_id}/set_state", cancelling)
        if answer["status"] != "ACCEPT":
            raise RuntimeError(f"not cancelled: {answer}")

    def wait_for_final_state(self, flow_run_id: str, timeout: float = 60) -> str:
        """Return the final state's type, or the present one when there is none in time."""
        wait_until(lambda: self.flow_run_state(flow_run_id) in FINAL_STATES, timeout, every=0.3)
        return self.flow_run_state(flow_run_id)

    def flow_run_state(self, flow_run_id: str) -> str:
        """Return the state's type, such as COMPLETED."""
        return str(self.api("GET", f"/flow_runs/{flow_run_id}")["state_type"])

    def tracebacks(self) -> list[str]:
        """Return what the log has tracebacks of, but for SQLite's locks, which a busy machine holds too long."""
        records = re.split(r"\n(?=\d\d:\d\d:\d\d\.\d+ \|)", self.log.read_text(errors="replace"))
        return [record for record in records if "Traceback" in record and "database is locked" not in record]

    def flow_run_logs(self, flow_run_id: str) -> str:
        """Return the last log lines of the flow run and its tasks."""
        query = {"logs": {"flow_run_id": {"any_": [flow_run_id]}}, "sort": "TIMESTAMP_DESC", "limit": 200}
        return "\n".join(line["message"] for line in reversed(self.api("POST", "/logs/filter", query)))


class PrefectWorker(PrefectProgram):
    """`prefect worker start` for the pool `dtls`, which runs flows as processes, forks where it is one."""

    name = "prefect-worker"
    pool = "dtls"
    stop_timeout = 45.0  # longer than the grace that Prefect gives to its flow runs

    def __init__(
        self,
        folder: Path,
        server: PrefectServer,
        cwd: Path,
        environment: Mapping[str, str],
        starter: Starter | None = None,
    ) -> None:
        super().__init__(folder)
        self.server = server
        self.cwd = cwd
        self.extra_environment = environment
        self.starter = starter
        self.worker_name = ""

    def __enter__(self) -> Self:
        self.worker_name = f"test-{secrets.token_hex(4)}"  # a new one each time: the server goes on to know the old
        return super().__enter__()

    def command(self) -> list[str]:
        name = ["--pool", self.pool, "--name", self.worker_name]
        return [sys.executable, "-m", "prefect", "worker", "start", "--type", "process", *name]

    def process_environment(self) -> dict[str, str]:
        pace = {"PREFECT_WORKER_QUERY_SECONDS": "0.5"}
        return isolated_environment(self.server.environment(), pace, self.extra_environment)

    def is_ready(self) -> bool:
        try:
            workers = self.server.api("POST", f"/work_pools/{self.pool}/workers/filter", {})
        except RuntimeError:  # the pool is not there yet
            return False
        return any(worker["name"] == self.worker_name and worker["status"] == "ONLINE" for worker in workers)

    def kill(self) -> None:
        """Kill it and its flow runs, as a power cut does."""
        assert self.process is not None
        for pid in (self.process.pid, *self.flow_runs()):
            with suppress(ProcessLookupError):  # it was ended by the death of another one
                os.kill(pid, signal.SIGKILL)
        self.stop()

    def flow_runs(self) -> list[int]:
        """The processes of its flow runs that are there now."""
        started = descendants(self.process.pid) if self.process else []
        return [pid for pid in started if is_running(pid) and not only_forks(pid)]
