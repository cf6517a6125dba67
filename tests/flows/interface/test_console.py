"""What a run tells while it goes: one line on terminals of any width, and a rate that can be believed."""

import io
import re
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from rich.style import Style
from rich.text import Text

from flows.interface import console
from flows.interface.console import HEARTBEAT_SECONDS, log, log_markdown, printable, progress, publish

TITLE = "upscale s3://bucket/a/long/way/to/photographs.zip"


class Terminal(io.StringIO):
    """A terminal that keeps what is drawn on it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that is set by hand."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr("rich.console.monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def drawn(clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Text]:
    """The bar on a terminal so wide, after images that took a second each."""

    def draw(width: int, counts: list[tuple[int, int]], total: int, title: str = TITLE) -> Text:
        terminal = Terminal()
        for name, value in {"COLUMNS": str(width), "LINES": "24", "TERM": "xterm"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress(title, total, "images") as advance:
            for count, failed in counts:
                clock.now += 1
                advance(count, failed)
        lines = [Text.from_ansi(line) for line in re.split(r"[\r\n]+", terminal.getvalue())]
        return [line for line in lines if line.plain.strip()][-1]

    return draw


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(("total", "done"), [(12, 1), (2_000_000, 100_000)])
def test_the_bar_is_one_line_with_all_that_counts(
    width: int, total: int, done: int, drawn: Callable[..., Text]
) -> None:
    line = drawn(width, [(done, 0)] * 4 + [(done, done // 2)] * 2, total)
    assert line.cell_len <= width
    assert line.plain.startswith("up")
    assert f"{6 * done:,}/{total:,}" in line.plain
    assert re.search(r"\d+ (s|min|h) left", line.plain)
    assert not done // 2 or f"{2 * (done // 2):,} failed" in line.plain
    assert "━━━" in line.plain


def test_a_title_too_long_ends_in_an_ellipsis_and_a_short_one_is_whole(drawn: Callable[..., Text]) -> None:
    assert "… ━" in drawn(60, [(1, 0)] * 3, 12).plain
    assert drawn(60, [(1, 0)] * 3, 12, "upscale lr").plain.startswith("upscale lr  ")


def test_a_table_that_is_wider_than_the_terminal_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    heads, numbers = [f"column number {number}" for number in range(12)], [str(1000 + n) for n in range(12)]
    log_markdown("\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---:"] * 12, numbers)))
    drawn = capsys.readouterr().err
    assert all(text in drawn for text in (*heads, *numbers))


def test_failures_are_red(drawn: Callable[..., Text]) -> None:
    line = drawn(60, [(1, 0), (1, 1)], 12)
    start = line.plain.index("1 failed")
    assert any(span.start <= start < span.end and span.style == Style.parse("bold color(1)") for span in line.spans)


def test_a_heartbeat_tells_a_rate_only_of_what_took_a_second(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    with progress("train", 1000, "steps") as advance:
        for now, count in [(11.0, 500), (11.1, 1), (21.5, 99), (32.0, 0), (42.5, 300)]:
            clock.now = now
            advance(count)
            told += capsys.readouterr().err.splitlines() or [""]
    assert told == [
        "train: 500 of 1,000 steps",
        "",
        "train: 600 of 1,000 steps, 9.5/s, 42 s left",
        "train: 600 of 1,000 steps, 4.8/s, 84 s left",
        "train: 900 of 1,000 steps, 12.7/s, 8 s left",
    ]


def test_a_heartbeat_at_the_very_moment_of_the_first_progress_tells_no_rate(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("upscale", 10, "images") as advance:
        advance(1)
        clock.now = HEARTBEAT_SECONDS
        advance(0, failed=1)
        assert capsys.readouterr().err == "upscale: 1 of 10 images, 1 failed\n"
        clock.now = 2 * HEARTBEAT_SECONDS
        advance(1)
        assert capsys.readouterr().err == "upscale: 2 of 10 images, 0.1/s, 3 min left, 1 failed\n"


@pytest.mark.parametrize("error", [httpx.ConnectError("All connection attempts failed"), RuntimeError("no API")])
def test_what_prefects_server_does_not_take_is_told_and_fails_no_run(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(console, "in_flow_run", lambda: True)
    monkeypatch.setattr("prefect.artifacts.create_markdown_artifact", refuse)
    publish("dtls-shard-run", "# all of it")
    assert capsys.readouterr().err == f"no artifact dtls-shard-run, as Prefect's server does not take it: {error}\n"


def test_what_images_are_called_does_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    log("  failed: a\x1b[2Jb\nc\u202ed\udcff.png: broken")
    assert capsys.readouterr().err == "  failed: a\ufffd[2Jb c\ufffdd\ufffd.png: broken\n"
    assert printable("Jürgen 写真.png … ×4") == "Jürgen 写真.png … ×4"
