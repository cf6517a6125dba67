"""Benchmarks of restoration and of mixed degradations: the methods that fit, the input beside them, and refusals."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image
from pydantic import ValidationError

from dtls.checkpoints.checkpoint import save_checkpoint
from dtls.models.dtls import DTLS
from flows.benchmark import BenchmarkOptions, benchmark
from flows.experiments import cost
from flows.experiments.benchmark import Benchmark
from flows.experiments.benchmark_methods import BENCHMARK_METHODS, BenchmarkMethod, chosen
from flows.experiments.cost import Cost

TINY: dict[str, Any] = {"size": 32, "minutes": 0.005, "device": "cpu", "workers": 2}


def options(tmp_path: Path, **changes: Any) -> BenchmarkOptions:
    places = {"source": str(tmp_path / "train"), "test": str(tmp_path / "test"), "out": str(tmp_path / "out")}
    return BenchmarkOptions(**{**places, **TINY, **changes})


def saved(folder: Path, count: int, left: int) -> None:
    """Images of 32×32 in colour, all different."""
    folder.mkdir()
    for number in range(count):
        gradient = Image.linear_gradient("L").resize((48, 48)).rotate(30 * number + left)
        bands = [gradient.crop((n, left, n + 32, left + 32)) for n in (0, 8, 16)]
        Image.merge("RGB", bands).save(folder / f"{number}.png")


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """tmp_path with train/ and test/."""
    saved(tmp_path / "train", 3, 0)
    saved(tmp_path / "test", 2, 5)
    return tmp_path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps a training, costs that nobody measures, and a narrow network."""
    monkeypatch.setattr("flows.experiments.benchmark.steps_in", lambda *_: 2)
    monkeypatch.setattr("flows.experiments.benchmark.cost_of", lambda *_: Cost(0.5, None, 1000))
    narrow = BenchmarkMethod({"method": "dtls", "preset": "16-128-plus", "dim": 8, "dim_mults": (1, 2)})
    monkeypatch.setitem(cast("dict[str, Any]", BENCHMARK_METHODS), "dtls", narrow)


@pytest.mark.parametrize(
    ("task", "more"),
    [
        ("colourise", {"dtls-projected"}),
        ("denoise:0.1", {"dtls-projected"}),
        ("inpaint", {"membrane"}),
        ("deblur:2+inpaint", set()),
        ("deblur:2", {"dtls-projected", "inverse"}),
        ("deblur:2+colourise", set()),
    ],
)
def test_of_restoration_the_input_and_models_of_any_degradation_take_part(task: str, more: set[str]) -> None:
    assert {*chosen((), task)} == {"input", "dtls-paper", "dtls", "dtls-lpips", "cold", *more}


def test_of_mixed_degradations_models_take_part_that_undo_none_of_their_own() -> None:
    absent = {*chosen(())} - {*chosen((), protocol="realworld")}
    assert absent == {"dtls-paper", "dtls", "dtls-projected", "dtls-lpips", "cold", "heat"}
    assert "input" not in chosen(())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"task": "colourise", "methods": ("edsr",)}, "edsr is not for the task colourise; there are input, dtls"),
        (
            {"protocol": "realworld", "methods": ("heat",)},
            "heat is not for the protocol realworld; there are nearest",
        ),
        ({"task": "inpaint", "methods": ("dtls-projected",)}, "dtls-projected is not for the task inpaint"),
        ({"task": "sr:4"}, "sr:4 changes the size of images; leave --task out and use --size and --lr-sizes"),
        ({"task": "deblur:1+inpaint"}, "inpaint stands alone, as it keeps what is known"),
        ({"task": "colourise", "lr_sizes": (4,)}, "--lr-sizes is for super-resolution, not for --task colourise"),
        ({"task": "grey"}, "the task of 'grey' is 'colourise'"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=why):
        options(tmp_path, **changes)


def test_of_what_is_not_linear_models_learn_from_degraded_images_alone(tmp_path: Path) -> None:
    made = {task: Benchmark(options(tmp_path, task=task)) for task in ("denoise:0.1", "lowlight:0.25")}
    trainings = {task: benchmark._training("dtls", 32) for task, benchmark in made.items()}
    assert trainings["denoise:0.1"].recipe().inputs == "degraded"
    assert trainings["lowlight:0.25"].recipe().inputs == "sampled"
    assert trainings["lowlight:0.25"].model().degradation == "dark:0.25"


def test_a_model_that_starts_from_another_is_timed_with_the_network_of_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def made(config: dict[str, Any]) -> Any:
        seen.update(config)
        raise StopIteration

    monkeypatch.setattr(cost, "make_model", made)
    training = Benchmark(options(tmp_path, task="colourise", methods=("faces-x8",)))._training("faces-x8", 32)
    with pytest.raises(StopIteration):
        cost.steps_in(1, training)
    assert (seen["patch"], seen["degradation"], seen["size"]) == (4, "grey", 32)


@pytest.mark.parametrize("degradation", ["grey", "mask"])
def test_the_cost_of_restoring_is_measured_on_what_the_model_gets(
    degradation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cost, "SECONDS", 0.0)
    model = DTLS(dim=8, multipliers=(1,), size=16, degradation=degradation)
    save_checkpoint(model, tmp_path)
    cost._main(str(tmp_path), "16", "16", "cpu", "{}")
    found = json.loads(capsys.readouterr().out)
    assert found["seconds"] > 0
    assert found["parameters"] == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.usefixtures("warm", "quick")
def test_a_task_is_trained_for_and_set_beside_its_input(faces: Path) -> None:
    chosen = options(faces, task="colourise", methods=("input", "dtls", "dtls-projected"))
    table = Path(benchmark.fn(chosen)).read_text()
    assert "Task colourise (degradation grey) · trained on 3 images of " in table
    part = table.partition("## Colourisation\n")[2]
    rows = {
        line[0]: line[1:] for line in (line.strip("| ").split(" | ") for line in part.splitlines() if "|" in line)
    }
    assert list(rows)[2:] == ["input", "dtls", "dtls-projected"]
    assert rows["input"][4:] == ["–"] * 4
    assert rows["dtls"][4:] == ["2", "1,000", "0.500", "–"]
    assert float(rows["dtls-projected"][3].strip("*")) <= 1e-5
    report = faces / "out" / "report-grey"
    assert "Task: colourisation (grey)" in (report / "summary.md").read_text()
    models = [path.name.rpartition("-")[0] for path in (faces / "out" / "models").iterdir()]
    assert models == ["dtls-32"]


def test_a_task_without_a_model_and_mixed_degradations_are_measured(faces: Path) -> None:
    holes = Path(benchmark.fn(options(faces, task="inpaint", methods=("input", "membrane")))).read_text()
    assert "## Inpainting" in holes
    assert "Least distortion: membrane" in holes
    mixed = options(faces, protocol="realworld", lr_sizes=(8,), methods=("nearest", "bicubic"))
    table = Path(benchmark.fn(mixed)).read_text()
    (bicubic,) = (line for line in table.splitlines() if line.startswith("| bicubic"))
    assert bicubic.split(" | ")[4] == "–"
    assert "Protocol realworld" in table
