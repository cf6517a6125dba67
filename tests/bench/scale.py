"""What it costs to cut a job into units: seconds a unit with each runner, with and without Prefect.

    python -m tests.bench.scale --scratch FOLDER                          # 10, 100 and 1,000 units
    python -m tests.bench.scale --scratch FOLDER --units 10000 --ways threads dask

Each unit is one image of 8×8 pixels, enlarged by `nearest`, so that all but the orchestration is next to nothing:
listing, plan, lease, the output, its receipt and the manifest are in it. Every run is a process of its own; the clock
runs from the call of the flow to its end, processes and connections included, the imports not. Ways with `prefect`
run as a flow run on a Prefect server with SQLite, each unit a task of it.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from PIL import Image

from tests.bench.measure import hardware
from tests.bench.report import head, line
from tests.dask_services import DaskScheduler, DaskWorker
from tests.prefect_services import PrefectServer
from tests.services import isolated_environment

WAYS = ("threads", "processes", "dask", "prefect threads", "prefect dask")
RUN = """
import json, resource, sys, time
from flows.upscale import UpscaleOptions, upscale
options = UpscaleOptions.model_validate(json.loads(sys.argv[1]))
started = time.perf_counter()
(upscale if sys.argv[2] == "prefect" else upscale.fn)(options)
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def images(folder: Path, count: int) -> Path:
    """So many images, hard links of one."""
    folder.mkdir(parents=True)
    Image.linear_gradient("L").resize((8, 8)).save(folder / "0.png")
    for number in range(1, count):
        (folder / f"{number}.png").hardlink_to(folder / "0.png")
    return folder


def seconds_of(
    way: str, source: Path, target: Path, scheduler: str, environment: Mapping[str, str]
) -> dict[str, float]:
    """`seconds` of a run, and `mb`, what its process had at its peak."""
    runner = way.rpartition(" ")[2]
    options = {"source": str(source), "target": str(target), "method": "nearest", "scale": 2, "unit_size": 1}
    options |= {"runner": runner} | ({"scheduler": scheduler} if runner == "dask" else {})
    mode = "prefect" if way.startswith("prefect") else "plain"
    quiet = {"PREFECT_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(options), mode],
        env=isolated_environment(environment if mode == "prefect" else {}, quiet),
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(target, ignore_errors=True)
    if done.returncode:
        raise RuntimeError(f"{way}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--units", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--workers", type=int, default=2, help="Dask's workers")
    options = parser.parse_args(arguments)
    sys.stdout.write(f"{hardware('cpu')}\n")
    sys.stdout.write(head(("units", *(f"{way}, s (ms a unit; MB)" for way in options.ways))))
    with ExitStack() as stack:
        scratch: Path = options.scratch
        server = stack.enter_context(PrefectServer(scratch / "server"))
        scheduler = stack.enter_context(DaskScheduler(scratch / "scheduler"))
        for number in range(options.workers):
            stack.enter_context(DaskWorker(scratch / f"worker-{number}", scheduler.address, f"worker-{number}"))
        for count in options.units:
            source = images(scratch / f"images-{count}", count)
            cells = []
            for way in options.ways:
                found = seconds_of(way, source, scratch / "out", scheduler.address, server.environment())
                cells.append(f"{found['seconds']:.1f} ({1000 * found['seconds'] / count:.0f}; {found['mb']:.0f})")
            shutil.rmtree(source)
            sys.stdout.write(line((f"{count:,}", *cells)))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
