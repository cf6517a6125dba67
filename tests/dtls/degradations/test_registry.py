"""Specs and tasks by name: there and back, and one clear line for what is not known."""

import subprocess
import sys

import pytest
import torch

from dtls.degradations.operator import Info
from dtls.degradations.registry import (
    as_part_of,
    operator_of,
    parts_of_spec,
    parts_of_task,
    spec_of_task,
    specs,
    task_of_spec,
    tasks,
    title_of_spec,
)
from dtls.errors import DegradationError


@pytest.mark.parametrize("spec", specs())
def test_a_spec_names_an_operator_and_its_task(spec: str) -> None:
    operator = operator_of(spec, 7)
    assert operator.spec.split(":")[0] == spec.split(":")[0]
    assert operator.steps == 7
    assert operator_of(spec).steps == 28
    assert operator.task == task_of_spec(spec)
    assert operator.title == title_of_spec(spec)
    assert operator == operator_of(operator.spec, 7)


@pytest.mark.parametrize("task", tasks())
def test_a_task_undoes_a_degradation_whose_task_it_is(task: str) -> None:
    assert task_of_spec(spec_of_task(task)).split(":")[0] == task.split(":")[0]
    assert spec_of_task(task_of_spec(spec_of_task(task))) == spec_of_task(task)


@pytest.mark.parametrize(
    ("spec", "task"), [("noise:25/255", "denoise:25/255"), ("noise:0.1", "denoise:0.1"), ("blur:2", "deblur:2")]
)
def test_a_task_is_written_as_somebody_types_it(spec: str, task: str) -> None:
    assert task_of_spec(spec) == task


@pytest.mark.parametrize(
    ("spec", "whole", "strength"),
    [
        ("noise:15/255", "noise:25/255", 0.6),
        ("dark:0.5", "dark:0.25", 0.5),
        ("grey", "grey", 1),
        ("noise:0.2", "noise:0.1", None),
        ("dark:0.1", "dark:0.25", None),
        ("blur:1", "noise:0.1", None),
        ("blur:1+noise:0.1", "blur:2+noise:0.2", None),
    ],
)
def test_a_weaker_degradation_is_a_part_of_a_stronger_one(spec: str, whole: str, strength: float | None) -> None:
    found = as_part_of(spec, whole)
    assert found == (None if strength is None else pytest.approx(strength, rel=1e-4))
    if found is not None:
        x, full = torch.rand(1, 3, 8, 8, dtype=torch.double), operator_of(whole)
        info = Info(seeds=torch.tensor([5]))
        weaker = full(x, full.timestep(found), info)
        assert (weaker - operator_of(spec)(x, 28, info)).abs().max() < 1e-5


def test_names_are_found_without_torch() -> None:
    code = "import sys, dtls.degradations.registry as names; names.specs(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parts_of_spec, "gray", "no degradation is called 'gray'; did you mean 'grey'?"),
        (parts_of_task, "colorize", "no task is called 'colorize'; did you mean 'colourise'?"),
        (parts_of_task, "mask", "no task is called 'mask': the task of 'mask' is 'inpaint'"),
        (parts_of_spec, "inpaint", "no degradation is called 'inpaint': the degradation of 'inpaint' is 'mask'"),
        (parts_of_spec, "grey:1", "grey takes no value, so grey:1 is not known; write grey"),
        (parts_of_task, "inpaint:", "inpaint takes no value, so inpaint: is not known; write inpaint"),
        (parts_of_spec, "blur", "blur needs σ in pixels, 0.1 to 100, like blur:2, not blur"),
        (parts_of_spec, "blur:", "blur needs σ in pixels, 0.1 to 100, like blur:2, not blur:"),
        (parts_of_task, "deblur:0", "deblur needs σ in pixels, 0.1 to 100, like deblur:2, not deblur:0"),
        (
            parts_of_task,
            "denoise:25",
            "denoise needs σ on the scale of [0, 1], 0.001 to 1, like denoise:25/255, not denoise:25",
        ),
        (parts_of_spec, "+".join(["grey"] * 5), "a degradation has at most 100 characters and 4 parts"),
        (parts_of_task, "x" * 101, "a task has at most 100 characters and 4 parts"),
    ],
)
def test_what_is_not_known_is_refused_in_one_line(parse: object, text: str, message: str) -> None:
    assert callable(parse)
    with pytest.raises(DegradationError) as refused:
        parse(text)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("written", "canonical"),
    [("blur:2.0", "blur:2"), ("blur:.5", "blur:0.5"), ("noise:51/255", "noise:0.2"), ("dark:1/4", "dark:0.25")],
)
def test_a_value_may_be_written_in_several_ways(written: str, canonical: str) -> None:
    assert operator_of(written).spec == canonical
    assert operator_of(canonical) == operator_of(written)
    assert task_of_spec(written) == task_of_spec(canonical)


def test_a_sum_is_one_after_the_other() -> None:
    assert spec_of_task("lowlight:1/4+denoise:0.1") == "dark:0.25+noise:0.1"
    assert title_of_spec("dark:0.25+noise:0.1") == "low light, 0.25 of the light and denoising, σ = 0.1"
    assert operator_of("dark:0.25+noise:0.1", 9).steps == 9


@pytest.mark.parametrize("value", ["nan", "inf", "-2", "1e999", "2:3", "1/0", "٢", "0x2", " 2", "2\n", "9" * 50])
@pytest.mark.parametrize("name", ["blur", "noise", "dark", "antialias"])
def test_hostile_values_are_refused(name: str, value: str) -> None:
    with pytest.raises(DegradationError):
        operator_of(f"{name}:{value}")


@pytest.mark.parametrize("text", ["", "+", "grey+", " ", "grey mask", "GREY", "grey\n", "../grey", "grey:"])
def test_hostile_specs_are_refused(text: str) -> None:
    with pytest.raises(DegradationError):
        parts_of_spec(text)
    with pytest.raises(DegradationError):
        parts_of_task(text)
