"""Results that a run would replace, as they were made with other options: an error before any work, unless it may."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from flows.engine.job import Remaining
from flows.interface.text import counted
from storage.stores.location import StorageError

DIFFERENCES, LONGEST = 4, 40
SHA256 = re.compile(r"[0-9a-f]{64}")


def check_replacing(left: Remaining) -> None:
    """StorageError where a run would replace results, and may not."""
    if words := replaced(left):
        raise StorageError(
            f"{left.job.address}: {words}, which would be replaced; "
            "--overwrite replaces them, or choose another target"
        )


def replaced(left: Remaining) -> str:
    """What a run would replace that it may not, and in what its options are others; empty for nothing."""
    if left.job.overwrite or not (found := left.others):
        return ""
    changes = list(_changes(left.survey.made_with, left.job.receipts.made_with))
    more = ["…"] if len(changes) > DIFFERENCES else []
    differing = f" ({', '.join([*changes[:DIFFERENCES], *more])})" if changes else ""
    return f"holds {counted(len(found), 'result')} made with other options{differing}"


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Each option that both know and that is another by now, such as "scale 4 → 2"."""
    for name, new in now.items():
        if name in before and before[name] != new:
            yield f"{name.replace('_', ' ')} {_short(before[name])} → {_short(new)}"


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    text = "none" if value in (None, "") else str(value)
    return text[:8] if SHA256.fullmatch(text) else text[:LONGEST]
