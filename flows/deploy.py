"""`dtls deploy`: the deployments that prefect.yaml declares, for workers that have dtls installed.

In a checkout `prefect deploy --all` registers the same, with the files of the checkout as their source.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from flows.interface.errors import RunError
from flows.interface.options import Options
from flows.interface.text import server_refused
from storage.stores.scratch import scratch_folder

DECLARED = Path(__file__).with_name("prefect.yaml")
SERVER = "PREFECT_API_URL=http://HOST:4200/api"
WORKER_ENVIRONMENT = {"PYTHONSAFEPATH": "1"}
"""So that a folder `flows` in which a worker is started is not taken for ours."""


class DeployOptions(Options):
    """For which workers."""

    pool: str = Field(
        "dtls", min_length=1, description="name of the Prefect work pool whose workers do the runs; it must exist"
    )


def deploy(options: DeployOptions) -> str:
    """Register the deployments of dtls at the Prefect server."""
    declared = installed(yaml.safe_load(DECLARED.read_text()), options.pool)
    _check_server(options.pool)
    with scratch_folder() as folder:
        file = folder / DECLARED.name
        file.write_text(yaml.safe_dump(declared))
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = (ended.stderr.strip() or ended.stdout.strip()).splitlines()
        raise RunError(
            f"Prefect does not take the deployments: {said[-1].strip() if said else 'it does not say why'}"
        )
    names = [f"dtls/{deployment['name']}" for deployment in declared["deployments"]]
    return f"deployed to the work pool {options.pool}: {', '.join(names)}"


def installed(declared: dict[str, Any], pool: str) -> dict[str, Any]:
    """What prefect.yaml declares, run from installed packages by the workers of a pool."""
    deployments = [_installed(deployment, pool) for deployment in declared["deployments"]]
    return {"name": declared["name"], "prefect-version": declared["prefect-version"], "pull": []} | {
        "deployments": deployments
    }


def _installed(deployment: dict[str, Any], pool: str) -> dict[str, Any]:
    file, _, function = deployment["entrypoint"].partition(":")
    entrypoint = f"{file.removesuffix('.py').replace('/', '.')}.{function}"
    variables = deployment["work_pool"].get("job_variables", {})
    environment = {**variables.get("env", {}), **WORKER_ENVIRONMENT}
    place = {**deployment["work_pool"], "name": pool, "job_variables": {**variables, "env": environment}}
    return {**deployment, "entrypoint": entrypoint, "work_pool": place}


def _check_server(pool: str) -> None:
    """RunError where there is no server, or no such pool."""
    import httpx
    from prefect import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import get_current_settings

    address = get_current_settings().api.url
    if not address:
        raise RunError(f"no Prefect server is named; set {SERVER}")
    try:
        with get_client(sync_client=True) as client:
            client.read_work_pool(pool)
    except ObjectNotFound as error:
        raise RunError(f"no work pool {pool}: prefect work-pool create {pool} --type process") from error
    except (httpx.HTTPError, RuntimeError) as error:
        raise RunError(server_refused(f"Prefect's server at {address}", error)) from error
