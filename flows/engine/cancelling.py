"""A cancelled run stops, even where Prefect's worker does not hear of it: the run reads its own state now and then.

The worker listens for cancelled runs, but gives that up for good when the server is away for half a minute. A run
that the worker does stop is left to it.

Whoever stopped it, a run that is not over in time is ended: a thread of it is inside a library's call. Its lease
stays, and the next run takes that over as its process is gone.
"""

import os
import signal
import time
from contextlib import suppress
from contextvars import copy_context
from threading import Thread
from typing import Any
from uuid import UUID

import httpx
from prefect import Flow, State, get_client
from prefect._internal import control_listener
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectException
from prefect.logging.loggers import flow_run_logger
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled

from flows.engine.stopping import end_now
from flows.interface.outcome import send_log

INTERVAL_SECONDS, LOOK_SECONDS = 3.0, 0.5
"""Between two questions to the server, and between two looks at what the worker has said."""
GRACE_SECONDS = 26.0
"""How long after it was cancelled a run may take; after 30 s Prefect's worker would kill it."""
AWAY = (httpx.HTTPError, PrefectException, ValueError)
"""What is raised where the server is away, or a proxy answers for it."""
SIGHTINGS = 2
"""How often in a row a run sees itself cancelled before it stops itself; until then its worker may."""


def obey_cancels(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001, Prefect's names
    """Watch a deployment's run that begins; those within it end with it."""
    if str(flow_run.id) == os.environ.get("PREFECT__FLOW_RUN_ID"):
        Thread(target=copy_context().run, args=(_watch, flow_run), name="cancels", daemon=True).start()


def _watch(run: FlowRun) -> None:
    now = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: INTERVAL_SECONDS}
    with temporary_settings(now), get_client(sync_client=True) as client:
        gone = _obey(client, run.id)
        time.sleep(GRACE_SECONDS - gone)  # this thread ends with the run, wherever that takes it
        _end(client, run)


def _obey(client: SyncPrefectClient, run: UUID) -> float:
    """Come back when the worker has stopped the run, or when it was stopped here; how many seconds late, at most."""
    seen, late = 0, 0.0
    while not _is_stopped_within(INTERVAL_SECONDS):
        with suppress(*AWAY):
            seen = seen + 1 if _is_cancelled(client, run) else 0
        if seen == SIGHTINGS and control_listener.get_intent() is None:
            _stop()
            late = SIGHTINGS * INTERVAL_SECONDS
    return late


def _is_stopped_within(seconds: float) -> bool:
    """Whether the run was told to stop, by the worker or here, before so many seconds are over."""
    end = time.monotonic() + seconds
    while control_listener.get_intent() is None:
        if time.monotonic() >= end:
            return False
        time.sleep(min(LOOK_SECONDS, seconds))
    return True


def _is_cancelled(client: SyncPrefectClient, run: UUID) -> bool:
    state = client.read_flow_run(run).state
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def _stop() -> None:
    """Do what Prefect's runner does to a cancelled run, and let the run, not the runner, say how it ended."""
    os.environ["PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS"] = "true"
    control_listener._set_intent("cancel")
    os.kill(os.getpid(), signal.SIGTERM)


def _end(client: SyncPrefectClient, run: FlowRun) -> None:
    """End a run that does not stop: its process and all that it started, now."""
    why = f"ended at once, as it did not stop within {GRACE_SECONDS:g} s; run it again to resume"
    flow_run_logger(run).error(why)
    send_log()
    with suppress(*AWAY):
        if _is_cancelled(client, run.id):  # nobody else may be there to say it
            client.set_flow_run_state(run.id, Cancelled(message=why), force=True)
    end_now(128 + signal.SIGTERM, why)
