"""Programs that are forked behave as started ones: their family, their signals, their files, and their ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.services import descendants, is_running, wait_until
from tests.warm import Starter

NOWHERE = [sys.executable, "-m", "flows", "upscale", "nowhere", "out", "--method", "bicubic", "--scale", "2"]

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("warm")]


def started_as(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a session of its own that waits for a pipe's other end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "flows.training.process", str(pipe)]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE) as process:
        try:
            assert wait_until(lambda: len(descendants(process.pid)) == 1, 20)
            yield process
        finally:
            process.kill()


def test_a_program_ends_as_it_would_and_is_run_in_its_folder(tmp_path: Path, warm: Starter) -> None:
    (tmp_path / "nowhere").mkdir()
    forked = subprocess.run(NOWHERE, cwd=tmp_path, capture_output=True, text=True)
    with warm.paused():
        started = subprocess.run(NOWHERE, cwd=tmp_path, capture_output=True, text=True)
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)
    assert forked.returncode == 1
    assert "nowhere: " in forked.stderr
    assert "no such folder" not in forked.stderr


def test_a_program_is_a_child_in_the_session_it_asked_for(waiting: subprocess.Popen[bytes]) -> None:
    assert started_as(waiting.pid)[2] == "tests.warm_process"
    assert waiting.pid in descendants(os.getpid())
    assert os.getsid(waiting.pid) == os.getpgid(waiting.pid) == waiting.pid
    assert [os.getpgid(pid) for pid in descendants(waiting.pid)] == [waiting.pid]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_a_program_and_what_forks_for_it(number: int, waiting: subprocess.Popen[bytes]) -> None:
    helper = descendants(waiting.pid)
    waiting.send_signal(number)
    assert waiting.wait(20) == -number
    assert waiting.stderr is not None
    assert waiting.stderr.read() == b""  # nobody holds the other end
    assert wait_until(lambda: not any(map(is_running, helper)), 20)


def test_an_interrupt_is_python_s(waiting: subprocess.Popen[bytes]) -> None:
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=20)
    assert waiting.returncode == -signal.SIGINT
    assert said.endswith(b"KeyboardInterrupt\n")


def test_processes_of_multiprocessing_are_forked_and_are_told_what_to_run() -> None:
    with get_context("spawn").Pool(1) as pool:
        pid = pool.apply(os.getpid)
        assert started_as(pid)[2] == "tests.warm_process"
        assert pool.apply(os.getppid) == os.getpid()


def test_what_is_read_at_an_interpreter_s_start_is_never_forked(tmp_path: Path) -> None:
    code = "import sys; print(sys.flags.utf8_mode, 'torch' in sys.modules)"
    environment = os.environ | {"PYTHONUTF8": "1", "PYTHONSTARTUP": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "1 False\n"
    os.mkfifo(tmp_path / "pipe")
    command = [sys.executable, "-m", "flows.training.process", str(tmp_path / "pipe")]
    with subprocess.Popen(command, env=environment) as process:
        try:
            assert wait_until(lambda: "flows.training.process" in started_as(process.pid), 20)
        finally:
            process.kill()
