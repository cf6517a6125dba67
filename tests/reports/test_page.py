"""The page holds every number and picture, escapes what it shows, and works in a browser from a file."""

import base64
import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import pytest

from reports.gallery import GalleryItem, Picture
from reports.page import render_page
from reports.tables import METRICS, read_metrics, summarise, write_metrics

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DATE = datetime(2024, 5, 6, tzinfo=UTC)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
NUMBERLESS: dict[str, Any] = dict.fromkeys(["protocol", "scale", *(m.name for m in METRICS)])


def page(rows: list[dict[str, Any]], gallery: list[GalleryItem], **configuration: Any) -> str:
    summary = summarise(pd.DataFrame([NUMBERLESS | row for row in rows]))
    return render_page("Three filters", summary, rows, gallery, configuration, date=DATE)


def text_of(document: str) -> str:
    body = re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]+>", "", document, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(body))


def test_it_says_what_was_compared(rows: list[dict[str, Any]], gallery: list[GalleryItem]) -> None:
    text = text_of(page(rows, gallery, hr="a/faces", batch=16))
    for said in ("Three filters", "Protocol: antialias · ×4", "5 pictures", "3 methods", "6 May 2024"):
        assert said in text
    for said in ("1 of 13 results failed", "failed: truncated after 512 bytes", "a/faces", "16"):
        assert said in text


def test_it_has_every_key_number_and_picture(rows: list[dict[str, Any]], gallery: list[GalleryItem]) -> None:
    document = page(rows, gallery)
    text = text_of(document)
    for row in rows:
        assert row["key"] in text
        assert all(metric.text(row.get(metric.name)) in text for metric in METRICS)
    embedded = {base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', document)}
    assert embedded == {picture.png for item in gallery for picture in item.pictures}


def test_the_best_of_each_column_is_bold(rows: list[dict[str, Any]], gallery: list[GalleryItem]) -> None:
    document = page(rows, gallery)
    summary = pd.DataFrame(rows).groupby("method")[["psnr", "ssim", "lpips", "consistency"]].mean()
    best = [summary.psnr.max(), summary.ssim.max(), summary.lpips.min(), summary.consistency.min()]
    found = re.findall(r'<td class="number best">([^<]+)', document)
    assert sorted(found) == sorted(metric.text(value) for metric, value in zip(METRICS, best, strict=True))


def test_the_table_of_a_parquet_file_is_shown_as_it_was(
    rows: list[dict[str, Any]], gallery: list[GalleryItem], tmp_path: Path
) -> None:
    write_metrics(rows, tmp_path / "metrics.parquet")
    frame = read_metrics(tmp_path / "metrics.parquet")
    read: list[dict[str, Any]] = [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]
    assert page(read, gallery) == page(rows, gallery)


def test_hostile_names_stay_text(gallery: list[GalleryItem]) -> None:
    name = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    row = {"method": name, "key": name, "protocol": name, "scale": 4.0, "psnr": 1.0}
    rows = [row | {"status": "ok"}, row | {"status": "failed", "error": name}]
    item = GalleryItem(name, [Picture(name, p.png, rows[0]) for p in gallery[0].pictures])
    summary = summarise(pd.DataFrame([NUMBERLESS | row for row in rows]))
    document = render_page(name, summary, rows, [item], {name: name})
    assert "<script>alert" not in document
    assert "<img src=x" not in document
    assert document.count("<script>") == 1
    assert document.count(html.escape(name).replace("&quot;", "&#34;")) >= 8


def test_infinite_and_missing_numbers_are_shown_as_such() -> None:
    common = {"method": "copy", "key": "a", "protocol": None, "scale": 4.0, "status": "ok"}
    document = page([common | {"psnr": float("inf"), "lpips": float("nan")}], [])
    assert '<td class="number" data-value="Infinity">∞</td>' in document
    assert '<td class="number" data-value="">–</td>' in document


def test_a_report_without_rows_is_a_page() -> None:
    assert "Nothing was compared." in text_of(render_page("Empty", [], [], [], {}))


@pytest.fixture
def opened(
    browser: "Browser", rows: list[dict[str, Any]], gallery: list[GalleryItem], tmp_path: Path
) -> "Iterator[Page]":
    """The page opened from disk; whatever the browser complains of or asks the network for fails the test."""
    path = tmp_path / "a report.html"
    path.write_text(page(rows, gallery), encoding="utf-8")
    opened = browser.new_page(viewport={"width": 1400, "height": 1000})
    heard: list[str] = []
    opened.on("console", lambda message: heard.append(message.text))
    opened.on("pageerror", lambda error: heard.append(str(error)))
    opened.on("request", lambda request: heard.append(request.url))
    opened.goto(path.as_uri())
    yield opened
    opened.close()
    assert [line for line in heard if not line.startswith("data:")] == [path.as_uri()]


@pytest.mark.browser
def test_columns_sort_by_click_and_by_key(opened: "Page", rows: list[dict[str, Any]]) -> None:
    column = opened.locator(".sortable thead th", has_text="PSNR")
    first = opened.locator(".sortable tbody tr th")
    values = sorted((row["psnr"], row["key"]) for row in rows if row["status"] == "ok")
    column.get_by_role("button").click()
    assert column.get_attribute("aria-sort") == "descending"
    assert first.all_inner_texts() == [*(key for _, key in reversed(values)), "broken.png"]
    column.get_by_role("button").press("Enter")
    assert column.get_attribute("aria-sort") == "ascending"
    assert first.all_inner_texts() == [*(key for _, key in values), "broken.png"]
    opened.locator(".sortable thead th", has_text="Consistency").get_by_role("button").click()
    small = sorted((row["consistency"], row["key"]) for row in rows if row["status"] == "ok")
    assert first.all_inner_texts() == [*(key for _, key in small), "broken.png"]  # 4.6e-05 before 1.1e-04
    opened.locator(".sortable thead th", has_text="Picture").get_by_role("button").click()
    assert column.get_attribute("aria-sort") is None
    assert first.all_inner_texts() == sorted(row["key"] for row in rows)


@pytest.mark.browser
def test_pictures_enlarge_and_change_in_place(opened: "Page", gallery: list[GalleryItem]) -> None:
    dialog = opened.locator("dialog")
    opened.get_by_role("button", name="Enlarge bicubic of coffee.png").click()
    assert dialog.is_visible()
    picture = dialog.locator("img").bounding_box()
    assert picture is not None
    assert picture["width"] == picture["height"] == 7 * 128  # the largest whole multiple that fits
    assert dialog.locator("img").evaluate("i => getComputedStyle(i).imageRendering") == "pixelated"
    opened.keyboard.press("ArrowRight")
    assert dialog.locator("p").inner_text() == "HR coffee.png"
    opened.keyboard.press("ArrowRight")
    assert dialog.locator("p").inner_text() == "LR coffee.png"
    assert dialog.locator("img").bounding_box() == picture
    source = dialog.locator("img").get_attribute("src") or ""
    assert base64.b64decode(source.partition(",")[2]) == gallery[1].pictures[0].png
    opened.keyboard.press("Escape")
    assert dialog.is_hidden()


@pytest.mark.browser
def test_the_row_stands_side_by_side_and_lr_as_large_as_hr(opened: "Page") -> None:
    boxes = [image.bounding_box() for image in opened.locator(".row").first.locator("img").all()]
    assert len({(box["y"], box["width"], box["height"]) for box in boxes if box}) == 1
    opened.set_viewport_size({"width": 390, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.browser
def test_dark_mode_follows_the_system(opened: "Page") -> None:
    backgrounds = {}
    for scheme in SCHEMES:
        opened.emulate_media(color_scheme=scheme)
        colour = opened.evaluate("getComputedStyle(document.body).backgroundColor")
        backgrounds[scheme] = max(int(part) for part in re.findall(r"\d+", colour))
    assert backgrounds["light"] > 240
    assert backgrounds["dark"] < 40
