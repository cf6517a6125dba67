"""A run that is killed anywhere, and then run again, ends as if nothing had happened.

Each run is a process of its own that is ended by SIGKILL: before and after whatever changes the target, one such step
after the other, or at a moment drawn at random.
"""

import io
import random
import re
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path

import pytest
from PIL import Image

from flows.engine.job import Work
from flows.shard import ShardOptions, shard
from flows.upscale import UpscaleOptions, upscale
from tests.killing import LONGEST, Ended, Flow, Place, Runs, Setting
from tests.services import S3Server

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm")]

IN_FLIGHT = 2
FURTHER = 7
"""Steps; more than it takes to take over the lease of one more run that was killed while it took one over."""
PART = 5 * 2**20
"""The least that an S3 server takes as a part of an upload which is not the last."""
OF_ALL = re.compile(r"\.dtls/[^/]+|manifest\.parquet")
"""What every flow writes at its target."""
LEFT_OVER = re.compile(r"(.*/)?\.[0-9a-f]{32}\.tmp|\.dtls/(lease[^/]*\.json|unfinished|attempt-[0-9a-f]{16})")
"""What a killed run may leave at its target; the next one removes it."""


def here(work: Work, *_: object) -> Work:
    """What does a unit image by image in a process of its own, where that is proved elsewhere: as any other here."""
    return work


def sharded(source: str, target: str) -> None:
    shard.fn(ShardOptions(source=source, target=target, samples_per_shard=3, workers=2, in_flight=IN_FLIGHT))


def sharded_one_by_one(source: str, target: str) -> None:
    shard.fn(ShardOptions(source=source, target=target, samples_per_shard=1, workers=2, in_flight=IN_FLIGHT))


def upscaled(source: str, target: str) -> None:
    given = {"source": source, "target": target, "method": "bicubic", "scale": 2, "unit_size": 3}
    upscale.fn(UpscaleOptions.model_validate({**given, "workers": 2, "in_flight": IN_FLIGHT}))


class Trial:
    """A flow over a source, what it makes when nobody disturbs it, and fresh targets where it is disturbed."""

    def __init__(self, runs: Runs, place: Place) -> None:
        self.runs, self._place, self._numbers = runs, place, count()
        target = self.fresh()
        self.undisturbed = runs.run(target)
        self.end = target.files()
        self.receipts = {
            key: rows for key, rows in self.end.items() if "/receipts/" in key and isinstance(rows, list)
        }
        assert len(self.receipts) > IN_FLIGHT
        assert self.undisturbed.read == {row["key"] for rows in self.receipts.values() for row in rows}

    def fresh(self) -> Place:
        return Place(f"{self._place.url}/{next(self._numbers)}", self._place.server)

    def done(self, target: Place, killed: Ended) -> set[str]:
        """The images whose receipts a killed run left; all that it left is whole and in its place."""
        there = {key: content for key, content in target.files().items() if not LEFT_OVER.fullmatch(key)}
        assert [key for key, content in there.items() if content != self.end.get(key)] == []
        rows = [row for receipt, rows in self.receipts.items() if receipt in there for row in rows]
        assert {row["output"] for row in rows} <= there.keys()
        done = {row["key"] for row in rows}
        begun = killed.read - done
        assert sum(any(row["key"] in begun for row in rows) for rows in self.receipts.values()) <= IN_FLIGHT
        return done

    def kill(self, target: Place, done: set[str], at_step: int = 0, after: float = LONGEST) -> set[str] | None:
        """Kill a run after `done` is done; what is done then, or None where it came to its end, as it should."""
        ended = self.runs.run(target, at_step, after)
        assert sorted(ended.read & done) == []
        if ended.killed:
            return self.done(target, ended)
        there = target.files()
        assert sorted(there) == sorted(self.end)
        assert [key for key, content in there.items() if content != self.end[key]] == []
        assert target.unfinished() == []
        return None

    def kill_in_a_row(self, steps: Iterable[int]) -> int:
        """Kill one run after the other over one target, at these steps, until one comes to its end; how many were."""
        target, done = self.fresh(), set[str]()
        for kills, step in enumerate(steps):
            now = self.kill(target, done, at_step=step)
            if now is None:
                return kills
            assert done <= now
            done = now
        raise AssertionError(f"{target.url}: no run came to its end")

    def go_on(self, target: Place, done: set[str]) -> None:
        assert self.kill(target, done) is None


def trial(
    request: pytest.FixtureRequest, flow: Flow, where: str, images: dict[str, bytes], *settings: Setting
) -> Trial:
    """A flow over these images, on this machine or on S3."""
    folder: Path = request.getfixturevalue("tmp_path")
    (folder / "runs").mkdir()
    server: S3Server | None = request.getfixturevalue("s3_server") if where == "s3" else None
    root: str = request.getfixturevalue("s3") if server is not None else str(folder)
    source = Place(f"{root}/source", server)
    for key, data in images.items():
        source.put(key, data)
    return Trial(
        Runs(flow, source, folder / "runs", (("flows.engine.watched", "Apart", here), *settings)),
        Place(f"{root}/target", server),
    )


def every(_: Ended) -> Iterable[int]:
    """All steps there are."""
    return range(1, 1000)


def one_of_a_kind(undisturbed: Ended) -> Iterable[int]:
    """The middle one of each kind of step on each kind of file; runs take them in another order, as threads come."""
    return middles(zip(undisturbed.steps, map(kind_of_file, undisturbed.places), strict=True))


def one_of_its_own(undisturbed: Ended) -> Iterable[int]:
    """Of those kinds, what this flow alone writes: its results and their receipts."""
    steps = zip(undisturbed.steps, undisturbed.places, strict=True)
    return middles(None if OF_ALL.fullmatch(place) else (what, kind_of_file(place)) for what, place in steps)


def one_of_a_call(undisturbed: Ended) -> Iterable[int]:
    """The middle one of each kind of step, whatever the file."""
    return middles((what, "") for what in undisturbed.steps)


def kind_of_file(place: str) -> str:
    return re.sub("[0-9a-f]{6,}|[0-9]+", "#", place)


def middles(kinds: Iterable[tuple[str, str] | None]) -> list[int]:
    """The middle one of the steps of each kind."""
    steps: dict[tuple[str, str], list[int]] = {}
    for step, kind in enumerate(kinds, 1):
        if kind:
            steps.setdefault(kind, []).append(step)
    return sorted(some[len(some) // 2] for some in steps.values())


ON_S3 = pytest.mark.integration
NIGHTLY_ON_S3 = [pytest.mark.integration, pytest.mark.nightly]
LOCAL = [(sharded, "local"), (upscaled, "local")]


@pytest.fixture
def images(photographs: Path) -> dict[str, bytes]:
    return {str(path.relative_to(photographs)): path.read_bytes() for path in sorted(photographs.rglob("*.png"))[:8]}


@pytest.mark.parametrize(
    ("flow", "where", "steps"),
    [
        (sharded, "local", one_of_a_kind),
        (upscaled, "local", one_of_its_own),
        pytest.param(sharded, "s3", one_of_a_call, marks=ON_S3),
        pytest.param(sharded, "local", every, marks=pytest.mark.nightly),
        pytest.param(upscaled, "local", every, marks=pytest.mark.nightly),
        pytest.param(upscaled, "s3", one_of_a_call, marks=NIGHTLY_ON_S3),
        pytest.param(sharded, "s3", every, marks=NIGHTLY_ON_S3),
        pytest.param(upscaled, "s3", every, marks=NIGHTLY_ON_S3),
    ],
)
def test_a_run_killed_at_any_step_is_made_whole_by_the_next(
    request: pytest.FixtureRequest,
    flow: Flow,
    where: str,
    steps: Callable[[Ended], Iterable[int]],
    images: dict[str, bytes],
) -> None:
    tried, kills = trial(request, flow, where, images), 0
    chosen = steps(tried.undisturbed)
    for step in chosen:
        target = tried.fresh()
        done = tried.kill(target, set(), at_step=step)
        if done is None:
            break
        tried.go_on(target, done)
        kills += 1
    assert kills >= len({what for step, what in enumerate(tried.undisturbed.steps, 1) if step in chosen})


@pytest.mark.parametrize(
    ("flow", "where"), [*LOCAL, *(pytest.param(flow, "s3", marks=NIGHTLY_ON_S3) for flow in (sharded, upscaled))]
)
@pytest.mark.parametrize("first", [2, pytest.param(5, marks=pytest.mark.nightly)])
def test_runs_killed_in_a_row_each_further_on_than_the_last_come_to_the_same_end(
    request: pytest.FixtureRequest, flow: Flow, first: int, where: str, images: dict[str, bytes]
) -> None:
    assert trial(request, flow, where, images).kill_in_a_row(range(first, 1000, FURTHER)) >= 2


@pytest.mark.parametrize(
    ("flow", "where"),
    [*LOCAL, pytest.param(sharded, "s3", marks=ON_S3), pytest.param(upscaled, "s3", marks=NIGHTLY_ON_S3)],
)
@pytest.mark.parametrize("least", [4, pytest.param(16, marks=pytest.mark.nightly)])
def test_runs_killed_again_and_again_at_random_come_to_the_same_end(
    request: pytest.FixtureRequest, flow: Flow, least: int, where: str, images: dict[str, bytes]
) -> None:
    tried = trial(request, flow, where, images)
    moments, kills = random.Random(4), 0
    while kills < least:
        target, done = tried.fresh(), set[str]()
        for _ in range(4):
            now = tried.kill(target, done, after=moments.uniform(0, tried.undisturbed.seconds))
            if now is None:
                break
            done, kills = now, kills + 1
        else:
            tried.go_on(target, done)


def bmp(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "BMP")
    return buffer.getvalue()


def uploads(request: pytest.FixtureRequest, large: int) -> Trial:
    """Sharding of three images to S3, so many of them uploaded in parts."""
    images = {f"{name}.bmp": bmp(2048, 1800) if place < large else bmp(8, 8) for place, name in enumerate("abc")}
    tried = trial(request, sharded_one_by_one, "s3", images, ("storage.stores.s3", "PART", PART))
    assert {"create_multipart_upload", "upload_part", "complete_multipart_upload"} <= set(tried.undisturbed.steps)
    return tried


@pytest.mark.integration
def test_an_upload_in_parts_that_is_killed_leaves_nothing(request: pytest.FixtureRequest) -> None:
    tried, is_left = uploads(request, large=1), False
    steps = iter(range(tried.undisturbed.steps.index("upload_part") + 1, len(tried.undisturbed.steps)))
    while not is_left:  # at the first try, but that threads may come in another order
        target = tried.fresh()
        done = tried.kill(target, set(), at_step=next(steps))
        assert done is not None
        is_left = target.unfinished() != []
        tried.go_on(target, done)


@pytest.mark.integration
@pytest.mark.nightly
def test_uploads_in_parts_that_are_killed_again_and_again_leave_nothing(request: pytest.FixtureRequest) -> None:
    assert uploads(request, large=3).kill_in_a_row(range(5, 1000, FURTHER)) >= 5
