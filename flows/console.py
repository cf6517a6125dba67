"""How a run tells what it does: a progress bar on a terminal, lines elsewhere, Prefect's log inside a flow run."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[[int], None]
HEARTBEAT_SECONDS = 10.0


def in_flow_run() -> bool:
    """Whether Prefect runs this."""
    return FlowRunContext.get() is not None


def _deployed() -> bool:
    context = FlowRunContext.get()
    return context is not None and context.flow_run is not None and context.flow_run.deployment_id is not None


def teller() -> Callable[[str], None]:
    """What says one line of this run, from any thread: Prefect's log where a deployment runs, else the terminal."""
    if _deployed():
        return get_run_logger().info
    return Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print


def tell(message: str) -> None:
    """One line about the run."""
    teller()(message)


def tell_markdown(text: str) -> None:
    """A table of the run, drawn on the terminal."""
    if not _deployed():
        Console(stderr=True).print(Markdown(text))


@contextmanager
def progress(title: str, total: int, unit: str) -> Iterator[Advance]:
    """Count up to `total` of `unit`; the yielded function may be called from any thread."""
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=total)
            yield lambda count: bar.advance(task, count)
        return
    yield _heartbeat(title, total, unit)


def _heartbeat(title: str, total: int, unit: str) -> Advance:
    """A line every ten seconds where no bar can be drawn."""
    say, lock, told = teller(), threading.Lock(), time.monotonic()
    done, first, started = 0, 0, 0.0

    def advance(count: int) -> None:
        nonlocal done, first, started, told
        with lock:
            done += count
            now = time.monotonic()
            if not first:  # what came before, a start or the steps of an earlier run, says nothing of the rate
                first, started = done, now
            if now - told < HEARTBEAT_SECONDS or done == first:
                return
            told = now
            rate = (done - first) / (now - started)
            line = f"{title}: {done:,} of {total:,} {unit}, {rate:,.1f}/s, {(total - done) / rate:,.0f} s left"
        say(line)

    return advance
