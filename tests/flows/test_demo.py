"""`make demo`'s command, with few training steps: from photographs to a page, nothing to start first."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from prefect.settings import temporary_settings

from flows import demo
from tests.command_line import Command
from tests.prefect_services import PrefectServer

pytestmark = pytest.mark.slow
FEW = ("astronaut.png", "chelsea.png")


@pytest.mark.integration
def test_the_demo_ends_with_the_path_of_a_page_that_compares_held_out_crops(
    prefect_server: PrefectServer, dtls: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "HELD_OUT", {name: demo.HELD_OUT[name] for name in FEW})
    with temporary_settings(prefect_server.settings()):
        made = dtls("demo", "--out", tmp_path / "demo", "--steps", 2)
    assert made.code == 0, made.stderr
    check(made.stdout, tmp_path / "demo")


@pytest.mark.nightly
def test_the_demo_of_all_photographs_needs_nothing_to_be_started_first(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flows", "demo", "--out", str(tmp_path / "demo"), "--steps", "2"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    check(result.stdout, tmp_path / "demo")


def check(said: str, out: Path) -> None:
    page = Path(said.splitlines()[-1])
    assert page.is_file()
    table = pd.read_parquet(page.parent / "metrics.parquet")
    assert sorted(set(table.key)) == sorted(Path(name).stem for name in demo.HELD_OUT)
    assert set(table.method) == {"bicubic", "photo-x4", "tuned"}
    assert (table.status == "ok").all()
    for name, (left, _) in demo.HELD_OUT.items():
        stem = Path(name).stem
        assert Image.open(out / "photographs" / f"{stem}-left.png").width == left
