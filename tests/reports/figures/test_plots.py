"""Figures for papers show the right pixels and numbers, and are the same file each time."""

import io
import re
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.offsetbox import TextArea
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

from reports.figures.crops import Crop, comparison_figure, most_disputed
from reports.figures.gallery import GalleryImage, GalleryItem, NothingToDrawError
from reports.figures.plots import (
    distribution_figure,
    figure_bytes,
    tradeoff_figure,
)
from reports.metrics.registry import METRICS
from reports.tables.statistics import mean_interval
from reports.tables.table import SCHEMA

BY_NAME = {metric.name: metric for metric in METRICS}
PSNR, SSIM, LPIPS, CONSISTENCY = (BY_NAME[name] for name in ("psnr", "ssim", "lpips", "consistency"))
HOSTILE = "_$\\q$\n<"
"""Hidden in a legend, no valid formula, and of two lines."""
CROP = Crop(16, 40, 48, 32)


def pixels(image: GalleryImage) -> NDArray[np.uint8]:
    return np.array(Image.open(io.BytesIO(image.png)))


def images(figure: Figure) -> list[NDArray[np.uint8]]:
    """What each axes shows, from the first on; nothing where it shows no image."""
    return [np.array(axes.images[0].get_array() if axes.images else [], np.uint8) for axes in figure.axes]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]


def bold_words(figure: Figure) -> list[str]:
    areas = [area for area in figure.findobj(TextArea) if isinstance(area, TextArea)]
    return [area.get_text() for area in areas if area._text.get_fontweight() == "bold"]  # type: ignore[attr-defined]


def dots(axes: Axes) -> int:
    """How many single images are drawn."""
    scattered = [found for found in axes.collections if isinstance(found, PathCollection)]
    return sum(len(np.asarray(found.get_offsets())) for found in scattered)


@pytest.fixture(scope="module")
def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The table of the gallery, one failure and one infinite PSNR in it."""
    table = pd.DataFrame(rows).reindex(columns=SCHEMA.names)
    table.loc[1, "psnr"] = np.inf
    return table


@pytest.mark.slow
def test_the_crops_are_those_of_lr_each_method_and_hr_at_one_place(gallery: list[GalleryItem]) -> None:
    item = gallery[0]
    whole, lr, *crops = images(comparison_figure([item], {item.key: CROP}))
    assert np.array_equal(whole, pixels(item.images[-1]))
    enlarged = pixels(item.images[0]).repeat(4, axis=0).repeat(4, axis=1)
    assert np.array_equal(lr, enlarged[40:72, 16:64])
    assert len(crops) == 4
    for crop, image in zip(crops, item.images[1:], strict=True):
        assert np.array_equal(crop, pixels(image)[40:72, 16:64])


def test_the_box_is_drawn_around_the_crop(gallery: list[GalleryItem]) -> None:
    figure = comparison_figure(gallery[:1], {gallery[0].key: CROP})
    (box,) = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (15.5, 39.5, 48, 32)


def test_labels_and_numbers_stand_under_the_crops_the_best_in_bold(gallery: list[GalleryItem]) -> None:
    item = gallery[0]
    figure = comparison_figure([item])
    rows = [image.metrics for image in item.images if image.metrics]
    numbers = [f"{row[m.name]:{m.form}}" for row in rows for m in (PSNR, LPIPS)]
    assert [word for word in words(figure) if re.fullmatch(r"[\d.]+", word)] == numbers
    assert bold_words(figure) == [
        text for text in numbers if text in {PSNR.best(r["psnr"] for r in rows), LPIPS.best(r["lpips"] for r in rows)}
    ]
    assert {"LR", "nearest", "bilinear", "bicubic", "HR", item.key, "PSNR ↑ / LPIPS ↓"} <= set(words(figure))


@pytest.mark.slow
def test_nothing_overlaps_and_nothing_leaves_the_figure(gallery: list[GalleryItem]) -> None:
    lr, *methods, hr = gallery[1].images
    many = [GalleryImage(f"{p.label} {n}", p.png, p.metrics) for n in range(3) for p in methods]
    figure = comparison_figure([gallery[0], GalleryItem("many", [lr, *many, hr])], {"many": CROP})
    figure.draw_without_rendering()
    places = [axes.get_position() for axes in figure.axes]
    assert len(places) == 1 + 5 + 1 + 11
    for whole, first, last in ((places[0], places[1], places[5]), (places[6], places[7], places[-1])):
        assert (whole.y1, whole.y0) == pytest.approx((first.y1, last.y0))
    for i, a in enumerate(places):
        assert min(a.x0, a.y0) > -1e-9
        assert max(a.x1, a.y1) < 1 + 1e-9
        assert not any(a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1 for b in places[:i])


def test_the_most_disputed_square_is_where_the_images_differ() -> None:
    a = np.full((200, 300, 3), 90, np.uint8)
    b = a.copy()
    b[100:148, 200:248] += 60
    b[10:20, 10:20] += 60
    assert most_disputed([a, b]) == (198, 98, 50, 50)
    assert most_disputed([a, a]) == (0, 0, 50, 50)
    assert most_disputed([a[:30], b[:30]])[2:] == (30, 30)


def test_a_single_method_is_compared_with_hr(gallery: list[GalleryItem]) -> None:
    hr = gallery[0].images[-1]
    changed = pixels(hr).copy()
    changed[70:110, 60:100] = 0
    file = io.BytesIO()
    Image.fromarray(changed).save(file, "PNG")
    item = GalleryItem("a", [GalleryImage("one", file.getvalue()), hr])
    left, top, width, height = most_disputed([changed, pixels(hr)])
    assert np.array_equal(images(comparison_figure([item]))[1], changed[top : top + height, left : left + width])
    assert left <= 60 < 100 <= left + width


def test_without_hr_the_box_is_on_lr(gallery: list[GalleryItem]) -> None:
    item = GalleryItem("a", gallery[0].images[:-1])
    assert np.array_equal(images(comparison_figure([item]))[0][::4, ::4], pixels(item.images[0]))


def test_a_failed_result_is_an_empty_cell_that_says_so(gallery: list[GalleryItem]) -> None:
    lr, method, *_, hr = gallery[0].images
    failed = GalleryImage("broken", lr.png, {"status": "failed", "error": "too small"})
    figure = comparison_figure([GalleryItem("a", [lr, failed, method, hr])])
    assert [len(image) > 0 for image in images(figure)] == [True, True, False, True, True]
    assert {"failed", "broken"} <= set(words(figure))


@pytest.mark.parametrize("crop", [(-1, 0, 8, 8), (0, 0, 0, 8), (121, 0, 8, 8), (0, 121, 8, 8)])
def test_a_crop_outside_its_image_is_refused(gallery: list[GalleryItem], crop: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="is no part of an image of 128×128"):
        comparison_figure(gallery[:1], {gallery[0].key: Crop(*crop)})


def test_two_images_of_one_label_and_none_at_all_are_refused(gallery: list[GalleryItem]) -> None:
    twice = GalleryItem("a", [gallery[0].images[0]] * 2)
    with pytest.raises(ValueError, match="a: two images have one label"):
        comparison_figure([twice])
    with pytest.raises(ValueError, match="at least one image"):
        comparison_figure([GalleryItem("a")])


def test_an_item_that_failed_as_a_whole_is_left_out(gallery: list[GalleryItem]) -> None:
    failed = [GalleryImage(p.label, p.png, {"status": "failed", "error": "no HR"}) for p in gallery[0].images]
    broken = GalleryItem("broken", failed)
    assert len(images(comparison_figure([broken, gallery[0]]))) == len(images(comparison_figure([gallery[0]])))
    with pytest.raises(NothingToDrawError):
        comparison_figure([broken])


@pytest.mark.slow
def test_a_box_has_the_mean_as_its_diamond_and_infinite_numbers_are_told(frame: pd.DataFrame) -> None:
    figure = distribution_figure(frame, (PSNR, SSIM, CONSISTENCY))
    ok = frame[frame["status"] == "ok"].replace(np.inf, np.nan)
    for axes, name in zip(figure.axes, ("psnr", "ssim", "consistency"), strict=True):
        diamonds = [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "D"]  # type: ignore[index,arg-type]
        assert diamonds == pytest.approx(list(ok.groupby("method", sort=False)[name].mean()))
        assert dots(axes) == ok[name].notna().sum()
    assert [axes.get_xlabel() for axes in figure.axes] == ["PSNR (dB) ↑, 1 ∞ left out", "SSIM ↑", "Consistency ↓"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["nearest", "bilinear", "bicubic"]


@pytest.mark.slow
def test_a_metric_without_numbers_has_no_panel_and_wide_ranges_are_logarithmic(frame: pd.DataFrame) -> None:
    table = frame.assign(ssim=None, consistency=np.geomspace(1e-6, 1e-2, len(frame)))
    figure = distribution_figure(table, (PSNR, SSIM, CONSISTENCY))
    assert [axes.get_xscale() for axes in figure.axes] == ["linear", "log"]


@pytest.mark.slow
def test_the_best_method_is_right_and_above(frame: pd.DataFrame) -> None:
    figure = tradeoff_figure(frame, PSNR, LPIPS)
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("PSNR (dB), better →", "LPIPS, better →")
    assert not axes.xaxis_inverted()
    assert axes.yaxis_inverted()
    assert tradeoff_figure(frame, CONSISTENCY, SSIM).axes[0].xaxis_inverted()


def test_means_stand_with_their_intervals_and_points_without_what_is_infinite(frame: pd.DataFrame) -> None:
    (axes,) = tradeoff_figure(frame, PSNR, LPIPS).axes
    ok = frame[(frame["status"] == "ok") & np.isfinite(frame["psnr"])]
    assert dots(axes) == len(ok)
    for container, method in zip(axes.containers, ("nearest", "bilinear", "bicubic"), strict=True):
        of = ok[ok["method"] == method]
        x, y = mean_interval(of["psnr"]), mean_interval(of["lpips"])
        mean, _, bars = container
        assert (mean.get_xdata()[0], mean.get_ydata()[0]) == (x.mean, y.mean)
        (across,), (up,) = (bar.get_segments() for bar in bars)
        assert across[:, 0] == pytest.approx([x.low, x.high])
        assert up[:, 1] == pytest.approx([y.low, y.high])


def test_figures_without_numbers_are_refused(frame: pd.DataFrame) -> None:
    nothing = frame.assign(psnr=None, lpips=None)
    with pytest.raises(ValueError, match="no numbers of PSNR"):
        distribution_figure(nothing, [PSNR])
    with pytest.raises(ValueError, match="no numbers of no metric"):
        distribution_figure(frame, [])
    with pytest.raises(ValueError, match="no image has both PSNR and LPIPS"):
        tradeoff_figure(frame.assign(lpips=None), PSNR, LPIPS)


def three(gallery: list[GalleryItem], frame: pd.DataFrame) -> list[Figure]:
    return [
        comparison_figure(gallery[:1]),
        distribution_figure(frame, (PSNR, CONSISTENCY)),
        tradeoff_figure(frame, PSNR, LPIPS),
    ]


@pytest.mark.slow
def test_hostile_names_are_drawn_as_they_are(gallery: list[GalleryItem], frame: pd.DataFrame) -> None:
    lr, *methods, hr = gallery[0].images
    hostile = [GalleryImage(f"{n}{HOSTILE}", p.png, p.metrics) for n, p in enumerate(methods)]
    table = frame.assign(method=frame["method"].map(lambda method: HOSTILE + method[:2]))
    for figure in three([GalleryItem(HOSTILE, [lr, *hostile, hr])], table):
        assert any(r"_$\q$ <" in word for word in words(figure))
        assert figure_bytes(figure, "png").startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes_whatever_the_users_settings(
    gallery: list[GalleryItem], frame: pd.DataFrame
) -> None:
    first = [figure_bytes(figure, form) for figure in three(gallery, frame) for form in ("png", "pdf")]
    with matplotlib.rc_context({"font.size": 20, "figure.dpi": 50, "pdf.fonttype": 3, "axes.grid": True}):
        again = [figure_bytes(figure, form) for figure in three(gallery, frame) for form in ("png", "pdf")]
    assert first == again


@pytest.mark.slow
def test_saving_a_figure_does_not_change_it(frame: pd.DataFrame) -> None:
    figure = distribution_figure(frame, (PSNR, SSIM, CONSISTENCY))
    assert figure_bytes(figure, "pdf") == figure_bytes(figure, "pdf")
    assert not isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine)  # it would creep with each saving


@pytest.mark.slow
def test_figures_are_as_wide_as_journals_want_with_300_dpi_and_embedded_truetype(
    gallery: list[GalleryItem], frame: pd.DataFrame
) -> None:
    for figure, inches in zip(three(gallery, frame), (6.9, 6.9, 3.35), strict=True):
        image = Image.open(io.BytesIO(figure_bytes(figure, "png")))
        assert image.width == int(inches * 300)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        pdf = figure_bytes(figure, "pdf")
        assert b"/CIDFontType2" in pdf
        assert b"/Type3" not in pdf
        (box,) = set(re.findall(rb"/MediaBox \[ 0 0 ([\d.]+)", pdf))
        assert float(box) == pytest.approx(inches * 72)
