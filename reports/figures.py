"""Figures as papers print them: crops of every method beside the picture, distributions, and trade-offs.

Text is vector text in embedded TrueType fonts, as journals want it. The same input gives the same bytes, wherever and
whenever: `figure_bytes` leaves dates out, and nothing of a user's own matplotlib settings comes in. No pyplot.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from reports.gallery import ALARM, EMPTY, INK, MUTED, GalleryItem, Picture, best_texts, chosen_metrics, cut, font
from reports.statistics import mean_interval
from reports.tables import Metric

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ONE_COLUMN, TWO_COLUMNS = 3.35, 6.9
"""The widths, in inches, of figures in journals of two columns."""
DPI = 300
GAP, LABELS = 0.06, 0.34
"""In inches: between pictures, and what the two lines of text under one take."""
ROWS_FROM = {1: 0, 2: 6, 3: 13}
"""In how many rows a picture's crops stand, and from how many crops on."""
BOX = "#d62728"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which the colour-blind tell apart; the markers tell methods apart in print without colour."""
MARKERS = "osD^vP*X<>hd"
POINTS = 200
"""A distribution of at most so many numbers shows each."""
TEXT = 7.0
"""The size of labels, in points."""
SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": TEXT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "figure.dpi": DPI,
    "pdf.fonttype": 42,
    "axes.unicode_minus": True,
}


class Crop(NamedTuple):
    """A part of a picture, in pixels of HR."""

    left: int
    top: int
    width: int
    height: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def comparison_figure(items: Sequence[GalleryItem], crop: Mapping[str, Crop] | None = None) -> "Figure":
    """One row a picture: it with a box drawn on it, and beside it what is in the box of LR, each method, and HR.

    Under each crop stand its label, and the picture's PSNR and LPIPS, the best in bold. Crops come from `crop` by the
    picture's key, or are `most_disputed` of the methods. Without HR, the box is on LR. ValueError without pictures,
    for two pictures of one label, and for a crop that leaves its picture.
    """
    from matplotlib.figure import Figure

    if not any(item.pictures for item in items):
        raise ValueError("a figure wants at least one picture")
    metrics = chosen_metrics(items)
    panels = [_panel(item, (crop or {}).get(item.key), metrics) for item in items if item.pictures]
    heights = [panel.rows * (panel.side + LABELS) for panel in panels]
    with _settings():
        figure = Figure(figsize=(TWO_COLUMNS, sum(heights) + GAP * (len(panels) - 1)))
        bottom = figure.get_figheight()
        for panel, height in zip(panels, heights, strict=True):
            bottom -= height
            _draw_panel(figure, panel, bottom)
            bottom -= GAP
    return figure


def most_disputed(pictures: Sequence[NDArray[np.uint8]]) -> Crop:
    """The square where `pictures`, uint8 (H, W, 3) of one shape, differ most from their mean; the first of several.

    Its side is a quarter of the picture's shorter one, 48 pixels at least and 256 at most.
    """
    height, width = pictures[0].shape[:2]
    side = min(max(48, min(256, min(height, width) // 4)), height, width)
    mean = np.mean(pictures, axis=0, dtype=np.float32)
    spread = sum(((p - mean) ** 2).sum(axis=-1, dtype=np.float64) for p in pictures)
    sums = np.pad(np.cumsum(np.cumsum(spread, axis=0), axis=1), ((1, 0), (1, 0)))
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(np.argmax(np.round(inside)), inside.shape)
    return Crop(int(left), int(top), side, side)


def distribution_figure(frame: pd.DataFrame, metrics: Sequence[Metric]) -> "Figure":
    """One panel a metric, one box a method: quartiles, median, whiskers from 5 to 95 %, and the mean as a diamond.

    frame: as `tables.read_metrics` gives it. What failed and what is infinite is left out; an axis says how many are
    infinite. Up to 200 numbers are drawn each. ValueError without metrics or without a number of any.
    """
    from matplotlib.figure import Figure

    scored = _scored(frame, metrics)
    metrics = [metric for metric in metrics if np.isfinite(scored[metric.name]).any()]
    methods = list(dict.fromkeys(scored["method"]))
    columns = min(len(metrics), 4)
    rows = math.ceil(len(metrics) / columns)
    with _settings():
        figure = Figure(figsize=(TWO_COLUMNS, rows * (0.75 + 0.27 * len(methods)) + 0.2), layout="constrained")
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for panel, metric in zip(axes, metrics, strict=False):
            _draw_distributions(panel, [scored.loc[scored["method"] == m, metric.name] for m in methods], metric)
        for panel in axes[len(metrics) :]:
            panel.set_axis_off()
        axes[0].set_yticks(range(len(methods)), [_line(method, 1.2) for method in methods], parse_math=False)
        axes[0].invert_yaxis()
        figure.supxlabel(
            "box: quartiles and median · whiskers: 5 to 95 % · diamond: mean · dots: single pictures",
            fontsize=6,
            color=MUTED,
        )
        _settle(figure)
    return figure


def tradeoff_figure(frame: pd.DataFrame, distortion: Metric, perception: Metric) -> "Figure":
    """Distortion against perception: a faint point a picture, and each method's mean with its 95 % intervals.

    Both axes run so that better is to the right and above. frame: as `tables.read_metrics` gives it; what failed and
    what is infinite is left out. ValueError when no picture has both numbers.
    """
    from matplotlib.figure import Figure

    scored = _scored(frame, (distortion, perception))
    methods = list(dict.fromkeys(scored["method"]))
    finite = np.isfinite(scored[[distortion.name, perception.name]].to_numpy()).all(axis=1)
    scored = scored.loc[finite]
    if scored.empty:
        raise ValueError(f"no picture has both {distortion.label} and {perception.label}")
    with _settings():
        rows = math.ceil(len(methods) / 3)
        figure = Figure(figsize=(ONE_COLUMN, 2.75 + 0.16 * rows), layout="constrained")
        axes = figure.subplots()
        handles: list[Any] = []
        for number, method in enumerate(methods):
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            x, y = (scored.loc[scored["method"] == method, m.name] for m in (distortion, perception))
            axes.scatter(x, y, s=5, color=colour, alpha=0.25, linewidths=0, marker=marker, rasterized=True)
            across, up = mean_interval(x), mean_interval(y)
            handles.append(
                axes.errorbar(
                    across.mean,
                    up.mean,
                    xerr=[[across.mean - across.low], [across.high - across.mean]],
                    yerr=[[up.mean - up.low], [up.high - up.mean]],
                    fmt=marker,
                    color=colour,
                    markersize=5,
                    markeredgecolor="white",
                    markeredgewidth=0.5,
                    elinewidth=0.9,
                    zorder=3,
                )
            )
        axes.set_xlabel(f"{_titled(distortion)}, better →")
        axes.set_ylabel(f"{_titled(perception)}, better →")
        if distortion.better == "lower":
            axes.invert_xaxis()
        if perception.better == "lower":
            axes.invert_yaxis()
        legend = figure.legend(
            handles,
            ["·"] * len(methods),
            loc="outside lower center",
            ncols=3,
            frameon=False,
            title="means with 95 % intervals · faint: single pictures",
            title_fontproperties={"size": 6},
        )
        for text, method in zip(legend.get_texts(), methods, strict=True):
            text.set_parse_math(False)
            text.set_text(_line(method, 0.65))
        _settle(figure)
    return figure


def figure_bytes(figure: "Figure", form: Literal["pdf", "png"]) -> bytes:
    """The figure as a file, PNG with 300 dpi; the same figure gives the same bytes."""
    metadata = {"pdf": {"CreationDate": None}, "png": {"Software": None}}[form]
    file = BytesIO()
    with _settings():
        figure.savefig(file, format=form, dpi=DPI, metadata=metadata)
    return file.getvalue()


@contextmanager
def _settings() -> Iterator[None]:
    """Ours, and matplotlib's own for the rest, whatever the user's say."""
    import matplotlib.style

    with matplotlib.style.context(["default", SETTINGS]):
        yield


def _settle(figure: "Figure") -> None:
    """Lay it out now and never again: each saving would move it by a rounding error."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


class _Cell(NamedTuple):
    """A crop with what stands under it; no pixels where the result failed."""

    label: str
    pixels: NDArray[np.uint8] | None
    numbers: list[tuple[str, bool]]


class _Panel(NamedTuple):
    """One picture, boxed, and its crops."""

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
        """Width by height of the whole picture as drawn (panoramas get a margin), and of a crop."""
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
    pixels = {p.label: _pixels(p, item.size) for p in item.pictures if not p.failed}
    if len(pixels) < sum(not p.failed for p in item.pictures):
        raise ValueError(f"{item.key}: two pictures have one label")
    judged = [p for label, p in pixels.items() if label not in ("LR", "HR")]
    crop = crop or most_disputed(judged if len(judged) > 1 else list(pixels.values()))
    if min(crop) < 0 or min(crop[2:]) < 1 or crop.left + crop.width > width or crop.top + crop.height > height:
        raise ValueError(f"{item.key}: {tuple(crop)} is no part of a picture of {width}×{height}")
    best = best_texts(item, metrics)
    whole = next(pixels[label] for label in ("HR", "LR", *pixels) if label in pixels)
    cells = [_cell(p, pixels, crop, metrics, best) for p in item.pictures]
    return _Panel(item.key, whole, crop, metrics, cells)


def _pixels(picture: Picture, size: tuple[int, int]) -> NDArray[np.uint8]:
    """RGB uint8 (H, W, 3); LR pictures enlarged pixel by pixel."""
    with Image.open(BytesIO(picture.png)) as image:
        return np.array(image.convert("RGB").resize(size, Image.Resampling.NEAREST))


def _cell(
    picture: Picture,
    pixels: Mapping[str, NDArray[np.uint8]],
    crop: Crop,
    metrics: Sequence[Metric],
    best: Mapping[str, str | None],
) -> _Cell:
    if picture.failed:
        return _Cell(picture.label, None, [])
    row = picture.metrics or {}
    texts = [(metric.text(row.get(metric.name)), best[metric.name]) for metric in metrics if row]
    return _Cell(
        picture.label, pixels[picture.label][crop.slices], [(text, text == winner) for text, winner in texts]
    )


def _draw_panel(figure: "Figure", panel: _Panel, bottom: float) -> None:
    """`bottom`: inches. The whole picture is as tall as all rows of crops, less the text under the last."""
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
    figure.text(x, y, _line(label, width), ha="center", va="top", parse_math=False)
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


def _line(text: str, inches: float) -> str:
    """One line of `text`, cut to a width in the figures' font."""
    face = font(100)
    return cut(" ".join(text.split()), face, inches * 72 / TEXT * 100)


def _scored(frame: pd.DataFrame, metrics: Sequence[Metric]) -> pd.DataFrame:
    """method and the metrics as float64 of what did not fail; ValueError where there is no number at all."""
    names = [metric.name for metric in metrics]
    scored = frame[frame["status"] == "ok"].reindex(columns=["method", *names])
    scored = scored.astype(dict.fromkeys(names, "float64"))
    if not np.isfinite(scored[names].to_numpy()).any():
        raise ValueError(f"there are no numbers of {', '.join(metric.label for metric in metrics) or 'no metric'}")
    return scored


def _draw_distributions(axes: "Axes", values: Sequence[pd.Series], metric: Metric) -> None:
    numbers = [v[np.isfinite(v)].to_numpy() for v in values]
    infinite = sum(int(np.isinf(v).sum()) for v in values)
    axes.boxplot(
        numbers,
        positions=range(len(numbers)),
        orientation="horizontal",
        whis=(5, 95),
        widths=0.5,
        showfliers=False,
        showmeans=True,
        manage_ticks=False,
        boxprops={"linewidth": 0.7, "color": INK},
        whiskerprops={"linewidth": 0.7, "color": INK},
        capprops={"linewidth": 0.7, "color": INK},
        medianprops={"linewidth": 0.9, "color": INK},
        meanprops={
            "marker": "D",
            "markersize": 4,
            "markerfacecolor": COLOURS[1],
            "markeredgecolor": "white",
            "markeredgewidth": 0.5,
        },
    )
    for place, n in enumerate(numbers):
        if len(n) <= POINTS:
            spread = (np.arange(len(n)) * 0.618034 % 1 - 0.5) * 0.4
            axes.scatter(n, place + spread, s=4, color=COLOURS[0], alpha=0.35, linewidths=0)
    every = np.concatenate(numbers)
    if len(every) and every.min() > 0 and every.max() > 100 * every.min():
        axes.set_xscale("log")
    axes.set_xlabel(f"{_titled(metric)} {metric.arrow}" + f", {infinite} ∞ left out" * bool(infinite))
    axes.tick_params(axis="y", length=0)


def _titled(metric: Metric) -> str:
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label
