"""Batches are of one kind and full where they can be, and nothing waits for ever."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from flows.inputs.grouping import PATIENCE, in_batches


def batches(text: str, full: int = 3, most: int = 1000) -> list[str]:
    """Letters wait for their like, each as heavy as one; others go alone."""
    found = in_batches(text, lambda c: c if c.isalpha() else None, lambda _: full, lambda _: 1, most)
    return ["".join(batch) for batch in found]


def test_what_is_alike_goes_together_and_the_rest_at_the_end() -> None:
    assert batches("abacaabb") == ["aaa", "bbb", "c", "a"]
    assert batches("abcabca") == ["aaa", "bb", "cc"]


def test_what_has_no_kind_overtakes() -> None:
    assert batches("a1a2a") == ["1", "2", "aaa"]


def test_no_more_waits_than_may() -> None:
    assert batches("abcde", most=2) == ["a", "b", "c", "d", "e"]
    taken = 0

    def letters() -> Iterator[str]:
        nonlocal taken
        for letter in "abcdefghij" * 3:
            taken += 1
            yield letter

    given_out = 0
    for batch in in_batches(letters(), lambda c: c, lambda _: 4, lambda _: 5, most=20):
        assert taken - given_out <= 5  # four of them, and the one that is too much
        given_out += len(batch)
    assert given_out == 30


def test_a_rare_one_does_not_wait_for_its_like_for_ever() -> None:
    text = "r" + "a" * 200
    found = batches(text, full=4)
    assert found.index("r") <= PATIENCE + 1


@given(st.text("abc1", max_size=60), st.integers(1, 5), st.integers(1, 20))
def test_nothing_is_lost_and_each_kind_keeps_its_order(text: str, full: int, most: int) -> None:
    found = batches(text, full, most)
    assert sorted("".join(found)) == sorted(text)
    assert all(len(set(batch)) == 1 and len(batch) <= full for batch in found)
