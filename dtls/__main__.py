"""`python -m dtls`: the command line, also in a folder that has a `flows` of its own."""

import sys
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run the command line, imported from where this package is.

    Python looks into the current folder before it looks into the installed packages.
    """
    with suppress(FileNotFoundError):  # of the current folder, which was removed
        if not sys.flags.safe_path and Path(sys.path[0]).resolve() == Path.cwd() != HERE:
            del sys.path[0]
    from flows.__main__ import main as run

    run()


if __name__ == "__main__":
    main()
