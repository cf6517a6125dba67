"""What a run tells at its end: counts, the first reasons, the pace, and where the time went."""

from collections import Counter

import pytest

from flows.engine.summary import MAX_REASONS, Summary
from storage.receipts.units import Row

SECONDS = {"read_seconds": 1.0, "compute_seconds": 2.0, "write_seconds": 3.0}


def summary() -> Summary:
    return Summary(ok=90, failed=10, tried=100, wall=20.0, seconds={"read": 1.0, "compute": 8.0, "write": 1.0})


def noted(*notes: str | None) -> Summary:
    """The summary of images with these notes."""
    return Summary.of([{"key": f"{n}.png", "status": "ok", "note": note} for n, note in enumerate(notes)])


def test_the_pace_counts_what_was_worked_on_and_says_where_the_time_went() -> None:
    assert summary().pace() == "5.0 images/s in 20.0 s; thread time: 10% read, 80% compute, 10% write"
    assert Summary(skipped=9, wall=1.0).pace() == ""


def test_what_failed_in_earlier_runs_is_no_part_of_the_pace() -> None:
    total = Summary(skipped=1000, failed=500)
    total.add(Summary.of([{"key": "a.png", "status": "ok"}, {"key": "b.png", "status": "failed"}]))
    total.wall = 1.0
    assert total.failed == 501
    assert total.pace() == "2.0 images/s in 1.0 s"


def test_a_summary_of_rows_counts_them_and_units_add_up() -> None:
    rows: list[Row] = [
        {"key": "a.png", "status": "ok", "note": "IPTC left out; 16 bits became 8", **SECONDS},
        {"key": "b.png", "status": "failed", "reason": "broken image"},
        {"key": "c.png", "status": "failed", "error": "no such file"},
        {"key": "d.png", "status": "ok", "note": None},
    ]
    total = Summary(skipped=3)
    for _ in range(2):
        total.add(Summary.of(rows))
    reasons = ["b.png: broken image", "c.png: no such file"]
    assert total == Summary(
        ok=4,
        failed=4,
        skipped=3,
        tried=8,
        reasons=reasons * 2,
        notes=Counter({"IPTC left out": 2, "16 bits became 8": 2}),
        seconds={"read": 2.0, "compute": 4.0, "write": 6.0},
    )


def test_what_was_not_kept_is_told_the_most_frequent_first() -> None:
    told = noted("IPTC left out", "16 bits became 8; IPTC left out", None)
    assert told.losses() == "not kept: IPTC left out (2), 16 bits became 8 (1)"
    assert told.losses() in told.markdown("upscale a", "b", "b/manifest.parquet")
    assert noted(None).losses() == ""
    assert noted("").losses() == ""


def test_losses_of_many_kinds_are_counted_and_numbers_make_no_kinds() -> None:
    kinds = [f"{letter} left out" for letter in "ABCDEFGH"]
    first = ", ".join(f"{kind} (2)" for kind in kinds[:5])
    assert noted(*kinds * 2).losses() == f"not kept: {first}, 3 more kinds (6)"
    assert noted(*kinds[:6]).losses().endswith("E left out (1), 1 more kind (1)")
    assert noted("the first of 3 frames", "the first of 1,200 frames").losses() == (
        "not kept: the first of … frames (2)"
    )


def test_only_the_first_reasons_are_kept() -> None:
    rows: list[Row] = [{"key": f"{number}.png", "status": "failed", "reason": "broken"} for number in range(99)]
    total = Summary.of(rows[:3])
    total.add(Summary.of(rows[3:]))
    assert total.reasons == [f"{number}.png: broken" for number in range(MAX_REASONS)]
    told = Summary(failed=99)
    for number in range(99):
        told.note(f"{number}.png: broken")
    assert told.reasons == [f"{number}.png: broken" for number in range(MAX_REASONS)]
    assert "the first 10 of 99" in told.markdown("upscale a", "b", "b/manifest.parquet")


@pytest.mark.parametrize("name", ["[x](http://evil)", "<img src=x>", "`code`", "**bold**", "|"])
def test_whatever_images_are_called_is_shown_as_text(name: str) -> None:
    told = summary()
    told.note(f"{name}.png: broken")
    page = told.markdown("upscale a", "s3://bucket/b", "s3://bucket/b/manifest.parquet")
    assert f"* `{name.replace('`', chr(39))}.png: broken`" in page
    assert "* Results: <s3://bucket/b>" in page
    assert "<s3://bucket/b/manifest.parquet>" in page


@pytest.mark.parametrize("name", ["a\n# b", "a\r\nb", "a\tb", "a\u2028b"])
def test_whatever_breaks_lines_in_names_breaks_none_in_the_page(name: str) -> None:
    told = summary()
    told.note(f"{name}: broken")
    page = told.markdown("upscale a", f"s3://bucket/{name}", name)
    lines = [line for line in page.splitlines() if "broken" in line]
    assert lines == [f"* `{' '.join(name.split())}: broken`"]
    assert f"* Results: `s3://bucket/{' '.join(name.split())}`" in page.splitlines()


def test_the_page_of_a_run_says_how_many_devices_computed() -> None:
    assert "computing at a time: 0.40 on average" in summary().markdown("upscale a", "b", "b/manifest.parquet")
    assert "computing at a time" not in Summary(skipped=9, wall=1.0).markdown("upscale a", "b", "m")
