"""What a training process reports to the flow that started it: one JSON object a line, of one of five kinds."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Logged:
    """A line for the log."""

    message: str


@dataclass(frozen=True)
class Started:
    """The training starts after step `done` of `steps`."""

    done: int
    steps: int


@dataclass(frozen=True)
class Stepped:
    """Step `done` was taken, with this loss."""

    done: int
    loss: float


@dataclass(frozen=True)
class Saved:
    """The state after step `done` is saved."""

    done: int


@dataclass(frozen=True)
class Failed:
    """The training ends with this error."""

    message: str


Event = Logged | Started | Stepped | Saved | Failed
KINDS: Mapping[str, type[Event]] = {
    "logged": Logged,
    "started": Started,
    "step": Stepped,
    "saved": Saved,
    "error": Failed,
}
NAMES = {kind: name for name, kind in KINDS.items()}


def line_of(event: Event) -> str:
    """The line that stands for an event."""
    return json.dumps({"event": NAMES[type(event)], **asdict(event)}) + "\n"


def event_of(line: str) -> Event | None:
    """The event that a line stands for; None for what libraries print to the same output."""
    try:
        found: dict[str, Any] = json.loads(line)
        return KINDS[found.pop("event")](**found)
    except (ValueError, TypeError, AttributeError, KeyError):
        return None
