"""`dtls compare-reports`: the runs of reports as one table over time, in `history.parquet` and `history.md`."""

from typing import ClassVar

from pydantic import Field

from flows.interface.options import RESULTS, WHAT, Address, Options, Panels


class CompareReportsOptions(Options):
    """Which reports are put into one table."""

    panels: ClassVar[Panels] = {
        WHAT: "reports",
        RESULTS: "out",
    }

    reports: list[Address] = Field(min_length=1, description="folders or URLs of one or more reports")
    out: Address = Field(description="folder or URL for history.parquet and history.md")


def compare_reports(options: CompareReportsOptions) -> str:
    """Put the runs of several reports into one table, the oldest first."""
    from flows.evaluation.history import compare

    return compare(options.reports, options.out)
