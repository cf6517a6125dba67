"""How a run reports what it does: a progress bar on a terminal, lines elsewhere, Prefect's log inside a flow run."""

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from storage.stores.addresses import cleaned

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.context import FlowRunContext
    from prefect.logging.loggers import PrefectLogAdapter

HEARTBEAT_SECONDS = 10.0
FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]*[a-z])(?![\w/-]|\.\w)")
FOR_RATE, FOR_UNIT = 80, 100
"""Terminals of fewer columns do not show the rate, or the unit."""


class Advance(Protocol):
    """Counts what is done, and how much of it has failed; to be called from any thread."""

    def __call__(self, count: int, failed: int = 0) -> None: ...


def _context() -> "FlowRunContext | None":
    """Prefect's context of the flow run that this is. Where Prefect is not imported, it runs nothing."""
    loaded = sys.modules.get("prefect.context")
    return loaded.FlowRunContext.get() if loaded is not None else None


def in_flow_run() -> bool:
    """Whether Prefect runs this."""
    return _context() is not None


def in_deployment() -> bool:
    """Whether this process was started for the flow run of a deployment."""
    return "PREFECT__FLOW_RUN_ID" in os.environ


def deployed() -> "FlowRun | None":
    """The flow run that this is, if a deployment's run, or one within it."""
    context = _context()
    return context.flow_run if context is not None and in_deployment() else None


def logger() -> Callable[[str], None]:
    """What logs one line of this run, from any thread: its log where a deployment runs, else the terminal.

    The log is the flow run's, within its tasks, too: prefect.yaml has theirs switched off.
    """
    if (run := deployed()) is not None:
        write = _run_log(run).info
        return lambda message: write(shown(message))
    write_line = _terminal(soft_wrap=True).print
    return lambda message: write_line(printable(message))


def _run_log(run: "FlowRun") -> "PrefectLogAdapter":
    from prefect.logging.loggers import flow_run_logger

    return flow_run_logger(run)


def shown(message: str) -> str:
    """A message in one line, with the names of options that a deployment's form has: max_failed for --max-failed."""
    parts = printable(message).split("`")  # every second one is a command
    parts[::2] = [FLAG.sub(lambda flag: flag[1].replace("-", "_"), part) for part in parts[::2]]
    return "`".join(parts)


def flow_run() -> tuple[str | None, bool]:
    """The id of the flow run that this is, if it is one, and whether it has run before and is tried again."""
    context = _context()
    run = context.flow_run if context is not None else None
    return (str(run.id), run.run_count > 1) if run is not None else (None, False)


def printable(text: str) -> str:
    """`text` in one line without secrets that does nothing to a terminal, whatever images are called."""
    shown = cleaned(text)
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in shown)


def _terminal(*, soft_wrap: bool = False) -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=soft_wrap, markup=False)


def log(message: str) -> None:
    """Log one line about the run."""
    logger()(message)


def log_failure(message: str) -> None:
    """An error in the log of a deployment's run, at once; elsewhere the end of the run reports it."""
    if (run := deployed()) is not None:
        _run_log(run).error(shown(message))


def log_warning(message: str) -> None:
    """A warning in the log of a deployment's run."""
    if (run := deployed()) is not None:
        _run_log(run).warning(shown(message))


def log_markdown(text: str) -> None:
    """A table of the run, drawn on the terminal; one that is wider is drawn whole, and its lines wrap."""
    if deployed() is None:
        from rich.markdown import Markdown

        widest = max((len(line) for line in text.splitlines() if line.startswith("|")), default=0)
        Console(stderr=True, width=max(Console(stderr=True).width, widest)).print(Markdown(text))


def publish(key: str, markdown: str) -> None:
    """An artifact of the flow run, where this is one; `key` is of lowercase letters, digits and dashes.

    The work is done by then, so a server that does not take it is a line of the log.
    """
    if in_flow_run():
        import httpx
        from prefect.artifacts import create_markdown_artifact
        from prefect.exceptions import PrefectException

        try:
            create_markdown_artifact(markdown, key=key)
        except (httpx.HTTPError, PrefectException, RuntimeError) as error:  # RuntimeError: it cannot be reached
            log(f"no artifact {key}, as Prefect's server does not take it: {error}")


class _Title(ProgressColumn):
    """What is done; it has the room that the other columns leave, and is cut to it."""

    def __init__(self) -> None:
        super().__init__(Column(ratio=1, no_wrap=True, overflow="ellipsis"))

    def render(self, task: Task) -> Text:
        return Text(task.description)


class _Counts(ProgressColumn):
    """How many are done, how many a second, how long the rest takes, and in red how many have failed."""

    def __init__(self, unit: str, width: int) -> None:
        super().__init__(Column(no_wrap=True))
        self.unit, self.width = unit, width

    def render(self, task: Task) -> Text:
        counts = Text(f"{task.completed:,.0f}/{task.total or 0:,.0f}", style="progress.download")
        if self.width >= FOR_UNIT:
            counts.append(f" {self.unit}")
        if task.speed and self.width >= FOR_RATE:
            counts.append(f"  {task.speed:,.1f}/s", style="progress.data.speed")
        if (seconds := task.time_remaining) and not task.finished:
            counts.append(f"  {_left(seconds)}", style="progress.remaining")
        if failed := task.fields["failed"]:
            counts.append(f"  {failed:,} failed", style="bold red")
        return counts


@contextmanager
def progress(title: str, total: int, unit: str) -> Iterator[Advance]:
    """Count up to `total` of `unit`."""
    if sys.stderr.isatty():
        console = _terminal()
        columns = (_Title(), BarColumn(console.width // 6), _Counts(unit, console.width))
        with Progress(*columns, console=console, expand=True) as bar:
            task = bar.add_task(printable(title), total=total, failed=0)
            lock, failures = threading.Lock(), 0

            def advance(count: int, failed: int = 0) -> None:
                nonlocal failures
                with lock:
                    failures += failed
                    bar.update(task, advance=count, failed=failures)

            yield advance
        return
    yield _heartbeat(title, total, unit)


def _left(seconds: float) -> str:
    """How long it still takes, as exactly as it can be known."""
    if seconds < 100:
        return f"{seconds:.0f} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 6000 else f"{seconds / 3600:,.0f} h left"


def _heartbeat(title: str, total: int, unit: str) -> Advance:
    """A line every ten seconds where no bar can be drawn; it has the rate of what took a second or more."""
    write_line, lock, reported = logger(), threading.Lock(), time.monotonic()
    done, first, failures, started = 0, 0, 0, 0.0

    def advance(count: int, failed: int = 0) -> None:
        nonlocal done, first, failures, started, reported
        with lock:
            done += count
            failures += failed
            now = time.monotonic()
            if not first:  # what came before, a start or the steps of an earlier run, is no part of the rate
                first, started = done, now
            if now - reported < HEARTBEAT_SECONDS:
                return
            reported = now
            line = f"{title}: {done:,} of {total:,} {unit}"
            if done > first and now - started >= 1:
                rate = (done - first) / (now - started)
                line += f", {rate:,.1f}/s, {_left((total - done) / rate)}"
            if failures:
                line += f", {failures:,} failed"
        write_line(line)

    return advance
