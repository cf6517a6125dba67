"""What a run tells at its end: counts, the first reasons, the pace, and where the time went."""

import pytest

from flows.summary import REASONS_TOLD, Summary, spent
from storage.units import Row


def summary(**values: object) -> Summary:
    return Summary(ok=90, failed=10, wall=20.0, seconds={"read": 1.0, "compute": 8.0, "write": 1.0}, **values)  # type: ignore[arg-type]


def test_the_pace_counts_what_was_worked_on_and_says_where_the_time_went() -> None:
    assert summary().pace() == ("5.0 images/s in 20.0 s; of the threads' time: read 10%, compute 80%, write 10%")
    assert Summary(skipped=9, wall=1.0).pace() == ""


def test_time_is_summed_over_rows_and_failures_have_none() -> None:
    rows: list[Row] = [{"read_seconds": 1.0, "compute_seconds": 2.0, "write_seconds": 3.0}, {"status": "failed"}]
    assert spent(rows * 2) == {"read": 2.0, "compute": 4.0, "write": 6.0}
    total = Summary()
    for _ in range(2):
        total.spend(spent(rows))
    assert total.seconds == {"read": 2.0, "compute": 4.0, "write": 6.0}


def test_only_the_first_reasons_are_kept() -> None:
    told = Summary(failed=99)
    for number in range(99):
        told.note(f"{number}.png: broken")
    assert told.reasons == [f"{number}.png: broken" for number in range(REASONS_TOLD)]
    assert "the first 10 of 99" in told.markdown("upscale a", "b", "b/manifest.parquet")


@pytest.mark.parametrize("name", ["[x](http://evil)", "<img src=x>", "`code`", "**bold**", "|"])
def test_whatever_pictures_are_called_is_shown_as_text(name: str) -> None:
    told = summary()
    told.note(f"{name}.png: broken")
    page = told.markdown("upscale a", "s3://bucket/b", "s3://bucket/b/manifest.parquet")
    assert f"* `{name.replace('`', chr(39))}.png: broken`" in page
    assert "* Results: <s3://bucket/b>" in page
    assert "<s3://bucket/b/manifest.parquet>" in page
