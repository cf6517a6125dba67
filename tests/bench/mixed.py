"""What memory a network takes as more and more images of mixed sizes go through it, on the CPU.

    python -m tests.bench.mixed --scratch FOLDER                                   # 8,000 images, a small EDSR
    python -m tests.bench.mixed --scratch FOLDER --images 2000 --checkpoint photo-x4

The flow `dtls/upscale` runs in a process of its own; its resident size is read as results appear. What counts is how
far it grows from the first mark to the last: no size of the images comes twice, or hardly.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from dtls.checkpoints.checkpoint import make_model, save_checkpoint
from tests.bench.measure import hardware
from tests.bench.report import head, line
from tests.services import isolated_environment

MARKS = (500, 1000, 2000, 4000, 8000)
SMALLEST, LARGEST, SCALE = 16, 96, 4
MODEL = {"method": "edsr", "size": 192, "lr_size": 48, "features": 16, "blocks": 1}
RUN = """
import json, sys
from flows.upscale import UpscaleOptions, upscale
upscale.fn(UpscaleOptions.model_validate(json.loads(sys.argv[1])))
"""


def images(folder: Path, count: int) -> Path:
    """So many images with sides of SMALLEST … LARGEST pixels, the same each time."""
    folder.mkdir(parents=True)
    chance, gradient = random.Random(1), Image.linear_gradient("L").convert("RGB")
    for number in range(count):
        size = chance.randint(SMALLEST, LARGEST), chance.randint(SMALLEST, LARGEST)
        gradient.resize(size).save(folder / f"{number:06d}.png")
    return folder


def sizes(source: Path, target: Path, checkpoint: str, marks: Sequence[int]) -> Iterator[tuple[int, float, float]]:
    """At each mark: how many results there are, the megabytes that the run has then, and its seconds so far."""
    options = {"source": str(source), "target": str(target), "checkpoint": checkpoint, "scale": SCALE}
    command = [sys.executable, "-c", RUN, json.dumps(options)]
    started = time.monotonic()
    with subprocess.Popen(command, env=isolated_environment(), stdout=subprocess.DEVNULL) as process:
        for mark in marks:
            while (count := _results(target)) < mark and process.poll() is None:
                time.sleep(0.2)
            if process.poll() is not None:
                break
            yield count, _resident(process.pid), time.monotonic() - started
    if process.returncode:
        raise RuntimeError(f"the run ended with {process.returncode}")


def _results(target: Path) -> int:
    return sum(entry.name.endswith(".png") for entry in os.scandir(target)) if target.exists() else 0


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--images", type=int, default=MARKS[-1])
    parser.add_argument("--checkpoint", help="folder or name of a model; by default a small one is made")
    options = parser.parse_args(arguments)
    scratch: Path = options.scratch
    if (checkpoint := options.checkpoint) is None:
        save_checkpoint(make_model(MODEL), scratch / "model")
        checkpoint = str(scratch / "model")
    source = images(scratch / "images", options.images + 100)  # so that the run still goes on at the last mark
    sys.stdout.write(f"{hardware('cpu')}\n{head(('images', 'MB', 'growth from the second mark', 's'))}")
    first, marks = 0.0, [mark for mark in MARKS if mark <= options.images]
    for place, (count, megabytes, seconds) in enumerate(sizes(source, scratch / "out", checkpoint, marks)):
        first = megabytes if place == 1 else first
        growth = f"{megabytes / first - 1:+.1%}" if first else ""
        sys.stdout.write(line((f"{count:,}", f"{megabytes:.0f}", growth, f"{seconds:.0f}")))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
