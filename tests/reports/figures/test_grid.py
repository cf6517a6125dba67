"""A sheet shows all images at their own size, row by row."""

import pytest
from PIL import Image

from reports.figures.gallery import NothingToDrawError
from reports.figures.grid import GAP, image_grid


def test_images_stand_row_by_row_in_cells_of_the_largest() -> None:
    colours = [(10 * i, 0, 0) for i in range(5)]
    images = [Image.new("RGB", (8, 6), colour) for colour in colours[:4]] + [Image.new("RGB", (4, 6), colours[4])]
    sheet = image_grid(images)
    assert sheet.size == (3 * 8 + 2 * GAP, 2 * 6 + GAP)
    places = [((8 + GAP) * (i % 3), (6 + GAP) * (i // 3)) for i in range(5)]
    assert [sheet.getpixel(place) for place in places] == colours
    assert sheet.getpixel((8 + GAP + 4, 6 + GAP)) == (255, 255, 255)
    assert image_grid(images, columns=5).height == 6


def test_a_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(NothingToDrawError, match="at least one image"):
        image_grid([])
