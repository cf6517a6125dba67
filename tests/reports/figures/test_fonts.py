"""Names in any script are readable: from a font that is installed, else as codes, and never as empty boxes."""

import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from reports.figures import fonts
from reports.figures.contact_sheet import LINE, MARGIN, contact_sheet
from reports.figures.crops import comparison_figure
from reports.figures.fonts import Face, FontError, check_unreadable, families, missing, readable
from reports.figures.gallery import COLUMN, GalleryImage, GalleryItem
from reports.figures.plots import distribution_figure, figure_bytes, tradeoff_figure
from reports.metrics.registry import METRICS
from tests.reports.samples import row

SUPER = "超解像"
Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Have these fonts installed, and no others."""

    def installing(*paths: Path) -> None:
        monkeypatch.setattr(fonts, "_installed", lambda: tuple(map(str, paths)))
        fonts._found.cache_clear()

    yield installing
    fonts._found.cache_clear()


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A font that has three letters, each a bar."""
    path = tmp_path_factory.mktemp("fonts") / "bars.ttf"
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for point in ((100, 800), (900, 800), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    bar = pen.glyph()
    names = [".notdef", *(f"uni{ord(letter):04X}" for letter in SUPER)]
    builder = FontBuilder(1000)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): name for letter, name in zip(SUPER, names[1:], strict=True)})
    builder.setupGlyf(dict.fromkeys(names, bar))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Bars of a test", "styleName": "Regular", "psName": "BarsOfATest"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def item(key: str, label: str) -> GalleryItem:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((40, 40)).save(buffer, "PNG")
    row = {"status": "ok", "psnr": 30.0}
    return GalleryItem(
        key, [GalleryImage(label, buffer.getvalue(), row), GalleryImage("HR", buffer.getvalue(), role="hr")]
    )


def test_a_letter_comes_from_a_font_that_has_it(install: Install, bars: Path) -> None:
    install(bars)
    assert missing(f"{SUPER} dtls ×4 Ж ع") == ""
    assert readable(SUPER) == SUPER
    assert families(f"a{SUPER}") == ["DejaVu Sans", "Bars of a test"]
    assert families("plain") == ["DejaVu Sans"]
    face = Face(20)
    assert [part for part, _ in face.runs(f"a{SUPER}b")] == ["a", SUPER, "b"]
    assert face.getlength(SUPER) == 60


def test_what_no_font_has_is_written_as_its_code(install: Install) -> None:
    install()
    assert missing(f"{SUPER}!") == SUPER
    assert readable("a 超\N{RIGHT-TO-LEFT OVERRIDE}b\x07") == "a \\u8d85\\u202eb\\x07"
    assert readable("\U0002a6a5 \udc80") == "\\U0002a6a5 \\udc80"


def test_letters_are_composed_and_variants_are_the_letter(install: Install) -> None:
    install()
    assert (
        readable("e\N{COMBINING ACUTE ACCENT}☀\N{VARIATION SELECTOR-16}  x")
        == "\N{LATIN SMALL LETTER E WITH ACUTE}☀ x"
    )


@pytest.mark.parametrize(
    ("name", "letters", "package"),
    [(SUPER, "超 解 像", "fonts-noto-cjk"), ("a한", "한", "fonts-noto-cjk"), ("हद", "ह द", "fonts-noto-core")],
)
def test_names_that_no_font_has_are_refused_with_what_to_install(
    install: Install, name: str, letters: str, package: str
) -> None:
    install()
    with pytest.raises(FontError) as refused:
        check_unreadable(name, "--figures")
    assert str(refused.value) == (
        f"--figures: no installed font has {letters}; install one, such as that of the package {package}, or give "
        "other names"
    )


@pytest.mark.slow
def test_figures_draw_names_of_other_scripts_without_warnings(install: Install, bars: Path) -> None:
    install(bars)
    frame = pd.DataFrame([row(SUPER, "a", 30.0), row(SUPER, "b", 31.0), row("plain", "a", 28.0)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in (
            comparison_figure([item(f"{SUPER}/x", SUPER)]),
            distribution_figure(frame, METRICS[:2]),
            tradeoff_figure(frame, METRICS[0], METRICS[3]),
        ):
            assert figure_bytes(figure, "png")
            assert b"BarsOfATest" in figure_bytes(figure, "pdf")


def test_a_sheet_shows_the_letters_themselves(install: Install, bars: Path) -> None:
    install(bars)
    drawn = np.array(contact_sheet([item("x", SUPER)]))
    install()
    coded = np.array(contact_sheet([item("x", SUPER)]))
    assert (drawn != coded).any()
    labels = drawn[MARGIN + 4 * LINE :][:LINE, : MARGIN + COLUMN]
    assert (labels < 60).all(axis=-1).sum() > 3 * 10 * 10  # three bars
