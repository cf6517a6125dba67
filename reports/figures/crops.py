"""The figure of a super-resolution paper: an image with a box on it, and what every method made of what is in it."""

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reports.figures.gallery import GalleryImage, GalleryItem, NothingToDrawError, best_texts, chosen_metrics
from reports.figures.plots import DPI, TWO_COLUMNS, one_line, settings
from reports.figures.style import ALARM, EMPTY, INK, MUTED
from reports.metrics.metric import Metric

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAP, LABELS = 0.06, 0.34
"""In inches: between images, and what the two lines of text under one take."""
ROWS_FROM = {1: 0, 2: 6, 3: 13}
"""In how many rows an image's crops stand, and from how many crops on."""
BOX = "#d62728"


class Crop(NamedTuple):
    """A part of an image, in pixels of HR."""

    left: int
    top: int
    width: int
    height: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def comparison_figure(items: Sequence[GalleryItem], crop: Mapping[str, Crop] | None = None) -> "Figure":
    """One row an image: it with a box drawn on it, and beside it what is in the box of LR, each method, and HR.

    Under each crop stand its label, and the image's PSNR and LPIPS, the best in bold. Crops come from `crop` by the
    image's key, or are `most_disputed` of the methods. Without HR, the box is on LR. An item all of whose images
    failed is left out. NothingToDrawError when all are; ValueError for two images of one label, and for a crop that
    leaves its image.
    """
    from matplotlib.figure import Figure

    items = [item for item in items if not all(image.failed for image in item.images)]
    if not items:
        raise NothingToDrawError("a figure needs at least one image")
    metrics = chosen_metrics(items)
    panels = [_panel(item, (crop or {}).get(item.key), metrics) for item in items]
    heights = [panel.rows * (panel.side + LABELS) for panel in panels]
    with settings(*(text for panel in panels for text in (panel.key, *(cell.label for cell in panel.cells)))):
        figure = Figure(figsize=(TWO_COLUMNS, sum(heights) + GAP * (len(panels) - 1)))
        bottom = figure.get_figheight()
        for panel, height in zip(panels, heights, strict=True):
            bottom -= height
            _draw_panel(figure, panel, bottom)
            bottom -= GAP
    return figure


def most_disputed(images: Sequence[NDArray[np.uint8]]) -> Crop:
    """The square where `images`, uint8 (H, W, 3) of one shape, differ most from their mean; the first of several.

    Its side is a quarter of the image's shorter one, 48 pixels at least and 256 at most.
    """
    height, width = images[0].shape[:2]
    side = min(max(48, min(256, min(height, width) // 4)), height, width)
    mean = np.mean(images, axis=0, dtype=np.float32)
    spread = sum(((p - mean) ** 2).sum(axis=-1, dtype=np.float64) for p in images)
    sums = np.pad(np.cumsum(np.cumsum(spread, axis=0), axis=1), ((1, 0), (1, 0)))
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(np.argmax(np.round(inside)), inside.shape)
    return Crop(int(left), int(top), side, side)


class _Cell(NamedTuple):
    """A crop with what stands under it; no pixels where the result failed."""

    label: str
    pixels: NDArray[np.uint8] | None
    numbers: list[tuple[str, bool]]


class _Panel(NamedTuple):
    """One image, boxed, and its crops."""

    key: str
    whole: NDArray[np.uint8]
    crop: Crop
    metrics: Sequence[Metric]
    cells: list[_Cell]

    @property
    def rows(self) -> int:
        """In how many rows the crops stand."""
        return max(rows for rows, start in ROWS_FROM.items() if len(self.cells) >= start)

    @property
    def columns(self) -> int:
        """In how many columns the crops stand."""
        return math.ceil(len(self.cells) / self.rows)

    @property
    def shape(self) -> tuple[float, float]:
        """Width by height of the whole image as drawn (panoramas get a margin), and of a crop."""
        height, width = self.whole.shape[:2]
        return min(max(width / height, 0.6), 1.8), self.crop.width / self.crop.height

    @property
    def side(self) -> float:
        """How tall, in inches, a crop is for the panel to be as wide as the figure."""
        whole, cell = self.shape
        free = TWO_COLUMNS - self.columns * GAP - whole * (self.rows - 1) * LABELS
        return free / (whole * self.rows + cell * self.columns)


def _panel(item: GalleryItem, crop: Crop | None, metrics: Sequence[Metric]) -> _Panel:
    width, height = item.size
    pixels = {p.label: _pixels(p, item.size) for p in item.images if not p.failed}
    if len(pixels) < sum(not p.failed for p in item.images):
        raise ValueError(f"{item.key}: two images have one label")
    given = {image.role: image.label for image in item.images if image.role != "sr"}
    judged = [p for label, p in pixels.items() if label not in given.values()]
    crop = crop or most_disputed(judged if len(judged) > 1 else list(pixels.values()))
    if min(crop) < 0 or min(crop[2:]) < 1 or crop.left + crop.width > width or crop.top + crop.height > height:
        raise ValueError(f"{item.key}: {tuple(crop)} is no part of an image of {width}×{height}")
    best = best_texts(item, metrics)
    whole = next(pixels[label] for label in (given.get("hr", ""), given.get("lr", ""), *pixels) if label in pixels)
    cells = [_cell(p, pixels, crop, metrics, best) for p in item.images]
    return _Panel(item.key, whole, crop, metrics, cells)


def _pixels(image: GalleryImage, size: tuple[int, int]) -> NDArray[np.uint8]:
    """RGB uint8 (H, W, 3); LR images enlarged pixel by pixel."""
    with Image.open(BytesIO(image.png)) as opened:
        return np.array(opened.convert("RGB").resize(size, Image.Resampling.NEAREST))


def _cell(
    image: GalleryImage,
    pixels: Mapping[str, NDArray[np.uint8]],
    crop: Crop,
    metrics: Sequence[Metric],
    best: Mapping[str, str | None],
) -> _Cell:
    if image.failed:
        return _Cell(image.label, None, [])
    row = image.metrics or {}
    texts = [(metric.text(row.get(metric.name)), best[metric.name]) for metric in metrics if row]
    return _Cell(image.label, pixels[image.label][crop.slices], [(text, text == winner) for text, winner in texts])


def _draw_panel(figure: "Figure", panel: _Panel, bottom: float) -> None:
    """`bottom`: inches. The whole image is as tall as all rows of crops, less the text under the last."""
    from matplotlib.patches import Rectangle

    side, rows = panel.side, panel.rows
    tall = rows * side + (rows - 1) * LABELS
    wide, crop_wide = panel.shape[0] * tall, panel.shape[1] * side
    axes = _image_axes(figure, (0, bottom + LABELS, wide, tall), panel.whole)
    left, top, width, height = panel.crop
    axes.add_patch(
        Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=BOX, linewidth=1, clip_on=False)
    )
    names = " / ".join(f"{metric.label} {metric.arrow}" for metric in panel.metrics)
    _write(figure, (wide / 2, bottom + LABELS), wide, panel.key, [(names, False)])
    for place, cell in enumerate(panel.cells):
        row, column = divmod(place, panel.columns)
        x = wide + GAP + column * (crop_wide + GAP)
        y = bottom + (rows - 1 - row) * (side + LABELS) + LABELS
        _image_axes(figure, (x, y, crop_wide, side), cell.pixels)
        numbers = [piece for text, best in cell.numbers for piece in ((" / ", False), (text, best))][1:]
        _write(figure, (x + crop_wide / 2, y), crop_wide, cell.label, numbers)


def _image_axes(
    figure: "Figure", place: tuple[float, float, float, float], pixels: NDArray[np.uint8] | None
) -> "Axes":
    """An axes at left, bottom, width and height in inches that shows the pixels, or that there are none."""
    wide, tall = figure.get_size_inches()
    left, bottom, width, height = place
    axes = figure.add_axes((left / wide, bottom / tall, width / wide, height / tall), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if pixels is None:
        axes.set_facecolor(EMPTY)
        axes.text(0.5, 0.5, "failed", color=ALARM, ha="center", va="center", transform=axes.transAxes)
        return axes
    reduced = pixels.shape[0] > height * DPI
    axes.imshow(pixels, interpolation="antialiased" if reduced else "nearest")
    axes.set_anchor("S")
    return axes


def _write(
    figure: "Figure", top: tuple[float, float], width: float, label: str, numbers: Sequence[tuple[str, bool]]
) -> None:
    """A label and, below it, a line of pieces, some bold; centred below `top`, a place in inches."""
    from matplotlib.offsetbox import AnnotationBbox, HPacker, TextArea

    wide, tall = figure.get_size_inches()
    x, y = top[0] / wide, (top[1] - 0.05) / tall
    figure.text(x, y, one_line(label, width), ha="center", va="top", parse_math=False)
    pieces: list[Artist] = [
        TextArea(text, textprops={"fontweight": "bold" if bold else "normal", "color": INK if bold else MUTED})
        for text, bold in numbers
    ]
    if pieces:
        line = HPacker(children=pieces, pad=0, sep=0, align="baseline")
        place = (x, y - 0.13 / tall)
        figure.add_artist(
            AnnotationBbox(line, place, xycoords="figure fraction", box_alignment=(0.5, 1), frameon=False, pad=0)
        )
