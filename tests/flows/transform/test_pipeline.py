"""What a run does to each image: a failure of any kind is one image's, and memory is that of a few."""

import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from threading import Event, Lock
from typing import Any

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dtls.inference.degrade import Degrading, Downscaling
from dtls.inference.interpolation import Interpolation
from dtls.inference.membrane import Membrane
from dtls.inference.method import Method
from dtls.inference.projected import Projected
from flows.inputs.keys import Names
from flows.transform import pipeline
from flows.transform.memory import bytes_at_once, needed
from flows.transform.pipeline import Transform
from storage.images import decode
from storage.images.encode import Encoding
from storage.images.extents import Extent
from storage.images.photo import open_photo
from storage.images.room import ROOM
from storage.receipts.units import Row
from storage.shards.write import Sample
from storage.stores.entry import Entry
from storage.stores.location import StorageError, UnavailableError
from tests.peaks import peak_of


class Memory:
    """A source of images that are made when they are asked for."""

    refused: list[tuple[str, str]] = []  # noqa: RUF012
    is_local = True

    def __init__(self, *sizes: tuple[int, ...]) -> None:
        self.sizes = {f"{number:03d}.png": size for number, size in enumerate(sizes)}

    def list(self) -> list[Entry]:
        return [Entry(key, 1, "tag") for key in self.sizes]

    def fetch(self, entry: Entry) -> bytes:
        buffer = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 256, self.sizes[entry.key], dtype=np.uint8)
        Image.fromarray(noise).save(buffer, "PNG")
        return buffer.getvalue()


class Stub(Method):
    """A method of one's own."""

    name = "stub"

    def __init__(self, run: Callable[[Tensor, tuple[int, int]], Tensor]) -> None:
        self.run = run
        self.identity: Mapping[str, str] = {}

    def __call__(self, lr: Tensor, size: tuple[int, int], _: Tensor | None = None) -> Tensor:
        return self.run(lr, size)


def transform(source: Memory, method: Method, scale: float = 2, **options: Any) -> Transform:
    settings: dict[str, Any] = {
        "source": source,
        "method": method,
        "size_of": lambda size: (round(size[0] * scale), round(size[1] * scale)),
        "names": Names(Encoding().suffix),
        "check_name": lambda _: None,
        "encoding": Encoding(),
        "stamp": None,
        "batch_size": 4,
        "workers": 4,
        "bytes_at_once": 10**9,
    }
    return Transform(**{**settings, **options})


def made(source: Memory, method: Method, **options: Any) -> dict[str, Sample | str]:
    """The results by their keys, or the reasons why there is none."""
    items = transform(source, method, **options).made(source.list(), lambda item: item)
    return dict(
        (item.row["key"], item) if isinstance(item, Sample) else (item["key"], item["reason"]) for item in items
    )


def raises(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def enlarged(lr: Tensor, size: tuple[int, int]) -> Tensor:
    return Interpolation("bicubic")(lr, size)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "not enough memory"),
        (IndexError("tuple index out of range"), "IndexError: tuple index out of range"),
        (RuntimeError("CUDA out of memory\nand a page of advice"), "RuntimeError: CUDA out of memory"),
        (AssertionError(), "AssertionError"),
    ],
)
@pytest.mark.parametrize("where", ["open_photo", "method", "encode"])
def test_whatever_goes_wrong_with_an_image_is_its_own_reason(
    where: str, error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "flows")
    method: Method = Stub(enlarged)
    if where == "method":
        method = Stub(raises(error))
    elif where == "encode":
        monkeypatch.setattr(Encoding, "encode", raises(error))
    else:
        monkeypatch.setattr(pipeline, "open_photo", raises(error))
    assert made(Memory((8, 8, 3), (8, 8, 3)), method) == {"000.png": reason, "001.png": reason}
    traced = {record.getMessage() for record in caplog.records if record.exc_info and record.exc_info[1] is error}
    assert traced == (set() if isinstance(error, MemoryError) else {"000.png failed", "001.png failed"})


def test_a_place_out_of_reach_is_no_image_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memory, "fetch", raises(UnavailableError("the server is gone")))
    with pytest.raises(UnavailableError):
        made(Memory((8, 8, 3)), Stub(enlarged))


def test_an_image_of_a_rare_size_does_not_wait_for_all_others() -> None:
    source = Memory((9, 9, 3), *[(8, 8, 3)] * 100)
    found = transform(source, Stub(enlarged)).made(source.list(), lambda item: item)
    keys = [item.row["key"] for item in found if isinstance(item, Sample)]
    assert len(keys) == 101
    assert keys.index("000.png") <= 8 * 4 + 4


def test_one_image_of_a_batch_that_fails_fails_alone() -> None:
    def run(lr: Tensor, size: tuple[int, int]) -> Tensor:
        if lr.shape[0] > 1:
            raise ValueError("not in batches")
        return enlarged(lr, size)

    found = made(Memory((8, 8, 3), (8, 8, 3), (9, 8, 3)), Stub(run))
    assert all(isinstance(item, Sample) for item in found.values())


class WorkerSpec(Tensor):
    """A tensor of another device: it takes no part in what those of the CPU do."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        if func is Tensor.cpu:
            return args[0].as_subclass(Tensor)
        if any(type(x) is Tensor for x in args):
            raise RuntimeError("Expected all tensors to be on the same device")
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_results_may_come_from_another_device(channels: int) -> None:
    def run(lr: Tensor, size: tuple[int, int]) -> Tensor:
        return enlarged(lr, size).as_subclass(WorkerSpec)

    source = Memory((8, 8, channels))
    assert made(source, Stub(run))["000.png"].data == made(source, Stub(enlarged))["000.png"].data  # type: ignore[union-attr]


def test_interpolation_is_the_same_channel_by_channel() -> None:
    source = Memory((9, 7, 4), (9, 7, 3), (9, 7))
    together, apart = (made(source, method) for method in (Stub(enlarged), Interpolation("bicubic")))
    assert [item.data for item in together.values()] == [item.data for item in apart.values()]  # type: ignore[union-attr]


def test_a_result_that_would_be_too_large_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "MAX_PIXELS", 1000)
    monkeypatch.setattr(pipeline, "open_photo", raises(AssertionError("decoded in vain")))
    found = made(Memory((16, 20, 3)), Interpolation("bicubic"))
    assert found == {"000.png": "40×32 would be more than 1,000 pixels: take at most --scale 1.7 or --size 34"}


def test_what_is_no_image_is_not_said_to_be_too_large() -> None:
    class Page(Memory):
        def fetch(self, entry: Entry) -> bytes:
            return b"<html>not found</html>"

    found = made(Page((8, 8, 3)), Interpolation("bicubic"), scale=20_001.0)
    assert "pixels" not in str(found["000.png"])


def test_a_name_that_no_result_can_have_is_refused_before_anything_is_read() -> None:
    source = Memory((8, 8, 3))
    check = raises(StorageError("no such name"))
    assert made(source, Interpolation("nearest"), check_name=check) == {"000.png": "no such name"}


METHODS: list[Method] = [Interpolation("bicubic"), Interpolation("nearest"), Stub(enlarged)]


@pytest.mark.parametrize("method", METHODS)
def test_no_more_memory_is_on_its_way_than_there_may_be(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    """With each as heavy as all may be: one is decoded, one waits to be encoded, one goes from hand to hand."""
    lock, many, live = Lock(), Event(), 0

    def opened(data: bytes) -> Any:
        nonlocal live
        with lock:
            live += 1
            if live > 3:
                many.set()
        return open_photo(data)

    def keep(item: Sample | Row) -> Sample | Row:
        nonlocal live
        many.wait(0.05)  # time enough for more, if there could be more
        with lock:
            live -= 1
        return item

    monkeypatch.setattr(pipeline, "open_photo", opened)
    source = Memory(*[(8, 8, 3)] * 12)
    each = needed(Extent(8, 8, 3, 1, 0), (16, 16), method)
    mapping = transform(source, method, batch_size=1, bytes_at_once=each)
    assert all(isinstance(item, Sample) for item in mapping.made(source.list(), keep))
    assert live == 0
    assert not many.is_set()


def test_units_share_a_quarter_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.transform.memory.memory", lambda: 2**30)
    assert 2**30 / 4 - 6 < 3 * 2 * bytes_at_once(2) <= 2**30 / 4


@pytest.mark.parametrize("method", METHODS)
def test_a_large_image_is_made_alone_and_as_with_others(method: Method) -> None:
    source = Memory(*[(8, 8, 3)] * 4, (5, 7, 4), (6, 6))
    together, alone = made(source, method), made(source, method, bytes_at_once=1)
    assert [item.data for item in alone.values()] == [item.data for item in together.values()]  # type: ignore[union-attr]
    assert all(isinstance(item, Sample) for item in alone.values())


@pytest.mark.parametrize("method", METHODS)
def test_an_image_that_memory_does_not_suffice_for_is_a_failure_in_words(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ROOM, "_available", lambda: 100 * 2**20)
    monkeypatch.setattr(ROOM, "_total", lambda: 0)
    monkeypatch.setattr(ROOM, "_most", 0)
    monkeypatch.setattr(pipeline, "needed", lambda extent, *_: 0 if extent.width == 8 else 3 * 10**9)
    found = made(Memory((8, 8, 3), (9, 9, 3), (8, 8, 3)), method)
    reason = (
        "needs about 3.0 GB of memory, and 104.9 MB may be used; --retry-failed tries it again where there is more"
    )
    assert found.pop("001.png") == reason
    assert all(isinstance(item, Sample) for item in found.values())


def test_a_file_that_is_larger_than_the_memory_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Memory((8, 8, 3))
    listed = [replace(entry, size=10**12) for entry in source.list()]
    monkeypatch.setattr(source, "fetch", raises(AssertionError("read in vain")))
    [row] = transform(source, Interpolation("bicubic")).made(listed, lambda item: item)
    assert not isinstance(row, Sample)
    assert "needs about 1.0 TB of memory" in row["reason"]


def peak_of_one(method: Method, scale: float, data: bytes) -> int:
    """What one image takes at its peak; what libraries make at their first use is there by then."""

    class One(Memory):
        def fetch(self, entry: Entry) -> bytes:
            return data

    source = One((0, 0))
    mapping = transform(source, method, scale, workers=1)
    torch.set_num_threads(1)
    for _ in range(2):
        peak = peak_of(lambda: list(mapping.made(source.list(), lambda item: item)))
    return peak


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "scale", "channels", "depth"),
    [
        (Interpolation("bicubic"), 2, 1, 8),
        (Interpolation("bicubic"), 2, 3, 8),
        (Interpolation("bicubic"), 1.5, 4, 16),
        (Interpolation("lanczos"), 2, 4, 8),
        (Interpolation("nearest"), 2, 4, 16),
        (Downscaling("antialias"), 0.5, 3, 8),
        (Downscaling("antialias"), 0.5, 4, 16),
        (Degrading("blur:2"), 1, 3, 8),
        (Degrading("noise:0.1"), 1, 4, 16),
        (Degrading("mask"), 1, 3, 8),
        (Membrane("membrane"), 1, 4, 8),
        (Degrading("dark:0.25"), 1, 3, 8),
        pytest.param(Projected(Interpolation("bicubic"), "antialias"), 2, 3, 8, marks=pytest.mark.nightly),
        (Projected(Interpolation("bicubic"), "antialias", passes=1), 1.5, 4, 16),
    ],
)
def test_an_image_takes_no_more_memory_than_is_claimed_for_it(
    method: Method, scale: float, channels: int, depth: int, process_without_holes: ProcessPoolExecutor
) -> None:
    y, x, c = np.mgrid[0:1000, 0:1200, 0:channels]
    samples = ((x + y + 20 * c) % 256).astype(f"uint{depth}") * (257 if depth == 16 else 1)
    data = bytes(imagecodecs.png_encode(samples.squeeze(), level=1))
    extent = decode.extent(data)
    assert extent is not None
    size = (round(1000 * scale), round(1200 * scale))
    peak = process_without_holes.submit(peak_of_one, method, scale, data).result()
    assert peak < needed(extent, size, method) + 24 * 2**20
    assert needed(extent, size, method) < 2.5 * peak
