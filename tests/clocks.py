"""Processes whose clock is wrong, by Debian's libfaketime; what they write is still dated by the disk's own clock.

Python's `time.sleep` does not work in these (libfaketime 0.9.10); waiting for an event does.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest


def clock_set(by: str) -> Mapping[str, str]:
    """What the environment of a process has whose clock is ahead by so much, such as +180s, -180s or +1d."""
    found = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if found is None:
        pytest.skip("wants libfaketime: apt-get install faketime")
    return {"LD_PRELOAD": str(found), "FAKETIME": by, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
