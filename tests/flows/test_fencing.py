"""A run that was paused past its lease, while another took over and ended, wakes and changes nothing of its target.

Real processes are stopped and woken by signals; leases last seconds here, so that they end soon.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows.training_settings import states
from storage.locations import TEMPORARY, Location
from storage.owners import LEASE
from tests.services import wait_until

SOON = 90.0
LASTS = 3.0
SHORT = f"""
import os, signal, sys
import storage.leases as leases
leases.LASTS, leases.EVERY = {LASTS}, 0.5
from storage.locations import Location
def pause(): os.kill(os.getpid(), signal.SIGSTOP)
"""
AT_AN_IMAGE = """
write, written = Location.write, []
def writes(place, key, data):
    if key.endswith(".png"):
        written.append(key)
        if len(written) == 3: pause()
    write(place, key, data)
Location.write = writes
"""
WHILE_PACKING = """
from contextlib import contextmanager
writing = Location.writing
@contextmanager
def writes(place, key):
    with writing(place, key) as path:
        yield path
        if key.endswith(".zip"): pause()
Location.writing = writes
"""
RUN = "\nfrom flows.cli import main\nmain()\n"
LANCZOS = ("--method", "lanczos", "--scale", "2", "--workers", "2")
TINY = ("--size", "32", "--lr-size", "8", "--dim", "8", "--dim-mults", "1,2", "--batch-size", "2")

pytestmark = pytest.mark.slow


@contextmanager
def started(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`dtls` with these arguments in a session of its own, with leases that end soon."""
    command = [sys.executable, "-c", SHORT + script + RUN, *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, **pipes) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def is_stopped(process: subprocess.Popen[str]) -> bool:
    return "\nState:\tT" in Path(f"/proc/{process.pid}/status").read_text()


def content(target: Location) -> dict[str, bytes]:
    """The files below, less what was about to become one of the stopped run's, which it removes."""
    return {entry.key: target.read(entry.key) for entry in target.list() if not TEMPORARY.fullmatch(entry.key)}


def woken_after_another_ran(
    paused: subprocess.Popen[str], lease: Location, content: Callable[[], object], *other: str
) -> str:
    """What a stopped run says in the end. Another took over and ended before it woke, whose files stay."""
    assert wait_until(lambda: (lease.age(LEASE) or 0) > LASTS, SOON)
    with started("", *other) as second:
        _, said = second.communicate(timeout=SOON)
    assert second.returncode == 0, said
    assert not lease.exists(LEASE)
    before = content()
    os.killpg(paused.pid, signal.SIGCONT)
    _, said = paused.communicate(timeout=SOON)
    assert content() == before
    assert paused.returncode == 1
    last: str = said.strip().splitlines()[-1]
    return last


@pytest.mark.parametrize(
    ("name", "script"), [("large", AT_AN_IMAGE), ("large.zip", WHILE_PACKING)], ids=["folder", "archive"]
)
def test_an_upscaling_that_wakes_leaves_the_results_of_who_took_over(
    name: str, script: str, photographs: Path, tmp_path: Path
) -> None:
    target = Location.of(tmp_path)
    staging = target / (f"{name}.dtls" if name.endswith(".zip") else name)
    run = ("upscale", str(photographs), str(tmp_path / name), *LANCZOS)
    with started(script, *run) as first:
        assert wait_until(lambda: is_stopped(first), SOON)
        said = woken_after_another_ran(first, staging, lambda: content(target), *run)
    assert said.startswith(f"dtls: {staging}: stopped, as ")
    assert said.endswith("; run it again to go on")


@pytest.mark.integration
def test_an_upscaling_to_a_bucket_that_wakes_leaves_the_results_of_who_took_over(photographs: Path, s3: str) -> None:
    target = Location.of(f"{s3}/large")
    run = ("upscale", str(photographs), str(target), *LANCZOS)
    with started(AT_AN_IMAGE, *run) as first:
        assert wait_until(lambda: is_stopped(first), SOON)
        said = woken_after_another_ran(first, target, lambda: content(target), *run)
    assert said.startswith(f"dtls: {target}: stopped, as ")


def test_a_training_that_wakes_leaves_the_model_of_who_took_over(photographs: Path, tmp_path: Path) -> None:
    shards, target = tmp_path / "shards", Location.of(tmp_path / "model")
    with started("", "shard", str(photographs), str(shards)) as sharding:
        assert sharding.wait(SOON) == 0
    train = ("train", str(shards), str(target), *TINY, "--save-every", "5")
    with started("", *train, "--steps", "1000000") as first:
        assert wait_until(lambda: len(states(entry.key for entry in target.list())) > 1, SOON)
        os.killpg(first.pid, signal.SIGSTOP)
        steps = int(states(entry.key for entry in target.list())[0].split("-")[1].split(".")[0]) + 5
        other = (*train, "--resume", "--steps", str(steps), "--keep", "1")
        said = woken_after_another_ran(first, target, lambda: content(target), *other)
    assert said.startswith(f"dtls: {target}: stopped, as ")
