"""An image that a library does not come back from, or that takes its process with it, becomes a failed row.

Real runs in real processes: Python loads a module at its start, there as in the processes that the runs start, by
which one image of the source is decoded for ever, or kills whoever decodes it.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from flows.engine.apart import Apart
from flows.engine.job import WorkerSpec
from storage.receipts.claims import Claim
from storage.receipts.units import Unit
from storage.stores.scratch import NAME
from tests.command_line import Command

POISON = """
import io, os, signal, time
import PIL.Image
opened = PIL.Image.open
def open_or_not(file, *given, **named):
    data = file.getvalue() if isinstance(file, io.BytesIO) else b""
    if b"decoded for ever" in data:
        while True: time.sleep(0.01)
    if b"kills" in data: os.kill(os.getpid(), signal.SIGKILL)
    return opened(file, *given, **named)
PIL.Image.open = open_or_not
"""
SOON = 120.0
KILLED = "killed the process that read it, twice (SIGKILL, as for want of memory)"
LATE = "took longer than --image-timeout 1 s"
UPSCALE = ("upscale", "--method", "lanczos", "--scale", "2")
SHARD = ("shard", "--size", "8")


class Run:
    """`dtls` over a source with one image that does this to whoever decodes it."""

    def __init__(self, folder: Path, what: str) -> None:
        self.source, self.target = folder / "source", folder / "target"
        self.source.mkdir()
        (folder / "sitecustomize.py").write_text(POISON)
        self.environment = os.environ | {"PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}
        for number in range(3):
            Image.new("RGB", (16, 16), (number, 0, 0)).save(self.source / f"{number}.png")
        with (self.source / "1.png").open("ab") as file:
            file.write(what.encode())

    def arguments(self, command: str, *options: str) -> tuple[str, ...]:
        """Those of the command line."""
        return command, str(self.source), str(self.target), *options, "--max-failed", "0.5"

    def __call__(self, command: str, *options: str) -> tuple[int, str]:
        """Its exit code and what it says."""
        ended = subprocess.run(
            [sys.executable, "-m", "flows", *self.arguments(command, *options)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SOON,
            check=False,
        )
        return ended.returncode, ended.stderr

    def rows(self) -> list[tuple[str, str, str | None]]:
        table = pq.read_table(self.target / "manifest.parquet")
        return [(row["key"], row["status"], row["reason"]) for row in table.to_pylist()]


def all_but_one(reason: str) -> list[tuple[str, str, str | None]]:
    return [("0.png", "ok", None), ("1.png", "failed", reason), ("2.png", "ok", None)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        UPSCALE,
        pytest.param(SHARD, marks=pytest.mark.nightly),
        pytest.param((*UPSCALE, "--runner", "processes"), marks=pytest.mark.nightly),
        pytest.param((*UPSCALE, "--samples-per-shard", "3"), marks=pytest.mark.nightly),
    ],
)
def test_an_image_that_is_decoded_for_ever_is_a_failed_row_and_does_not_come_again(
    command: tuple[str, ...], tmp_path: Path, dtls: Command
) -> None:
    run = Run(tmp_path, "decoded for ever")
    code, said = run(*command, "--image-timeout", "1")
    assert code == 0, said
    assert "2 done, 1 failed" in said
    assert run.rows() == all_but_one(LATE)
    assert "2 already done, 1 failed" in dtls(*run.arguments(*command)).stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", [SHARD, pytest.param(UPSCALE, marks=pytest.mark.nightly)])
def test_a_unit_that_has_killed_its_process_twice_is_done_image_by_image(
    command: tuple[str, ...], tmp_path: Path, dtls: Command
) -> None:
    run = Run(tmp_path, "kills")
    assert [run(*command)[0] for _ in range(2)] == [-signal.SIGKILL, -signal.SIGKILL]
    code, said = run(*command)
    assert code == 0, said
    assert run.rows() == all_but_one(KILLED)
    assert not list(run.target.glob(".dtls/attempt-*"))
    assert "2 already done, 1 failed" in dtls(*run.arguments(*command)).stderr


@pytest.mark.slow
@pytest.mark.nightly
def test_an_image_that_kills_its_worker_twice_is_a_failed_row(tmp_path: Path) -> None:
    run = Run(tmp_path, "kills")
    code, said = run(*UPSCALE, "--runner", "processes")
    assert code == 0, said
    assert run.rows() == all_but_one(KILLED)


@pytest.mark.slow
@pytest.mark.nightly
def test_a_report_leaves_an_image_that_is_decoded_for_ever_out_of_its_page(tmp_path: Path) -> None:
    run = Run(tmp_path, "decoded for ever")
    results = tmp_path / "results"
    results.mkdir()
    for number in range(3):
        Image.new("RGB", (16, 16)).save(results / f"{number}.png")
    options = ["--hr", str(run.source), "--sr", f"x={results}", "--out", str(run.target), "--lpips", "none"]
    command = [sys.executable, "-m", "flows", "report", *options, "--max-failed", "0.5", "--image-timeout", "1"]
    ended = subprocess.run(command, env=run.environment, capture_output=True, text=True, timeout=SOON, check=False)
    assert ended.returncode == 0, ended.stderr
    assert [row["error"] for row in pq.read_table(run.target / "metrics.parquet").to_pylist()] == [None, LATE, None]
    assert (run.target / "index.html").exists()


def test_what_is_tried_alone_lies_where_the_next_run_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    tried: list[str] = []

    def trial(folder: str) -> Any:
        tried.append(Path(folder).name)
        raise KeyboardInterrupt

    worker_spec = WorkerSpec(lambda _: lambda *_: [], uses_gpu=False, trial=trial)
    apart = Apart(lambda *_: [], worker_spec, Claim(str(tmp_path), "", 1.0), None)
    with pytest.raises(KeyboardInterrupt):
        apart(Unit.of("shard", "shard-000000", (), {}), [], lambda *_: None)
    assert NAME.fullmatch(tried[0])
