"""Whatever bytes come in, the readers give what is there or say in a line what is wrong; nothing else happens.

Images from a corpus of hostile files, in a process of their own that is measured; all readers with what hypothesis
makes, the same each time.
"""

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import skimage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from storage.archives.archive import key_of
from storage.archives.source import open_source
from storage.archives.tars import Damaged
from storage.images.decode import decode
from storage.images.formats import MAX_PIXELS, ImageError
from storage.receipts.owners import Owner
from storage.receipts.receipts import Receipts, read_manifest
from storage.receipts.schemas import SAMPLES
from storage.receipts.units import Unit
from storage.shards.read import LocalShard, ShardReader
from storage.stores.location import Entry, Location, StorageError
from tests.storage.archives.test_source import KINDS, as_kind, packed, raw_zip, tarred
from tests.storage.corpus import corpus, encoded, largest, many_scans, mutated, whole_files

SECONDS = 20
"""That one image may take of a processor."""
fuzz = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@cache
def image() -> Image.Image:
    """A real image of 64×64."""
    with Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png") as photograph:
        return photograph.convert("RGB").crop((180, 60, 308, 188)).reduce(2)


@cache
def whole_images() -> list[bytes]:
    return list(whole_files(image()).values())


class Outcome(NamedTuple):
    """What became of a file: its name, the shape or the reason, seconds of a processor, and MiB at most so far."""

    name: str
    end: str
    seconds: float
    peak: int


CHILD = """
import json, resource, sys, time
from pathlib import Path
from storage.images.decode import ImageError, decode
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[2]), int(sys.argv[2])))
before = peak()
for path in sorted(Path(sys.argv[1]).iterdir()):
    data, started = path.read_bytes(), time.process_time()
    try:
        pixels = decode(data)
        assert pixels.dtype == "uint8" and pixels.ndim == 3 and pixels.shape[2] == 3
        end = "x".join(map(str, pixels.shape))
        del pixels
    except ImageError as error:
        end = str(error)
    print(json.dumps([path.name, end, time.process_time() - started, peak() - before]), flush=True)
"""


def decoded(files: Mapping[str, bytes], folder: Path, seconds: int = 120) -> tuple[list[Outcome], str]:
    """Decode files in a process of their own: what became of each, and what was printed beside."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    command = [sys.executable, "-c", CHILD, str(folder), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    outcomes = [Outcome(*json.loads(line)) for line in done.stdout.splitlines()]
    assert [outcome.name for outcome in outcomes] == sorted(files), f"{done.returncode}: {done.stderr[-2000:]}"
    return outcomes, done.stderr


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Outcome], str]:
    """The corpus, decoded once."""
    return decoded(corpus(image()), tmp_path_factory.mktemp("corpus"))


@pytest.mark.slow
def test_the_corpus_is_large_and_the_same_every_time() -> None:
    first, again = corpus(image()), corpus(image())
    assert len(first) > 350
    assert first == again


@pytest.mark.slow
def test_every_hostile_image_gives_pixels_or_one_line(outcomes: tuple[list[Outcome], str]) -> None:
    ends = [outcome.end for outcome in outcomes[0]]
    assert all(ends)
    assert not [end for end in ends if "\n" in end or len(end) > 300]
    refused = [end for end in ends if not end.endswith("x3")]
    assert len(ends) / 3 < len(refused) < len(ends)  # both ends are seen


@pytest.mark.slow
def test_no_hostile_image_takes_long_or_much_memory(outcomes: tuple[list[Outcome], str]) -> None:
    assert [outcome for outcome in outcomes[0] if outcome.seconds > SECONDS] == []
    assert outcomes[0][-1].peak < 512  # the largest that decode have 4000×4000 pixels, of 24 bytes each on their way


@pytest.mark.slow
def test_no_hostile_image_has_a_warning_printed(outcomes: tuple[list[Outcome], str]) -> None:
    assert "Warning" not in outcomes[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        ["canvas.webp"],  # the most memory
        pytest.param(["16-bit.png", "baseline.jpg", "canvas.webp", "progressive.jpg"], marks=pytest.mark.nightly),
    ],
    ids=["one", "all"],
)
def test_small_files_of_the_most_pixels_take_seconds_and_three_gigabytes_at_most(
    names: list[str], tmp_path: Path
) -> None:
    files = {name: data for name, data in largest(image()).items() if name in names}
    assert len(files) == len(names)
    ends, _ = decoded(files, tmp_path, len(files) * SECONDS)
    assert [outcome for outcome in ends if outcome.seconds > SECONDS] == []
    assert ends[-1].peak < 18 * MAX_PIXELS // 2**20


@pytest.mark.slow
def test_a_jpeg_of_many_scans_is_refused_in_time(tmp_path: Path) -> None:
    [outcome], _ = decoded({"scans.jpg": many_scans(4000, 90_000)}, tmp_path, SECONDS)
    assert "scans" in outcome.end


def check(error: Exception, named: str = "") -> None:
    """An error is one line that names what it is about."""
    assert named in str(error)
    assert "\n" not in str(error)


def damaged(whole: Callable[[], list[bytes]]) -> st.SearchStrategy[bytes]:
    """One of these files, damaged once or a few times; or bytes that are nothing."""

    def damage(drawn: tuple[int, int, int]) -> bytes:
        which, times, seed = drawn
        data, chance = whole()[which], random.Random(seed)
        for _ in range(times):
            data = mutated(data, chance) if data else data
        return data

    numbers = st.tuples(st.integers(0, len(whole()) - 1), st.integers(1, 4), st.integers(0, 2**32))
    return numbers.map(damage) | st.binary(max_size=2000)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@fuzz
@given(data=damaged(whole_images))
def test_any_bytes_are_an_image_or_an_image_error(data: bytes) -> None:
    try:
        pixels = decode(data)
    except ImageError as error:
        check(error)
    else:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2:] == (3,)


MEMBERS = {"a.png": b"a" * 700, "folder/ü.png": bytes(range(256)) * 9, "b.json": b"{}", "c/" * 60 + "d.png": b"long"}


@cache
def whole_archives(kind: str) -> list[bytes]:
    return [packed(kind, MEMBERS)]


@contextmanager
def file(name: str, data: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        yield path


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@fuzz
@given(drawn=st.data())
def test_any_bytes_are_an_archive_or_a_storage_error(kind: str, drawn: st.DataObject) -> None:
    target, data = Location.of("target"), drawn.draw(damaged(partial(whole_archives, kind)))
    with file(f"x.{kind}", data) as path:
        try:
            source = open_source(str(path))
            entries = source.list()
        except StorageError as error:
            check(error, str(path))
            return
        assert len({entry.key for entry in entries}) == len(entries)
        assert all(name.isprintable() for name, _ in source.refused)
        for entry in entries:
            assert Path(target.path(entry.key)).is_relative_to(target.root)
            try:
                assert len(source.fetch(entry)) == entry.size
            except StorageError as error:
                check(error, str(path))


names = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(["../a", "a", "./a", "a/b", "C:a"])


@pytest.mark.slow
@fuzz
@given(
    members=st.lists(
        st.tuples(
            names.filter(lambda name: "\0" not in name and name.strip("/") == name != ""), st.binary(max_size=600)
        ),
        max_size=6,
    ),
    kind=st.sampled_from(KINDS),
)
def test_of_a_whole_archive_each_member_is_read_or_refused(members: list[tuple[str, bytes]], kind: str) -> None:
    expected: dict[str, bytes] = {}
    for name, data in members:
        with suppress(Damaged):
            expected.setdefault(key_of(name), data)
    raw = raw_zip(*((name.encode(), data) for name, data in members))
    with file(f"x.{kind}", raw if kind == "zip" else as_kind(kind, tarred(*members))) as path:
        source = open_source(str(path))
        assert {entry.key: source.fetch(entry) for entry in source.list()} == expected
        assert len(expected) + len(source.refused) == len(members)


@cache
def whole_shards() -> list[bytes]:
    data = encoded(image(), "PNG")
    return [tarred(*((f"{n:09}.{suffix}", data) for n in range(4) for suffix in ("png", "json")))]


@pytest.mark.slow
@fuzz
@given(data=damaged(whole_shards))
def test_any_bytes_are_a_whole_shard_or_a_storage_error(data: bytes) -> None:
    with file("shard-000000.tar", data) as path:
        try:
            reader = ShardReader([LocalShard(path, 4)])
            images = [reader.read(index) for index in range(len(reader))]
        except StorageError as error:
            check(error, str(path))
        else:
            assert len(images) == 4


ROWS: list[dict[str, Any]] = [
    {"key": f"{number}.png", "status": "ok", "output": f"{number}.png", "output_bytes": number, "sha256": "0" * 64}
    for number in range(20)
]
UNIT = Unit.of("upscale", "unit", [Entry("a.png", 1, "tag")], {})


@cache
def whole_receipts() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        target = Location.of(folder)
        Receipts(target, "upscale").write(UNIT, ROWS)
        return [target.read(UNIT.receipt)]


@pytest.mark.slow
@fuzz
@given(data=damaged(whole_receipts))
def test_any_bytes_are_a_receipt_or_none(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        target = Location.of(folder)
        target.write(UNIT.receipt, data)
        target.write("manifest.parquet", data)
        receipts = Receipts(target, "upscale")
        for row in receipts.read(UNIT):
            assert set(row) == set(SAMPLES.names)
        receipts.survey([UNIT])
        try:
            assert isinstance(read_manifest(target), pa.Table)
        except StorageError as error:
            check(error, "manifest.parquet: not a readable Parquet file")


@cache
def whole_leases() -> list[bytes]:
    return [Owner.here("upscale").until(1e9)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
numbers = st.sampled_from([float("inf"), float("nan"), 10**30, -1, "7"]) | json_values
texts = dict.fromkeys(("id", "flow", "host", "pids", "started"), json_values)
fields = st.fixed_dictionaries(texts | {"pid": numbers, "expires": numbers})


@pytest.mark.slow
@fuzz
@given(data=damaged(whole_leases) | fields.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_lease_or_none(data: bytes) -> None:
    owner = Owner.of(data)
    if owner is not None:
        assert isinstance(owner.is_dead, bool)
        assert Owner.of(owner.until(1.0)) is not None


def test_a_lease_of_nothing_but_brackets_is_none() -> None:
    assert Owner.of(b"[" * 100_000) is None
