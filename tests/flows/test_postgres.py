"""A Prefect server on PostgreSQL, as deploy/compose.yaml sets it up: runs outlive its absence, and it knows them."""

import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from flows.shard import ShardOptions, shard
from flows.training.settings import states_in
from storage.stores.location import Location
from tests.faulty_s3 import FaultyS3, Request, status
from tests.prefect_services import PrefectServer, PrefectWorker
from tests.services import S3Server, Service, free_ports, isolated_environment, wait_until

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
SERVICES = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]

OUTAGE_SECONDS, GRACE, SOON = 30.0, 30.0, 120.0
"""Without a server; that a cancelled run may take to stop; and anything else to come about."""
MODEL = {"dim": 8, "dim_mults": [1, 2], "size": 32, "lr_size": 8, "stride": 8, "residual": True}
TRAINING = {**MODEL, "batch_size": 2, "steps": 20, "save_every": 5}
UPSCALING = {"method": "lanczos", "scale": 2, "unit_size": 2, "workers": 1}

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.nightly]


def postgres_program(name: str) -> str:
    found = shutil.which(name, path=str(PROGRAMS[-1])) if PROGRAMS else shutil.which(name)
    if found is None:
        pytest.skip(f"no program {name}: apt-get install postgresql")
    return found


class Postgres(Service):
    """PostgreSQL with one user and database, `prefect`, on loopback; never as root, which it refuses."""

    name = "postgres"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_ports()
        self.password = secrets.token_urlsafe(20) + "@/:%"  # as somebody may choose it
        self.account = "postgres" if os.geteuid() == 0 else None
        self.data = folder / "data"

    def initialise(self) -> None:
        password = self.folder / "password"
        password.write_text(self.password)
        if self.account:
            shutil.chown(self.folder, self.account)
        rights = ["--auth=scram-sha-256", f"--pwfile={password}", "--username=prefect"]
        initdb = [postgres_program("initdb"), f"--pgdata={self.data}", *rights, "--encoding=UTF8", "--no-sync"]
        done = subprocess.run(initdb, user=self.account, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        password.unlink()

    def command(self) -> list[str]:
        as_account = ["setpriv", f"--reuid={self.account}", f"--regid={self.account}", "--clear-groups"]
        where = ["-D", str(self.data), "-h", "127.0.0.1", "-p", str(self.port), "-k", ""]
        return [*(as_account if self.account else []), postgres_program("postgres"), *where]

    def process_environment(self) -> dict[str, str]:
        return isolated_environment({"LC_ALL": "C.UTF-8"})

    def is_ready(self) -> bool:
        return self.psql("SELECT 1", "postgres").returncode == 0

    def psql(self, query: str, database: str = "prefect") -> subprocess.CompletedProcess[str]:
        where = f"host=127.0.0.1 port={self.port} user=prefect dbname={database}"
        return subprocess.run(
            [postgres_program("psql"), "--no-psqlrc", "--tuples-only", "--no-align", "--command", query, where],
            env=self.process_environment() | {"PGPASSWORD": self.password},
            capture_output=True,
            text=True,
            check=False,
        )


class PrefectServerOnPostgres(PrefectServer):
    """The Prefect server with the environment that the compose file gives it."""

    def __init__(self, folder: Path, database: Postgres) -> None:
        super().__init__(folder)
        self.database = database

    def process_environment(self) -> dict[str, str]:
        composed = SERVICES["prefect"]["environment"]
        here = {"HOST": "127.0.0.1", "PORT": str(self.database.port), "PASSWORD": self.database.password}
        ours = {f"PREFECT_SERVER_DATABASE_{name}": value for name, value in here.items()}
        ours["PREFECT_SERVER_API_AUTH_STRING"] = self.auth_string
        return super().process_environment() | composed | ours

    def start(self, name: str, options: dict[str, Any]) -> str:
        return self.start_run(f"dtls/{name}", {"options": options})

    def heartbeats(self, run: str, since: datetime) -> int:
        """How many of a run's heartbeats the server has had since then."""
        wanted = {
            "occurred": {"since": since.isoformat()},
            "event": {"name": ["prefect.flow-run.heartbeat"]},
            "resource": {"id": [f"prefect.flow-run.{run}"]},
        }
        return int(self.api("POST", "/events/filter", {"filter": wanted})["total"])

    def renew_lease(self, run: str) -> None:
        """Do what a run does every few minutes: keep its slot; RuntimeError where the server knows of none."""
        lease = self.api("GET", f"/flow_runs/{run}")["state"]["state_details"]["deployment_concurrency_lease_id"]
        self.api("POST", f"/v2/concurrency_limits/leases/{lease}/renew", {"lease_duration": 300})


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with TemporaryDirectory(prefix="dtls-postgres-") as folder:  # not pytest's, which only its own user may enter
        server = Postgres(Path(folder))
        server.initialise()
        with server:
            assert server.psql("CREATE DATABASE prefect", "postgres").stdout.strip() == "CREATE DATABASE"
            yield server


@dataclass(frozen=True)
class Gate:
    """Requests to the bucket that are refused until it is opened; S3's clients ask again."""

    keys: tuple[str, ...]
    is_open: threading.Event = field(default_factory=threading.Event)

    def stops(self, request: Request) -> bool:
        return not self.is_open.is_set() and any(fnmatchcase(request.key, f"*/{key}") for key in self.keys)


class Outage:
    """Three runs of deployments on a bucket, through half a minute without their server."""

    def __init__(self, server: PrefectServerOnPostgres, bucket: str, proxy: FaultyS3, folder: Path) -> None:
        self.server, self.proxy, self.model = server, proxy, folder / "cancelled"
        self.away = Gate(("model/loss.csv", "hr/0000[2-7].png"))
        self.back = Gate(("hr/0000[89].png", "hr/0001?.png"))
        for gate in (self.away, self.back):
            proxy.inject(status(503, "SlowDown"), when=gate.stops)
        shards, large = {"source": f"{bucket}/shards"}, {"source": f"{bucket}/hr", "target": f"{bucket}/large"}
        self.training = server.start("train", {**shards, "target": f"{bucket}/model", **TRAINING})
        self.upscaling = server.start("upscale", {**large, **UPSCALING})
        endless = {**TRAINING, "steps": 1_000_000, "cache": str(folder)}
        self.endless = server.start("endless", {**shards, "target": str(self.model), **endless})

    def happens(self) -> datetime:
        """Stop the server once all three are at work; when, after a while, it is there again."""
        assert wait_until(self.is_waited_for, SOON), self.server.log_tail()
        assert wait_until(lambda: self.model.exists() and bool(states_in(self.model)), SOON)
        self.server.stop()
        self.away.is_open.set()
        time.sleep(OUTAGE_SECONDS)
        self.server.__enter__()
        return datetime.now(UTC)

    def is_waited_for(self) -> bool:
        """Whether both the training and the upscaling have come to the first gate."""
        keys = [request.key for request in list(self.proxy.requests)]
        return all(any(fnmatchcase(key, f"*/{wanted}") for key in keys) for wanted in self.away.keys)


def test_runs_outlive_half_a_minute_without_their_server_and_can_be_cancelled_afterwards(
    postgres: Postgres, s3: str, s3_server: S3Server, photographs: Path, tmp_path: Path
) -> None:
    """A training ends while the server is away, an upscaling when it is back, and another training is cancelled."""
    for path in photographs.rglob("*.png"):
        Location.of(s3).upload(f"hr/{path.name}", path)
    shard.fn(ShardOptions(source=f"{s3}/hr", target=f"{s3}/shards"))
    server = PrefectServerOnPostgres(tmp_path / "server", postgres)
    with FaultyS3(s3_server) as proxy, server:
        server.create_work_pool(PrefectWorker.pool)
        server.ask("deploy", "--all")
        server.ask("deploy", "flows/train.py:train", "--name", "endless", "--pool", PrefectWorker.pool)
        with PrefectWorker(tmp_path / "worker", server, cwd=ROOT, environment=proxy.environment()):
            runs = Outage(server, s3, proxy, tmp_path)
            back = runs.happens()
            server.cancel(runs.endless)
            assert server.wait_for_final_state(runs.endless, GRACE) == "CANCELLED"
            assert server.wait_for_final_state(runs.training, SOON) == "COMPLETED", server.flow_run_logs(
                runs.training
            )
            server.renew_lease(runs.upscaling)
            assert wait_until(lambda: server.heartbeats(runs.upscaling, back) > 0, SOON)
            runs.back.is_open.set()
            assert server.wait_for_final_state(runs.upscaling, SOON) == "COMPLETED"
            assert "upscale" in server.flow_run_logs(runs.upscaling)
    large = [entry.key for entry in Location.of(f"{s3}/large").list() if entry.key.endswith(".png")]
    assert len(large) == 12
    assert not list(server.folder.rglob("*.db"))
    states = dict(line.split("|") for line in postgres.psql("SELECT id, state_type FROM flow_run").stdout.split())
    assert states == {runs.training: "COMPLETED", runs.upscaling: "COMPLETED", runs.endless: "CANCELLED"}
