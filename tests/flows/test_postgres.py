"""A Prefect server on PostgreSQL, as deploy/compose.yaml sets it up: what has run is still known after a restart."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from tests.prefect_services import PrefectServer, PrefectWorker
from tests.services import Service, free_ports, isolated_environment

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
SERVICES = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]

pytestmark = [pytest.mark.integration, pytest.mark.slow]


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
        return super().process_environment() | composed | {f"PREFECT_SERVER_DATABASE_{k}": v for k, v in here.items()}


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with TemporaryDirectory(prefix="dtls-postgres-") as folder:  # not pytest's, which only its own user may enter
        server = Postgres(Path(folder))
        server.initialise()
        with server:
            assert server.psql("CREATE DATABASE prefect", "postgres").stdout.strip() == "CREATE DATABASE"
            yield server


def test_a_run_of_a_deployment_is_still_known_when_the_server_has_started_again(
    postgres: Postgres, photographs: Path, tmp_path: Path
) -> None:
    server = PrefectServerOnPostgres(tmp_path / "server", postgres)
    options = {"source": str(photographs), "target": str(tmp_path / "large"), "method": "lanczos", "scale": 2}
    with server, PrefectWorker(tmp_path / "worker", server, cwd=ROOT, environment={}):
        deployed = server.cli("--no-prompt", "deploy", "--all", cwd=ROOT)
        assert deployed.returncode == 0, deployed.stdout
        ran = server.run_deployment("dtls/upscale", {"options": options})
    assert (ran.exit_code, ran.state) == (0, "COMPLETED"), ran.report
    assert len(list((tmp_path / "large").rglob("*.png"))) == 12
    assert not list(server.folder.rglob("*.db"))

    with server:
        assert server.flow_run_state(ran.flow_run_id) == "COMPLETED"
        assert server.flow_run_logs(ran.flow_run_id) == ran.logs
        assert server.api("GET", "/deployments/name/dtls/upscale")["work_pool_name"] == "dtls"
    assert postgres.psql("SELECT id, state_type FROM flow_run").stdout.split() == [f"{ran.flow_run_id}|COMPLETED"]
