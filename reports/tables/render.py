"""Tables as papers and READMEs print them: the summary in LaTeX with booktabs, and every table in Markdown.

The best number of a metric is bold; the second is underlined in LaTeX and in italics in Markdown. All that print
alike rank alike, and a single method is not ranked.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from reports.metrics.metric import Metric, finite_or_none, mean_or_infinite
from reports.tables.ranking import ranked_by
from reports.tables.summary import Summary

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": r"{[}",
    "]": r"{]}",
    "*": r"{*}",
    "×": r"$\times$",
    "∞": r"$\infty$",
    "–": r"\textendash{}",
    "σ": r"$\sigma$",
    "·": r"$\cdot$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    **{character: f"\\{character}" for character in "{}$&#_%"},
}
"""What LaTeX would read as a command, a ligature or an option, and what its fonts may lack."""


MEANS = "Means with 95 % intervals; best in bold, second in italics."


def latex_table(summary: Summary, metrics: Sequence[Metric] | None = None, *, label: str = "tab:comparison") -> str:
    r"""A `table` with the protocol in its caption; wants `\usepackage{booktabs}`.

    metrics: the columns, all of the summary's unless given. The numbers have the metrics' digits.
    """
    shown = summary.metrics if metrics is None else metrics
    failures = any(row["failed"] for row in summary.methods)
    head = ["Method", *(escape(_titled(m)) for m in shown), "Images", *["Failed"] * failures]
    lines = [head, *_rows(summary, shown, escape, _latex_number, failures=failures)]
    body = [f"    {' & '.join(cells)} \\\\" for cells in lines]
    caption = escape(
        " ".join(filter(None, (f"{summary.conditions}. Best in bold, second underlined.", summary.ranking)))
    )
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}[t]",
            r"  \centering",
            f"  \\caption{{{caption}}}",
            f"  \\label{{{re.sub(r'[^A-Za-z0-9:.-]', '-', label)}}}",
            f"  \\begin{{tabular}}{{@{{}}l{'r' * (len(head) - 1)}@{{}}}}",
            r"    \toprule",
            body[0],
            r"    \midrule",
            *body[1:],
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def interval_table(summary: Summary, metrics: Sequence[Metric] | None = None, *, words: str = MEANS) -> str:
    """The same in Markdown, under the protocol; each mean with its 95 % interval where the summary has one.

    words: what the numbers are.
    """
    shown = summary.metrics if metrics is None else metrics
    failures = any(row["failed"] for row in summary.methods)
    head = ["Method", *(_titled(m) for m in shown), "Images", *["Failed"] * failures]
    table = markdown_table(head, _rows(summary, shown, markdown, _markdown_number, failures=failures))
    return f"{summary.conditions}. {words}\n\n{table}\n"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], columns: str = "l") -> str:
    """A table whose cells are Markdown by now.

    columns: l or r for each column, as in LaTeX: text is left-aligned, numbers are right-aligned. Columns that it
    lacks are of numbers.
    """
    rule = [{"l": "---", "r": "---:"}[kind] for kind in columns.ljust(len(head), "r")]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def escape(text: str) -> str:
    """Any text as LaTeX that prints it, on one line; what cannot be printed is left out."""
    escaped = "".join(_LATEX.get(character, character) for character in _line(text))
    return re.sub("-(?=-)", "-{}", escaped)


def markdown(text: str) -> str:
    """Any text as Markdown that prints it, within a cell of a table; what cannot be printed is left out."""
    return re.sub(r"([\\|*_`<>\[\]&~$#])", r"\\\1", _line(text))


def ranks(values: Sequence[float | None], metric: Metric) -> list[int]:
    """1 for the best as printed, 2 for the second, 0 for the rest and what is no number."""
    numbers = sorted({v for v in values if v is not None}, reverse=metric.better == "higher")
    texts = list(dict.fromkeys(metric.text(number) for number in numbers))
    if sum(value is not None for value in values) < 2:
        return [0] * len(values)
    places = {text: place for place, text in enumerate(texts[:2], start=1)}
    return [0 if value is None else places.get(metric.text(value), 0) for value in values]


Number = Callable[[Mapping[str, Any], Metric, float | None, int], str]
"""Prints a mean and its rank, given its row of the summary and its metric."""


def _rows(
    summary: Summary, metrics: Sequence[Metric], name: Callable[[str], str], number: Number, *, failures: bool
) -> list[list[str]]:
    means = {m.name: [mean_or_infinite(row, m.name) for row in summary.methods] for m in metrics}
    placed = {m.name: ranks(ranked_by(summary.methods, m), m) for m in metrics}
    return [
        [
            name(str(row["method"])),
            *(number(row, m, means[m.name][i], placed[m.name][i]) for m in metrics),
            str(row["ok"]),
            *[str(row["failed"])] * failures,
        ]
        for i, row in enumerate(summary.methods)
    ]


def _latex_number(row: Mapping[str, Any], metric: Metric, value: float | None, rank: int) -> str:
    text = metric.text(value)
    number, _, exponent = text.partition("e")
    if exponent:
        number = f"${number}\\cdot10^{{{int(exponent)}}}$"
    elif text.startswith("-"):
        number = f"${text}$"
    else:
        number = escape(text)
    if rank:
        bold = f"\\textbf{{\\boldmath{number}}}" if "$" in number else f"\\textbf{{{number}}}"
        number = bold if rank == 1 else f"\\underline{{{number}}}"
    spread = finite_or_none(row.get(f"{metric.name}_spread"))
    if spread is not None:
        number += f" $\\pm$ {metric.text(spread)}"
    return number + _also_infinite(row, metric, value, r"$\infty$")


def _markdown_number(row: Mapping[str, Any], metric: Metric, value: float | None, rank: int) -> str:
    mark = {0: "", 1: "**", 2: "*"}[rank]
    text = f"{mark}{metric.text(value)}{mark}"
    low, high, spread = (finite_or_none(row.get(f"{metric.name}_{end}")) for end in ("low", "high", "spread"))
    if spread is not None:
        text += f" ± {metric.text(spread)}"
    if low is not None and high is not None:
        text += f" [{metric.text(low)}, {metric.text(high)}]"
    return text + _also_infinite(row, metric, value, "∞")


def _also_infinite(row: Mapping[str, Any], metric: Metric, value: float | None, sign: str) -> str:
    """How many values a finite mean leaves out."""
    count = row.get(f"{metric.name}_infinite")
    return f" (+{count} {sign})" if count and value is not None and math.isfinite(value) else ""


def _line(text: str) -> str:
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


def _titled(metric: Metric) -> str:
    return metric.heading + (f" ({metric.unit})" if metric.unit else "")
