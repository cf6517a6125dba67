"""A cancelled run stops, even where Prefect's worker does not hear of it: the run reads its own state now and then.

The worker listens for cancelled runs, but gives that up for good when the server is away for half a minute. A run
that the worker does stop is left to it.
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
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

INTERVAL_SECONDS = 6.0
SIGHTINGS = 2
"""How often in a row a run sees itself cancelled before it stops itself; until then its worker may."""


def obey_cancels(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001, Prefect's names
    """Watch a deployment's run that begins; those within it end with it."""
    if str(flow_run.id) == os.environ.get("PREFECT__FLOW_RUN_ID"):
        Thread(target=copy_context().run, args=(_watch, flow_run.id), name="cancels", daemon=True).start()


def _watch(run: UUID) -> None:
    seen = 0
    now = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: INTERVAL_SECONDS}
    with temporary_settings(now), get_client(sync_client=True) as client:
        while control_listener.get_intent() is None:
            if seen == SIGHTINGS:
                _stop()
                return
            time.sleep(INTERVAL_SECONDS)
            with suppress(httpx.HTTPError, PrefectException, ValueError):  # the server is away, or a proxy answers
                seen = seen + 1 if _is_cancelled(client, run) else 0


def _is_cancelled(client: SyncPrefectClient, run: UUID) -> bool:
    state = client.read_flow_run(run).state
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def _stop() -> None:
    """Do what Prefect's runner does to a cancelled run, and let the run, not the runner, say how it ended."""
    os.environ["PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS"] = "true"
    control_listener._set_intent("cancel")
    os.kill(os.getpid(), signal.SIGTERM)
