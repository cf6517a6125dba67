"""One more of each kind is one file and one line: a toy of it, registered as docs/contributing/add.md says, works."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

from tests.flows.reporting import images

RUN = """
import sys
from flows.__main__ import main
sys.argv = ["dtls", *sys.argv[1:]]
main()
"""

METRIC = """
from reports.metrics import registry
from reports.metrics.metric import Compared, SampleMetric

def worst(images: Compared):
    return (images.sr.int() - images.hr.int()).abs().amax(dim=(1, 2, 3)).double()

registry.METRICS = (
    *registry.METRICS,
    SampleMetric(
        name="worst",
        label="Worst pixel",
        unit="levels",
        decimals=0,
        lower_is_better=True,
        description="largest difference of a sample",
        is_primary=True,
        needs=frozenset({"hr"}),
        compute=worst,
    ),
)
"""


def dtls_with(toy: str, *arguments: object, cwd: Path) -> str:
    """What the command line prints in a process where a toy was registered first."""
    command = [sys.executable, "-c", toy + RUN, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_metric_reaches_the_table_the_summary_and_the_page(tmp_path: Path) -> None:
    images(tmp_path, count=2, side=16)
    results = [f"--sr={name}={name}" for name in ("good", "poor")]
    dtls_with(METRIC, "report", "--hr=hr", *results, "--out=out", "--lpips=none", "--device=cpu", cwd=tmp_path)
    table = pd.read_parquet(tmp_path / "out/metrics.parquet")
    means = table.groupby("method")["worst"].mean()
    assert 0 < means["good"] <= means["poor"] <= 255
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert {row["method"]: row["worst"] for row in summary["methods"]} == means.to_dict()
    assert summary["metrics"]["worst"] == {
        "unit": "levels",
        "better": "lower",
        "description": "largest difference of a sample",
    }
    assert "Worst pixel ↓ (levels)" in (tmp_path / "out/summary.md").read_text()
    assert r"Worst pixel $\downarrow$ (levels)" in (tmp_path / "out/summary.tex").read_text()
    assert '"label":"Worst pixel"' in (tmp_path / "out/index.html").read_text()
