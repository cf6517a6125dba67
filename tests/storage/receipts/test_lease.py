"""Leases: one run at a time on a target, no waiting for the dead, and nothing broken where one is stolen."""

import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Event
from typing import Any
from unittest.mock import Mock

import pytest

from flows.engine import run as fanout
from flows.engine.job import Job, WorkerSpec
from flows.engine.options import BatchOptions
from flows.inputs.contents import list_images
from flows.interface.console import Advance
from flows.interface.errors import RunError
from storage.archives.source import Folder
from storage.parallel import ordered_map
from storage.receipts import claims
from storage.receipts import lease as leases
from storage.receipts.lease import LASTS, Lease, hold
from storage.receipts.owners import LEASE, LostError, Owner
from storage.receipts.receipts import Receipts
from storage.receipts.units import Row, Unit, failed
from storage.stores import local
from storage.stores.fence import clock
from storage.stores.local import LocalDisk
from storage.stores.location import Entry, Location, StorageError
from tests.clocks import clock_set
from tests.services import wait_until

SOON = 10.0
ENTRIES = [Entry(f"{i}.png", 100 + i, f"tag{i}") for i in range(6)]
OPTIONS = BatchOptions(workers=1, in_flight=1)


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.integration)])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    return Location.of(request.getfixturevalue("s3") if request.param == "s3" else tmp_path / "target")


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[Lease]:
    """The leases that runs take in this test, renewed all the time."""
    taken: list[Lease] = []

    @contextmanager
    def often(where: Location, flow: str, also: Sequence[Location]) -> Iterator[Lease]:
        with hold(where, flow, every=0.01, also=also) as lease:
            taken.append(lease)
            yield lease

    monkeypatch.setattr(fanout, "hold", often)
    return taken


def lease_of(**facts: object) -> bytes:
    """What another run, on another host, would have written just now."""
    facts = {"host": "elsewhere", "started": "2026-01-02 03:04:05 UTC", "expires": time.time() + LASTS, **facts}
    own = json.loads(Owner.here("upscale").until(0))
    return json.dumps({**own, **facts}).encode()


def dead() -> bytes:
    """What a run of this host would have left whose process is gone."""
    return lease_of(host=socket.gethostname(), pid=2**22 + 1)


def state(target: Location) -> dict[str, bytes]:
    return {entry.key: target.read(entry.key) for entry in target.list()}


def results(target: Location) -> dict[str, bytes]:
    return {key: data for key, data in state(target).items() if not key.startswith((".dtls/plan", ".dtls/seals"))}


def _out_of_order(*_: object) -> None:
    raise StorageError("out of order")


def job(target: Location, work: Callable[[str], None] = lambda _: None, **options: Any) -> Job:
    """Three units of two samples; `work` is called with the name of each sample after its output is written."""

    def do(unit: Unit, samples: Sequence[Entry], advance: Advance) -> list[Row]:
        rows: list[Row] = []
        for sample in samples:
            data = f"pixels of {sample.key}".encode()
            target.write(sample.key, data)
            work(sample.key)
            advance(1)
            rows.append({"key": sample.key, "status": "ok", "output": sample.key, "output_bytes": len(data)})
        return rows

    units = [Unit.of("upscale", f"unit-{i}", ENTRIES[i : i + 2], {}) for i in (0, 2, 4)]
    facts = {"title": "upscale", "units": units, "work": do, "receipts": Receipts(target, "upscale")}
    return Job(**{**facts, "worker_spec": WorkerSpec(lambda _: do, uses_gpu=False), **options})


def lost_after(lease: Lease, harm: Callable[..., None], *given: Any) -> bool:
    """Whether a lease is lost soon after some harm; not if a renewal under way has undone it."""
    harm(*given)
    return lease.lost.wait(0.1)


def test_while_one_holds_a_target_another_is_refused_in_one_line_and_leaves_nothing(target: Location) -> None:
    with hold(target, "upscale"):
        before = state(target)
        assert list(before) == [LEASE]
        with pytest.raises(StorageError) as refused:
            fanout.run(job(target), OPTIONS)
        started = json.loads(before[LEASE])["started"]
        assert str(refused.value) == (
            f"{target}: another run works here (upscale on {socket.gethostname()} since {started}); "
            "wait for it, or remove .dtls/lease.json if it is gone"
        )
        assert state(target) == before
    assert target.list() == []
    assert fanout.run(job(target), OPTIONS).ok == 6


def test_of_two_runs_one_works_and_the_other_may_when_it_has_ended(target: Location) -> None:
    working, go_on = Event(), Event()

    def work(_: str) -> None:
        working.set()
        assert go_on.wait(SOON)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(fanout.run, job(target, work), OPTIONS)
        try:
            assert working.wait(SOON)
            with pytest.raises(StorageError, match="another run works here"):
                fanout.run(job(target), OPTIONS)
        finally:
            go_on.set()
        assert first.result().ok == 6
    assert str(fanout.run(job(target), OPTIONS)) == "6 already done"


def test_a_lease_whose_process_is_gone_is_taken_at_once(target: Location) -> None:
    killed = "import os, sys, storage.receipts.lease as l, storage.stores.location as s\n"
    killed += "with l.hold(s.Location.of(sys.argv[1]), 'upscale'): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", killed, str(target)], check=False)
    left = json.loads(target.read(LEASE))
    assert left["expires"] > time.time()
    with hold(target, "upscale"):
        assert json.loads(target.read(LEASE))["pid"] == os.getpid()
    assert target.list() == []


@pytest.mark.parametrize("answer", [None, PermissionError()])
def test_a_lease_of_a_process_that_lives_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: OSError | None
) -> None:
    target = Location.of(tmp_path)
    lease = lease_of(host=socket.gethostname(), pid=os.getppid())
    with monkeypatch.context() as others:
        if answer:  # as for a process of another user
            others.setattr(os, "kill", Mock(side_effect=answer))
        target.write(LEASE, lease)
        with pytest.raises(StorageError, match="another run works here"), hold(target, "upscale"):
            pass
        assert state(target) == {LEASE: lease}


@pytest.mark.parametrize("ahead", [-86_400.0, 0.0, 86_400.0], ids=["behind", "alike", "ahead"])
def test_how_old_a_lease_of_another_host_is_is_told_by_the_store_and_not_by_that_host_or_this_one(
    target: Location, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = lease_of(pid=2**22 + 1, expires=time.time() + ahead)  # no such process here, which says nothing
    target.write(LEASE, lease)
    with (
        pytest.raises(StorageError, match=r"upscale on elsewhere since 2026-01-02 03:04:05 UTC"),
        hold(target, "upscale"),
    ):
        pass
    assert state(target) == {LEASE: lease}
    monkeypatch.setattr(leases, "LASTS", 0.5)
    assert wait_until(lambda: (target.age(LEASE) or 0) > leases.LASTS, SOON)
    with hold(target, "upscale"):
        assert json.loads(target.read(LEASE))["host"] == socket.gethostname()
    assert target.list() == []


def test_where_a_store_tells_no_time_a_lease_is_watched_until_it_was_not_renewed_for_its_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = Location.of(f"memory://leases/{time.monotonic_ns()}")
    monkeypatch.setattr(leases, "LASTS", 0.4)
    target.write(LEASE, lease_of())
    begun = clock()
    with hold(target, "upscale"):
        assert clock() - begun >= leases.LASTS
    with ThreadPoolExecutor(1) as pool:
        stop = Event()

        def live() -> None:
            while not stop.wait(0.05):
                target.write(LEASE, lease_of(expires=time.time()))

        living = pool.submit(live)
        try:
            assert wait_until(lambda: target.exists(LEASE), SOON)
            with pytest.raises(StorageError, match="another run works here"), hold(target, "upscale"):
                pass
        finally:
            stop.set()
        living.result()


def test_a_lease_dated_tomorrow_is_watched_and_taken_over_where_nobody_renews_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, tomorrow = Location.of(tmp_path), time.time() + 86_400
    monkeypatch.setattr(leases, "LASTS", 0.4)
    target.write(LEASE, lease_of(expires=tomorrow))
    os.utime(tmp_path / LEASE, (tomorrow, tomorrow))
    begun = clock()
    with hold(target, "upscale"):
        assert clock() - begun >= leases.LASTS
        assert json.loads(target.read(LEASE))["host"] == socket.gethostname()
    assert target.list() == []


def test_a_lease_dated_tomorrow_is_respected_where_it_is_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, tomorrow = Location.of(tmp_path), time.time() + 86_400
    target.write(LEASE, lease_of(expires=tomorrow))
    os.utime(tmp_path / LEASE, (tomorrow, tomorrow))
    monkeypatch.setattr(time, "sleep", lambda _: target.write(LEASE, lease_of(expires=tomorrow + 1)))
    with pytest.raises(StorageError, match="another run works here"), hold(target, "upscale"):
        pass


OF_WRONG_CLOCK = """
import os, signal, socket, sys, threading
from storage.receipts import lease as leases
from storage.stores.location import Location, StorageError
target = Location.of(sys.argv[1])
socket.gethostname = lambda: "elsewhere"
try:
    with leases.hold(target, "upscale"): pass
except StorageError as error:
    print(error, flush=True)
sys.stdin.readline()
leases.LASTS = 0.5
while target.age(leases.LEASE) <= leases.LASTS: threading.Event().wait(0.1)
with leases.hold(target, "upscale"): os.kill(os.getpid(), signal.SIGKILL)
"""
"""Wants a lease that is held, then one whose owner is gone, and is killed while it holds it."""


@pytest.mark.parametrize(
    ("target", "by"),
    [
        ("local", "+180s"),
        pytest.param("local", "-180s", marks=pytest.mark.nightly),
        pytest.param("local", "+1d", marks=pytest.mark.nightly),
        pytest.param("local", "-1d", marks=pytest.mark.nightly),
        pytest.param("s3", "+180s", marks=pytest.mark.integration),
        pytest.param("s3", "-180s", marks=[pytest.mark.integration, pytest.mark.nightly]),
    ],
    indirect=["target"],
)
def test_a_run_whose_clock_is_wrong_takes_over_from_the_dead_alone_and_is_taken_over_from_when_it_dies(
    target: Location, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = {**os.environ, **clock_set(by)}
    with ExitStack() as running:
        with hold(target, "upscale"):
            process = running.enter_context(
                subprocess.Popen([sys.executable, "-c", OF_WRONG_CLOCK, str(target)], env=environment, **pipes)
            )
            before = state(target)
            assert process.stdout is not None
            assert process.stdout.readline().startswith(f"{target}: another run works here (upscale on ")
            assert state(target) == before
        target.write(LEASE, lease_of())
        process.communicate("go on", timeout=SOON)
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(StorageError, match=r"another run works here \(upscale on elsewhere"), hold(target, "upscale"):
        pass
    monkeypatch.setattr(leases, "LASTS", 0.5)
    assert wait_until(lambda: (target.age(LEASE) or 0) > leases.LASTS, SOON)
    with hold(target, "upscale"):
        assert json.loads(target.read(LEASE))["host"] == socket.gethostname()
    assert target.list() == []


def test_of_two_that_replace_a_lease_at_once_on_a_disk_the_second_finds_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, write, waits = Location.of(tmp_path), LocalDisk.write, Event()
    target.write(LEASE, b"dead")
    found = target.info(LEASE)
    monkeypatch.setattr(time, "sleep", lambda _: waits.set())
    with ThreadPoolExecutor(2) as pool:
        others: list[Future[bool]] = []

        def late(disk: LocalDisk, path: str, data: bytes) -> None:
            """As if the first had been paused between its look and its rename."""
            if not others:
                others.append(pool.submit(target.replace, found, b"second"))
                others.append(pool.submit(target.remove, found))
                assert waits.wait(SOON)
            write(disk, path, data)

        monkeypatch.setattr(LocalDisk, "write", late)
        assert target.replace(found, b"first")
        assert [other.result() for other in others] == [False, False]
    assert target.read(LEASE) == b"first"


def test_a_process_that_is_paused_while_it_replaces_a_lease_makes_another_wait_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Location.of(tmp_path)
    target.write(LEASE, dead())
    monkeypatch.setattr(local, "LOCKED", 0.1)
    with (tmp_path / LEASE).open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match=r"lease\.json: locked by a process"), hold(target, "upscale"):
            pass


def test_a_run_that_is_paused_while_it_leaves_does_not_remove_the_lease_of_who_took_over(
    target: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, thief = Location.remove, lease_of()

    def late(where: Location, entry: Entry) -> bool:
        where.write(LEASE, thief)
        return remove(where, entry)

    monkeypatch.setattr(Location, "remove", late)
    with hold(target, "upscale"):
        pass
    assert state(target) == {LEASE: thief}


def test_a_container_of_the_same_name_is_another_host(tmp_path: Path) -> None:
    Location.of(tmp_path).write(LEASE, lease_of(host=socket.gethostname(), pid=2**22 + 1, pids="pid:[1]"))
    with pytest.raises(StorageError, match="another run works here"), hold(Location.of(tmp_path), "upscale"):
        pass


def test_a_lease_that_its_owner_removes_while_another_looks_at_it_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, age = Location.of(tmp_path), Location.age
    target.write(LEASE, lease_of())

    def leaves(where: Location, key: str) -> float | None:
        where.delete(key)
        return age(where, key)

    monkeypatch.setattr(Location, "age", leaves)
    with hold(target, "upscale") as lease:
        assert json.loads(target.read(LEASE))["id"] == lease.owner.id


@pytest.mark.parametrize(
    "garbage",
    [b"", b"{", b"\xff\x00", b"null", b"[]", b"{}", lease_of(expires="soon"), lease_of(expires=float("nan"))],
)
def test_a_lease_that_cannot_be_understood_counts_as_ended(tmp_path: Path, garbage: bytes) -> None:
    target = Location.of(tmp_path)
    target.write(LEASE, garbage)
    with hold(target, "upscale"):
        assert json.loads(target.read(LEASE))["pid"] == os.getpid()
    assert target.list() == []


@pytest.mark.slow
@pytest.mark.parametrize("left", ["nothing", "ended", "ended, and a taker that was killed while taking"])
def test_of_eight_that_want_a_lease_at_once_exactly_one_gets_it(target: Location, left: str) -> None:
    for _ in range(1 if target.local is None else 30):  # SeaweedFS takes seconds a time
        if left != "nothing":
            ended = dead()
            target.write(LEASE, ended)
        if "killed" in left:
            claim = f".dtls/lease-{hashlib.sha256(ended).hexdigest()[:16]}.json"
            target.write(claim, dead())
        ready, decided = Barrier(8), Barrier(8)

        def take(ready: Barrier = ready, decided: Barrier = decided) -> bool:
            ready.wait(SOON)
            try:
                with hold(target, "upscale") as lease:
                    decided.wait(SOON)
                    return json.loads(target.read(LEASE))["id"] == lease.owner.id
            except StorageError:
                decided.wait(SOON)
                return False

        with ThreadPoolExecutor(8) as pool:
            got = [taker.result() for taker in [pool.submit(take) for _ in range(8)]]
        assert got.count(True) == 1
        assert target.list() == []


def test_a_lease_is_renewed_while_its_run_works(target: Location) -> None:
    with hold(target, "upscale", every=0.01) as lease:
        first = json.loads(target.read(LEASE))
        assert wait_until(lambda: json.loads(target.read(LEASE))["expires"] > first["expires"], SOON)
        later = json.loads(target.read(LEASE))
        assert {**later, "expires": 0} == {**first, "expires": 0}
        assert later["expires"] - time.time() == pytest.approx(LASTS, abs=10)
        assert not lease.lost.is_set()
    assert target.list() == []


def test_a_stolen_lease_stops_the_run_at_its_next_sample_and_a_rerun_ends_with_the_same_bytes(
    target: Location, held: list[Lease]
) -> None:
    fanout.run(job(target / "undisturbed"), OPTIONS)
    held.clear()
    there, made, thief = target / "stolen", list[str](), lease_of()

    def steal(name: str) -> None:
        made.append(name)
        if name == "2.png":
            assert wait_until(lambda: lost_after(held[0], there.write, LEASE, thief), SOON)

    with pytest.raises(StorageError) as stopped:
        fanout.run(job(there, steal), OPTIONS)
    assert str(stopped.value) == (
        f"{there}: stopped, as another run took over (upscale on elsewhere since 2026-01-02 03:04:05 UTC); "
        "run it again to resume"
    )
    assert made == ["0.png", "1.png", "2.png"]
    assert there.read(LEASE) == thief
    there.delete(LEASE)
    assert str(fanout.run(job(there), OPTIONS)) == "4 done, 2 already done"
    assert results(there) == results(target / "undisturbed")


def test_a_run_whose_lease_is_removed_stops(tmp_path: Path, held: list[Lease]) -> None:
    there = Location.of(tmp_path)

    def remove(_: str) -> None:
        assert wait_until(lambda: lost_after(held[0], there.delete, LEASE), SOON)

    with pytest.raises(
        StorageError, match=r"stopped, as somebody removed or changed \.dtls/lease\.json; run it again"
    ):
        fanout.run(job(there, remove), OPTIONS)
    assert [entry.key for entry in there.list()] == [".dtls/plan.parquet", ".dtls/unfinished", "0.png"]


def paused(lease: Lease, seconds: float) -> None:
    """As if the run had been stopped for so long just now, or its machine had slept."""
    lease._written -= seconds


def test_a_lease_that_cannot_be_renewed_is_lost_at_its_end_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Location.of(tmp_path)
    with hold(target, "upscale", every=3600) as lease:
        with monkeypatch.context() as broken:
            broken.setattr(Location, "replace", _out_of_order)
            lease.renew()
            assert not lease.lost.is_set()
        lease.renew()
        lease.check()
        paused(lease, LASTS + 1)
        monkeypatch.setattr(Location, "replace", _out_of_order)
        lease.renew()
        assert lease.lost.is_set()
        with pytest.raises(LostError, match=r"lease\.json could not be renewed in time \(out of order\); run it"):
            lease.check()


def test_a_machine_that_slept_keeps_a_lease_that_nobody_took(tmp_path: Path) -> None:
    target = Location.of(tmp_path)
    with hold(target, "upscale", every=3600) as lease:
        paused(lease, 3600)
        target.write("0.png", b"pixels")
        lease.check()


CHANGES: dict[str, Callable[[Location, Path], object]] = {
    "write": lambda target, _: target.write("a/0.png", b"mine"),
    "create": lambda target, _: target.create("new.png", b"mine"),
    "upload": lambda target, file: target.upload("a/0.png", file),
    "delete": lambda target, _: target.delete("a/0.png"),
    "replace": lambda target, _: target.replace(target.info("a/0.png"), b"mine"),
    "write below": lambda target, _: (target / "a").write("0.png", b"mine"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_run_that_slept_while_another_took_over_changes_nothing_more(
    target: Location, tmp_path: Path, change: Callable[[Location, Path], object]
) -> None:
    file = tmp_path / "mine"
    file.write_bytes(b"mine")
    target.write("a/0.png", b"of the other run")
    with hold(target, "upscale", every=3600) as lease:
        thief = lease_of()
        target.write(LEASE, thief)
        paused(lease, LASTS)
        with pytest.raises(LostError, match=r"stopped, as another run took over \(upscale on elsewhere since 2026"):
            change(target, file)
    assert state(target) == {LEASE: thief, "a/0.png": b"of the other run"}


def test_a_file_that_is_being_written_while_the_lease_is_lost_does_not_appear(tmp_path: Path) -> None:
    target = Location.of(tmp_path)
    with hold(target, "upscale", every=3600) as lease:

        def gather() -> None:
            with target.writing("manifest") as path:
                path.write_bytes(b"mine")
                target.write(LEASE, lease_of())
                paused(lease, LASTS)

        with pytest.raises(LostError):
            gather()
    assert [entry.key for entry in target.list()] == [LEASE]


def test_places_beside_the_target_are_fenced_with_it_and_others_are_not(tmp_path: Path) -> None:
    target, archive, other = (Location.of(tmp_path / name) for name in ("staging", "results.zip", "results.zip.old"))
    beside = Location.of(tmp_path)
    with hold(target, "upscale", every=3600, also=[archive]) as lease:
        target.write(LEASE, lease_of())
        paused(lease, LASTS)
        beside.write(other.root.rpartition("/")[2], b"not fenced")
        with pytest.raises(LostError):
            beside.write("results.zip", b"mine")
    beside.write("results.zip", b"fenced no longer")


def test_a_process_that_works_for_two_runs_asks_for_each_of_them_alone(tmp_path: Path) -> None:
    target, taken = Location.of(tmp_path), Event()
    with ThreadPoolExecutor(1) as pool:

        def lose() -> None:
            with hold(target, "upscale", every=3600) as lease:
                paused(lease, 2 * LASTS)
                target.write(LEASE, lease_of(host=socket.gethostname(), pid=2**22 + 1))
                pool.submit(taken.set)
                assert ended.wait(SOON)
                with pytest.raises(LostError, match="stopped, as "):
                    list(ordered_map(lambda key: target.write(key, b"mine"), ["1.png"], 1))

        ended = Event()
        with ThreadPoolExecutor(1) as other:
            first = other.submit(lose)
            try:
                assert taken.wait(SOON)
                with hold(target, "upscale"):
                    list(ordered_map(lambda key: target.write(key, b"pixels"), ["0.png"], 1))
                    (target / "a").write("0.png", b"pixels")
            finally:
                ended.set()
            first.result()
    assert state(target) == {"0.png": b"pixels", "a/0.png": b"pixels"}


@pytest.mark.parametrize("address", ["memory://fenced", "{tmp_path}/fenced"])
def test_a_place_is_fenced_in_whichever_thread_its_address_is_understood(address: str, tmp_path: Path) -> None:
    target = Location.of(address.format(tmp_path=tmp_path))

    def refuse() -> None:
        raise LostError("another's")

    with target.fenced(refuse), ThreadPoolExecutor(1) as pool:
        late = pool.submit(lambda: Location.of(target.url).write("0.png", b"mine"))
        with pytest.raises(LostError):
            late.result()


def test_a_thread_that_outlives_its_run_changes_nothing_more(tmp_path: Path) -> None:
    target = Location.of(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        with hold(target, "upscale"):
            late = copy_context()
        outlived = pool.submit(late.run, target.write, "0.png", b"mine")
        with pytest.raises(LostError, match="stopped, as its run has ended"):
            outlived.result()
    assert target.list() == []


def test_a_worker_of_another_machine_says_in_one_line_that_the_lease_is_lost(tmp_path: Path) -> None:
    target = Location.of(tmp_path)
    lost = LostError.of(target, "another run took over")

    def loses(_: str) -> None:
        raise lost

    with pytest.raises(StorageError) as stopped:
        fanout.run(job(target, loses), OPTIONS)
    assert str(stopped.value) == f"{target}: stopped, as another run took over; run it again to resume"


def test_another_process_that_works_for_a_run_changes_the_target_only_as_long_as_the_lease_is_the_run_s(
    target: Location,
) -> None:
    with hold(target, "upscale", every=3600) as lease:
        with lease.claim.fenced():
            target.write("0.png", b"pixels")
        target.write(LEASE, lease_of())
        with (
            lease.claim.fenced(),
            pytest.raises(LostError, match=r"as another run took over \(upscale on el"),
        ):
            target.write("0.png", b"mine")
        target.delete(LEASE)
        with lease.claim.fenced(), pytest.raises(LostError, match="not to be seen there from this process"):
            target.write("0.png", b"mine")
    assert state(target) == {"0.png": b"pixels"}


def test_a_run_s_claim_is_of_the_same_place_in_a_process_of_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    target = Location.of(tmp_path / "large")
    with hold(Location.of("large"), "upscale", every=3600) as lease:
        target.write(LEASE, lease_of())
        monkeypatch.chdir("/")
        with lease.claim.fenced(), pytest.raises(LostError, match="another run took over"):
            target.write("0.png", b"mine")


@pytest.fixture
def slept(tmp_path: Path) -> Callable[[], None]:
    """Makes the lease of a folder one that was not written for as long as it lasts."""
    old = time.time() - LASTS
    return lambda: os.utime(tmp_path / LEASE, (old, old))


def test_who_works_for_a_run_stops_before_its_unrenewed_lease_may_be_taken(
    tmp_path: Path, slept: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "PATIENCE", 0.1)
    target = Location.of(tmp_path)
    with hold(target, "upscale", every=3600) as lease:
        slept()
        with lease.claim.fenced(), pytest.raises(LostError, match="does not renew its lease"):
            target.write("0.png", b"mine")


def test_who_works_for_a_run_waits_for_the_renewal_that_is_late_after_a_sleep(
    tmp_path: Path, slept: Callable[[], None]
) -> None:
    target = Location.of(tmp_path)
    with hold(target, "upscale", every=3600) as lease:
        slept()
        renewal = threading.Timer(0.3, lease.renew)
        renewal.start()
        with lease.claim.fenced():
            target.write("0.png", b"pixels")
        renewal.join()
    assert state(target) == {"0.png": b"pixels"}


def test_a_lease_is_renewed_soon_after_a_sleep_in_which_waiting_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "WAKES_EVERY", 0.01)
    renewed = threading.Event()
    monkeypatch.setattr(Lease, "renew", lambda _: renewed.set())
    with hold(Location.of(tmp_path), "upscale", every=3600):
        assert not renewed.wait(0.1)
        monkeypatch.setattr(leases, "clock", lambda: clock() + 3600)
        assert renewed.wait(SOON)


def test_a_renewal_never_writes_over_the_lease_of_who_took_over_meanwhile(
    target: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    thief = lease_of()
    with hold(target, "upscale", every=3600) as lease:
        replace_lease = Location.replace

        def late(where: Location, entry: Entry, data: bytes) -> bool:
            where.write(LEASE, thief)
            return replace_lease(where, entry, data)

        monkeypatch.setattr(Location, "replace", late)
        lease.renew()
        assert lease.lost.is_set()
    assert target.read(LEASE) == thief


def test_no_lease_is_left_by_a_run_that_works_fails_or_is_stopped(target: Location) -> None:
    def fails(_: object, samples: Sequence[Entry], advance: Advance) -> list[Row]:
        return [failed(sample, "no image") for sample in samples]

    def stops(*_: object) -> None:
        raise KeyboardInterrupt

    def breaks(_: str) -> None:
        raise RuntimeError("broken")

    with pytest.raises(KeyboardInterrupt):
        fanout.run(job(target, gather=stops), OPTIONS)
    assert not target.exists(LEASE)
    with pytest.raises(RunError, match="images failed"):
        fanout.run(replace(job(target / "fails"), work=fails), OPTIONS)
    assert not target.exists(f"fails/{LEASE}")
    with pytest.raises(RunError, match="came to nothing"):
        fanout.run(job(target / "breaks", breaks), OPTIONS)
    assert not target.exists(f"breaks/{LEASE}")
    fanout.run(job(target), OPTIONS)
    assert not [entry for entry in target.list() if "lease" in entry.key]


def test_a_run_with_nothing_to_do_writes_nothing_and_needs_no_lease(
    target: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    fanout.run(job(target), OPTIONS)
    with hold(target, "upscale"):
        for name in ("write", "create", "upload", "delete"):
            monkeypatch.setattr(Location, name, _out_of_order)
        assert str(fanout.run(job(target), OPTIONS)) == "6 already done"
        monkeypatch.undo()


def test_a_lease_is_neither_a_receipt_nor_an_image(tmp_path: Path) -> None:
    target = Location.of(tmp_path)
    target.write("0.png", b"pixels")
    with hold(target, "upscale"):
        survey = Receipts(target, "shard").survey(job(target).units)
        assert (survey.done, survey.stale, survey.kept, survey.gathered) == ({}, (), {}, False)
        assert [entry.key for entry in list_images(Folder(target))] == ["0.png"]
