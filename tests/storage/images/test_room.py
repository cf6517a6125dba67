"""Claims: what does not fit is refused, what does not fit beside others waits, and nothing is left claimed."""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

import pytest

from storage.images import room
from storage.images.formats import ImageError
from storage.images.room import SMALL, Room
from storage.stores.errands import Errand, in_hand

MUCH = 10 * SMALL
"""What a room of these tests has."""


def of(available: int = MUCH) -> Room:
    return Room(lambda: available, lambda: 0)


def claimed(where: Room, *sizes: int) -> bool:
    """Whether there is room for so much after so much, in a thread of its own that does not keep it."""

    def claim() -> None:
        with where.work():
            for size in sizes:
                where.claim(size)

    with ThreadPoolExecutor(1) as pool:
        return not isinstance(pool.submit(claim).exception(), ImageError)


def test_what_is_more_than_there_is_is_refused_in_words() -> None:
    with (
        of().work(),
        pytest.raises(ImageError, match=r"needs about 671\.1 MB of memory, and 671\.1 MB may be used; why"),
    ):
        of().claim(MUCH + 1, "; why")


def test_a_part_of_the_memory_is_left_to_others() -> None:
    where = Room(lambda: MUCH, lambda: 16 * SMALL)
    assert claimed(where, MUCH - SMALL)
    assert not claimed(where, MUCH - SMALL + 1)


def test_small_ones_pass_whatever_there_is() -> None:
    assert claimed(of(0), SMALL)
    assert not claimed(of(0), SMALL + 1)


def test_claims_of_one_thread_do_not_add_up_and_end_with_its_work() -> None:
    where = of()
    with where.work():
        where.claim(MUCH)
        with where.work():
            where.claim(MUCH)
        where.claim(MUCH - 1)
    assert claimed(where, MUCH)


def test_work_that_fails_ends_its_claims() -> None:
    where = of()
    assert not claimed(where, MUCH, 3 * MUCH)
    assert claimed(where, MUCH)


def test_what_does_not_fit_beside_others_waits_for_them_in_turn() -> None:
    where, first, go_on = of(), Event(), Event()
    ends: list[str] = []

    def work(name: str, size: int, until: Event | None = None) -> None:
        with where.work():
            where.claim(size)
            first.set()
            if until is not None:
                until.wait(10)
            ends.append(name)

    with ThreadPoolExecutor(3) as pool:
        begun: list[Future[None]] = [pool.submit(work, "half", MUCH // 2, go_on)]
        first.wait(10)
        begun.append(pool.submit(work, "all", MUCH))
        begun.append(pool.submit(work, "another", MUCH))
        assert not any(future.done() for future in begun)
        go_on.set()
        assert [future.result(10) for future in begun] == [None] * 3
    assert ends[0] == "half"
    assert sorted(ends[1:]) == ["all", "another"]


def test_memory_that_was_there_before_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([MUCH, 0, 0, 0, MUCH])
    where = Room(lambda: next(free), lambda: 0)
    monkeypatch.setattr(room, "STEP", 0.001)
    assert claimed(where, MUCH)
    assert claimed(where, MUCH)


def test_a_forked_process_has_none_of_its_parent_s_claims() -> None:
    with room.ROOM.work():
        room.ROOM.claim(SMALL + 1)
        if (child := os.fork()) == 0:
            os._exit(room.ROOM._claimed + room.ROOM._held > 0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_claims_of_a_thread_that_was_left_behind_keep_nobody_waiting() -> None:
    where, errand, held, end = of(), Errand(), Event(), Event()

    def hang() -> None:
        with errand.carried_out(), where.work():
            where.claim(MUCH)
            held.set()
            end.wait(10)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hang)
        held.wait(10)
        errand.give_up()
        assert claimed(where, MUCH)
        end.set()


def test_who_waits_for_room_has_no_image_in_hand_meanwhile() -> None:
    where, errand, held, end = of(), Errand(), Event(), Event()

    def take() -> None:
        with where.work():
            where.claim(MUCH)
            held.set()
            end.wait(10)

    def wait() -> None:
        with errand.carried_out(), in_hand("a.png"), where.work():
            held.wait(10)
            taken.set()
            where.claim(MUCH)
            assert errand.late(-1) == [("a.png",)]

    taken = Event()
    with ThreadPoolExecutor(2) as pool:
        pool.submit(take)
        waiter = pool.submit(wait)
        taken.wait(10)
        while errand.late(-1) and not waiter.done():
            held.wait()
        assert not waiter.done()
        end.set()
        assert waiter.result(10) is None
