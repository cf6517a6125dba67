"""The page holds every number and image, says what wins, escapes what it shows, and lets nothing else in."""

import base64
import hashlib
import html
import json
import re
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import reports.page.render as page_module
from reports.figures.gallery import GalleryItem
from reports.metrics.metric import Metric
from reports.metrics.registry import METRICS, SET_METRICS
from reports.page.render import GalleryRow, Page, Shown, render
from reports.page.verdict import verdict

MEASURED = [metric for metric in METRICS if metric.name in ("psnr", "ssim", "lpips", "consistency")]
EXTRA = Metric(
    name="extra", label="Extra", decimals=3, lower_is_better=True, description="one that is not shown at once"
)
HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(1)>\\' ${alert(1)} </script><!--"


def compared(rows: Sequence[Mapping[str, Any]], gallery: Sequence[GalleryItem] = (), **changes: Any) -> Page:
    """The page of these rows and images, unless `changes` say otherwise."""
    page = Page(
        title="Three filters",
        date=datetime(2024, 5, 6, tzinfo=UTC),
        conditions="Protocol: antialias · ×4 · RGB · border 0",
        metrics=MEASURED,
        primary=[metric.name for metric in MEASURED],
        distortion="psnr",
        perception="lpips",
        summary=means(rows),
        comparisons=[],
        rows=pd.DataFrame(rows, columns=None if rows else ["method", "key", "status"]),
        scenes=[scene(item) for item in gallery],
        notes=[],
        configuration={},
        versions={"dtls": "0.1.0"},
    )
    return replace(page, **changes)


def means(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    frame = pd.DataFrame(rows, columns=["method", "status", *(metric.name for metric in MEASURED)])
    return [
        {"method": method, "ok": int((part.status == "ok").sum()), "failed": int((part.status != "ok").sum())}
        | {metric.name: part[metric.name].astype(float).mean() for metric in MEASURED}
        for method, part in frame.groupby("method", sort=False)
    ]


def scene(item: GalleryItem) -> GalleryRow:
    shown = []
    for image in item.images:
        role: Any = {"LR": "lr", "HR": "hr"}.get(image.label, "sr")
        source = embedded(image.png)
        shown.append(Shown(image.label, role, source, image.size, maps={"SSIM map": source} if role == "sr" else {}))
    return GalleryRow(item.key, shown)


def embedded(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def data_of(document: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', document, re.DOTALL)
    assert found
    content: dict[str, Any] = json.loads(found[1])
    return content


def text_of(document: str) -> str:
    body = re.sub(r"<style>.*?</style>|<script.*?</script>|<[^>]+>", "", document, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(body))


def test_it_says_what_was_compared(rows: list[dict[str, Any]], gallery: list[GalleryItem]) -> None:
    notes = ["KID on 4 images is noise."]
    text = text_of(render(compared(rows, gallery, configuration={"hr": "a/faces", "batch": 16}, notes=notes)))
    for said in (
        "Three filters",
        "Protocol: antialias · ×4 · RGB · border 0.",
        "5 images",
        "3 methods",
        "6 May 2024",
    ):
        assert said in text
    for said in ("1 of 13 results failed", "a/faces", "16", "dtls 0.1.0", *notes):
        assert said in text


def test_it_has_every_key_number_reason_and_image(rows: list[dict[str, Any]], gallery: list[GalleryItem]) -> None:
    data = data_of(render(compared(rows, gallery)))
    columns = data["rows"]
    for place, row in enumerate(rows):
        assert data["keys"][columns["key"][place]] == row["key"]
        assert data["methods"][columns["method"][place]] == row["method"]
        assert columns["error"][place] == row.get("error")
        assert (columns["width"][place], columns["height"][place]) == (row.get("width"), row.get("height"))
        for metric in MEASURED:
            number = columns[f"metric:{metric.name}"][place]
            assert number == (pytest.approx(row[metric.name], rel=1e-6) if metric.name in row else None)
    shown = [image["source"] for item in data["scenes"] for image in item["images"]]
    assert shown == [embedded(image.png) for item in gallery for image in item.images]


def test_the_best_of_each_column_is_bold(rows: list[dict[str, Any]]) -> None:
    summary = pd.DataFrame(rows).groupby("method")[["psnr", "ssim", "lpips", "consistency"]].mean()
    best = [summary.psnr.max(), summary.ssim.max(), summary.lpips.min(), summary.consistency.min()]
    found = re.findall(r'<td class="number best">([^<]+)', render(compared(rows)))
    assert found == [metric.text(value) for metric, value in zip(MEASURED, best, strict=True)]


def test_intervals_stand_below_the_means_and_metrics_that_are_not_primary_are_folded_away() -> None:
    row = {
        "method": "copy",
        "ok": 3,
        "failed": 0,
        "psnr": 31.5,
        "psnr_low": 30.25,
        "psnr_high": 32.0,
        "psnr_infinite": 2,
    }
    page = compared(
        [], metrics=[MEASURED[0], EXTRA], primary=["psnr"], perception="extra", summary=[row | {"extra": 0.5}]
    )
    document = render(page)
    assert "<small>30.25 … 32.00</small>" in document
    assert "+2 ∞" in text_of(document)
    assert '<td class="number best secondary">0.500' in document
    assert "Show all 2 metrics" in text_of(document)


def pair(
    a: str, b: str, metric: str, difference: float, low: float, high: float, wins: int, n: int
) -> dict[str, Any]:
    numbers = {"difference": difference, "low": low, "high": high, "p": 0.004, "wins": wins, "losses": n - wins}
    return {"a": a, "b": b, "metric": metric, "ties": 0, "n": n, **numbers}


def test_the_verdict_says_what_wins_by_how_much_and_how_sure() -> None:
    summary = [
        {"method": "bicubic", "ok": 8, "failed": 0, "psnr": 28.0, "ssim": 0.7, "lpips": 0.30, "consistency": 1e-4},
        {"method": "dtls", "ok": 8, "failed": 0, "psnr": 28.86, "ssim": 0.8, "lpips": 0.25, "consistency": 1e-6},
    ]
    pairs = [
        pair("dtls", "bicubic", "psnr", 0.86, 0.7, 1.0, wins=8, n=8),
        pair("bicubic", "dtls", "lpips", 0.05, -0.01, 0.06, wins=3, n=8),
    ]
    assert verdict(compared([], summary=summary, comparisons=pairs)) == [
        "dtls is best in 4 of 4 metrics.",
        "PSNR +0.86 dB over bicubic (95 % 0.70 … 1.00, better in 8 of 8 images).",
        "LPIPS −0.0500 against bicubic (95 % −0.0600 … 0.0100, better in 5 of 8 images), which may be chance.",
    ]
    summary[0] |= {"consistency": 1e-7}
    first = verdict(compared([], summary=summary))[0]
    assert first == "dtls is best in 3 of 4 metrics, PSNR, SSIM and LPIPS; bicubic in Consistency."
    summary[0] |= {"ssim": 0.9}
    assert verdict(compared([], summary=summary)) == ["bicubic and dtls are each best in 2 of 4 metrics."]
    assert verdict(compared([], summary=summary, primary=["lpips"], comparisons=pairs))[0] == "dtls is best in LPIPS."
    assert verdict(compared([], summary=summary[1:], primary=["psnr"])) == [
        "One method was measured, dtls: PSNR 28.86 dB."
    ]
    assert verdict(compared([])) == []


def test_pairs_are_a_table_with_signs_and_p() -> None:
    pairs = [pair("dtls", "bicubic", "psnr", -0.86, -1.0, -0.7, wins=0, n=8) | {"p": 0.0001}]
    text = text_of(render(compared([], comparisons=pairs)))
    assert "dtlsbicubicPSNR−0.86 dB−1.00 … −0.70&lt; 0.0010808".replace("&lt;", "<") in text


def test_hostile_names_stay_text() -> None:
    row: dict[str, Any] = {"method": HOSTILE, "key": HOSTILE, "protocol": HOSTILE, "scale": 4.0, "psnr": 1.0}
    rows = [row | {"status": "ok"}, row | {"status": "failed", "error": HOSTILE}]
    item = GalleryRow(
        HOSTILE, [Shown(HOSTILE, "sr", "data:image/png;base64,", (1, 1), maps={HOSTILE: "data:image/png,"})]
    )
    metric = Metric(name="psnr", label=HOSTILE, unit=HOSTILE, decimals=2, description=HOSTILE)
    changes: dict[str, Any] = {
        "title": HOSTILE,
        "conditions": HOSTILE,
        "notes": [HOSTILE],
        "configuration": {HOSTILE: HOSTILE},
    }
    page = replace(compared(rows, versions={HOSTILE: HOSTILE}, **changes), scenes=[item], perception="psnr")
    summary = [{"method": HOSTILE, "ok": 1, "failed": 1, "psnr": 1.0}]
    document = render(replace(page, metrics=[metric], primary=["psnr"], summary=summary))
    assert "<script>alert" not in document
    assert "<img src=x" not in document
    assert document.count("<script") == document.count("</script>") == len(page_module.SCRIPTS) + 2
    assert data_of(document)["keys"] == data_of(document)["methods"] == [HOSTILE]


def test_infinite_and_missing_numbers_are_kept_apart() -> None:
    row = {"method": "copy", "key": "a", "status": "ok", "psnr": float("inf"), "lpips": float("nan")}
    columns = data_of(render(compared([row])))["rows"]
    assert columns["metric:psnr"] == ["Infinity"]
    assert columns["metric:lpips"] == columns["metric:ssim"] == [None]


def test_a_report_without_rows_is_a_page_with_its_notes() -> None:
    text = text_of(render(compared([], notes=["Nothing is measured yet."])))
    assert "No results. Nothing is measured yet." in text


def test_a_metric_that_a_method_lacks_is_a_dash_and_a_spread_stands_beside_its_number() -> None:
    kid = next(metric for metric in SET_METRICS if metric.name == "kid")
    summary = [
        {"method": "few", "ok": 3, "failed": 0, "psnr": 30.0},
        {"method": "many", "ok": 3, "failed": 0, "psnr": 29.0, "kid": 0.0123, "kid_spread": 0.0004},
    ]
    page = compared([], metrics=[MEASURED[0], kid], primary=["psnr"], perception="psnr", summary=summary)
    found = re.findall(r'<td class="number([^"]*)">([^<]+)', render(page))
    assert [text for _, text in found if "±" in text] == ["0.0123 ± 0.0004"]
    assert (" secondary", "–") in found


def test_only_the_scripts_and_the_style_of_the_page_may_run(rows: list[dict[str, Any]]) -> None:
    document = render(compared(rows))
    found = re.search(r'Content-Security-Policy" content="([^"]+)"', document)
    assert found
    policy = html.unescape(found[1])
    parts = {part.split()[0]: part.split()[1:] for part in policy.split(";")}
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", document, re.DOTALL)
        hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts]
        assert parts[directive] == hashes
    assert parts["default-src"] == ["'none'"]
    assert parts["img-src"] == ["data:"]
    assert " style=" not in document


def test_images_beside_the_page_are_allowed_and_those_of_the_network_refused(rows: list[dict[str, Any]]) -> None:
    def shown(source: str) -> Page:
        return replace(compared(rows), scenes=[GalleryRow("a", [Shown("HR", "hr", source, (8, 8))])])

    assert "img-src data: &#39;self&#39; file:;" in render(shown("images/a%20b.png"))
    for source in (
        "https://example.org/a.png",
        "//example.org/a.png",
        "javascript:alert(1)",
        "/etc/passwd",
        "data:text/html,",
    ):
        with pytest.raises(ValueError, match="data URI, or a file beside the page"):
            render(shown(source))


@pytest.mark.slow
def test_many_rows_take_little_more_memory_than_the_page_they_make(rows: list[dict[str, Any]]) -> None:
    table = pd.concat([pd.DataFrame(rows)] * 1500, ignore_index=True)
    table["key"] = [f"{place:06}" for place in range(len(table))]
    page = replace(compared(rows), rows=table)
    tracemalloc.start()
    try:
        document = render(page)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table) == 19_500
    assert peak < 16 * len(document)


def test_a_name_that_is_no_metric_is_refused(rows: list[dict[str, Any]]) -> None:
    wrong: list[dict[str, Any]] = [{"primary": ["psnr", "fid"]}, {"distortion": "fid"}, {"perception": "fid"}]
    for changes in wrong:
        with pytest.raises(ValueError, match="no metric of the page: fid; there are"):
            render(compared(rows, **changes))


def test_others_scripts_are_as_published_and_have_their_licence() -> None:
    vendor = Path(page_module.TEMPLATES) / "vendor"
    listed = (vendor / "README.md").read_text()
    scripts = list(vendor.glob("*.js"))
    assert scripts
    for script in scripts:
        assert f"| {script.name} |" in listed
        assert hashlib.sha256(script.read_bytes()).hexdigest() in listed
        assert "MIT License" in (vendor / f"{script.name.partition('.js')[0]}.js-LICENSE.md").read_text()
