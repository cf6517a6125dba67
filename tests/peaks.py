"""The most memory that something takes, measured in this process by what Linux counts as resident."""

import gc
from collections.abc import Callable
from pathlib import Path

from storage.images.room import give_back

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_of(run: Callable[[], object]) -> int:
    """The bytes that `run` has at its peak, with its result, beyond what was there before."""
    gc.collect()
    give_back()
    CLEAR.write_text("5")  # the peak begins anew
    before = _resident("VmRSS")
    result = run()
    peak = _resident("VmHWM") - before
    del result
    return peak


def _resident(what: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024
