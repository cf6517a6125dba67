"""Flows are functions until Prefect is there, and Prefect's own from then on."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flows.engine.flow import _Unmade, as_part, flow, in_task
from flows.interface.console import flow_run, in_flow_run
from flows.interface.options import Options

BEFORE = """
import sys
from flows.engine.flow import flow
from flows.interface.options import Options

class Words(Options):
    text: str

@flow("shout {options.text}")
def shout(options: Words) -> str:
    "Say it loudly."
    return options.text.upper()

assert shout.fn(Words(text="a")) == "A" and shout.__doc__ == "Say it loudly."
assert "prefect" not in sys.modules
import prefect
assert isinstance(shout.with_options(retries=2), prefect.Flow) and shout.flow_run_name == "shout {options.text}"
"""


RUN = """
import sys
from flows.cli import main
try:
    main()
finally:
    print("imported:", *{"prefect"} & sys.modules.keys())
"""


class Words(Options):
    """What is shouted."""

    text: str


@flow("shout {options.text}")
def shout(options: Words) -> str:
    """Say it loudly, and whether a flow run does."""
    return f"{options.text.upper()} {in_flow_run()}"


@pytest.mark.slow
def test_a_flow_is_a_function_without_prefect_and_becomes_one_of_prefects_when_it_is_used_as_such() -> None:
    ended = subprocess.run([sys.executable, "-c", BEFORE], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_where_prefect_is_imported_a_flow_is_prefects() -> None:
    from prefect import Flow

    @flow("again {options.text}")
    def again(options: Words) -> str:
        return options.text

    assert isinstance(again, Flow)
    assert (again.name, again.flow_run_name) == ("dtls", "again {options.text}")
    assert again.on_running_hooks


def test_elsewhere_than_in_a_flow_run_parts_and_tasks_are_functions() -> None:
    assert as_part(shout, Words(text="a")) == "A False"
    plain: Any = str.upper
    assert in_task("upper", plain) is plain


@pytest.mark.usefixtures("flow_runs")
def test_in_a_flow_run_a_part_is_a_flow_run_of_its_own_whenever_it_was_made() -> None:
    @flow("part of {options.text}")
    def made(options: Words) -> str | None:
        return flow_run()[0]

    unmade: Any = _Unmade(made.fn, "part of {options.text}")

    @flow("whole {options.text}")
    def whole(options: Words) -> list[str | None]:
        return [flow_run()[0], as_part(made, options), as_part(unmade, options)]

    ids = whole(Words(text="a"))
    assert len({*ids} - {None}) == 3
    assert unmade(Words(text="a"), return_state=True).is_completed()


@pytest.mark.slow
def test_a_run_of_the_command_line_does_not_import_prefect(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "small" / "a.png")
    words = ["upscale", str(tmp_path / "small"), str(tmp_path / "large"), "--method", "nearest", "--scale", "2"]
    ended = subprocess.run([sys.executable, "-c", RUN, *words], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "imported:\n"), ended.stderr
    assert (tmp_path / "large" / "a.png").exists()
