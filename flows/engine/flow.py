"""`@flow` makes a function the flow of a deployment, and imports Prefect only where Prefect is at work.

Prefect takes more than a second to import, and the command line runs the functions without it. Whoever loads the flow
of a deployment has imported Prefect before, and finds a `prefect.Flow`.
"""

import sys
from collections.abc import Callable
from functools import cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from flows.interface.console import in_flow_run
from flows.interface.options import Options
from flows.interface.outcome import one_line

if TYPE_CHECKING:
    from prefect import Flow

P = ParamSpec("P")
Model = TypeVar("Model", bound=Options)
R = TypeVar("R")


def flow(run_name: str) -> "Callable[[Callable[[Model], R]], Flow[[Model], R]]":
    """The decorator of a flow of one argument, `options`. run_name: of its runs, with {options.…} filled in.

    Called, the flow runs in Prefect; its `fn` is the function, which the command line calls.
    """

    def decorate(run: Callable[[Model], R]) -> "Flow[[Model], R]":
        called = one_line(run)
        if "prefect" in sys.modules:
            return _flow_of(called, run_name)
        return cast("Flow[[Model], R]", _Unmade(called, run_name))

    return decorate


def as_part(called: "Flow[[Model], R]", options: Model) -> R:
    """What another flow returns: run as a part of this flow run where there is one, else as a function."""
    return called(options) if in_flow_run() else called.fn(options)


def in_task(name: str, run: Callable[P, R]) -> Callable[P, R]:
    """`run` as a task within a flow run, and as it is elsewhere."""
    if not in_flow_run():
        return run
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    return task(name=name, cache_policy=NO_CACHE, persist_result=False)(one_line(run))


def _flow_of(run: Callable[[Model], R], run_name: str) -> "Flow[[Model], R]":
    from prefect import flow as made

    from flows.engine.cancelling import obey_cancels

    return made(name="dtls", flow_run_name=run_name, on_running=[obey_cancels])(run)


class _Unmade(Generic[Model, R]):
    """A flow that is made when it is called, or asked for what only Prefect's flows have."""

    def __init__(self, run: Callable[[Model], R], run_name: str) -> None:
        update_wrapper(self, run)
        self.fn, self._run_name = run, run_name

    @cached_property
    def _made(self) -> "Flow[[Model], R]":
        return _flow_of(self.fn, self._run_name)

    def __call__(self, *given: Any, **more: Any) -> Any:
        """As Prefect's flows are called, with `return_state` and the like, too."""
        return self._made(*given, **more)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._made, name)
