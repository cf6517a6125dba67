"""Specs and tasks by name: there and back, and one clear line for what is not known."""

import subprocess
import sys

import pytest

from dtls.degradations.registry import (
    FAMILIES,
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

WITHOUT_VALUE = next(family for family in FAMILIES if family.value is None)


@pytest.mark.parametrize("spec", specs())
def test_a_spec_names_an_operator_and_its_task(spec: str) -> None:
    operator = operator_of(spec, 7)
    assert operator.spec == spec
    assert operator.steps == 7
    assert operator_of(spec).steps == 28
    assert operator.task == task_of_spec(spec)
    assert operator.title == title_of_spec(spec)
    assert operator == operator_of(operator.spec, 7)


@pytest.mark.parametrize("task", tasks())
def test_a_task_undoes_a_degradation_whose_task_it_is(task: str) -> None:
    assert task_of_spec(spec_of_task(task)) == task


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
        (parts_of_spec, "+".join(["grey"] * 5), "a degradation has at most 100 characters and 4 parts"),
        (parts_of_task, "x" * 101, "a task has at most 100 characters and 4 parts"),
    ],
)
def test_what_is_not_known_is_refused_in_one_line(parse: object, text: str, message: str) -> None:
    assert callable(parse)
    with pytest.raises(DegradationError) as refused:
        parse(text)
    assert str(refused.value) == message


@pytest.mark.parametrize("text", ["", "+", "grey+", " ", "grey mask", "GREY", "grey\n", "../grey", "grey:"])
def test_hostile_specs_are_refused(text: str) -> None:
    with pytest.raises(DegradationError):
        parts_of_spec(text)
    with pytest.raises(DegradationError):
        parts_of_task(text)
