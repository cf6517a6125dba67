"""The command line within the tests' process, which saves the seconds that a process takes to start."""

import signal
import sys
from collections.abc import Iterator

import pytest
from s3fs import S3FileSystem

from flows.cli import main
from tests.command_line import Command, Result


@pytest.fixture
def dtls(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """The command line: `dtls("shard", source, target, AWS_PROFILE="x")`."""
    on_sigterm = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object, **environment: str) -> Result:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        monkeypatch.setattr(sys, "argv", ["dtls", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        return Result(code, *capsys.readouterr())

    yield run
    signal.signal(signal.SIGTERM, on_sigterm)
