"""The contact sheet shows the pictures themselves, each in its column."""

import io

import numpy as np
import pytest
from PIL import Image

from reports.gallery import GAP, LABEL, MARGIN, GalleryItem, Picture, contact_sheet

TOP = MARGIN + 2 * LABEL


def png(width: int, height: int, colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return file.getvalue()


def left(column: int, wide: int = 256) -> int:
    return MARGIN + column * (wide + GAP)


def test_pictures_stand_in_columns_enlarged_pixel_by_pixel(gallery: list[GalleryItem]) -> None:
    sheet = contact_sheet(gallery)
    assert sheet.width == 2 * MARGIN + 5 * 256 + 4 * GAP
    for column, picture in enumerate(gallery[0].pictures):
        original = Image.open(io.BytesIO(picture.png))
        shown = sheet.crop((left(column), TOP, left(column) + 256, TOP + 256))
        zoom = 256 // original.width
        assert np.array_equal(np.array(shown)[::zoom, ::zoom], np.array(original))
        assert np.array_equal(np.array(shown)[zoom - 1 :: zoom, zoom - 1 :: zoom], np.array(original))


def test_the_sheet_is_white_around_and_ends_below_the_last_caption(gallery: list[GalleryItem]) -> None:
    sheet = np.array(contact_sheet(gallery))
    for edge in (sheet[:MARGIN], sheet[-MARGIN:], sheet[:, :MARGIN], sheet[:, -MARGIN:]):
        assert (edge == 255).all()
    assert (sheet[-2 * LABEL - MARGIN : -MARGIN] < 128).any()  # the last numbers


def test_a_missing_picture_leaves_its_column_empty() -> None:
    whole = GalleryItem("a", [Picture(label, png(64, 64, "red")) for label in ("LR", "x", "y", "HR")])
    lacking = GalleryItem("b", [Picture(label, png(64, 64, "blue")) for label in ("LR", "y", "HR")])
    sheet = contact_sheet([lacking, whole])
    first, second = TOP + 128, TOP + 128 + 256 + 2 * LABEL + GAP
    colours = [[sheet.getpixel((left(column) + 128, y)) for column in range(4)] for y in (first, second)]
    red, blue, white = (255, 0, 0), (0, 0, 255), (255, 255, 255)
    assert colours == [[blue, white, blue, blue], [red] * 4]


def test_large_and_odd_pictures_keep_their_shape() -> None:
    item = GalleryItem("a", [Picture("LR", png(160, 90, "red")), Picture("HR", png(640, 360, "red"))])
    sheet = np.array(contact_sheet([item]))
    red = (sheet == (255, 0, 0)).all(axis=-1)
    assert red.any(axis=0).sum() == 2 * 320
    assert red.any(axis=1).sum() == 180


def test_labels_too_long_or_foreign_are_still_drawn() -> None:
    item = GalleryItem("a", [Picture("method" * 30, png(8, 8, "red")), Picture("метод", png(8, 8, "red"))])
    sheet = np.array(contact_sheet([item]))
    assert (sheet[: TOP - 4, MARGIN + 256 : MARGIN + 256 + GAP] == 255).all()
    assert (sheet[: TOP - 4, left(1) :] < 128).any()


def test_a_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet([])
