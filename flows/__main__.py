"""The entry of the command line: settings that count only before the libraries are imported, then `flows.cli`."""

import os
import sys
from contextlib import suppress
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
    with suppress(FileNotFoundError):  # of the current folder, which was removed
        if Path(__file__).resolve().parents[1] != Path.cwd():  # what it starts takes no other `flows`
            os.environ.setdefault("PYTHONSAFEPATH", "1")
    try:
        from flows.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
