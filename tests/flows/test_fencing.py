"""A run that was paused past its lease, while another took over and ended, wakes and changes nothing of its target.

Real processes are stopped and woken by signals; leases last seconds here, so that they end soon.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from flows.benchmark import BenchmarkOptions, benchmark
from flows.cli import main
from flows.demo import DemoOptions, demo
from flows.engine import run as fanout
from flows.evaluation import gallery
from flows.evaluation.history import compare as compare_reports
from flows.import_checkpoint import ImportOptions, import_checkpoint
from flows.reproduce import ReproduceOptions, reproduce
from flows.shard import ShardOptions, shard
from flows.training.settings import states
from storage.receipts import lease as leases
from storage.receipts.lease import hold
from storage.receipts.owners import LEASE
from storage.stores.location import TEMPORARY, Location, StorageError
from tests.clocks import clock_set
from tests.flows.reporting import images, made
from tests.killing import PROCESSES
from tests.services import wait_until

SOON = 90.0
LASTS = 1.5
LANCZOS = ("--method", "lanczos", "--scale", "2", "--workers", "2")
IN_PROCESSES = ("--runner", "processes", "--unit-size", "2", "--in-flight", "1")
"""One process writes at a time: a request of another that is on its way to the store when all stop arrives later."""
TINY = ("--size", "32", "--lr-size", "8", "--dim", "8", "--dim-mults", "1,2", "--batch-size", "2")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm")]


@dataclass(frozen=True)
class Pause:
    """Stops a process, and those of its group, before it puts or deletes the so-manieth file whose key ends so."""

    ending: str
    number: int = 1
    deletes: bool = False

    def __call__(self) -> None:
        numbers = count(1)

        def stop(key: str) -> None:
            if key.endswith(self.ending) and next(numbers) == self.number:
                os.killpg(os.getpgrp(), signal.SIGSTOP)

        def stopping(method: Callable[..., None]) -> Callable[..., None]:
            def call(place: Location, key: str, *given: Any) -> None:
                stop(key)
                method(place, key, *given)

            return call

        writing = Location.writing

        @contextmanager
        def written(place: Location, key: str) -> Iterator[Path]:
            with writing(place, key) as path:
                yield path
                stop(key)

        for name in ("delete",) if self.deletes else ("write", "upload"):
            setattr(Location, name, stopping(getattr(Location, name)))
        if not self.deletes:
            Location.writing = written  # type: ignore[assignment, method-assign]


def images_beside_the_page() -> None:
    gallery.EMBEDDED_BYTES = 0
    Pause(".png", 3)()


def undisturbed() -> None:
    """Nothing to prepare."""


@dataclass(frozen=True)
class Run:
    """`dtls` in a process of its own, and what it says."""

    process: BaseProcess
    log: Path

    @property
    def is_stopped(self) -> bool:
        """Whether it is; RuntimeError with what it says where it has ended instead."""
        if not self.process.is_alive():
            raise RuntimeError(self.said)
        return "\nState:\tT" in Path(f"/proc/{self.process.pid}/status").read_text()

    def end(self) -> int | None:
        """The exit code, when it has ended."""
        self.process.join(SOON)
        return self.process.exitcode

    @property
    def said(self) -> str:
        return self.log.read_text()


Start = Callable[..., Run]


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts `dtls` with some arguments, its leases ending soon; at the end all of it is killed."""
    folder, runs = tmp_path_factory.mktemp("runs"), list[Run]()

    def started(*arguments: str, prepare: Callable[[], None] = undisturbed, lasts: float = LASTS) -> Run:
        log = folder / f"{len(runs)}.log"
        environment = {**os.environ, "TMPDIR": str(folder)}
        process = PROCESSES.Process(target=_dtls, args=(arguments, prepare, lasts, environment, log))
        process.start()
        runs.append(Run(process, log))
        return runs[-1]

    yield started
    for run in runs:
        if run.process.is_alive():
            os.killpg(run.process.pid or 0, signal.SIGKILL)
            run.process.join()


def _dtls(
    arguments: tuple[str, ...], prepare: Callable[[], None], lasts: float, environment: dict[str, str], log: Path
) -> None:
    os.setpgid(0, 0)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # it asks the environment anew
    with log.open("wb") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    leases.LASTS, leases.EVERY = lasts, lasts / 5
    prepare()
    sys.argv = ["dtls", *arguments]
    main()


def content(target: Location) -> dict[str, bytes]:
    """The files below, less what was about to become one of the stopped run's, which it removes."""
    return {entry.key: target.read(entry.key) for entry in target.list() if not TEMPORARY.fullmatch(entry.key)}


def woken(paused: Run, lease: Location, content: Callable[[], object], *other: str, start: Start) -> str:
    """The line that a stopped run ends with. Another took over and ended before it woke, whose files stay."""
    assert wait_until(lambda: paused.is_stopped, SOON), paused.said
    assert wait_until(lambda: (lease.age(LEASE) or 0) > LASTS, SOON)
    second = start(*other)
    assert second.end() == 0, second.said
    assert not lease.exists(LEASE)
    before = content()
    os.killpg(paused.process.pid or 0, signal.SIGCONT)
    assert paused.end() == 1, paused.said
    assert content() == before
    return paused.said.strip().splitlines()[-1]


def leaves_the_results_of_who_took_over(
    start: Start, pause: Callable[[], None], target: str, *run: str, staging: str = ""
) -> None:
    place, lease = Location.of(target.rpartition("/")[0]), Location.of(staging or target)
    paused = start(*run, prepare=pause)
    said = woken(paused, lease, lambda: content(place), *run, start=start)
    assert said.startswith(f"dtls: {lease}: stopped, as ")
    assert said.endswith("; run it again to resume")


@pytest.fixture(params=["folder", pytest.param("s3", marks=[pytest.mark.integration, pytest.mark.nightly])])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.getfixturevalue("s3") if request.param == "s3" else tmp_path)


@pytest.mark.integration
def test_an_upscaling_to_a_bucket_that_wakes_leaves_the_results_of_who_took_over(
    photographs: Path, s3: str, start: Start
) -> None:
    run = ("upscale", str(photographs), f"{s3}/large", *LANCZOS)
    leaves_the_results_of_who_took_over(start, Pause(".png", 3), f"{s3}/large", *run)


@pytest.mark.nightly
@pytest.mark.parametrize("by", ["+180s", "-180s", "+1d"])
def test_a_run_whose_clock_is_wrong_leaves_a_run_that_works_alone(
    by: str, photographs: Path, tmp_path: Path, start: Start
) -> None:
    target = tmp_path / "large"
    run = ("upscale", str(photographs), str(target), *LANCZOS)
    working = start(*run, prepare=Pause(".png", 3), lasts=leases.LASTS)
    assert wait_until(lambda: working.is_stopped, SOON), working.said
    command = [sys.executable, "-m", "flows", *run]
    environment = {**os.environ, **clock_set(by)}
    other = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SOON, check=False)
    assert other.returncode == 1
    assert other.stderr.splitlines()[-1].startswith(
        f"dtls: {tmp_path / 'large'}: another run works here (upscale on "
    )
    os.killpg(working.process.pid or 0, signal.SIGCONT)
    assert working.end() == 0, working.said
    assert "12 done" in working.said


@pytest.mark.parametrize(
    ("name", "more", "pause"),
    [
        ("large", (), Pause(".png", 3)),
        ("large.zip", (), Pause(".zip")),
        pytest.param("large", ("--samples-per-shard", "4"), Pause(".tar", 2), marks=pytest.mark.nightly),
        pytest.param("large.tar.gz", (), Pause(".png", 3, deletes=True), marks=pytest.mark.nightly),
        pytest.param("large", (), Pause("manifest.parquet"), marks=pytest.mark.nightly),
        pytest.param("large", IN_PROCESSES, Pause(".parquet", 4), marks=pytest.mark.nightly),
    ],
    ids=["folder", "zip", "shards", "emptying the staging", "gathering", "in processes"],
)
def test_an_upscaling_that_wakes_leaves_the_results_of_who_took_over(
    name: str, more: tuple[str, ...], pause: Pause, photographs: Path, place: str, start: Start
) -> None:
    target = f"{place}/{name}"
    run = ("upscale", str(photographs), target, *LANCZOS, *more)
    staging = f"{target}.dtls" if "." in name else ""
    leaves_the_results_of_who_took_over(start, pause, target, *run, staging=staging)


def test_a_sharding_that_wakes_leaves_the_shards_of_who_took_over(
    photographs: Path, place: str, start: Start
) -> None:
    run = ("shard", str(photographs), f"{place}/shards", "--samples-per-shard", "4")
    leaves_the_results_of_who_took_over(start, Pause(".tar", 2), f"{place}/shards", *run)


@pytest.mark.parametrize(
    "pause",
    [
        Pause("index.html"),
        pytest.param(Pause("metrics.parquet"), marks=pytest.mark.nightly),
        pytest.param(Pause("/_summary.json"), marks=pytest.mark.nightly),
        pytest.param(Pause("contact-sheet.png"), marks=pytest.mark.nightly),
        pytest.param(Pause("rating/index.html"), marks=pytest.mark.nightly),
        pytest.param(images_beside_the_page, marks=pytest.mark.nightly),
    ],
)
def test_a_report_that_wakes_leaves_the_page_of_who_took_over(
    pause: Callable[[], None], place: str, tmp_path: Path, start: Start
) -> None:
    compared = images(tmp_path / "compared", count=3)
    results = [word for name in ("good", "poor") for word in ("--sr", f"{name}={compared / name}")]
    measured = ("--lpips", "none", "--rating", "pairs", "--workers", "1")
    run = ("report", "--hr", str(compared / "hr"), *results, *measured)
    target = f"{place}/reports/report"
    leaves_the_results_of_who_took_over(start, pause, target, *run, "--out", target)


def test_a_report_does_not_make_the_page_of_a_table_that_another_run_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared, out = images(tmp_path, count=1), tmp_path / "out"

    def overtaken(*given: Any) -> Any:
        """As if this one had been paused between its table and its page."""
        monkeypatch.undo()
        summary = run(*given)
        made(compared, out, border=4)
        return summary

    run = fanout.run
    monkeypatch.setattr(fanout, "run", overtaken)
    with pytest.raises(StorageError, match=f"^{out}: stopped, as another run has changed its table; run it again"):
        made(compared, out)
    assert json.loads((out / "summary.json").read_text())["configuration"]["border"] == 4


@pytest.fixture(scope="module")
def shards(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("learned")
    shard.fn(ShardOptions(source=str(photographs), target=str(root / "shards")))
    return str(root / "shards")


def test_a_training_that_wakes_leaves_the_model_of_who_took_over(shards: str, tmp_path: Path, start: Start) -> None:
    target = Location.of(tmp_path / "model")
    train = ("train", shards, str(target), *TINY, "--save-every", "5")
    paused = start(*train, "--steps", "1000000")
    assert wait_until(lambda: len(states(entry.key for entry in target.list())) > 1, SOON), paused.said
    os.killpg(paused.process.pid or 0, signal.SIGSTOP)
    steps = int(states(entry.key for entry in target.list())[0].split("-")[1].split(".")[0]) + 5
    other = (*train, "--resume", "--steps", str(steps), "--keep", "1")
    said = woken(paused, target, lambda: content(target), *other, start=start)
    assert said.startswith(f"dtls: {target}: stopped, as ")


@pytest.mark.integration
@pytest.mark.nightly
@pytest.mark.parametrize("ending", ["model.safetensors", "loss.csv"])
def test_a_training_to_a_bucket_that_wakes_leaves_the_model_of_who_took_over(
    ending: str, shards: str, s3: str, start: Start
) -> None:
    target = Location.of(f"{s3}/model")
    train = ("train", shards, str(target), *TINY, "--save-every", "5")
    paused = start(*train, "--steps", "1000000", prepare=Pause(ending, 2))
    other = (*train, "--resume", "--steps", "20", "--keep", "1")
    said = woken(paused, target, lambda: content(target), *other, start=start)
    assert said.startswith(f"dtls: {target}: stopped, as ")


def test_what_writes_without_units_is_refused_where_another_run_works(
    photographs: Path, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared, report = images(tmp_path, count=1), tmp_path / "out"
    made(compared, report)
    authors = tmp_path / "SR_8_32_s4.pt"
    authors.write_bytes((Path(__file__).parents[1] / "dtls" / "data" / "dtls_reference_32.pt").read_bytes())
    out = tmp_path / "target"
    common = {"source": str(photographs), "test": str(others), "out": str(out), "size": 64}
    writers: list[Callable[[], object]] = [
        lambda: import_checkpoint(ImportOptions(source=str(authors), target=str(out))),
        lambda: compare_reports([str(report)], str(out)),
        lambda: benchmark.fn(BenchmarkOptions(**common, lr_sizes=(8,))),
        lambda: reproduce.fn(ReproduceOptions(**common, table="4", dim=8)),
        lambda: demo.fn(DemoOptions(out=str(out))),
    ]
    with hold(Location.of(out), "upscale"):
        before = content(Location.of(out))
        for write in writers:
            with pytest.raises(StorageError, match=f"^{out}: another run works here"):
                write()
        assert content(Location.of(out)) == before
