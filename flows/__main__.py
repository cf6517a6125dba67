"""The entry of the command line: settings that count only before the libraries are imported, then `flows.cli`."""

import os
import sys
from pathlib import Path

SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_LEVEL": "ERROR",
}
"""For the temporary Prefect server of the demo: it reports nothing home, may start slowly, and keeps to itself."""


def main() -> None:
    """Run the command line."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if Path(__file__).resolve().parents[1] != Path.cwd():  # processes that are started take no other `flows` for ours
        os.environ.setdefault("PYTHONSAFEPATH", "1")
    try:
        from flows.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
