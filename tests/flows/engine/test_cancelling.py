"""A run that sees itself cancelled stops itself, unless Prefect's worker does."""

import json
import logging
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from prefect import get_client
from prefect._internal import control_listener
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.settings import temporary_settings
from prefect.states import AwaitingRetry, Cancelled, Cancelling, Running

from flows.engine import cancelling
from flows.engine.cancelling import obey_cancels
from tests.prefect_services import PrefectServer

RUN = FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), name="a run")


class Server:
    """A Prefect server that has these answers, in turn, and none after that: then the worker stops the run."""

    def __init__(self, answers: list[State[None] | Exception]) -> None:
        self.answers = iter(answers)
        self.intent: str | None = None

    def read_flow_run(self, run: uuid.UUID) -> FlowRun:
        assert run == RUN.id
        answer = next(self.answers, None)
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            self.intent = "cancel"
        return RUN.model_copy(update={"state": answer or Cancelling()})


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """What becomes of a run whose server answers so: "stopped", if it stops itself."""

    def watch(*answers: State[None] | Exception) -> list[str]:
        server, stops = Server(list(answers)), list[str]()

        @contextmanager
        def get_client(**options: bool) -> Iterator[Server]:
            yield server

        monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(RUN.id))
        monkeypatch.setattr(cancelling, "INTERVAL_SECONDS", 0.0)
        monkeypatch.setattr(cancelling, "get_client", get_client)
        monkeypatch.setattr(cancelling, "GRACE_SECONDS", 0.0)
        monkeypatch.setattr(cancelling, "_stop", lambda: stops.append("stopped"))
        monkeypatch.setattr(cancelling, "_end", lambda *_: None)
        monkeypatch.setattr(control_listener, "get_intent", lambda: server.intent)
        obey_cancels(flow, RUN, Running())
        for thread in [thread for thread in threading.enumerate() if thread.name == "cancels"]:
            thread.join(10)
            assert not thread.is_alive()
        return stops

    return watch


flow = Flow(lambda: None, name="flow")


@pytest.mark.slow
@pytest.mark.parametrize("state", [Cancelling(), Cancelled()])
def test_a_run_that_sees_itself_cancelled_twice_in_a_row_stops_itself(
    state: State[None], watched: Callable[..., list[str]]
) -> None:
    away = httpx.ConnectError("All connection attempts failed")
    assert watched(Running(), away, away, state, state) == ["stopped"]
    assert watched(Running(), state, away, state) == ["stopped"]
    assert watched(json.JSONDecodeError("a proxy's page", "<html>", 0), state, state) == ["stopped"]
    assert watched(Running(), state) == []
    assert watched(Running(), state, AwaitingRetry(), state) == []


def test_a_run_within_a_run_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(uuid.uuid4()))
    obey_cancels(flow, RUN, Running())
    assert "cancels" not in [thread.name for thread in threading.enumerate()]


def test_a_run_stops_itself_as_prefects_runner_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run, which nobody else will call cancelled, says so itself."""
    sent: list[tuple[int, str | None]] = []
    monkeypatch.setenv("PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS", "false")
    monkeypatch.setattr("os.kill", lambda pid, number: sent.append((number, control_listener.get_intent())))
    try:
        cancelling._stop()
    finally:
        control_listener.clear_intent()
    assert sent == [(signal.SIGTERM, "cancel")]


def test_a_run_that_does_not_stop_in_time_says_that_it_is_cancelled_and_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[object] = []

    class Away(Server):
        def set_flow_run_state(self, run: uuid.UUID, state: State[None], *, force: bool) -> None:
            said.append((run, state.type.value, force))

    monkeypatch.setattr(cancelling, "flow_run_logger", lambda _: logging.getLogger(__name__))
    monkeypatch.setattr(cancelling, "end_now", lambda code, why: said.append((code, why)))
    cancelling._end(Away([Cancelling()]), RUN)  # type: ignore[arg-type]
    cancelling._end(Away([httpx.ConnectError("away")]), RUN)  # type: ignore[arg-type]
    why = "ended at once, as it did not stop within 26 s; run it again to resume"
    assert said == [(RUN.id, "CANCELLED", True), (143, why), (143, why)]


@pytest.mark.integration
def test_a_run_sees_itself_cancelled_on_a_server_that_asks_for_a_password(prefect_server: PrefectServer) -> None:
    made = prefect_server.api("POST", "/flows/", {"name": "cancelled"})
    run = prefect_server.api("POST", "/flow_runs/", {"flow_id": made["id"], "state": {"type": "RUNNING"}})
    with temporary_settings(prefect_server.settings()), get_client(sync_client=True) as client:
        assert not cancelling._is_cancelled(client, uuid.UUID(run["id"]))
        prefect_server.cancel(run["id"])
        assert cancelling._is_cancelled(client, uuid.UUID(run["id"]))
