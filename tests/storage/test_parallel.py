"""`ordered_map`: in order, never far ahead, exceptions come through, and leaving early does not hang."""

import itertools
from collections.abc import Generator, Iterator
from threading import Event
from threading import enumerate as enumerate_threads
from typing import cast

import pytest

from storage.parallel import ordered_map


def test_results_come_in_the_order_of_the_items() -> None:
    first = Event()

    def do(item: int) -> int:
        if item == 0:
            first.wait(10)
        else:
            first.set()
        return item * item

    assert list(ordered_map(do, range(20), workers=4)) == [item * item for item in range(20)]


def test_it_takes_only_a_bounded_number_of_items_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in itertools.count():
            taken.append(item)
            yield item

    results = ordered_map(str, items(), workers=3)
    assert [next(results) for _ in range(5)] == ["0", "1", "2", "3", "4"]
    assert len(taken) <= 5 + 2 * 3


@pytest.mark.parametrize(("most", "ahead"), [(0, 1), (3, 1), (9, 3), (1000, 6)])
def test_it_takes_no_more_ahead_than_may_be_under_way_by_weight(most: float, ahead: int) -> None:
    taken: list[int] = []
    done: list[int] = []
    greatest = 0

    def items() -> Iterator[int]:
        nonlocal greatest
        for item in range(20):
            taken.append(item)
            greatest = max(greatest, len(taken) - len(done))
            yield item

    for result in ordered_map(lambda item: item, items(), workers=3, weight=lambda _: 3, most=most):
        assert result == len(done)
        done.append(result)
    assert len(done) == 20
    assert greatest == ahead + 1  # the next one is asked what it weighs


def test_what_an_item_raises_reaches_the_consumer_after_the_results_before_it() -> None:
    results = ordered_map(lambda item: 10 // item, [5, 2, 0, 1], workers=2)
    assert [next(results), next(results)] == [2, 5]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_what_the_items_raise_reaches_the_consumer_after_the_results_before_it() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise ValueError("no more")

    results = ordered_map(str, items(), workers=4)
    with pytest.raises(ValueError, match="no more"):
        list(results)


def test_leaving_early_starts_nothing_more_and_leaves_no_thread() -> None:
    before = set(enumerate_threads())
    started: list[int] = []

    def do(item: int) -> int:
        started.append(item)
        return item

    results = cast(Generator[int], ordered_map(do, itertools.count(), workers=3))
    assert next(results) == 0
    results.close()
    assert set(enumerate_threads()) == before
    assert len(started) <= 1 + 2 * 3
    assert list(results) == []


def test_no_items_are_no_results() -> None:
    assert list(ordered_map(str, [], workers=2)) == []
