"""How units are handed out: a bounded number at a time, each outcome as soon as it is there."""

from threading import Event

import pytest
from prefect import flow

from flows.engine.run import _outcomes
from storage.receipts.units import Unit

SOON = 60.0
UNITS = [Unit("upscale", f"unit-{number}", (), "", "") for number in range(6)]


def _handed_out() -> list[str]:
    """The names of units in the order of their outcomes, two at a time, where the first ends after all others."""
    others_ended = Event()

    def do(unit: Unit) -> str:
        if unit is UNITS[0]:
            assert others_ended.wait(SOON)
        if unit is UNITS[-1]:
            others_ended.set()
        return unit.name

    return [outcome for _, outcome in _outcomes(UNITS, do, lambda: 2, Event())]


def test_a_slow_unit_holds_back_no_other() -> None:
    assert set(_handed_out()[-2:]) == {UNITS[0].name, UNITS[-1].name}


@pytest.mark.usefixtures("flow_runs")
def test_a_slow_task_of_a_flow_run_holds_back_no_other() -> None:
    @flow
    def hands_out() -> list[str]:
        return _handed_out()

    assert set(hands_out()[-2:]) == {UNITS[0].name, UNITS[-1].name}
