"""Folders for a while: gone afterwards, and swept by the next process where theirs was killed; nobody else's is."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from storage.stores.scratch import scratch_folder, sweep_scratch

HOLD = """
import sys, time
from storage.stores.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "part").write_bytes(bytes(1000))
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_a_folder_is_gone_afterwards_however_it_is_left(temporary: Path) -> None:
    def leave() -> None:
        with scratch_folder() as folder:
            (folder / "a").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert list(temporary.iterdir()) == []


def test_the_folder_of_a_killed_process_is_swept_and_that_of_a_living_one_is_not() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        folder = Path(other.stdout.readline().strip())
        sweep_scratch()
        assert (folder / "part").exists()
        other.kill()
    with scratch_folder():
        assert not folder.exists()


def test_what_only_looks_like_one_stays(temporary: Path) -> None:
    (temporary / "theirs").mkdir()
    (temporary / "theirs" / "file").touch()
    (temporary / "dtls-temporary-abcdefgh").symlink_to("theirs")
    (temporary / "dtls-temporary-abcdefgh-mine").mkdir()
    (temporary / "dtls-certificates").mkdir()
    sweep_scratch()
    assert (temporary / "theirs" / "file").exists()
    assert len(list(temporary.iterdir())) == 4
