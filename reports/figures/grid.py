"""A sheet of images in a grid, without text: how samples of a generative model are shown."""

import math
from collections.abc import Sequence

from PIL import Image

from reports.figures.gallery import NothingToDrawError
from reports.figures.style import PAPER

GAP = 2
"""Pixels between two images."""


def image_grid(images: Sequence[Image.Image], columns: int | None = None) -> Image.Image:
    """RGB images row by row on white, each in a cell of the largest size; none is resized.

    columns: by default so many that the sheet is about square. NothingToDrawError without images.
    """
    if not images:
        raise NothingToDrawError("a sheet needs at least one image")
    columns = columns or math.ceil(len(images) ** 0.5)
    rows = math.ceil(len(images) / columns)
    width, height = max(image.width for image in images), max(image.height for image in images)
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP), PAPER)
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        sheet.paste(image, (column * (width + GAP), row * (height + GAP)))
    return sheet
