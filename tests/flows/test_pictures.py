"""What a run does to each picture: a failure of any kind is one picture's, and memory is that of a few."""

import io
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Lock
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from dtls.interpolation import Interpolation
from dtls.methods import Method
from flows import pictures
from flows.memory import memory, pixels_at_once
from flows.naming import Names
from flows.pictures import Transform
from storage.encoding import Encoding
from storage.entries import Entry
from storage.locations import StorageError, UnavailableError
from storage.photographs import open_photograph
from storage.shards import Sample
from storage.units import Row


class Memory:
    """A source of pictures that are made when they are asked for."""

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


class Stub:
    """A method of one's own."""

    name = "stub"

    def __init__(self, run: Callable[[Tensor, tuple[int, int]], Tensor]) -> None:
        self.run = run
        self.identity: Mapping[str, str] = {}

    def __call__(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
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
        "pixels_at_once": 10**9,
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
        (IndexError("tuple index out of range"), "tuple index out of range"),
        (RuntimeError("CUDA out of memory\nand a page of advice"), "CUDA out of memory"),
        (AssertionError(), "AssertionError"),
    ],
)
@pytest.mark.parametrize("where", ["open_photograph", "method", "encode"])
def test_whatever_goes_wrong_with_a_picture_is_its_own_reason(
    where: str, error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method: Method = Stub(enlarged)
    if where == "method":
        method = Stub(raises(error))
    elif where == "encode":
        monkeypatch.setattr(Encoding, "encode", raises(error))
    else:
        monkeypatch.setattr(pictures, "open_photograph", raises(error))
    assert made(Memory((8, 8, 3), (8, 8, 3)), method) == {"000.png": reason, "001.png": reason}


def test_a_place_out_of_reach_is_no_picture_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memory, "fetch", raises(UnavailableError("the server is gone")))
    with pytest.raises(UnavailableError):
        made(Memory((8, 8, 3)), Stub(enlarged))


def test_a_picture_of_a_rare_size_does_not_wait_for_all_others() -> None:
    source = Memory((9, 9, 3), *[(8, 8, 3)] * 100)
    found = transform(source, Stub(enlarged)).made(source.list(), lambda item: item)
    keys = [item.row["key"] for item in found if isinstance(item, Sample)]
    assert len(keys) == 101
    assert keys.index("000.png") <= 8 * 4 + 4


def test_one_picture_of_a_batch_that_fails_fails_alone() -> None:
    def run(lr: Tensor, size: tuple[int, int]) -> Tensor:
        if lr.shape[0] > 1:
            raise ValueError("not in batches")
        return enlarged(lr, size)

    found = made(Memory((8, 8, 3), (8, 8, 3), (9, 8, 3)), Stub(run))
    assert all(isinstance(item, Sample) for item in found.values())


class Elsewhere(Tensor):
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
        return enlarged(lr, size).as_subclass(Elsewhere)

    source = Memory((8, 8, channels))
    assert made(source, Stub(run))["000.png"].data == made(source, Stub(enlarged))["000.png"].data  # type: ignore[union-attr]


def test_interpolation_is_the_same_channel_by_channel() -> None:
    source = Memory((9, 7, 4), (9, 7, 3), (9, 7))
    together, apart = (made(source, method) for method in (Stub(enlarged), Interpolation("bicubic")))
    assert [item.data for item in together.values()] == [item.data for item in apart.values()]  # type: ignore[union-attr]


def test_a_result_that_would_be_too_large_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_PIXELS", 1000)
    monkeypatch.setattr(pictures, "open_photograph", raises(AssertionError("decoded in vain")))
    found = made(Memory((16, 20, 3)), Interpolation("bicubic"))
    assert found == {"000.png": "40×32 would be more than 1,000 pixels: take at most --scale 1.7 or --size 34"}


def test_what_is_no_picture_is_not_said_to_be_too_large() -> None:
    class Page(Memory):
        def fetch(self, entry: Entry) -> bytes:
            return b"<html>not found</html>"

    found = made(Page((8, 8, 3)), Interpolation("bicubic"), scale=20_001.0)
    assert "pixels" not in str(found["000.png"])


def test_a_name_that_no_result_can_have_is_refused_before_anything_is_read() -> None:
    source = Memory((8, 8, 3))
    check = raises(StorageError("no such name"))
    assert made(source, Interpolation("nearest"), check_name=check) == {"000.png": "no such name"}


@pytest.mark.parametrize("method", [Interpolation("bicubic"), Interpolation("nearest"), Stub(enlarged)])
def test_no_more_pixels_are_on_their_way_than_there_may_be(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    """With each as heavy as all may be: one is decoded, one waits to be encoded, one goes from hand to hand."""
    lock, many, live = Lock(), Event(), 0

    def opened(data: bytes) -> Any:
        nonlocal live
        with lock:
            live += 1
            if live > 3:
                many.set()
        return open_photograph(data)

    def keep(item: Sample | Row) -> Sample | Row:
        nonlocal live
        many.wait(0.05)  # time enough for more, if there could be more
        with lock:
            live -= 1
        return item

    monkeypatch.setattr(pictures, "open_photograph", opened)
    source = Memory(*[(8, 8, 3)] * 12)
    mapping = transform(source, method, batch_size=1, pixels_at_once=100)
    assert all(isinstance(item, Sample) for item in mapping.made(source.list(), keep))
    assert live == 0
    assert not many.is_set()


def test_units_share_a_quarter_of_the_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    assert 0 < 4 * 32 * 2 * pixels_at_once(2) <= memory()
    container = tmp_path / "memory.max"
    container.write_text("1073741824\n")
    monkeypatch.setattr("flows.memory.LIMITS", (container, tmp_path / "not there"))
    assert memory() == 2**30
    assert pixels_at_once(2) == 2**22
    container.write_text("max\n")
    assert memory() > 2**30
