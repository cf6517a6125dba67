"""Samples of odd depths are rescaled to the whole range, however a TIFF stores them."""

import io
import struct
from itertools import product
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from storage.images import decode as codec
from storage.images.encode import Encoding
from storage.images.formats import ImageError
from storage.images.photo import open_photo
from tests.storage.corpus import harmed
from tests.storage.images.test_jpeg import said_of

ODD = [2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15]
GREY, WHITE_IS_ZERO, RGB = 1, 0, 2
PACKERS: dict[int, Any] = {
    1: bytes,
    5: imagecodecs.lzw_encode,
    8: imagecodecs.zlib_encode,
    32773: lambda data: imagecodecs.packbits_encode(data),
}


def samples(bits: int, channels: int = 1, height: int = 20, width: int = 21) -> NDArray[Any]:
    """Noise with both ends of the range in it, (H, W) or (H, W, 2 … 4)."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    values = np.random.default_rng(0).integers(1 << bits, size=shape)
    values[0, 0], values[0, 1] = 0, (1 << bits) - 1
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


def packed(values: NDArray[Any], bits: int, compression: int = 1) -> bytes:
    rows = values.shape[1] * (values.shape[2] if values.ndim == 3 else 1)
    data: bytes = PACKERS[compression](bytes(imagecodecs.packints_encode(values.ravel(), bits, runlen=rows)))
    return data


def tiff(pieces: list[bytes], bits: int, shape: tuple[int, ...], *more: tuple[int, int, Any]) -> bytes:
    """A TIFF made by hand of strips or tiles; more are its tags' numbers, types and values."""
    height, width, channels = (*shape, 1)[:3]
    offsets = [8 + sum(map(len, pieces[:number])) for number in range(len(pieces))]
    tags: dict[int, tuple[int, Any]] = {
        256: (4, width),
        257: (4, height),
        258: (3, (bits,) * channels),
        259: (3, 1),
        262: (3, RGB if channels > 2 else GREY),
        273: (4, tuple(offsets)),
        277: (3, channels),
        278: (4, height),
        279: (4, tuple(map(len, pieces))),
    }
    if channels in (2, 4):
        tags[338] = (3, 2)
    tags |= {number: (kind, value) for number, kind, value in more}
    if 322 in tags:
        tags[324], tags[325] = tags.pop(273), tags.pop(279)
        del tags[278]
    body = b"".join(pieces)
    place = 8 + len(body) + len(body) % 2
    behind = place + 2 + 12 * len(tags) + 4
    table, values = struct.pack("<H", len(tags)), b""
    for number, (kind, value) in sorted(tags.items()):
        numbers = value if isinstance(value, tuple) else (value,)
        data = struct.pack(f"<{len(numbers)}{'HI'[kind == 4]}", *numbers)
        table += struct.pack("<HHI", number, kind, len(numbers))
        table += data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<I", behind + len(values))
        values += data if len(data) > 4 else b""
    return b"II*\0" + struct.pack("<I", place) + body.ljust(place - 8, b"\0") + table + bytes(4) + values


def expected(values: NDArray[Any], bits: int) -> NDArray[Any]:
    full = 255 if bits <= 8 else 65535
    return np.round(values.astype(float) * full / ((1 << bits) - 1))


def seen(data: bytes) -> NDArray[Any]:
    """The pixels and alpha, in the shape that they were made of."""
    found = open_photo(data)
    joined = found.pixels if found.alpha is None else np.dstack([found.pixels, found.alpha])
    assert found.notes == ()
    return joined[..., 0] if joined.shape[2] == 1 else joined


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", ODD)
def test_every_depth_and_channel_is_rescaled(bits: int, channels: int) -> None:
    values = samples(bits, channels)
    data = tiff([packed(values, bits)], bits, values.shape)
    np.testing.assert_array_equal(seen(data), expected(values, bits))
    assert (extent := codec.extent(data)) is not None
    assert extent.size == (20, 21)
    if channels in (1, 3):
        decoded = codec.decode(data)
        grey = decoded if channels == 3 else decoded[..., 0]
        np.testing.assert_allclose(grey, expected(values, bits) / (1 if bits <= 8 else 257), atol=0.51)


@pytest.mark.parametrize("bits", ODD)
def test_white_that_is_zero_is_turned_round(bits: int) -> None:
    values = samples(bits)
    data = tiff([packed(values, bits)], bits, values.shape, (262, 3, WHITE_IS_ZERO))
    np.testing.assert_array_equal(seen(data), expected((1 << bits) - 1 - values, bits))


@pytest.mark.parametrize(("bits", "compression"), [*product((4, 6, 10, 12, 14), PACKERS)])
def test_strips_planes_and_tiles_are_read_however_they_are_compressed(bits: int, compression: int) -> None:
    values = samples(bits, 3)
    kind = (259, 3, compression)
    strips = [packed(values[top : top + 6], bits, compression) for top in range(0, 20, 6)]
    planes = [packed(values[..., plane], bits, compression) for plane in range(3)]
    wide = np.pad(values, ((0, 12), (0, 11), (0, 0)))
    corners = [(top, left) for top in (0, 16) for left in (0, 16)]
    tiles = [packed(wide[top : top + 16, left : left + 16], bits, compression) for top, left in corners]
    for data in (
        tiff(strips, bits, values.shape, kind, (278, 4, 6)),
        tiff(planes, bits, values.shape, kind, (284, 3, 2)),
        tiff(tiles, bits, values.shape, kind, (322, 3, 16), (323, 3, 16)),
    ):
        np.testing.assert_array_equal(seen(data), expected(values, bits))


@pytest.mark.parametrize("bits", [4, 12])
def test_premultiplied_alpha_becomes_straight(bits: int) -> None:
    most = (1 << bits) - 1
    values = np.array([[[most, 0, most // 3, most], [most // 3, 0, 0, most // 3], [0, 0, 0, 0]]])
    data = tiff([packed(values.astype(np.uint8 if bits < 8 else np.uint16), bits)], bits, values.shape, (338, 3, 1))
    found, full = open_photo(data), 255 if bits <= 8 else 65535
    assert found.alpha is not None
    assert found.pixels[0, 1].tolist() == [full, 0, 0]
    assert found.alpha.tolist() == [[full, full // 3, 0]]


@pytest.mark.parametrize("bits", [6, 12])
def test_half_a_tiff_of_an_odd_depth_is_no_image(bits: int) -> None:
    values = samples(bits, 3)
    for data in (
        tiff([packed(values, bits)[:200]], bits, values.shape),
        tiff([packed(values, bits)], bits, values.shape, (279, 4, 100_000)),
        tiff([b"", packed(values[10:], bits)], bits, values.shape, (278, 4, 10)),
    ):
        for opening in (open_photo, codec.decode):
            with pytest.raises(ImageError, match="cut off"):
                opening(data)


def test_what_has_a_depth_of_its_own_in_each_channel_is_refused_in_one_line() -> None:
    values = samples(8, 3)
    data = tiff([values.tobytes()], 8, values.shape, (258, 3, (5, 6, 5)))
    with pytest.raises(ImageError) as refused:
        open_photo(data)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_damaged_tiffs_of_odd_depths_give_an_image_or_an_image_error() -> None:
    values, random = samples(12, 3), np.random.default_rng(0)
    for compression in (1, 8):
        whole = tiff([packed(values, 12, compression)], 12, values.shape, (259, 3, compression))
        for data in harmed(whole, random, 100):
            assert "\n" not in said_of(data)


def test_the_note_says_how_many_bits_were_lost() -> None:
    values = samples(12, 3)
    found = open_photo(tiff([packed(values, 12)], 12, values.shape))
    assert Encoding().encode(found, ".jpg", None).notes == ("12 bits became 8",)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="rgb")
    assert Encoding().encode(open_photo(buffer.getvalue()), ".jpg", None).notes == ("16 bits became 8",)
