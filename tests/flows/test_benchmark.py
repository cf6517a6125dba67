"""Methods compared alike: the same time, the same images, and a second run that trains nothing again."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import ValidationError

from dtls.checkpoints.checkpoint import load_checkpoint
from dtls.errors import SizeError
from dtls.models.base import Model
from dtls.registry import MODELS
from flows.benchmark import BenchmarkOptions, benchmark
from flows.experiments.benchmark import Benchmark
from flows.experiments.benchmark_methods import BENCHMARK_METHODS, chosen, training_of
from flows.experiments.cost import steps_in
from flows.experiments.testbed import Degraded
from flows.training.options import TrainOptions
from flows.upscale import UpscaleOptions
from storage.stores.location import StorageError

TINY: dict[str, Any] = {"size": 32, "lr_sizes": (4, 8), "minutes": 0.005, "device": "cpu", "workers": 2}
HEADS = [
    "Method",
    "PSNR ↑",
    "SSIM ↑",
    "LPIPS ↓",
    "Consistency ↓",
    "steps",
    "parameters",
    "s an image",
    "MB an image",
]

pytestmark = pytest.mark.usefixtures("warm")


def training(name: str, **changes: Any) -> TrainOptions:
    return TrainOptions(source="shards", target="model", **{**(BENCHMARK_METHODS[name].train or {}), **changes})


def test_contenders_depart_by_options_that_there_are() -> None:
    assert {key for c in BENCHMARK_METHODS.values() for key in c.train or ()} <= set(TrainOptions.model_fields)
    assert {key for c in BENCHMARK_METHODS.values() for key in c.use} <= set(UpscaleOptions.model_fields)
    assert {training_of(name) for name in BENCHMARK_METHODS} - {None} <= {
        n for n, c in BENCHMARK_METHODS.items() if c.train
    }


def test_every_model_takes_part() -> None:
    methods = {c.train["method"] for c in BENCHMARK_METHODS.values() if c.train}
    assert methods | {"cold"} == set(MODELS)


@pytest.mark.parametrize("name", [name for name, c in BENCHMARK_METHODS.items() if c.train])
def test_contenders_can_be_trained(name: str) -> None:
    options = training(name)
    assert (options.model().size, options.model().lr_size) == (128, 16)


def test_the_slow_ones_take_part_only_when_they_are_named() -> None:
    assert not any(BENCHMARK_METHODS[name].slow for name in chosen([]))
    assert chosen(["sr3-2000", "bicubic"]) == ["bicubic", "sr3-2000"]


@pytest.mark.slow
def test_steps_fit_into_the_time_by_what_one_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    options = training("srcnn", size=32, lr_size=4, batch_size=2, device="cpu")
    clock = iter(range(1000))
    monkeypatch.setattr(
        "flows.experiments.cost._now", lambda _: next(clock)
    )  # it is asked before, after each step, and at the end
    assert steps_in(100, options) == 125  # five steps in four ticks
    assert steps_in(1e-6, options) == 1


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    folders = {"source": str(tmp_path / "a"), "test": str(tmp_path / "b"), "out": str(tmp_path / "out")}
    with pytest.raises(ValidationError, match="there is no 'magic'; there are nearest, "):
        BenchmarkOptions(**folders, methods=("magic",))
    with pytest.raises(StorageError, match="a model is not tested on what it learned from"):
        benchmark.fn(BenchmarkOptions(**{**folders, "test": folders["source"]}))


@pytest.mark.parametrize(("size", "lr_sizes"), [(40, (8,)), (128, (16, 3)), (192, (12,))])
def test_sizes_that_some_method_cannot_have_are_refused_before_any_work(
    size: int, lr_sizes: tuple[int, ...], tmp_path: Path
) -> None:
    folders = {"source": str(tmp_path / "a"), "test": str(tmp_path / "b"), "out": str(tmp_path / "out")}
    with pytest.raises(SizeError):
        benchmark.fn(BenchmarkOptions(**folders, size=size, lr_sizes=lr_sizes))
    assert not (tmp_path / "out").exists()


def test_images_that_are_trained_on_are_refused_as_tests(photographs: Path, others: Path, tmp_path: Path) -> None:
    tested = Path(shutil.copytree(others, tmp_path / "test"))
    shutil.copy(photographs / "00000" / "00003.png", tested / "other.png")
    options = BenchmarkOptions(
        source=str(photographs), test=str(tested), out=str(tmp_path / "out"), methods=("fsrcnn",), **TINY
    )
    expected = f"{tested}: 1 image of {photographs}, too, such as other.png: a model is not tested on "
    with pytest.raises(StorageError, match=re.escape(expected)):
        benchmark.fn(options)
    assert not (tmp_path / "out").exists()


def test_the_kernel_distance_is_shown_where_it_is_asked_for(tmp_path: Path) -> None:
    folders = {"source": str(tmp_path / "a"), "test": str(tmp_path / "b"), "out": str(tmp_path / "out")}
    told = {Degraded(4): {"bicubic": {"psnr": 20.0, "kid": 0.0125}}}
    tables = [
        Benchmark(BenchmarkOptions(**folders, methods=("bicubic",), sets=sets, **TINY)).table(told)
        for sets in (True, False)
    ]
    assert "| Consistency ↓ | KID ↓ | steps |" in tables[0]
    assert "| bicubic | **20.00** | – | – | – | **0.0125** | – |" in tables[0]
    assert "KID" not in tables[1]


@pytest.mark.slow
def test_how_fast_all_train_is_measured_before_any_of_them_does(
    photographs: Path, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StartedError(Exception):
        pass

    def begin(_: TrainOptions) -> None:
        raise StartedError

    monkeypatch.setattr("flows.experiments.experiment.train", SimpleNamespace(fn=begin))
    monkeypatch.setattr("flows.experiments.benchmark.steps_in", lambda *_: 1)
    folders = {"source": str(photographs), "test": str(others), "out": str(tmp_path / "out")}
    with pytest.raises(StartedError):
        benchmark.fn(BenchmarkOptions(**folders, methods=("fsrcnn", "dtls", "cold"), **TINY))
    assert len(json.loads((tmp_path / "out" / "pace.json").read_text())) == 3


@pytest.mark.slow
def test_methods_are_trained_for_the_same_time_and_set_side_by_side(
    photographs: Path, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.experiments.cost.SECONDS", 0.0)
    wide = BENCHMARK_METHODS["dtls"]
    narrow = replace(wide, train={**(wide.train or {}), "dim": 8})
    monkeypatch.setitem(cast("dict[str, Any]", BENCHMARK_METHODS), "dtls", narrow)
    out, tested = tmp_path / "out", tmp_path / "tested"
    tested.mkdir()
    for path in sorted(others.glob("*.png"))[:4]:
        shutil.copy(path, tested)
    options = BenchmarkOptions(
        source=str(photographs),
        test=str(tested),
        out=str(out),
        methods=("bicubic", "fsrcnn", "dtls", "cold"),
        **TINY,
    )
    assert benchmark.fn(options) == str(out / "table.md")
    table = (out / "table.md").read_text()
    for low in (4, 8):
        part = table.partition(f"## {low}→32")[2].partition("##")[0]
        lines = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
        assert lines[0] == HEADS
        rows = {line[0]: line[1:] for line in lines[2:]}
        assert list(rows) == list(options.methods)
        assert rows["bicubic"][-4:] == ["–"] * 4
        assert rows["fsrcnn"][5] == "24,683"
        assert all(int(rows[name][4]) >= 1 for name in ("fsrcnn", "dtls", "cold"))
        assert all(re.fullmatch(r"\d+\.\d{3}", rows[name][6]) for name in ("fsrcnn", "dtls", "cold"))
        assert float(rows["cold"][6]) > float(rows["dtls"][6])
        for column in range(4):
            assert sum("**" in row[column] for row in rows.values()) >= 1
        assert f"[Intervals, differences and images](report-{low}/index.html)" in part
        assert "Least distortion: " in part
        assert "Nearest to the eye: " in part
        assert (out / f"report-{low}" / "index.html").exists()
    assert "0.005 minutes of training each on cpu" in table
    assert f"trained on 12 images of {photographs} · tested on 4 images of {tested}" in table
    assert "--methods bicubic,fsrcnn,dtls,cold" in table

    models = {path.name.rpartition("-")[0]: path for path in (out / "models").iterdir()}
    assert set(models) == {"dtls-4", "fsrcnn-4", "fsrcnn-8"}
    assert load_checkpoint(models["fsrcnn-8"], Model).scale == 4
    pace = json.loads((out / "pace.json").read_text())
    assert len(pace) == len(models)

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    benchmark.fn(options)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before
    assert json.loads((out / "pace.json").read_text()) == pace
