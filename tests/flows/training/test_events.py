"""The lines by which a training process reports: each kind of event, and what libraries print between them."""

import pytest

from flows.training.events import Event, Failed, Logged, Saved, Started, Stepped, event_of, line_of


@pytest.mark.parametrize(
    "event", [Logged("left out: a.png"), Started(3, 10), Stepped(4, 0.25), Saved(4), Failed("no GPU")], ids=repr
)
def test_an_event_is_the_same_at_the_other_end(event: Event) -> None:
    line = line_of(event)
    assert line.endswith("\n")
    assert event_of(line) == event


@pytest.mark.parametrize(
    "line", ["", "Downloading …", "{", "[1]", "3", '{"loss": 1}', '{"event": "step"}', '{"event": "slept", "s": 1}']
)
def test_what_libraries_print_is_no_event(line: str) -> None:
    assert event_of(line) is None
