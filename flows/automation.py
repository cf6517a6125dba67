"""An automation of Prefect, as a file says: `python -m flows.automation deploy/zombies.yaml`, as often as one likes.

`prefect automation create` would make another of the same name each time, and each would act.
"""

import sys
from pathlib import Path

import httpx
import yaml
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import AutomationCore
from pydantic import ValidationError

from flows.interface.text import server_refused
from reports.rating.study import first_problem

USAGE = "usage: python -m flows.automation FILE.yaml"


def apply(wanted: AutomationCore, client: SyncPrefectClient) -> str:
    """Make the server's only automation of this name what is wanted; what was done, in a word."""
    found = client.read_automations_by_name(wanted.name)
    for superfluous in found[1:]:
        client.delete_automation(superfluous.id)
    if found:
        client.update_automation(found[0].id, wanted)
        return "updated"
    client.create_automation(wanted)
    return "created"


def main() -> int:
    """Apply the file named on the command line; one line says what was done, or what is wrong."""
    if len(sys.argv) != 2:
        return _printed(USAGE, 2)
    try:
        wanted = AutomationCore.model_validate(yaml.safe_load(Path(sys.argv[1]).read_text()))
    except OSError as error:
        return _printed(f"{sys.argv[1]}: {error.strerror}", 1)
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
        return _printed(f"{sys.argv[1]}: no automation: {_problem(error)}", 1)
    try:
        with get_client(sync_client=True) as client:
            return _printed(f"{apply(wanted, client)} the automation {wanted.name} at {client.api_url}", 0)
    except (httpx.HTTPError, RuntimeError) as error:
        return _printed(server_refused("Prefect's server", error), 1)


def _problem(error: yaml.YAMLError | ValidationError | UnicodeDecodeError) -> str:
    """What is wrong with a file, and where, without what is in it: it may be another than was meant."""
    if isinstance(error, ValidationError):
        return first_problem(error)
    mark = getattr(error, "problem_mark", None)
    return f"not YAML, by line {mark.line + 1:,}" if mark is not None else "not YAML"


def _printed(line: str, code: int) -> int:
    sys.stderr.write(f"{line}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
