"""What people said, as Markdown and on the report's page: names cannot break it, and the best is bold."""

import re
from pathlib import Path
from typing import Any

import pytest

from reports.page.render import render
from reports.rating.analysis import summarise_ratings
from reports.rating.render import percent, ratings_markdown, ratings_note, ratings_tables
from reports.rating.study import Study, StudyItem
from tests.reports.page.test_render import HOSTILE, compared, text_of
from tests.reports.rating.test_study import answers_in, graded, items, pairs, people, preferred, study

__all__ = ["items", "pairs", "study"]
ORDER = ["dtls", "bicubic", "nearest"]


@pytest.fixture
def opinions(study: Study, tmp_path: Path) -> dict[str, Any]:
    """Three people's grades: dtls 4, bicubic 3, nearest 1."""
    grades = {"dtls": 4, "bicubic": 3, "nearest": 1}
    return summarise_ratings(people(study, tmp_path, lambda n: graded(study, lambda key, method: grades[method]), 3))


@pytest.fixture
def preferences(pairs: Study, tmp_path: Path) -> dict[str, Any]:
    """Three people's preferences, always in one order."""

    def choose(key: str, a: str, b: str) -> str:
        return "left" if ORDER.index(a) < ORDER.index(b) else "right"

    return summarise_ratings(people(pairs, tmp_path, lambda n: preferred(pairs, choose), 3))


def test_the_summary_is_markdown_that_names_cannot_break(tmp_path: Path) -> None:
    name = "a|b\n<script>`*"
    hostile = Study("Which?", "grades", [StudyItem("x", {name: b"1", "plain": b"2"}, b"3", b"4")])
    table = people(hostile, tmp_path, lambda n: graded(hostile, lambda key, method: 4 if method == "plain" else 1), 3)
    lines = ratings_markdown(summarise_ratings(table)).splitlines()
    assert lines[0] == "3 raters · 6 ratings"
    assert lines[4].startswith("| plain | 100 % (")
    assert r"| a\|b \<script\>\`\* | 0 % (0 % … " in lines[5]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines[2:6]} == {6}
    assert lines[-1].endswith("Satisfied: grade 3 (good) or 4 (excellent).")


def test_no_ratings_are_said_as_none(study: Study) -> None:
    summary = summarise_ratings(answers_in([], study))
    assert ratings_markdown(summary).startswith("0 raters · 0 ratings\n")
    assert ratings_tables(summary) == []
    assert "0 raters · 0 ratings." in text_of(render(compared([], ratings=summary)))


def test_the_page_says_who_was_satisfied(opinions: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    page = render(compared(rows, ratings=opinions))
    text = text_of(page)
    assert text.index("Summary") < text.index("User study 3 raters · ") < text.index("Distribution")
    assert "Method Satisfied ↑ Mean opinion ↑ Ratings Raters" in text
    said = page[page.index("User study") : page.index("Distribution")]
    assert re.findall(r"<th scope=\"row\">.*?>([^<]+)</span>", said) == ORDER
    assert re.findall(r'class="number best">([^<]+)', said) == ["100 %", "4.00", "100 %"]
    low, high = (percent(opinions["grades"][0][end]) for end in ("satisfied_low", "satisfied_high"))
    assert f"<small>{low} … {high}</small>" in said


def test_the_page_says_what_was_preferred(preferences: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    text = text_of(render(compared(rows, ratings=preferences)))
    assert "Method Preferred ↑ Bradley–Terry ↑ Ratings Raters" in text
    strongest, *_, weakest = preferences["pairs"]
    assert f"dtls 100 %{percent(strongest['preferred_low'])} … 100 %" in text
    assert f"+{strongest['strength']:.2f}" in text
    assert f"−{-weakest['strength']:.2f}" in text


def test_grades_and_pairs_have_a_table_each(opinions: dict[str, Any], preferences: dict[str, Any]) -> None:
    both = opinions | {"pairs": preferences["pairs"]}
    assert [table.heads for table in ratings_tables(both)] == [
        ["Satisfied", "Mean opinion"],
        ["Preferred", "Bradley–Terry"],
    ]
    assert "Satisfied: " in ratings_note(both)
    assert "Preferred: " in ratings_note(both)


def test_a_page_without_ratings_does_not_speak_of_people(rows: list[dict[str, Any]]) -> None:
    assert "User study" not in render(compared(rows))


def test_a_method_has_its_mark_of_the_summary_and_one_that_is_gone_none(
    opinions: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    shown = [
        {"method": "nearest", "ok": 1, "failed": 0} | dict.fromkeys(("psnr", "ssim", "lpips", "consistency"), 1.0)
    ]
    page = render(compared(rows, ratings=opinions, summary=shown))
    said = page[page.index("User study") :]
    assert '<span class="method m0">nearest</span>' in said
    assert '<span class="method m-none">dtls</span>' in said


def test_names_stay_text_on_the_page(opinions: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    opinions["grades"][0]["method"] = HOSTILE
    assert HOSTILE not in render(compared(rows, ratings=opinions))
    assert HOSTILE in text_of(render(compared([], ratings=opinions, summary=[])))
