"""The entry of the command line: settings that count only before the libraries are imported, then `flows.cli`."""

import atexit
import os
import sys
import threading
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
    ending = _Ending()
    atexit.register(ending)  # the first that is registered comes last
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    with suppress(FileNotFoundError):  # of the current folder, which was removed
        if Path(__file__).resolve().parents[1] != Path.cwd():  # what it starts takes no other `flows`
            os.environ.setdefault("PYTHONSAFEPATH", "1")
    try:
        try:
            from flows.cli import main as run
        except KeyboardInterrupt:
            sys.exit(130)
        run()
    except SystemExit as end:
        ending.code = end.code
        raise


class _Ending:
    """The end of the process, where a thread is still inside a library: it would abort as the interpreter goes."""

    code: str | int | None = 1

    def __call__(self) -> None:
        if any(thread.daemon for thread in threading.enumerate()):
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):  # whoever read it is gone
                    stream.flush()
            os._exit(self.code if isinstance(self.code, int) else int(self.code is not None))


if __name__ == "__main__":
    main()
