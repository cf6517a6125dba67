"""A second signal ends a run at once, whatever its threads are at; no lease is given back while one of them works.

Real processes get real signals, while an image of theirs is being decoded for ever.
"""

import signal
import subprocess
import sys
from contextvars import copy_context
from functools import partial
from pathlib import Path
from threading import Event, Thread

import pytest

from storage.receipts.lease import hold
from storage.receipts.owners import LEASE
from storage.stores.location import Location, StorageError
from tests.command_line import Command
from tests.services import wait_until

SOON = 60.0
FOR_EVER = """
import sys, time
from pathlib import Path
import flows.transform.pipeline, flows.engine.stopping
flows.engine.stopping.TOLD_AFTER = 0.2
decoding = Path(sys.argv.pop())
def decode_for_ever(data):
    decoding.touch()
    while True: time.sleep(0.01)
flows.transform.pipeline.open_photo = decode_for_ever
from flows.cli import main
main()
"""
LANCZOS = ("--method", "lanczos", "--scale", "2", "--workers", "1", "--in-flight", "1")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_a_run_now_and_the_next_goes_on(
    number: signal.Signals, code: int, photographs: Path, tmp_path: Path, dtls: Command
) -> None:
    target, decoding = tmp_path / "large", tmp_path / "decoding"
    options = ["upscale", str(photographs), str(target), *LANCZOS]
    listens = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, "-c", FOR_EVER, *options, str(decoding)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listens) as run:
        assert run.stderr is not None
        assert wait_until(decoding.exists, SOON), run.poll()
        run.send_signal(number)
        assert "what is in hand is waited for" in run.stderr.readline()
        assert run.poll() is None
        run.send_signal(number)
        _, said = run.communicate(timeout=SOON)
    assert run.returncode == code
    assert said == "dtls: ended at once; run it again to resume\n"
    assert (target / LEASE).exists()
    again = dtls(*options)
    assert again.code == 0, again.stderr
    assert not (target / LEASE).exists()


def test_a_thread_that_is_at_work_when_its_run_ends_writes_nothing_more_and_the_lease_stays(tmp_path: Path) -> None:
    target, working, ended = Location.of(tmp_path), Event(), Event()
    refused: list[str] = []

    def work() -> None:
        with lease.at_work():
            working.set()
            assert ended.wait(SOON)
            with pytest.raises(StorageError) as found:
                target.write("late.png", b"")
            refused.append(str(found.value))

    with hold(target, "upscale") as lease:
        thread = Thread(target=copy_context().run, args=(work,))
        thread.start()
        assert working.wait(SOON)
    ended.set()
    thread.join(SOON)
    assert refused
    assert [entry.key for entry in target.list()] == [LEASE]
