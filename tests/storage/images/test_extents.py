"""What headers say of the memory that images become: never less than it is, and not far more."""

import io
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from storage.images import decode as codec
from storage.images.extents import Extent
from storage.images.formats import ImageError
from storage.images.kinds import Kind
from storage.images.photo import open_photo
from storage.images.room import ROOM
from tests.peaks import peak_of
from tests.storage.corpus import png, tiff, zeros

SIDE = 1200
MARGIN = 8 * 2**20
"""Bytes that differ from one run to another: the library's own buffers, and pages that the system had not counted."""


def samples(channels: int, depth: int = 8) -> Any:
    """A smooth image, transparent in parts where it has alpha."""
    y, x, c = np.mgrid[0:SIDE, 0:SIDE, 0:channels]
    found = ((x // 16 + y // 8 + 40 * c) % 256).astype(np.uint8)
    return found if depth == 8 else found.astype(np.uint16) * 257


def saved(kind: str, channels: int, **options: Any) -> bytes:
    buffer = io.BytesIO()
    values = samples(channels)
    Image.fromarray(values[..., 0] if channels == 1 else values).save(buffer, kind, **options)
    return buffer.getvalue()


def deep(kind: str, channels: int) -> bytes:
    if kind == "PNG":
        return bytes(imagecodecs.png_encode(samples(channels, 16), level=1))
    buffer = io.BytesIO()
    more: dict[str, Any] = {"photometric": "rgb", "extrasamples": ["unassalpha"][: channels - 3]}
    tifffile.imwrite(
        buffer,
        samples(channels, 16).squeeze(),
        compression="adobe_deflate",
        rowsperstrip=64,
        **(more if channels > 2 else {}),
    )
    return buffer.getvalue()


def palette() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(samples(3)).quantize(16).save(buffer, "PNG", transparency=3)
    return buffer.getvalue()


KINDS: dict[str, Callable[[], bytes]] = {
    "grey PNG": lambda: saved("PNG", 1, compress_level=1),
    "RGB PNG": lambda: saved("PNG", 3, compress_level=1),
    "RGBA PNG": lambda: saved("PNG", 4, compress_level=1),
    "palette PNG": palette,
    "JPEG": lambda: saved("JPEG", 3),
    "progressive JPEG": lambda: saved("JPEG", 3, progressive=True, subsampling=0),
    "RGB WebP": lambda: saved("WEBP", 3, method=0),
    "RGBA WebP": lambda: saved("WEBP", 4, method=0),
    "TIFF": lambda: saved("TIFF", 3),
    "BMP": lambda: saved("BMP", 3),
    **{f"16-bit {kind} of {c}": partial(deep, kind, c) for kind in ("PNG", "TIFF") for c in (1, 3, 4)},
}


def peak_of_decoding(data: bytes) -> int:
    return max(peak_of(partial(read, data)) for read in (codec.decode, open_photo, Kind.of))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_decoding_takes_no_more_than_the_header_says(kind: str, process_without_holes: ProcessPoolExecutor) -> None:
    data = KINDS[kind]()
    said = codec.extent(data)
    assert said is not None
    assert said.size == (SIDE, SIDE)
    peak = process_without_holes.submit(peak_of_decoding, data).result()
    assert peak < said.decoding + MARGIN
    assert said.decoding < 2.2 * peak


@pytest.mark.parametrize(
    ("mode", "channels", "depth"),
    [("L", 1, 1), ("LA", 2, 1), ("RGB", 3, 1), ("RGBA", 4, 1), ("P", 3, 1), ("CMYK", 3, 1), ("I;16", 1, 2)],
)
def test_an_extent_has_the_channels_of_what_is_made_of_an_image(mode: str, channels: int, depth: int) -> None:
    found = Extent.of(Image.new(mode, (5, 3)))
    assert (found.size, found.channels, found.depth) == ((3, 5), channels, depth)


@pytest.mark.slow
@pytest.mark.parametrize("read", [codec.decode, open_photo], ids=["decode", "open"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_an_image_that_memory_does_not_suffice_for_is_refused_before_it_is_decoded(
    kind: str, read: Callable[[bytes], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    side = 6000
    data = png(side, side, (b"IDAT", zeros(side * (8 * side + 1))), depth=16, colour=6)
    if kind == "TIFF":
        short, long = 3, 4
        tags = [
            (256, long, 1, side),
            (257, long, 1, side),
            (258, short, 1, 16),
            (262, short, 1, 1),
            (277, short, 1, 1),
        ]
        data = tiff(*tags, (259, short, 1, 8), (273, long, 1, 8), (278, long, 1, side), (279, long, 1, 99))
    monkeypatch.setattr(ROOM, "_available", lambda: 2**28)
    monkeypatch.setattr(ROOM, "_total", lambda: 0)
    monkeypatch.setattr(ROOM, "_most", 0)

    def refused() -> None:
        with pytest.raises(ImageError, match=r"needs about 720\.0 MB of memory, and 268\.4 MB may be used"):
            read(data)

    assert peak_of(refused) < MARGIN


def test_a_tile_that_is_larger_than_its_image_counts() -> None:
    assert Extent.of_deep(8, 8, 1, tile=10**6).decoding == Extent.of_deep(1000, 1000, 1).decoding
