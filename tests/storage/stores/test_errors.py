"""What passes is tried again, and the log says so."""

import logging

import pytest

from storage.stores import errors
from storage.stores.errors import retried


def test_each_further_attempt_is_in_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "FIRST_WAIT", 0)
    caplog.set_level(logging.INFO, "storage")
    failures = [TimeoutError("read timed out"), TimeoutError("read timed out")]

    def request() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert retried(request) == "done"
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"attempt {number} failed, the next in 0.0 s: read timed out" for number in (1, 2)]
