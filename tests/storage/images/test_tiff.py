"""Of a TIFF's pages the image is taken, wherever thumbnails and masks stand, and what else there is is said."""

import io
import struct
import time
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from storage.images import decode as codec
from storage.images import formats
from storage.images import tiff as tiff_pages
from storage.images.exif import Exif
from storage.images.photo import open_photo

REDUCED, OF_MANY, MASK = 1, 2, 4
IMAGE = np.random.default_rng(0).integers(256, size=(20, 30, 3)).astype(np.uint8)
THUMBNAIL = np.full((4, 6, 3), 7, np.uint8)
COVER = np.zeros((20, 30), bool)
Pages = list[tuple[NDArray[Any], dict[str, Any]]]


def tiff(pages: Pages, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, **options) as writer:
        for values, more in pages:
            kind: Any = "minisblack" if values.ndim == 2 else "rgb"
            writer.write(values, photometric=kind, metadata=None, **more)
    return buffer.getvalue()


def in_depth(values: NDArray[Any], depth: int) -> NDArray[Any]:
    return values.astype(np.uint16) * 257 if depth == 16 and values.dtype != bool else values


def old_kind(value: int) -> dict[str, Any]:
    return {"extratags": [(255, 3, 1, value, True)]}


THUMBNAIL_FIRST: Pages = [(THUMBNAIL, {"subfiletype": REDUCED}), (IMAGE, {})]


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(
    ("pages", "notes"),
    [
        (THUMBNAIL_FIRST, ()),
        ([(THUMBNAIL, old_kind(2)), (IMAGE, old_kind(1))], ()),
        ([(COVER, {"subfiletype": MASK}), (IMAGE, {})], ("transparency mask left out",)),
        ([(IMAGE, {}), (COVER, {"subfiletype": MASK})], ("transparency mask left out",)),
        ([(THUMBNAIL, {"subfiletype": REDUCED}), (COVER, {"subfiletype": REDUCED | MASK}), (IMAGE, {})], (
            "transparency mask left out",
        )),
        ([(IMAGE, {}), (THUMBNAIL, {"subfiletype": REDUCED})], ()),
        ([*THUMBNAIL_FIRST, (THUMBNAIL, {"subfiletype": OF_MANY})], ("the first of 2 frames",)),
        ([(IMAGE, {"subfiletype": REDUCED})], ()),
    ],
)  # fmt: skip
def test_the_page_that_is_the_image_is_taken(
    pages: Pages, notes: tuple[str, ...], depth: int, options: dict[str, Any]
) -> None:
    data = tiff([(in_depth(values, depth), more) for values, more in pages], **options)
    found = open_photo(data)
    np.testing.assert_array_equal(found.pixels // (257 if depth == 16 else 1), IMAGE)
    assert found.notes == notes
    np.testing.assert_array_equal(codec.decode(data), IMAGE)
    assert (extent := codec.extent(data)) is not None
    assert extent.size == (20, 30)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_an_image_below_its_thumbnail_is_taken_with_what_the_thumbnail_s_page_says(depth: int, bigtiff: bool) -> None:
    model = [(0x0110, 2, 4, b"E 5\0", True), (0x0112, 3, 1, 6, True)]
    thumbnail = {"subfiletype": REDUCED, "subifds": 1, "extratags": model}
    values = IMAGE.astype(f"uint{depth}")
    data = tiff([(THUMBNAIL.astype(values.dtype), thumbnail), (values, {})], bigtiff=bigtiff)
    found = open_photo(data)
    np.testing.assert_array_equal(found.pixels, values)
    kept = Exif.parse(found.carried.exif or b"").image
    assert kept[0x0110].value == b"E 5\0"
    assert not kept.keys() & {0x0112, 254, 330}
    assert found.notes == ()


def test_an_image_s_own_orientation_counts() -> None:
    turned = {"extratags": [(0x0112, 3, 1, 6, True)]}
    for depth in (8, 16):
        values = IMAGE.astype(f"uint{depth}")
        data = tiff([(THUMBNAIL.astype(values.dtype), {"subfiletype": REDUCED}), (values, turned)])
        np.testing.assert_array_equal(open_photo(data).pixels, np.rot90(values, -1))


def test_no_more_is_read_of_many_long_tables_than_has_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    page = np.zeros((8, 8), np.uint8)
    data = tiff([(page, {"rowsperstrip": 1})] * 5)
    assert open_photo(data).notes == ("the first of 5 frames",)
    monkeypatch.setattr(tiff_pages, "MAX_PARTS", 40)  # two tables of eight numbers a page
    assert open_photo(data).notes == ("the first of 3 frames",)


@pytest.mark.slow
def test_pages_without_end_are_not_counted_to_their_end() -> None:
    one = tiff([(COVER[:1, :1], {})])
    entries = one[struct.unpack_from("<I", one, 4)[0] :]
    table = entries[: 2 + 12 * struct.unpack_from("<H", entries)[0]]
    count, data = 200_000, bytearray(one[:4] + struct.pack("<I", len(one)) + one[8:])
    for _ in range(count):
        data += table + struct.pack("<I", len(data) + len(table) + 4)
    began = time.process_time()
    found = open_photo(bytes(data))
    assert time.process_time() - began < 2
    assert found.notes == ("the first of more than 1,000 frames",)


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_a_volume_is_refused_in_one_line_and_none_of_its_slices_taken_for_an_image(depth: str) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, np.zeros((3, 32, 48), depth), volumetric=True, tile=(1, 16, 16), photometric="minisblack"
    )
    for read in (open_photo, codec.decode):
        with pytest.raises(formats.ImageError, match="a TIFF volume of 3 slices, which is not read"):
            read(buffer.getvalue())
