"""People rate in a real browser, by mouse and by keys; the page keeps what they did and gives no method away."""

import base64
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reports.rating.page import rating_page
from reports.rating.study import Study, StudyItem
from tests.reports.browsing import PATIENCE, until
from tests.reports.rating.test_study import METHODS, answers_in, items, readable

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.browser
__all__ = ["items"]
KEYS = {"grades": ["1", "2", "3", "4"], "pairs": ["ArrowLeft", "ArrowDown", "ArrowRight"]}
ANSWERS = {"1": 1, "2": 2, "3": 3, "4": 4, "ArrowLeft": "left", "ArrowDown": "none", "ArrowRight": "right"}
READY = "body[data-ready='{}']"


@pytest.fixture
def visitor(browser: "Browser") -> "Iterator[BrowserContext]":
    """One person's browser; whatever a page of theirs complains of or asks the network for fails the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    heard: list[str] = []
    context.on("console", lambda message: heard.append(message.text))
    context.on("weberror", lambda error: heard.append(str(error.error)))
    context.on("request", lambda request: heard.append(request.url))
    yield context
    context.close()
    assert [line for line in heard if not line.startswith(("file:", "data:", "blob:"))] == []


def study_of(items: list[StudyItem], mode: Any, **options: Any) -> Study:
    return Study("What do you see?", mode, items[:3], **options)


def opened(visitor: "BrowserContext", study: Study, folder: Path) -> "Page":
    path = folder / "rating.html"
    path.write_text(rating_page(study), encoding="utf-8")
    page = visitor.new_page()
    page.goto(path.as_uri())
    return page


def press(page: "Page", number: int, key: str) -> None:
    """Answer question `number` by its key."""
    page.wait_for_selector(READY.format(number))
    page.keyboard.press(key)


def click(page: "Page", number: int, key: str) -> None:
    """Answer question `number` by its button."""
    page.wait_for_selector(READY.format(number))
    page.click(f"[data-answer='{ANSWERS[key]}']")


def taken(page: "Page", folder: Path) -> Path:
    """Save at the end, and the file that came."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Save my answers").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


@pytest.mark.parametrize(
    ("mode", "answer"),
    [
        ("grades", press),
        ("pairs", click),
        pytest.param("grades", click, marks=pytest.mark.nightly),
        pytest.param("pairs", press, marks=pytest.mark.nightly),
    ],
)
def test_a_whole_session(
    visitor: "BrowserContext", items: list[StudyItem], mode: Any, answer: Any, tmp_path: Path
) -> None:
    study = study_of(items, mode)
    page = opened(visitor, study, tmp_path)
    page.get_by_role("button", name="Start").click()
    given = [KEYS[mode][n % len(KEYS[mode])] for n in range(10)]
    for number, key in enumerate(given):
        answer(page, number, key)
    assert page.get_by_role("heading", name="Thank you. You have answered all questions.").is_visible()
    page.get_by_label("Name or initials").fill("Ada  L.")
    path = taken(page, tmp_path)
    assert re.fullmatch(r"ratings-[0-9a-f]{6}-[0-9a-f]{6}\.json", path.name)
    assert page.get_by_text("Send this file to the person who gave you this page").is_visible()
    rows = answers_in([path], study).to_pylist()
    assert [row["order"] for row in rows] == list(range(10))
    assert {row["rater"] for row in rows} == {"Ada L."}
    assert all(0.2 < row["seconds"] < 60 for row in rows)
    first = Counter((row["key"], frozenset((row["method"], row["other"]))) for row in rows if not row["is_repeat"])
    assert len(first) == 9
    assert set(first.values()) == {1}
    assert sum(row["is_repeat"] for row in rows) == 1
    if mode == "grades":
        assert [row["grade"] for row in rows] == [ANSWERS[key] for key in given]
    else:
        worth = {"ArrowLeft": 1, "ArrowDown": 0.5, "ArrowRight": 0}
        assert [row["preference"] for row in rows] == [worth[key] for key in given]


def test_what_was_answered_is_what_was_shown(
    visitor: "BrowserContext", items: list[StudyItem], tmp_path: Path
) -> None:
    study = study_of(items, "pairs")
    page = opened(visitor, study, tmp_path)
    page.click("#start")
    images = {item.key: {png: method for method, png in item.results.items()} for item in study.items}
    seen = []
    for number in range(10):
        page.wait_for_selector(READY.format(number))
        seen.append([bytes_of(page, f"figure.{side} img") for side in ("left", "right", "hr")])
        page.keyboard.press("ArrowLeft")
    for row, (left, right, hr) in zip(answers_in([taken(page, tmp_path)], study).to_pylist(), seen, strict=True):
        assert images[row["key"]][left] == row["method"]
        assert images[row["key"]][right] == row["other"]
        assert hr == next(item.hr for item in items if item.key == row["key"])


def bytes_of(page: "Page", selector: str) -> bytes:
    return base64.b64decode((page.locator(selector).get_attribute("src") or "").partition(",")[2])


def test_it_goes_on_where_it_was_closed(visitor: "BrowserContext", items: list[StudyItem], tmp_path: Path) -> None:
    study = study_of(items, "grades")
    page = opened(visitor, study, tmp_path)
    page.click("#start")
    for number in range(3):
        press(page, number, "4")
    page.wait_for_selector(READY.format(3))
    fourth = bytes_of(page, "figure.result img")
    page.close()
    page = visitor.new_page()
    page.goto((tmp_path / "rating.html").as_uri())
    assert "3 already answered" in page.locator("#welcome").inner_text()
    page.get_by_role("button", name="Continue").click()
    page.wait_for_selector(READY.format(3))
    assert bytes_of(page, "figure.result img") == fourth
    for number in range(3, 10):
        press(page, number, "1")
    rows = answers_in([taken(page, tmp_path)], study).to_pylist()
    assert [row["grade"] for row in rows] == [4] * 3 + [1] * 7


def test_what_was_kept_and_broken_is_a_new_start(
    visitor: "BrowserContext", items: list[StudyItem], tmp_path: Path
) -> None:
    page = opened(visitor, study_of(items, "grades"), tmp_path)
    whole = '{"seed":1,"session":"%s","answers":[{"answer":%s,"seconds":1,"time":"now"}]}'
    for kept in ("{", "null", "[]", whole % ("0", 3), whole % ("0" * 32, 9), whole % ("0" * 32, '"3"')):
        page.evaluate("kept => localStorage.setItem(KEPT, kept)", kept)
        page.reload()
        assert page.get_by_role("button", name="Start").is_visible()
    page.evaluate("kept => localStorage.setItem(KEPT, kept)", whole % ("0" * 32, 3))
    page.reload()
    assert page.get_by_role("button", name="Continue").is_visible()


def test_an_answer_can_be_taken_back(visitor: "BrowserContext", items: list[StudyItem], tmp_path: Path) -> None:
    study = study_of(items, "grades")
    page = opened(visitor, study, tmp_path)
    page.click("#start")
    press(page, 0, "1")
    press(page, 1, "1")
    press(page, 2, "Backspace")
    page.wait_for_selector(READY.format(1))
    assert page.locator("[aria-pressed='true']").inner_text().split() == ["1", "Bad"]
    page.get_by_role("button", name="Back").click()
    press(page, 0, "4")
    page.wait_for_selector(READY.format(2))  # on to the first that is open
    press(page, 2, "Backspace")
    press(page, 1, "Enter")  # kept as it was
    press(page, 2, "2")
    page.wait_for_selector(READY.format(3))
    page.get_by_role("button", name="Stop and save").click()
    assert page.get_by_role("heading", name="You have answered 3 of 10.").is_visible()
    rows = answers_in([taken(page, tmp_path)], study).to_pylist()
    assert [row["grade"] for row in rows] == [4, 1, 2]
    page.get_by_role("button", name="Go on").click()
    page.wait_for_selector(READY.format(3))


def test_a_key_held_or_pressed_twice_answers_once(
    visitor: "BrowserContext", items: list[StudyItem], tmp_path: Path
) -> None:
    page = opened(visitor, study_of(items, "grades"), tmp_path)
    page.click("#start")
    page.wait_for_selector(READY.format(0))
    page.evaluate(
        "for (const key of '3333') document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }))"
    )
    page.wait_for_selector(READY.format(1))
    assert page.evaluate("state.answers.length") == 1
    page.keyboard.down("3")
    page.keyboard.down("3")  # as a held key repeats
    page.wait_for_selector(READY.format(2))
    page.keyboard.down("3")
    assert page.evaluate("state.answers.length") == 2


def test_a_browser_that_keeps_nothing_says_so_and_works(
    visitor: "BrowserContext", items: list[StudyItem], tmp_path: Path
) -> None:
    visitor.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } })"
    )
    study = study_of(items, "grades")
    page = opened(visitor, study, tmp_path)
    assert page.get_by_text("This browser does not let the page store your answers.").is_visible()
    page.click("#start")
    press(page, 0, "3")
    page.wait_for_selector(READY.format(1))
    page.click("#stop")
    assert answers_in([taken(page, tmp_path)], study).num_rows == 1


@pytest.mark.parametrize("mode", ["grades", "pairs"])
def test_no_method_and_no_key_is_in_what_the_browser_has(
    visitor: "BrowserContext", items: list[StudyItem], mode: Any, tmp_path: Path
) -> None:
    page = opened(visitor, study_of(items, mode), tmp_path)
    page.click("#start")
    press(page, 0, KEYS[mode][0])
    page.wait_for_selector(READY.format(1))
    page.click("#stop")
    kept = page.evaluate("JSON.stringify(localStorage) + JSON.stringify(exported())")
    everything = (readable(page.content()) + kept).lower()
    assert "ratings" in everything
    assert [name for name in [*METHODS, *(item.key for item in items)] if name in everything] == []


def test_hostile_titles_are_text(visitor: "BrowserContext", items: list[StudyItem], tmp_path: Path) -> None:
    title = "</title></script><script>document.body.remove()</script><img src=http://x.invalid onerror=alert(1)>" * 3
    page = opened(visitor, Study(title, "grades", items, title), tmp_path)
    assert page.locator("h1").inner_text() == title
    assert page.title() == title
    page.click("#start")
    page.wait_for_selector(READY.format(0))
    assert page.locator("#asked").inner_text() == title
    assert page.locator("img:not(#stage img):not(dialog img)").count() == 0


def test_everyone_has_an_order_of_their_own(browser: "Browser", items: list[StudyItem], tmp_path: Path) -> None:
    path = tmp_path / "rating.html"
    path.write_text(rating_page(study_of(items, "grades")), encoding="utf-8")
    orders, sessions = set(), set()
    for _ in range(3):
        context = browser.new_context()
        page = context.new_page()
        page.goto(path.as_uri())
        orders.add(page.evaluate("JSON.stringify(questions)"))
        sessions.add(page.evaluate("state.session"))
        context.close()
    assert len(orders) == len(sessions) == 3


@pytest.mark.parametrize(("mode", "count", "methods"), [("grades", 6, 5), ("pairs", 5, 4), ("pairs", 2, 3)])
def test_every_order_is_fair(
    visitor: "BrowserContext", items: list[StudyItem], mode: Any, count: int, methods: int, tmp_path: Path
) -> None:
    """Each question once, a tenth again and later, sides at random, never one image twice in a row."""
    page = opened(visitor, study_of(items, mode), tmp_path)
    images = [{"id": f"p{i}", "results": [f"p{i}r{m}" for m in range(methods)]} for i in range(count)]
    plans = page.evaluate(
        "([items, mode]) => Array.from({ length: 200 }, (_, seed) => plan(items, mode, seed))", [images, mode]
    )
    asked = methods if mode == "grades" else methods * (methods - 1) // 2
    left = 0
    for plan in plans:
        questions = [(question["item"], frozenset(question["shown"])) for question in plan]
        first = [q for q, question in zip(questions, plan, strict=True) if not question["repeat"]]
        again = [place for place, question in enumerate(plan) if question["repeat"]]
        assert len(first) == len(set(first)) == count * asked
        assert len(again) == max(1, round(0.1 * count * asked))
        for place in again:
            before = questions.index(questions[place])
            assert place - before > 5
            assert plan[place]["shown"] == plan[before]["shown"][::-1]
        if count > 2:
            assert all(a != b for (a, _), (b, _) in pairwise(questions))
        left += sum(question["shown"][0] < question["shown"][-1] for question in plan)
    if mode == "pairs":
        assert left / sum(map(len, plans)) == pytest.approx(0.5, abs=0.05)
    assert len({str(plan) for plan in plans}) > 190  # of six questions there are not many orders


def test_two_images_take_turns(visitor: "BrowserContext", items: list[StudyItem], tmp_path: Path) -> None:
    page = opened(visitor, study_of(items, "grades"), tmp_path)
    page.evaluate("two = everyQuestion(study.items.slice(0, 2), 'grades', randomFrom(1))")
    orders = page.evaluate("Array.from({ length: 50 }, (_, seed) => spread(shuffled(two, randomFrom(seed))))")
    for questions in orders:
        images = [question["item"] for question in questions]
        assert all(a != b for a, b in pairwise(images))


def test_images_beside_the_page_are_shown_and_a_missing_one_is_told(
    visitor: "BrowserContext", items: list[StudyItem], tmp_path: Path
) -> None:
    study = study_of(items, "grades")
    folder = tmp_path / "images & more #1"
    folder.mkdir()
    for name, png in study.images():
        (folder / f"{name}.png").write_bytes(png)
    (tmp_path / "rating.html").write_text(rating_page(study, folder.name), encoding="utf-8")
    page = visitor.new_page()
    page.goto((tmp_path / "rating.html").as_uri())
    third = page.evaluate("questions[2].shown[0]")
    (folder / f"{third}.png").write_bytes(b"no image")
    page.click("#start")
    press(page, 0, "3")
    page.wait_for_selector(READY.format(1))
    assert page.locator("figure.result img").evaluate("image => image.naturalWidth") == 128
    press(page, 1, "3")
    page.get_by_role("button", name="Skip this question").click()
    press(page, 3, "3")
    page.wait_for_selector(READY.format(4))
    page.click("#stop")
    assert page.evaluate("exported().ratings.map((rating) => rating.order)") == [0, 1, 3]


def test_enlarged_images_change_in_place(visitor: "BrowserContext", items: list[StudyItem], tmp_path: Path) -> None:
    page = opened(visitor, study_of(items, "grades"), tmp_path)
    page.click("#start")
    press(page, 0, "z")
    large = page.locator("dialog img")
    large.wait_for()
    until(page, "document.querySelector('dialog img').offsetWidth === 6 * 128")
    box = large.bounding_box()
    for shown in ("Result", "Original", "Input", "Result"):
        until(page, f"document.querySelector('#shown').textContent === '{shown}'")
        page.keyboard.press("2")  # no answer while it is open
        page.keyboard.press("Space")
    until(page, "document.querySelector('#shown').textContent === 'Original'")
    assert large.bounding_box() == box
    page.keyboard.press("Escape")
    assert large.is_hidden()
    assert page.evaluate("state.answers.length") == 0


def test_the_last_of_several_enlarged_at_once_is_shown(
    visitor: "BrowserContext", items: list[StudyItem], tmp_path: Path
) -> None:
    page = opened(visitor, study_of(items, "grades"), tmp_path)
    page.click("#start")
    press(page, 0, "z")
    page.locator("dialog img").wait_for()
    page.evaluate("for (let n = 0; n < 5; n++) enlargeNext()")
    until(page, "document.querySelector('#shown').textContent === 'Input'")
    assert bytes_of(page, "dialog img") == bytes_of(page, "figure.lr img")


@pytest.mark.parametrize("mode", ["grades", "pairs"])
@pytest.mark.parametrize("size", [(390, 780), (1400, 900)])
def test_all_of_a_question_is_on_the_screen(
    visitor: "BrowserContext", items: list[StudyItem], mode: Any, size: tuple[int, int], tmp_path: Path
) -> None:
    page = opened(visitor, study_of(items, mode), tmp_path)
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.click("#start")
    page.wait_for_selector(READY.format(0))
    scrolled = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert scrolled == list(size)
    boxes = [box for figure in page.locator("figure img").all() if (box := figure.bounding_box())]
    assert len(boxes) == 3
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= size[0] for box in boxes)
    panel = page.locator(".panel").bounding_box()
    assert panel is not None
    assert all(box["y"] + box["height"] <= panel["y"] for box in boxes)
    mains = boxes if size[0] > 1000 else [boxes[0], boxes[2]] if mode == "pairs" else [boxes[1]]
    assert len({(box["width"], box["height"]) for box in mains}) == 1
    assert mains[0]["width"] % 128 == 0


def test_someone_else_begins_anew(visitor: "BrowserContext", items: list[StudyItem], tmp_path: Path) -> None:
    page = opened(visitor, study_of(items, "grades"), tmp_path)
    page.click("#start")
    press(page, 0, "3")
    page.wait_for_selector(READY.format(1))
    before = page.evaluate("state.session")
    page.click("#stop")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Start as another person").click()
    assert page.evaluate("state.session") == before
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Start as another person").click()
    assert page.get_by_role("button", name="Start").is_visible()
    assert page.evaluate("state.answers.length") == 0
    assert page.evaluate("state.session") != before
