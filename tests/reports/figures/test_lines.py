"""Curves are drawn where there are numbers, in one colour for each label."""

import math
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from reports.figures.gallery import NothingToDrawError
from reports.figures.lines import Curve, Panel, lines_figure
from reports.figures.plots import figure_bytes


def drawn(figure: Figure, panel: int) -> dict[Any, tuple[list[float], list[float]]]:
    """By colour, the points of a panel."""
    return {
        line.get_color(): (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist())
        for line in figure.axes[panel].lines
    }


def test_a_label_has_one_colour_in_all_panels_and_one_place_in_the_legend() -> None:
    first = Panel("t", "α", [Curve("a", [0, 1], [2, 3]), Curve("$b_", [0, 1], [4, math.nan])])
    second = Panel("t", "β", [Curve("$b_", [5], [6], joined=False)], log_x=True)
    figure = lines_figure([first, second])
    (one, two), other = drawn(figure, 0), drawn(figure, 1)
    assert drawn(figure, 0)[one] == ([0, 1], [2, 3])
    assert drawn(figure, 0)[two] == ([0], [4])
    assert other == {two: ([5], [6])}
    assert figure.axes[1].get_xscale() == "log"
    assert figure.axes[1].lines[0].get_linestyle() == "None"
    words = [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]
    assert (words.count("a"), words.count("$b_")) == (1, 1)


@pytest.mark.slow
def test_the_same_curves_are_the_same_file() -> None:
    panels = [Panel("t", "KL", [Curve("a", range(100), np.arange(1, 101.0).tolist())], log_y=True)]
    assert figure_bytes(lines_figure(panels), "png") == figure_bytes(lines_figure(panels), "png")


def test_nothing_is_drawn_of_no_numbers() -> None:
    with pytest.raises(NothingToDrawError, match="there is no number to draw"):
        lines_figure([Panel("t", "α", [Curve("a", [0], [math.inf])])])
