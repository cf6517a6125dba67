"""Figures as papers print them: distributions and trade-offs, and what these and `crops` have in common.

Text is vector text in embedded TrueType fonts, as journals want it. The same input gives the same bytes, whenever and
wherever the same fonts have its letters: `figure_bytes` leaves dates out, and nothing of a user's own matplotlib
settings comes in. No pyplot.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from reports.figures.fonts import MAIN, Face, families, readable
from reports.figures.gallery import NothingToDrawError
from reports.figures.style import INK, MUTED, cut
from reports.metrics.metric import Metric
from reports.tables.statistics import mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ONE_COLUMN, TWO_COLUMNS = 3.35, 6.9
"""The widths, in inches, of figures in journals of two columns."""
DPI = 300
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which the colour-blind tell apart, in the order of the page's; markers do in print."""
MARKERS = "osD^vP*X<>hd"
POINTS = 200
"""A distribution of at most so many numbers shows each."""
TEXT = 7.0
"""The size of labels, in points."""
SETTINGS: dict[str, Any] = {
    "font.family": MAIN,
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


def distribution_figure(frame: pd.DataFrame, metrics: Sequence[Metric]) -> "Figure":
    """One panel a metric, one box a method: quartiles, median, whiskers from 5 to 95 %, and the mean as a diamond.

    frame: as `tables.read_metrics` gives it. What failed and what is infinite is left out; an axis says how many are
    infinite. Up to 200 numbers are drawn each. NothingToDrawError without a finite number of any metric.
    """
    from matplotlib.figure import Figure

    scored = _scored(frame, metrics)
    metrics = [metric for metric in metrics if np.isfinite(scored[metric.name]).any()]
    methods = list(dict.fromkeys(scored["method"]))
    columns = min(len(metrics), 4)
    rows = math.ceil(len(metrics) / columns)
    with settings(*methods):
        figure = Figure(figsize=(TWO_COLUMNS, rows * (0.75 + 0.27 * len(methods)) + 0.2), layout="constrained")
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for panel, metric in zip(axes, metrics, strict=False):
            _draw_distributions(panel, [scored.loc[scored["method"] == m, metric.name] for m in methods], metric)
        for panel in axes[len(metrics) :]:
            panel.set_axis_off()
        axes[0].set_yticks(range(len(methods)), [one_line(method, 1.2) for method in methods], parse_math=False)
        axes[0].invert_yaxis()
        figure.supxlabel(
            "box: quartiles and median · whiskers: 5 to 95 % · diamond: mean · dots: single images",
            fontsize=6,
            color=MUTED,
        )
        settle(figure)
    return figure


def tradeoff_figure(frame: pd.DataFrame, distortion: Metric, perception: Metric) -> "Figure":
    """Distortion against perception: a faint point an image, and each method's mean with its 95 % intervals.

    Both axes run so that better is to the right and above. frame: as `tables.read_metrics` gives it; what failed and
    what is infinite is left out. NothingToDrawError when no image has both numbers.
    """
    from matplotlib.figure import Figure

    scored = _scored(frame, (distortion, perception))
    methods = list(dict.fromkeys(scored["method"]))
    finite = np.isfinite(scored[[distortion.name, perception.name]].to_numpy()).all(axis=1)
    scored = scored.loc[finite]
    if scored.empty:
        raise NothingToDrawError(f"no image has both {distortion.label} and {perception.label}")
    with settings(*methods):
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
            title="means with 95 % intervals · faint: single images",
            title_fontproperties={"size": 6},
        )
        for text, method in zip(legend.get_texts(), methods, strict=True):
            text.set_parse_math(False)
            text.set_text(one_line(method, 0.65))
        settle(figure)
    return figure


def figure_bytes(figure: "Figure", form: Literal["pdf", "png"]) -> bytes:
    """The figure as a file, PNG with 300 dpi; the same figure gives the same bytes."""
    metadata = {"pdf": {"CreationDate": None}, "png": {"Software": None}}[form]
    file = BytesIO()
    with settings():
        figure.savefig(file, format=form, dpi=DPI, metadata=metadata)
    return file.getvalue()


@contextmanager
def settings(*texts: str) -> Iterator[None]:
    """Ours, with fonts for these texts, and matplotlib's own for the rest, whatever the user's say."""
    import matplotlib.style

    fonts = {"font.family": families("".join(texts))}
    with matplotlib.style.context(["default", {**SETTINGS, **fonts}]):
        yield


def settle(figure: "Figure") -> None:
    """Lay it out now and never again: each saving would move it by a rounding error."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def one_line(text: str, inches: float) -> str:
    """One line of `text`, cut to a width in the figures' font."""
    return cut(readable(text), Face(100), inches * 72 / TEXT * 100)


def _scored(frame: pd.DataFrame, metrics: Sequence[Metric]) -> pd.DataFrame:
    """method and the metrics as float64 of what did not fail; NothingToDrawError where there is no number at all."""
    names = [metric.name for metric in metrics]
    scored = frame[frame["status"] == "ok"].reindex(columns=["method", *names])
    scored = scored.astype(dict.fromkeys(names, "float64"))
    if not np.isfinite(scored[names].to_numpy()).any():
        raise NothingToDrawError(
            f"there are no numbers of {', '.join(metric.label for metric in metrics) or 'no metric'}"
        )
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
    else:
        axes.locator_params(axis="x", nbins=5)
        axes.ticklabel_format(axis="x", scilimits=(-3, 4))
    axes.set_xlabel(f"{_titled(metric)} {metric.arrow}" + f", {infinite} ∞ left out" * bool(infinite))
    axes.tick_params(axis="y", length=0)


def _titled(metric: Metric) -> str:
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label
