"""The page in Debian's chromium, from disk and over HTTP: what people do with it."""

import io
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pytest
from PIL import Image

from reports.figures.gallery import GalleryItem
from reports.metrics.registry import SET_METRICS
from reports.page.render import GalleryRow, Page, Shown, render
from tests.reports.browsing import PATIENCE, until
from tests.reports.page.test_render import HOSTILE, compared, embedded

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator
    from playwright.sync_api import Page as Tab

pytestmark = pytest.mark.browser
METHODS = ("nearest", "bilinear", "bicubic")
CROPS = "Array.from(document.querySelectorAll('.panes img'), (image) => image.style.transform)"


@pytest.fixture
def tab(browser: "Browser") -> "Iterator[Tab]":
    """An empty tab; whatever the browser complains of, the policy's violations among it, fails the test."""
    tab = browser.new_page(viewport={"width": 1400, "height": 1000})
    tab.set_default_timeout(PATIENCE)
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    yield tab
    tab.close()
    assert complaints == []


def open_page(tab: "Tab", page: Page, folder: Path, link: str = "") -> str:
    path = folder / "a report.html"
    path.write_text(render(page), encoding="utf-8")
    tab.goto(path.as_uri() + link)
    return path.as_uri()


@pytest.fixture
def opened(tab: "Tab", rows: list[dict[str, Any]], gallery: list[GalleryItem], tmp_path: Path) -> "Tab":
    """The page of four photographs and three filters, from disk, which asks for nothing but itself."""
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url.partition("#")[0]))
    address = open_page(tab, compared(rows, gallery), tmp_path)
    assert {url for url in asked if not url.startswith("data:")} == {address}
    return tab


class _Counting(SimpleHTTPRequestHandler):
    seen: ClassVar[Counter[str]]

    def do_GET(self) -> None:
        self.seen[self.path] += 1
        super().do_GET()

    def log_message(self, *given: Any) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> "Iterator[tuple[str, Counter[str]]]":
    """A server of a folder's files: its address, and how often each path was asked for."""
    seen: Counter[str] = Counter()
    _Counting.seen = seen
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Counting, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def close_viewer(tab: "Tab") -> None:
    """Leave the viewer by Escape; the browser sends `close`, which the page listens to, a moment later."""
    tab.keyboard.press("Escape")
    assert not tab.locator("#viewer").is_visible()
    until(tab, "state.key === ''")


def keys_shown(tab: "Tab") -> list[str]:
    return [text.split()[0] for text in tab.locator("#rows h3").all_inner_texts()]


def by(rows: list[dict[str, Any]], method: str, metric: str) -> dict[str, float]:
    return {row["key"]: row[metric] for row in rows if row["method"] == method and row["status"] == "ok"}


def box_of(element: "Locator") -> dict[str, float]:
    box = element.bounding_box()
    assert box is not None
    return {side: box[side] for side in ("x", "y", "width", "height")}


def test_the_table_sorts_by_click_and_by_key(opened: "Tab", rows: list[dict[str, Any]]) -> None:
    column = opened.locator(".results thead th", has_text="PSNR")
    first = opened.locator(".results tbody tr th")
    values = sorted((row["psnr"], row["key"]) for row in rows if row["status"] == "ok")
    column.get_by_role("button").click()
    assert column.get_attribute("aria-sort") == "descending"
    assert first.all_inner_texts() == [*(key for _, key in reversed(values)), "broken.png"]
    column.get_by_role("button").press("Enter")
    assert column.get_attribute("aria-sort") == "ascending"
    assert first.all_inner_texts() == [*(key for _, key in values), "broken.png"]
    opened.locator(".results thead th", has_text="Consistency").get_by_role("button").click()
    small = sorted((row["consistency"], row["key"]) for row in rows if row["status"] == "ok")
    assert first.all_inner_texts() == [*(key for _, key in small), "broken.png"]  # 4.6e-05 before 1.1e-04
    opened.locator(".results thead th", has_text="Image").get_by_role("button").click()
    assert column.get_attribute("aria-sort") is None
    assert first.all_inner_texts() == sorted(row["key"] for row in rows)


def test_the_table_is_searched_and_filtered_and_says_why_something_failed(opened: "Tab") -> None:
    lines = opened.locator(".results tbody tr")
    opened.fill("#table-find", "COFF")
    assert lines.locator("th").all_inner_texts() == ["coffee.png"] * 3
    opened.select_option("#table-method", "bicubic")
    assert lines.count() == 1
    opened.fill("#table-find", "truncated")
    opened.select_option("#table-status", "failed")
    assert "failed: truncated after 512 bytes" in lines.inner_text()
    opened.fill("#table-find", "no such")
    assert opened.locator("#table-note").inner_text() == "nothing found"


def test_the_gallery_is_chosen_sorted_cut_and_searched(opened: "Tab", rows: list[dict[str, Any]]) -> None:
    assert opened.locator("#rows .row").first.locator("figure").count() == 5
    opened.locator("#labels").get_by_label("bilinear").uncheck()
    assert opened.locator("#rows .row").first.locator("figcaption strong").all_inner_texts() == [
        *("LR", "nearest", "bicubic", "HR"),
    ]
    lpips = by(rows, "bicubic", "lpips")
    opened.select_option("#sort-metric", "lpips")
    opened.select_option("#sort-method", "bicubic")
    assert keys_shown(opened) == sorted(lpips, key=lambda key: -lpips[key])
    opened.select_option("#sort-first", "best")
    assert keys_shown(opened) == sorted(lpips, key=lambda key: lpips[key])
    gain = {key: lpips[key] - other for key, other in by(rows, "nearest", "lpips").items()}
    opened.select_option("#sort-over", "nearest")
    assert keys_shown(opened) == sorted(gain, key=lambda key: gain[key])
    opened.evaluate("change({ most: 2 })")
    assert keys_shown(opened) == sorted(gain, key=lambda key: gain[key])[:2]
    opened.fill("#find", "ROCK")
    assert keys_shown(opened) == ["rocket.png"]


def test_the_slider_divides_two_images_by_key_and_by_pointer(opened: "Tab") -> None:
    opened.get_by_role("button", name="Compare bicubic of coffee.png").click()
    opened.get_by_role("button", name="Slider").click()
    clip = "getComputedStyle(document.querySelector('.left')).clipPath"
    opened.locator("#slide").press("Home")
    assert opened.evaluate(clip) == "inset(0px 100% 0px 0px)"
    opened.locator("#slide").press("End")
    assert opened.evaluate(clip) in ("inset(0px)", "inset(0px 0% 0px 0px)")
    window, line = box_of(opened.locator(".window")), box_of(opened.locator(".divider"))
    opened.mouse.move(line["x"] + line["width"] / 4, line["y"] + 100)
    opened.mouse.down()
    opened.mouse.move(window["x"] + window["width"] / 4, window["y"] + 100, steps=3)
    opened.mouse.up()
    assert opened.evaluate(clip) == "inset(0px 75% 0px 0px)"
    assert opened.locator("#slide").input_value() == "25"


def test_images_flicker_while_a_key_is_held_and_by_themselves(opened: "Tab") -> None:
    opened.get_by_role("button", name="Compare bicubic of coffee.png").click()
    left = opened.locator(".left")
    opened.keyboard.down("f")
    assert opened.get_by_role("button", name="Flicker").get_attribute("aria-pressed") == "true"
    assert left.is_visible()
    assert opened.locator("figcaption strong:visible").all_inner_texts()[-1] == "nearest"
    opened.keyboard.up("f")
    assert not left.is_visible()
    opened.get_by_label("Auto-play").check()
    for shown in ("visible", "hidden", "visible"):
        until(opened, f"getComputedStyle(document.querySelector('.left')).visibility === '{shown}'")
    close_viewer(opened)
    assert opened.evaluate("viewer.timer") == 0


def test_zooming_and_moving_keep_one_crop_for_all(opened: "Tab") -> None:
    opened.get_by_role("button", name="Compare bicubic of coffee.png").click()
    windows = opened.locator(".window")
    assert windows.count() == 5
    first = box_of(windows.first)
    middle = (first["x"] + first["width"] / 2, first["y"] + first["height"] / 2)
    fit = opened.evaluate(CROPS)
    for _ in range(4):
        opened.keyboard.press("+")
    under = """([right, down]) => { const { zoom, x, y } = crop();
        return [x * stage.size[0] + right / zoom, y * stage.size[1] + down / zoom]; }"""
    before, zoom = opened.evaluate(under, [50, 40]), opened.evaluate("zoomNow()")
    opened.mouse.move(middle[0] + 50, middle[1] + 40)
    opened.mouse.wheel(0, -120)
    until(opened, f"zoomNow() > {zoom}")
    zoom = opened.evaluate("zoomNow()")
    assert opened.evaluate(under, [50, 40]) == pytest.approx(before, abs=1 / zoom)  # a pixel of the screen
    zoomed = opened.evaluate(CROPS)
    assert len(set(zoomed)) == 1
    assert zoomed != fit
    opened.mouse.down()
    opened.mouse.move(middle[0], middle[1], steps=3)
    opened.mouse.up()
    assert opened.evaluate(under, [0, 0]) == pytest.approx(before, abs=1 / zoom)
    assert len(set(opened.evaluate(CROPS))) == 1
    assert {"pixelated"} == set(opened.locator(".panes img").evaluate_all("all => all.map((i) => i.className)"))
    opened.keyboard.press("0")
    assert opened.evaluate(CROPS) == fit


def test_the_loupe_shows_where_the_pointer_is(opened: "Tab") -> None:
    opened.get_by_role("button", name="Compare bicubic of coffee.png").click()
    opened.get_by_role("button", name="Loupe").click()
    whole = box_of(opened.locator(".whole .window"))
    opened.mouse.move(whole["x"] + whole["width"] / 2 + 60, whole["y"] + whole["height"] / 2 - 60)
    frame = box_of(opened.locator(".frame"))
    assert frame["x"] + frame["width"] / 2 == pytest.approx(whole["x"] + whole["width"] / 2 + 60, abs=1)
    assert frame["y"] + frame["height"] / 2 == pytest.approx(whole["y"] + whole["height"] / 2 - 60, abs=1)
    assert len(set(opened.evaluate(CROPS))) == 1
    window = box_of(opened.locator(".panes .window").first)
    assert frame["width"] / frame["height"] == pytest.approx(window["width"] / window["height"], rel=0.05)


def test_the_error_map_is_the_difference_amplified(tab: "Tab", tmp_path: Path) -> None:
    rows = [{"method": name, "key": "a", "status": "ok", "psnr": 30.0} for name in ("same", "off")]
    colours = {"same": (100, 100, 100), "off": (110, 95, 100), "HR": (100, 100, 100)}
    roles: dict[str, Literal["sr", "hr"]] = {"same": "sr", "off": "sr", "HR": "hr"}
    shown = [Shown(name, roles[name], embedded(plain(colour)), (64, 64)) for name, colour in colours.items()]
    open_page(tab, replace(compared(rows), scenes=[GalleryRow("a", shown)]), tmp_path, "#key=a&mode=error&gain=8")
    until(tab, "Array.from(document.querySelectorAll('.panes img')).every((image) => image.complete)")
    windows = tab.locator(".panes .window")
    found = []
    for place in range(windows.count()):
        image = np.array(Image.open(io.BytesIO(windows.nth(place).screenshot())).convert("RGB"))
        found.append(image[image.shape[0] // 2, image.shape[1] // 2].tolist())
    assert found[0] == [0, 0, 0]
    assert found[1] == pytest.approx([80, 40, 0], abs=8)


def test_a_link_reproduces_the_view(opened: "Tab", browser: "Browser") -> None:
    opened.locator("#labels").get_by_label("bilinear").uncheck()
    opened.select_option("#sort-metric", "ssim")
    opened.select_option("#sort-method", "bicubic")
    opened.fill("#find", "e")
    opened.get_by_role("button", name="Compare bicubic of chelsea.png").click()
    opened.get_by_role("button", name="Loupe").click()
    opened.keyboard.press("+")
    opened.keyboard.press("Shift+ArrowRight")
    opened.evaluate("writeAddress()")
    other = browser.new_page(viewport={"width": 1400, "height": 1000})
    other.goto(opened.evaluate("location.href"), timeout=PATIENCE)
    here, there = opened.evaluate("({ ...state })"), other.evaluate("({ ...state })")
    assert (there.pop("x"), there.pop("y")) == pytest.approx((here.pop("x"), here.pop("y")), abs=1e-6)
    assert there == here
    for seen in (
        CROPS,
        "Array.from(document.querySelectorAll('#rows h3'), (title) => title.textContent)",
        "document.querySelector('#viewer-key').textContent",
        "document.querySelector('[aria-pressed=true]').textContent",
    ):
        assert other.evaluate(seen) == opened.evaluate(seen)
    assert other.locator("#viewer").is_visible()
    other.close()


def test_a_broken_link_is_the_page_as_it_is(tab: "Tab", rows: list[dict[str, Any]], tmp_path: Path) -> None:
    link = "#key=none&mode=what&zoom=NaN&tpage=-3&sort=fid&spread=%FF&__proto__=1&left=x"
    open_page(tab, compared(rows), tmp_path, link)
    assert not tab.locator("#viewer").is_visible()
    assert tab.locator(".results tbody tr").count() == len(rows)


def test_keys_search_open_step_help_and_close(opened: "Tab") -> None:
    opened.keyboard.press("/")
    opened.keyboard.type("co")
    opened.keyboard.press("Enter")
    name = opened.locator("#viewer-key")
    assert name.inner_text() == "coffee.png"
    close_viewer(opened)
    opened.fill("#find", "")
    opened.get_by_role("button", name="Compare bicubic of coffee.png").press("Enter")
    opened.keyboard.press("ArrowRight")
    assert name.inner_text() == "chelsea.png"
    opened.keyboard.press("ArrowLeft")
    assert name.inner_text() == "coffee.png"
    opened.keyboard.press("3")
    assert opened.locator("#viewer").get_attribute("data-mode") == "slide"
    assert opened.locator("#right").input_value() == "bicubic"
    opened.keyboard.press("ArrowDown")
    assert opened.locator("#right").input_value() == "HR"
    opened.keyboard.press("?")
    assert opened.locator("#help").is_visible()
    opened.keyboard.press("Escape")
    assert not opened.locator("#help").is_visible()
    assert opened.locator("#viewer").is_visible()


def test_dark_follows_the_system_and_a_switch_that_is_remembered(opened: "Tab") -> None:
    background = "Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
    assert opened.evaluate(background) > 240
    opened.emulate_media(color_scheme="dark")
    assert opened.evaluate(background) < 40
    opened.click("#theme")
    assert opened.evaluate(background) > 240
    opened.reload()
    assert opened.evaluate(background) > 240
    opened.keyboard.press("t")
    assert opened.evaluate(background) < 40


def test_it_prints_dark_on_white_without_controls(opened: "Tab", tmp_path: Path) -> None:
    opened.emulate_media(color_scheme="dark", media="print")
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for hidden in (".controls", "#theme", "#first-page"):
        assert not opened.locator(hidden).first.is_visible()
    assert opened.locator(".summary").is_visible()
    document = opened.pdf()
    assert document.startswith(b"%PDF")
    assert document.count(b"/Type /Page\n") + document.count(b"/Type /Page ") >= 2
    assert opened.evaluate("charts.plots.length") == 2


def test_hostile_names_are_shown_and_do_nothing(tab: "Tab", tmp_path: Path) -> None:
    tab.on("dialog", lambda dialog: pytest.fail(dialog.message))
    row: dict[str, Any] = {"method": HOSTILE, "key": HOSTILE, "psnr": 30.0, "lpips": 0.1}
    rows = [row | {"status": "ok"}, row | {"method": "b", "status": "failed", "error": HOSTILE}]
    shown = [Shown(HOSTILE, "sr", embedded(plain((9, 9, 9))), (64, 64), maps={HOSTILE: embedded(plain((8, 8, 8)))})]
    page = replace(compared(rows, title=HOSTILE), scenes=[GalleryRow(HOSTILE, shown)])
    open_page(tab, page, tmp_path)
    tab.locator("#rows .open").click()
    for mode in tab.locator("#modes button:enabled").all():
        mode.click()
    assert tab.locator("#viewer-key").text_content() == HOSTILE
    close_viewer(tab)
    tab.locator("#charts-section").scroll_into_view_if_needed()
    until(tab, "charts.plots.length === 2")
    assert tab.locator("#rows .lacking").text_content() == HOSTILE
    assert tab.locator("img[src=x]").count() == 0
    assert tab.locator(".results tbody .failed").text_content() == f"failed: {HOSTILE}"


def many(count: int, images: Callable[[int], list[Shown]], scenes: int) -> Page:
    rows: list[dict[str, Any]] = []
    random = np.random.default_rng(0)
    for place in range(count):
        for quality, method in enumerate(METHODS):
            psnr = round(25 + quality + random.normal(), 3)
            numbers = {"psnr": psnr, "ssim": 0.7, "lpips": abs(random.normal()), "consistency": 1e-5}
            rows.append({"method": method, "key": f"{place:05}", "status": "ok", "width": 64, "height": 64} | numbers)
    return replace(compared(rows), scenes=[GalleryRow(f"{place:05}", images(place)) for place in range(scenes)])


def test_ten_thousand_keys_make_fifty_lines_at_a_time(
    tab: "Tab", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = embedded(plain((50, 60, 70)))
    page = many(10_000, lambda _: [Shown("bicubic", "sr", image, (64, 64))], scenes=200)
    times = {}

    def timed(name: str, do: Callable[[], Any]) -> None:
        start = time.perf_counter()
        do()
        times[name] = time.perf_counter() - start

    timed("made and opened", lambda: open_page(tab, page, tmp_path))
    lines = tab.locator(".results tbody tr")
    assert tab.locator("#table-note").inner_text() == "1–50 of 30,000"
    assert lines.count() == 50
    timed("sorted", lambda: tab.locator(".results thead button", has_text="PSNR").click())
    highest = page.rows["psnr"].max()
    assert f"{highest:.2f}" in lines.first.inner_text()
    timed("searched", lambda: tab.fill("#table-find", "0999"))
    assert tab.locator("#table-note").inner_text() == "1–33 of 33"
    tab.fill("#table-find", "")
    timed("last page", lambda: tab.click("#last-page"))
    assert tab.locator("#table-note").inner_text() == "29,951–30,000 of 30,000"
    tab.locator("#charts-section").scroll_into_view_if_needed()
    until(tab, "charts.plots.length === 2")
    assert tab.evaluate("document.querySelectorAll('*').length") < 3000
    with capsys.disabled():
        print("\n10,000 keys × 3: " + ", ".join(f"{name} {value:.2f} s" for name, value in times.items()))  # noqa: T201


def test_images_far_below_are_not_asked_for_over_http(tab: "Tab", tmp_path: Path) -> None:
    (tmp_path / "images of it").mkdir()

    def beside(place: int) -> list[Shown]:
        (tmp_path / "images of it" / f"{place}.png").write_bytes(plain((place, 60, 70), (256, 256)))
        return [Shown("bicubic", "sr", f"images%20of%20it/{place}.png", (256, 256))]

    page = many(60, beside, scenes=60)
    (tmp_path / "index.html").write_text(render(page), encoding="utf-8")
    with served(tmp_path) as (address, seen):
        tab.goto(f"{address}/index.html")
        tab.locator("#rows img").first.scroll_into_view_if_needed()
        until(tab, "document.querySelector('#rows img').naturalWidth === 256")
        assert seen["/images%20of%20it/0.png"] == 1
        assert not seen["/images%20of%20it/23.png"]
        assert tab.locator("#rows img").count() == 24
        tab.click("#more-rows")
        assert tab.locator("#rows img").count() == 48
        tab.locator("#rows img").nth(47).scroll_into_view_if_needed()
        until(tab, "document.querySelectorAll('#rows img')[47].naturalWidth === 256")
        assert not seen["/images%20of%20it/59.png"]


def test_images_beside_the_page_are_shown_from_disk(tab: "Tab", tmp_path: Path) -> None:
    (tmp_path / "a%#ü.png").write_bytes(plain((1, 2, 3)))
    page = many(1, lambda _: [Shown("bicubic", "sr", "a%25%23%C3%BC.png", (64, 64))], scenes=1)
    open_page(tab, page, tmp_path)
    tab.locator("#rows img").scroll_into_view_if_needed()
    until(tab, "document.querySelector('#rows img').naturalWidth === 64")


def test_what_failed_shows_its_reason_and_never_a_stretched_image(tab: "Tab", tmp_path: Path) -> None:
    common: dict[str, Any] = {"key": "a", "status": "ok", "psnr": 30.0}
    failed = {"status": "failed", "psnr": None, "error": "SR is 60×64, HR is 64×64"}
    rows = [common | {"method": "good"}, common | {"method": "bad"} | failed, common | {"method": "odd"}]
    rows.append(common | {"method": "gone"} | failed | {"error": "not in sr/gone"})
    narrow, square = embedded(plain((9, 9, 9), (60, 64))), embedded(plain((8, 8, 8)))
    shown = [
        Shown("good", "sr", square, (64, 64)),
        Shown("bad", "sr", narrow, (60, 64)),
        Shown("odd", "sr", narrow, (60, 64)),
        Shown("HR", "hr", square, (64, 64)),
    ]
    open_page(tab, replace(compared(rows), scenes=[GalleryRow("a", shown)]), tmp_path)
    assert tab.locator("#rows .lacking").all_inner_texts() == [
        "SR is 60×64, HR is 64×64",
        "60×64, not 64×64",
        "not in sr/gone",
    ]
    assert tab.locator("#rows img").count() == 2
    tab.locator("#rows .open").first.click()
    for mode in tab.locator("#modes button:enabled").all():
        mode.click()
        assert tab.evaluate("stage.element.innerHTML").find(narrow) == -1
    assert tab.locator("#left option").all_inner_texts() == ["good", "HR"]


def test_an_lr_image_of_other_proportions_is_not_stretched(tab: "Tab", tmp_path: Path) -> None:
    square, low, narrow = (embedded(plain((8, 8, 8), size)) for size in ((64, 64), (16, 16), (13, 16)))
    scenes = [
        GalleryRow(key, [Shown("LR", "lr", source, size), Shown("HR", "hr", square, (64, 64))])
        for key, source, size in (("a", low, (16, 16)), ("b", narrow, (13, 16)))
    ]
    rows = [{"method": "x", "key": key, "status": "failed", "psnr": None, "error": "not there"} for key in "ab"]
    open_page(tab, replace(compared(rows), scenes=scenes), tmp_path)
    assert tab.locator("#rows .lacking").all_inner_texts() == ["not there", "13×16, not like 64×64", "not there"]


def test_the_map_of_ssim_has_a_legend(tab: "Tab", tmp_path: Path) -> None:
    one = embedded(plain((9, 9, 9)))
    shown = [Shown("x", "sr", one, (64, 64), None, {"SSIM": one}), Shown("HR", "hr", one, (64, 64))]
    rows = [{"method": "x", "key": "a", "status": "ok", "psnr": 30.0}]
    open_page(tab, replace(compared(rows), scenes=[GalleryRow("a", shown)]), tmp_path, "#key=a&mode=map:SSIM")
    legend = tab.get_by_text("SSIM 1", exact=False).locator("..")
    assert legend.is_visible()
    tab.get_by_role("button", name="Error", exact=True).click()
    assert not legend.is_visible()


def test_numbers_of_all_images_are_in_the_summary_and_not_in_the_table_of_results(
    tab: "Tab", rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    page = compared(rows)
    with_fid = replace(
        page,
        metrics=[*page.metrics, SET_METRICS[0]],
        summary=[{**row, "fid": 12.25} for row in page.summary],
    )
    open_page(tab, with_fid, tmp_path)
    tab.get_by_text("Show all").click()
    assert tab.locator(".summary").get_by_text("12.25").count() == len(page.summary)
    assert not any("FID" in text for text in tab.locator(".results thead th").all_inner_texts())


def test_without_ground_truth_there_is_no_error_map(tab: "Tab", tmp_path: Path) -> None:
    rows = [{"method": name, "key": "a", "status": "ok", "consistency": 1e-5} for name in ("x", "y")]
    shown = [Shown(name, "sr", embedded(plain((9, 9, 9))), (64, 64)) for name in ("x", "y")]
    open_page(tab, replace(compared(rows), scenes=[GalleryRow("a", shown)]), tmp_path, "#key=a&mode=error")
    assert tab.get_by_role("button", name="Error", exact=True).is_disabled()
    assert tab.locator(".panes .window").count() == 2
    assert tab.get_by_role("button", name="All", exact=True).get_attribute("aria-pressed") == "true"


def test_a_click_on_a_point_opens_its_image(opened: "Tab", rows: list[dict[str, Any]]) -> None:
    opened.locator("#plane-chart").scroll_into_view_if_needed()
    until(opened, "charts.plots.length === 2")
    wanted = max((row for row in rows if row["status"] == "ok"), key=lambda row: row["psnr"])
    where = """([key, method]) => { const chart = Chart.getChart('plane-chart');
        const row = rowOf(key, method);
        for (const [set, { data }] of chart.data.datasets.entries()) {
            const place = data.findIndex((point) => point.row === row);
            if (place >= 0) { const { x, y } = chart.getDatasetMeta(set).data[place]; return [x, y]; }
        } }"""
    frame = "new Promise((drawn) => requestAnimationFrame(drawn))"
    for _ in range(3):  # a chart takes its container's size in the frames after it is made
        opened.evaluate(frame)
    x, y = opened.evaluate(where, [wanted["key"], wanted["method"]])
    opened.locator("#plane-chart").click(position={"x": x, "y": y})
    until(opened, "find('#viewer-key').textContent !== ''")
    assert opened.locator("#viewer-key").inner_text() == wanted["key"]


def test_nothing_is_wider_than_a_phone(opened: "Tab") -> None:
    opened.set_viewport_size({"width": 400, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") == 400
    opened.get_by_role("button", name="Compare bicubic of coffee.png").click()
    for mode in opened.locator("#modes button").all():
        mode.click()
        assert opened.evaluate("document.querySelector('#viewer').scrollWidth") == 400


def test_without_javascript_there_is_the_summary_and_a_line(
    browser: "Browser", rows: list[dict[str, Any]], gallery: list[GalleryItem], tmp_path: Path
) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.set_default_timeout(PATIENCE)
    open_page(tab, compared(rows, gallery), tmp_path)
    assert tab.locator(".summary tbody tr").count() == 3
    assert tab.get_by_text("need JavaScript").is_visible()
    assert not tab.get_by_role("heading", name="Image comparison").is_visible()
    context.close()
