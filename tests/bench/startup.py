"""How long the command line takes to answer at once: `python -m tests.bench.startup`, on a quiet machine.

Each command is run as a user runs it, in a process of its own, in turn with the others; the first round, in which
files come into memory, does not count. Seconds of the clock, and of the processor.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

LIMIT = 0.7
"""Seconds."""
COMMANDS = (
    ["--help"],
    ["--version"],
    ["upscale", "--help"],
    ["train", "--help"],
    ["report", "--help"],
    ["status", "."],
)


def run(words: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds of the clock and of the processor that a command takes."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "dtls", *words], cwd=folder, capture_output=True, check=False)
    end, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    return end - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured(repeats: int) -> dict[str, tuple[float, float]]:
    """The medians of each command."""
    with tempfile.TemporaryDirectory() as folder:
        rounds = [[run(words, Path(folder)) for words in COMMANDS] for _ in range(repeats + 1)][1:]
    medians = [tuple(map(statistics.median, zip(*times, strict=True))) for times in zip(*rounds, strict=True)]
    return {" ".join(words): (clock, cpu) for words, (clock, cpu) in zip(COMMANDS, medians, strict=True)}


def main() -> int:
    """Print a line a command; 1 where one takes longer than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    found = measured(parser.parse_args().repeats)
    for words, (clock, cpu) in found.items():
        sys.stdout.write(f"dtls {words:16} {clock:.2f} s, {cpu:.2f} s of the processor\n")
    return int(max(clock for clock, _ in found.values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
