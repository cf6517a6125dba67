"""What is called best is best over the same images, and by a mean that leaves nothing out."""

import pandas as pd
import pytest

from reports.metrics.registry import METRICS
from reports.page.verdict import verdict
from reports.tables.ranking import best_of, ranked_by
from reports.tables.render import interval_table, latex_table
from reports.tables.summary import Summary, summarise
from reports.tables.table import SCHEMA
from tests.reports.page.test_render import compared
from tests.reports.samples import INF, row

PSNR = METRICS[0]


def summary_of(**psnr: dict[str, float | None]) -> Summary:
    """Of methods with a PSNR by key; None for a failure."""
    rows = [
        row(method, key, value) if value is not None else {"method": method, "key": key, "status": "failed"}
        for method, values in psnr.items()
        for key, value in values.items()
    ]
    return summarise(pd.DataFrame(rows).reindex(columns=SCHEMA.names))


def said(summary: Summary) -> list[str]:
    return verdict(compared([], summary=summary.methods, metrics=[PSNR], primary=["psnr"], perception="psnr"))


def test_methods_are_ranked_over_the_images_that_all_have() -> None:
    summary = summary_of(easy={"a": 40.0, "b": None, "c": None}, whole={"a": 41.0, "b": 30.0, "c": 25.0})
    assert [method["psnr"] for method in summary.methods] == [40.0, 32.0]
    assert ranked_by(summary.methods, PSNR) == [40.0, 41.0]
    assert said(summary) == ["whole is best in PSNR."]
    assert summary.notes == (summary.ranking,) == ("Ranked over the one image that all methods have.",)
    assert r"\textbf{32.00}" in latex_table(summary, [PSNR])
    assert summary.ranking in latex_table(summary, [PSNR])
    assert "**32.00**" in interval_table(summary, [PSNR])


def test_images_that_a_method_was_never_given_are_no_ground_for_its_rank() -> None:
    summary = summary_of(few={"a": 40.0, "b": 30.0}, whole={"a": 41.0, "b": 31.0, "c": 20.0})
    assert said(summary) == ["whole is best in PSNR."]
    assert summary.ranking == "Ranked over the 2 images that all methods have."


def test_methods_without_an_image_in_common_are_not_ranked() -> None:
    summary = summary_of(one={"a": 40.0, "b": None}, other={"a": None, "b": 30.0})
    assert said(summary) == []
    assert best_of(summary.methods, PSNR) == set()
    assert summary.ranking == "Not ranked: there is no image that all methods have."
    for table in (latex_table(summary, [PSNR]), interval_table(summary, [PSNR])):
        assert "40.00" in table
        assert "**40" not in table
        assert "textbf" not in table


def test_a_method_that_failed_everywhere_ranks_nobody() -> None:
    summary = summary_of(fine={"a": 40.0, "b": 30.0}, broken={"a": None, "b": None})
    assert said(summary) == ["One method was measured, fine: PSNR 35.00 dB."]
    assert summary.ranking == ""


def test_a_mean_that_leaves_identical_images_out_is_not_ranked() -> None:
    summary = summary_of(perfect={"a": INF, "b": INF, "c": 20.0}, poor={"a": 25.0, "b": 25.0, "c": 25.0})
    assert said(summary) == []
    assert best_of(summary.methods, PSNR) == set()
    assert summary.ranking == "Not ranked by PSNR, which is infinite for some images."


def test_a_method_that_is_identical_everywhere_is_best() -> None:
    summary = summary_of(perfect={"a": INF, "b": INF}, poor={"a": 25.0, "b": 25.0})
    assert said(summary) == ["perfect is best in PSNR."]
    assert summary.ranking == ""


def test_identical_images_that_others_lack_do_not_count() -> None:
    summary = summary_of(more={"a": 24.0, "b": INF}, less={"a": 25.0, "b": None})
    assert said(summary) == ["less is best in PSNR."]


@pytest.mark.parametrize("psnr", [{"a": 30.0, "b": 20.0}, {"a": INF, "b": 20.0}])
def test_one_method_alone_is_told_and_bold(psnr: dict[str, float | None]) -> None:
    summary = summary_of(alone=psnr)
    assert said(summary)[0].startswith("One method was measured, alone: PSNR ")
    assert best_of(summary.methods, PSNR) == {0}
