"""The names of degradations in manifests: one way to write each, and a task in words for those that keep the size."""

import pytest

from dtls.degradations.recorded import alike, canonical, from_task, reduces, split, task_in_words
from dtls.errors import DegradationError


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("antialias", "antialias"),
        ("antialias:4", "antialias"),
        ("realworld", "realworld"),
        ("blur:2.0", "blur:2"),
        ("noise:25/255", "noise:0.0980392"),
        ("blur:2+noise:0.10", "blur:2+noise:0.1"),
        ("dark:0.25*0.50", "dark:0.25*0.5"),
        ("grey*1", "grey"),
    ],
)
def test_a_degradation_is_written_in_one_way(given: str, written: str) -> None:
    assert canonical(given) == canonical(written) == written


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("colourise", "the degradation of 'colourise' is 'grey'"),
        ("blue:2", "did you mean 'blur'"),
        ("blur:2+antialias:4", "stands alone, like antialias"),
        ("antialias:4*0.5", "stands alone, like antialias"),
        ("grey*2", r"a strength is above 0 and at most 1, like grey\*0\.5"),
        ("grey*nan", "a strength is above 0"),
        ("grey*much", "a strength is above 0"),
    ],
)
def test_what_is_no_degradation_is_refused_in_a_line(given: str, why: str) -> None:
    with pytest.raises(DegradationError, match=why) as refused:
        canonical(given)
    assert "\n" not in str(refused.value)


def test_the_strength_is_told_from_the_degradation() -> None:
    assert split("dark:0.25*0.5") == ("dark:0.25", 0.5)
    assert split("mask") == ("mask", 1)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("noise:0.0980392*0.6", "noise:0.0588235", True),
        ("blur:2*0.5", "blur:1", True),
        ("dark:0.25*0.5", "dark:0.5", True),
        ("antialias", "antialias:4", True),
        ("grey", "grey", True),
        ("dark:0.25*0.5", "dark:0.125", False),
        ("blur:2", "noise:0.5", False),
        ("grey*0.5", "grey", False),
        ("blur:2+noise:0.1", "blur:2", False),
    ],
)
def test_a_part_of_a_degradation_is_a_weaker_one(one: str, other: str, same: bool) -> None:
    assert alike(one, other) is alike(other, one) is same


def test_a_degradation_may_be_named_by_its_task() -> None:
    assert [from_task(name) for name in ("colourise", "deblur:2*0.5", "lowlight:1/4+denoise:0.1")] == [
        "grey", "blur:2*0.5", "dark:0.25+noise:0.1",
    ]  # fmt: skip
    assert [from_task(name) for name in ("antialias", "sr:4", "blur:2", "anything")] == [
        "antialias", "sr:4", "blur:2", "anything",
    ]  # fmt: skip


def test_only_what_keeps_the_size_of_images_has_a_task_of_its_own() -> None:
    assert task_in_words("blur:2") == "deblurring, σ = 2 pixels"
    assert task_in_words("grey*0.5") == "colourisation, at the strength 0.5"
    assert [task_in_words(name) for name in ("antialias", "reference", "realworld", "<b>")] == [None] * 4
    assert [reduces(name) for name in ("antialias", "realworld", "blur:2", "mask")] == [True, True, False, False]
