"""The summary as LaTeX and Markdown: the right numbers marked, and no name that breaks out of its cell."""

import dataclasses
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reports.metrics.registry import METRICS
from reports.tables.render import escape, interval_table, latex_table, ranks
from reports.tables.summary import Summary, summarise
from reports.tables.table import SCHEMA

HOSTILE = r"[*]--$\x_{}%&#^~<|>" + "\n\x00"
BY_NAME = {metric.name: metric for metric in METRICS}
TEX = shutil.which("pdflatex") or shutil.which("tectonic")


@pytest.fixture(scope="module")
def summary(rows: list[dict[str, Any]]) -> Summary:
    return summarise(pd.DataFrame(rows).reindex(columns=SCHEMA.names))


def renamed(summary: Summary, *names: str) -> Summary:
    methods = [{**row, "method": name} for row, name in zip(summary.methods, names, strict=True)]
    return dataclasses.replace(summary, methods=methods)


def cells(table: str, method: str) -> list[str]:
    """The cells of a method's row."""
    (line,) = [line for line in table.splitlines() if line.strip(" |").startswith(method)]
    return [cell.strip() for cell in re.split(r"(?<!\\)[&|]", line.strip(" |\\"))]


def test_the_best_is_bold_and_the_second_underlined(summary: Summary) -> None:
    table = latex_table(summary, [BY_NAME["psnr"], BY_NAME["lpips"]])
    means = {row["method"]: row for row in summary.methods}
    by_psnr = sorted(means, key=lambda method: -means[method]["psnr"])
    by_lpips = sorted(means, key=lambda method: means[method]["lpips"])
    for column, order, name in ((1, by_psnr, "psnr"), (2, by_lpips, "lpips")):
        texts = [BY_NAME[name].text(means[method][name]) for method in order]
        marked = [rf"\textbf{{{texts[0]}}}", rf"\underline{{{texts[1]}}}", *texts[2:]]
        assert [cells(table, method)[column] for method in order] == marked


def test_the_head_has_arrows_and_units_and_the_caption_the_protocol(summary: Summary) -> None:
    table = latex_table(summary)
    assert r"Method & PSNR $\uparrow$ (dB) & SSIM $\uparrow$ & LPIPS $\downarrow$" in table
    assert r"\caption{Protocol: antialias $\cdot$ $\times$4." in table
    assert cells(table, "bicubic")[-2:] == ["4", "1"]  # four images, one failure


def test_powers_of_ten_are_printed_as_papers_print_them(summary: Summary) -> None:
    one = renamed(dataclasses.replace(summary, methods=[{**summary.methods[0], "consistency": 1.5e-4}]), "one")
    assert cells(latex_table(one, [BY_NAME["consistency"]]), "one")[1] == r"$1.50\cdot10^{-4}$"


def test_hostile_names_neither_break_the_table_nor_end_its_cell(summary: Summary) -> None:
    hostile = renamed(summary, *[HOSTILE + str(number) for number in range(len(summary.methods))])
    table = latex_table(dataclasses.replace(hostile, conditions=HOSTILE), label="}\\evil")
    head, *lines = re.findall(r"^    (.*) \\\\$", table, re.M)
    columns = len(re.findall(r"(?<!\\)&", head))
    assert [len(re.findall(r"(?<!\\)&", line)) for line in lines] == [columns] * len(summary.methods)
    assert not any(line.startswith(("[", "*")) for line in lines)
    bare = re.sub(r"\\[{}$&#_%\\]", "", table)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert "\x00" not in table
    assert "\\evil" not in table
    assert re.findall(r"\\(begin|end)\{(\w+)\}", table) == [
        ("begin", "table"),
        ("begin", "tabular"),
        ("end", "tabular"),
        ("end", "table"),
    ]


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("a_b", r"a\_b"),
        ("50 %", r"50 \%"),
        ("{x}\\", r"\{x\}\textbackslash{}"),
        ("---", "-{}-{}-"),
        ("×4", r"$\times$4"),
        ("[a]*", "{[}a{]}{*}"),
        ("two\nlines", "two lines"),
    ],
)
def test_each_character_is_printed_as_it_is(text: str, latex: str) -> None:
    assert escape(text) == latex


@pytest.mark.skipif(TEX is None, reason="no TeX")
def test_latex_accepts_the_table(summary: Summary, tmp_path: Path) -> None:
    hostile = renamed(summary, *[HOSTILE] * len(summary.methods))
    document = (
        rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{latex_table(hostile)}\end{{document}}"
    )
    (tmp_path / "table.tex").write_text(document, encoding="utf-8")
    subprocess.run([str(TEX), "table.tex"], cwd=tmp_path, check=True, stdin=subprocess.DEVNULL)
    assert (tmp_path / "table.pdf").stat().st_size > 0


def test_markdown_has_the_intervals_and_marks_best_and_second(summary: Summary) -> None:
    table = interval_table(summary, [BY_NAME["psnr"]])
    order = sorted(summary.methods, key=lambda row: -row["psnr"])
    for row, mark in zip(order, ("**", "*", ""), strict=True):
        expected = f"{mark}{row['psnr']:.2f}{mark} [{row['psnr_low']:.2f}, {row['psnr_high']:.2f}]"
        assert cells(table, row["method"])[1] == expected
    assert table.startswith("Protocol: antialias · ×4.")


def test_markdown_without_intervals_has_the_means_alone(summary: Summary) -> None:
    methods = [{k: v for k, v in row.items() if not k.endswith(("_low", "_high"))} for row in summary.methods]
    assert "[" not in interval_table(dataclasses.replace(summary, methods=methods))


def test_hostile_names_are_escaped_in_markdown(summary: Summary) -> None:
    hostile = renamed(summary, *[f"|<b>`{number}`\n*x*" for number in range(len(summary.methods))])
    lines = interval_table(hostile).splitlines()[2:]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert r"\|\<b\>\`0\` \*x\*" in lines[2]


def test_infinite_numbers_are_told_and_a_mean_of_them_alone_is_infinite(summary: Summary) -> None:
    some, only, none = summary.methods
    changed = [
        {**some, "psnr": 30.0, "psnr_infinite": 0},
        {**only, "psnr": None, "psnr_infinite": 4},
        {**none, "psnr": None, "psnr_infinite": 0},
    ]
    changed = [{k: v for k, v in row.items() if k not in ("psnr_low", "psnr_high")} for row in changed]
    changed = [{**row, "method": name} for row, name in zip(changed, ("some", "only", "none"), strict=True)]
    table = dataclasses.replace(summary, methods=changed)
    latex, markdown = latex_table(table, [BY_NAME["psnr"]]), interval_table(table, [BY_NAME["psnr"]])
    assert [cells(latex, name)[1] for name in ("some", "only", "none")] == [
        r"\underline{30.00}",
        r"\textbf{\boldmath$\infty$}",
        r"\textendash{}",
    ]
    assert [cells(markdown, name)[1] for name in ("some", "only", "none")] == ["*30.00*", "**∞**", "–"]


def test_a_mean_that_leaves_infinite_numbers_out_says_so_and_ranks_nobody(summary: Summary) -> None:
    first, *rest = ({k: v for k, v in row.items() if not k.endswith(("_low", "_high"))} for row in summary.methods)
    table = dataclasses.replace(summary, methods=[{**first, "psnr": 30.0, "psnr_infinite": 2}, *rest])
    for text, sign in ((latex_table(table, [BY_NAME["psnr"]]), r"$\infty$"), (interval_table(table), "∞")):
        assert cells(text, first["method"])[1] == f"30.00 (+2 {sign})"
    texts = [cells(interval_table(table, [BY_NAME["psnr"]]), row["method"])[1] for row in rest]
    assert texts == [f"{row['psnr']:.2f}" for row in rest]


def test_the_spread_of_kid_stands_beside_it(rows: list[dict[str, Any]]) -> None:
    distances = {"nearest": {"kid": 0.0123, "kid_spread": 0.0004}, "bicubic": {"kid": 0.01}}
    summary = summarise(pd.DataFrame(rows).reindex(columns=SCHEMA.names), [], distances)
    latex, markdown = latex_table(summary, summary.metrics[-1:]), interval_table(summary, summary.metrics[-1:])
    assert cells(latex, "nearest")[1] == r"\underline{0.0123} $\pm$ 0.0004"
    assert [cells(markdown, name)[1] for name in ("nearest", "bicubic")] == ["*0.0123* ± 0.0004", "**0.0100**"]


def test_what_prints_alike_ranks_alike_and_one_alone_is_not_ranked() -> None:
    psnr, lpips = BY_NAME["psnr"], BY_NAME["lpips"]
    assert ranks([30.001, 30.0, 29.0, None, 28.0], psnr) == [1, 1, 2, 0, 0]
    assert ranks([0.2, 0.1, 0.3], lpips) == [2, 1, 0]
    assert ranks([math.inf, 30.0], psnr) == [1, 2]
    assert ranks([30.0, None], psnr) == [0, 0]
