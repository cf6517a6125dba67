"""How the command line starts: what it imports, and that a folder `flows` of somebody else's is left alone."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

import dtls
from flows.cli import COMMANDS
from flows.upscale import UpscaleOptions, upscale

HEAVY = ("prefect", "scipy", "torch")
LIGHT = """
import sys
from contextlib import suppress
from flows.__main__ import main
for line in sys.stdin.read().splitlines():
    sys.argv = ["dtls", *line.split()]
    with suppress(SystemExit):
        main()
    print(f"{{line}}:", *(name for name in {heavy} if name in sys.modules), file=sys.stderr)
"""
ENTRIES = {"module": [sys.executable, "-m", "dtls"], "script": [str(Path(sys.executable).with_name("dtls"))]}


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A folder with a package `flows` that is not ours."""
    package = tmp_path / "theirs" / "flows"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('the wrong flows')")
    return package.parent


@pytest.mark.slow
def test_what_is_answered_at_once_imports_neither_torch_nor_scipy_nor_prefect(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    options = {"source": str(tmp_path / "a.png"), "target": str(tmp_path / "done"), "method": "nearest", "scale": 2}
    upscale.fn(UpscaleOptions.model_validate(options))
    asked = ["--help", "--version", "status done", *(f"{name} --help" for name in COMMANDS)]
    command = [sys.executable, "-c", LIGHT.format(heavy=HEAVY)]
    ended = subprocess.run(command, cwd=tmp_path, input="\n".join(asked), capture_output=True, text=True, check=False)
    assert ended.stderr.splitlines() == [f"{words}:" for words in asked], ended.stdout
    assert "done: 100% of 1 image" in ended.stdout
    assert ended.stdout.count("Examples:") == len(COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES)
def test_the_command_line_starts_beside_a_package_that_is_called_flows_too(entry: str, beside: Path) -> None:
    ended = subprocess.run([*ENTRIES[entry], "--version"], cwd=beside, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == (f"dtls {version('dtls')}\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES)
def test_the_command_line_starts_in_a_folder_that_was_removed(entry: str, tmp_path: Path) -> None:
    command = ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *ENTRIES[entry], "--version"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, f"dtls {version('dtls')}\n"), ended.stderr


@pytest.mark.slow
def test_processes_of_a_run_start_there_too(beside: Path) -> None:
    Image.new("RGB", (8, 8)).save(beside / "a.png")
    words = ["upscale", "a.png", "large", "--method", "nearest", "--scale", "2", "--runner", "processes"]
    ended = subprocess.run([*ENTRIES["module"], *words], cwd=beside, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert (beside / "large" / "a.png").exists()


def test_the_package_says_its_version() -> None:
    assert dtls.__version__ == version("dtls")


LEFT_BEHIND = """
import sys, threading
import torch
from flows import cli
from flows.__main__ import main

def multiply():
    while True:
        torch.ones(400, 400) @ torch.ones(400, 400)

def run():
    threading.Thread(target=multiply, daemon=True).start()
    print("said")
    sys.exit(130)

cli.main = run
main()
"""


@pytest.mark.slow
def test_a_run_ends_with_its_exit_code_though_a_thread_is_still_inside_a_library() -> None:
    for _ in range(3):
        ended = subprocess.run([sys.executable, "-c", LEFT_BEHIND], capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout, ended.stderr) == (130, "said\n", "")
