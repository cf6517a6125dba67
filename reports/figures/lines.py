"""Curves and points over one another: schedules, losses, chains, sizes against quality."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reports.figures.gallery import NothingToDrawError
from reports.figures.plots import COLOURS, MARKERS, TWO_COLUMNS, one_line, settings, settle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 3
"""Panels side by side, and columns of the legend."""
MARKED = 24
"""Curves of at most so many points have a marker at each."""


@dataclass(frozen=True)
class Curve:
    """A label and its points, x and y of one length. joined: whether a line leads through them, in their order."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    joined: bool = True


@dataclass(frozen=True)
class Panel:
    """Curves over one x axis. x, y: what the axes are, with units. log_x, log_y: whether they are logarithmic."""

    x: str
    y: str
    curves: Sequence[Curve]
    log_x: bool = False
    log_y: bool = False


def lines_figure(panels: Sequence[Panel]) -> "Figure":
    """Panels side by side; curves of one label have one colour in all of them, and one legend is below.

    Points that are not finite are left out. NothingToDrawError where no panel has any other.
    """
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
    if not any(np.isfinite(curve.x).any() and np.isfinite(curve.y).any() for p in panels for curve in p.curves):
        raise NothingToDrawError("there is no number to draw")
    columns = min(len(panels), ACROSS)
    rows = math.ceil(len(panels) / columns)
    with settings(*labels):
        high = 2.1 * rows + 0.16 * math.ceil(len(labels) / ACROSS) + 0.2
        figure = Figure(figsize=(TWO_COLUMNS * columns / ACROSS, high), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        handles: dict[str, Any] = {}
        for place, panel in zip(axes, panels, strict=False):
            handles |= _draw(place, panel, labels)
        for place in axes[len(panels) :]:
            place.set_axis_off()
        legend = figure.legend(
            list(handles.values()), ["·"] * len(handles), loc="outside lower center", ncols=columns, frameon=False
        )
        for text, label in zip(legend.get_texts(), handles, strict=True):
            text.set_parse_math(False)
            text.set_text(one_line(label, 1.6))
        settle(figure)
    return figure


def _draw(axes: "Axes", panel: Panel, labels: Sequence[str]) -> dict[str, Any]:
    """Draw a panel; what stands for each of its labels in a legend."""
    handles = {}
    for curve in panel.curves:
        x, y = np.asarray(curve.x, np.float64), np.asarray(curve.y, np.float64)
        finite = np.isfinite(x) & np.isfinite(y)
        number = labels.index(curve.label)
        is_marked = not curve.joined or finite.sum() <= MARKED
        (handles[curve.label],) = axes.plot(
            x[finite],
            y[finite],
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)] if is_marked else "",
            linestyle="-" if curve.joined else "",
            linewidth=0.9,
            markersize=4,
            markeredgecolor="white",
            markeredgewidth=0.4,
        )
    if panel.log_x:
        axes.set_xscale("log")
    if panel.log_y:
        axes.set_yscale("log")
    axes.set_xlabel(panel.x, parse_math=False)
    axes.set_ylabel(panel.y, parse_math=False)
    return handles
