"""What is run on a GPU runs on a CPU, with no more packages than a machine with a GPU has."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import gpu

HIDDEN = """
import sys
absent = ("cachetools", "diffusers", "kornia", "lpips", "prefect", "pyarrow", "pydantic", "rich", "s3fs", "spandrel")
for name in (*absent, "webdataset"):
    sys.modules[name] = None
from tests.bench.gpu import main
sys.exit(main([*sys.argv[1:], "--device", "cpu", "--tiny", "--part", "smoke"]))
"""


@pytest.mark.slow
def test_the_smoke_runs_without_the_packages_that_are_not_there_and_every_check_holds(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", HIDDEN, "--out", str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads((tmp_path / "smoke.json").read_text())
    assert found["errors"] == []
    assert {check["name"]: check["holds"] for check in found["checks"]} == {
        "sampling in fp32": True,
        "sampling in bf16": True,
        "training in bf16": True,
        "training learns": True,
        "tiling": True,
        "retry in tiles": True,
        "retry was needed": True,
    }
    assert next(check["found"] for check in found["checks"] if check["name"] == "sampling in bf16") > 0


def test_a_part_that_takes_too_long_or_fails_leaves_the_others_their_time(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    done = tmp_path / "done"
    commands = {
        "slow": (["-c", "import time; time.sleep(600)"], 1),
        "failing": (["-c", "raise SystemExit(3)"], 60),
        "last": (["-c", f"open({str(done)!r}, 'w').close()"], 60),
    }
    assert gpu.run_parts(commands) == 1
    assert done.exists()
    assert "slow: ended after 1 s" in capfd.readouterr().out
    assert gpu.run_parts({"last": commands["last"]}) == 0
