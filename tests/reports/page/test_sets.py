"""The page of generated images: numbers, samples beside their nearest images, and no name that becomes code."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from reports.metrics.registry import SET_METRICS
from reports.page.sets import SetsPage, ShownSample, ShownSet, render_sets
from reports.tables.summary import Summary

PIXEL = "data:image/png;base64,iVBORw0KGgo="


def page(**changes: object) -> SetsPage:
    summary = Summary(
        conditions="Features: pixels · compared with 120 real images",
        metrics=tuple(metric for metric in SET_METRICS if metric.name in ("kid", "recall")),
        methods=[
            {"method": "flow", "ok": 110, "failed": 0, "kid": 0.0123, "kid_spread": 0.004, "recall": 0.5},
            {"method": "<b>", "ok": 90, "failed": 2, "recall": 0.25},
        ],
        comparisons=[],
        images=200,
        failed=[],
        failed_total=2,
        notes=("few <i>images</i>",),
    )
    samples = [
        ShownSample("0001", PIXEL, "train & test", PIXEL, "0", "a copy"),
        ShownSample("<script>", PIXEL, None, None, "–"),
    ]
    made = SetsPage(
        title="Faces <at> 16",
        date=datetime(2026, 11, 28, tzinfo=UTC),
        summary=summary,
        sets=[ShownSet("flow", samples, samples[:1])],
        training="training",
        configuration={"features": "pixels"},
        versions={"dtls": "1"},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_the_page_has_numbers_pairs_and_notes() -> None:
    html = render_sets(page())
    assert "0.0123 ± 0.0040" in html
    assert '<td class="number best">0.500</td>' in html
    assert "0 from train &amp; test" in html
    assert "a copy" in html
    assert html.count(f'src="{PIXEL}"') == 5
    assert "the nearest training image" in html
    assert "img-src data:;" in html


def test_names_are_text() -> None:
    html = render_sets(page())
    assert "<script>:" not in html
    assert 'alt="&lt;script&gt;"' in html
    assert "Faces &lt;at&gt; 16" in html
    assert "few &lt;i&gt;images" in html


def test_images_beside_the_page_are_allowed_and_others_refused() -> None:
    def shown(source: str) -> SetsPage:
        return page(sets=[ShownSet("flow", [ShownSample("a", source, None, None, "–")], [])])

    assert "img-src data: &#39;self&#39; file:;" in render_sets(shown("images/a.png"))
    with pytest.raises(ValueError, match="an image of the page is"):
        render_sets(shown("https://example.com/a.png"))
