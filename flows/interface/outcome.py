"""How a flow ends in the run of a deployment: its state and one line of its log are what the command line prints."""

import logging
import sys
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar, cast

from dtls.errors import DtlsError
from flows.interface.console import deployed, log_failure, log_warning, shown
from flows.interface.errors import RunError, UsageError
from flows.interface.extras import missing_extra

P = ParamSpec("P")
R = TypeVar("R")


class NothingToDo(str):
    """What a flow returns in whose run nothing was left to do."""

    __slots__ = ()


def failures() -> tuple[type[Exception], ...]:
    """What ends in one line."""
    return (OSError, RunError, UsageError, DtlsError)


def line_of(error: BaseException) -> str | None:
    """The line for an error; None for an unexpected one, which has a traceback instead."""
    return str(error) if isinstance(error, failures()) else missing_extra(error)


def one_line(run: Callable[P, R]) -> Callable[P, R]:
    """`run`, the function of a flow or a task. In a deployment's run, what may go wrong becomes a failed state whose
    message is the line that the command line prints; elsewhere it is raised."""

    @wraps(run)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if deployed() is None:
            return run(*args, **kwargs)
        from prefect.context import TaskRunContext
        from prefect.states import Completed, Failed

        _leave_out_tracebacks()
        try:
            result = run(*args, **kwargs)
        except Exception as error:
            if (line := line_of(error)) is None:
                raise
            if TaskRunContext.get() is None:
                log_failure(line)
                send_log()
            return cast(R, Failed(message=shown(line), data=error))
        if isinstance(result, NothingToDo) and TaskRunContext.get() is None:
            log_warning(result)
            send_log()
            return cast(R, Completed(name=type(result).__name__, message=shown(result), data=str(result)))
        return result

    return call


def send_log() -> None:
    """Let the log be on the server before the state is: `--watch` waits three seconds for it, and no more."""
    for handler in logging.getLogger("prefect.flow_runs").handlers:
        handler.flush()


def raised(result: Any) -> Any:
    """What a task has returned, or its error again: called, a task that returns a failed state gives this state."""
    loaded = sys.modules.get("prefect.client.schemas.objects")
    return result.result() if loaded is not None and isinstance(result, loaded.State) else result


@cache
def _leave_out_tracebacks() -> None:
    """Keep Prefect from logging the tracebacks of what the state has in its message."""
    for name in ("prefect.flow_runs", "prefect.task_runs", "prefect.engine"):
        logging.getLogger(name).addFilter(_is_unexpected)


def _is_unexpected(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else record
    return error is not None and (not isinstance(error, BaseException) or line_of(error) is None)
