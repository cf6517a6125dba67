"""How a run tells what it does: a progress bar on a terminal, lines elsewhere, Prefect's log inside a flow run."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

HEARTBEAT_SECONDS = 10.0


class Advance(Protocol):
    """Counts what is done, and how much of it has failed; to be called from any thread."""

    def __call__(self, count: int, failed: int = 0) -> None: ...


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


def publish(key: str, markdown: str) -> None:
    """An artifact of the flow run, where this is one; `key` is of lowercase letters, digits and dashes."""
    if in_flow_run():
        create_markdown_artifact(markdown, key=key)


class _Pace(ProgressColumn):
    """How many a second, and in red how many have failed."""

    def render(self, task: Task) -> Text:
        pace = Text(f"{task.speed:,.1f}/s" if task.speed else "", style="progress.data.speed")
        if failed := task.fields["failed"]:
            pace.append(f"  {failed:,} failed", style="bold red")
        return pace


@contextmanager
def progress(title: str, total: int, unit: str) -> Iterator[Advance]:
    """Count up to `total` of `unit`."""
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description:<28}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            _Pace(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=total, failed=0)
            lock, failures = threading.Lock(), 0

            def advance(count: int, failed: int = 0) -> None:
                nonlocal failures
                with lock:
                    failures += failed
                    bar.update(task, advance=count, failed=failures)

            yield advance
        return
    yield _heartbeat(title, total, unit)


def _heartbeat(title: str, total: int, unit: str) -> Advance:
    """A line every ten seconds where no bar can be drawn."""
    say, lock, told = teller(), threading.Lock(), time.monotonic()
    done, first, failures, started = 0, 0, 0, 0.0

    def advance(count: int, failed: int = 0) -> None:
        nonlocal done, first, failures, started, told
        with lock:
            done += count
            failures += failed
            now = time.monotonic()
            if not first:  # what came before, a start or the steps of an earlier run, says nothing of the rate
                first, started = done, now
            if now - told < HEARTBEAT_SECONDS or done == first:
                return
            told = now
            rate = (done - first) / (now - started)
            line = f"{title}: {done:,} of {total:,} {unit}, {rate:,.1f}/s, {(total - done) / rate:,.0f} s left"
            if failures:
                line += f", {failures:,} failed"
        say(line)

    return advance
