"""Durations, counts and Markdown: what people read."""

import pytest

from flows.interface.text import code, counted, duration, link


def test_things_are_counted_in_words() -> None:
    assert [counted(n, "image") for n in (0, 1, 1200)] == ["0 images", "1 image", "1,200 images"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (125.0, "2 minutes and 5 seconds")]
)
def test_a_duration_has_the_unit_that_people_would_use(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_name_is_text_in_markdown_whatever_it_has() -> None:
    assert code("a`b\n # *c*.png") == "`a'b # *c*.png`"
    assert link("s3://bucket/a") == "<s3://bucket/a>"
    assert link("s3://bucket/a b") == "`s3://bucket/a b`"
