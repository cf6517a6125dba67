"""The results of a user study in words and tables: for the page, and as Markdown."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reports.tables.render import markdown, markdown_table

Form = Callable[[float], str]


def percent(share: float) -> str:
    """`86 %`."""
    return f"{share:.0%}".replace("%", " %")


def signed(strength: float) -> str:
    """`+0.83`, `−1.26`."""
    return f"{strength:+.2f}".replace("-", "−")


COLUMNS: dict[str, dict[str, tuple[str, Form]]] = {
    "grades": {"satisfied": ("Satisfied", percent), "opinion": ("Mean opinion", "{:.2f}".format)},
    "pairs": {"preferred": ("Preferred", percent), "strength": ("Bradley–Terry", signed)},
}
"""The columns of each table: their heads, and how a number is printed; more is better in each."""


@dataclass(frozen=True)
class Number:
    """A number as it is printed, its interval (`55 % … 81 %`), and whether it is the best of its column."""

    text: str
    interval: str
    best: bool


@dataclass(frozen=True)
class Table:
    """The results of one kind of question, grades or pairs: heads of the columns, and one row a method.

    The best method comes first.

    rows: method, numbers (one a head), ratings and raters (counts).
    """

    heads: list[str]
    rows: list[tuple[str, list[Number], int, int]]


def ratings_tables(summary: Mapping[str, Any]) -> list[Table]:
    """The tables of the mapping of `summarise_ratings`: of grades, of pairs, or of both; none without ratings."""
    return [_table(summary[way], columns) for way, columns in COLUMNS.items() if summary[way]]


def ratings_facts(summary: Mapping[str, Any]) -> list[str]:
    """Who rated how much: `3 raters`, `24 ratings`, and how many repeats were answered as before."""
    facts = [_counted(summary["raters"], "rater"), _counted(summary["ratings"], "rating")]
    if summary["agreement"] is not None:
        facts.append(
            f"{percent(summary['agreement'])} of {_counted(summary['repeats'], 'repeat')} answered as before"
        )
    return facts


def ratings_note(summary: Mapping[str, Any]) -> str:
    """What the numbers mean, and what their intervals allow for."""
    notes = ["The 95 % intervals allow for other raters and images."]
    if summary["raters"] == 1:
        notes = ["The 95 % intervals allow for other images, not for other raters: there is only one."]
    if summary["grades"]:
        notes.append("Satisfied: grade 3 (good) or 4 (excellent).")
    if summary["pairs"]:
        notes.append("Preferred: the share of a method's pairs, half for no difference.")
        notes.append("Bradley–Terry: strengths in natural logarithms, whose mean is 0.")
    return " ".join(notes)


def ratings_markdown(summary: Mapping[str, Any]) -> str:
    """The mapping of `summarise_ratings` as Markdown: who rated how much, and a table for grades and for pairs."""
    tables = map(_markdown, ratings_tables(summary))
    return "\n\n".join([" · ".join(ratings_facts(summary)), *tables, ratings_note(summary)]) + "\n"


def _table(rows: list[dict[str, Any]], columns: Mapping[str, tuple[str, Form]]) -> Table:
    def number(row: Mapping[str, Any], name: str, form: Form) -> Number:
        text, low, high = (form(row[key]) for key in (name, f"{name}_low", f"{name}_high"))
        return Number(text, f"{low} … {high}", text == form(max(other[name] for other in rows)))

    return Table(
        [head for head, _ in columns.values()],
        [
            (
                row["method"],
                [number(row, name, form) for name, (_, form) in columns.items()],
                row["ratings"],
                row["raters"],
            )
            for row in rows
        ],
    )


def _markdown(table: Table) -> str:
    head = ["Method", *(f"{head} ↑" for head in table.heads), "Ratings", "Raters"]
    return markdown_table(
        head,
        [
            [markdown(method), *(f"{n.text} ({n.interval})" for n in numbers), str(ratings), str(raters)]
            for method, numbers, ratings, raters in table.rows
        ],
    )


def _counted(count: int, name: str) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"
