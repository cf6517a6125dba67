"""`make demo`'s command, with few training steps: from photographs to a page, nothing to start first."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from flows.demo import HELD_OUT

pytestmark = pytest.mark.slow


def test_the_demo_ends_with_the_path_of_a_page_that_compares_held_out_crops(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flows", "demo", "--out", str(tmp_path / "demo"), "--steps", "2"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    page = Path(result.stdout.splitlines()[-1])
    assert page.is_file()
    table = pd.read_parquet(page.parent / "metrics.parquet")
    assert sorted(set(table.key)) == sorted(Path(name).stem for name in HELD_OUT)
    assert set(table.method) == {"bicubic", "photo-x4", "tuned"}
    assert (table.status == "ok").all()
    for name, (left, _) in HELD_OUT.items():
        stem = Path(name).stem
        assert Image.open(tmp_path / "demo" / "photographs" / f"{stem}-left.png").width == left
