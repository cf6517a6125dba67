"""`dtls/report`: HR, LR and SR images become a Parquet table, a summary and a page.

Unit: about 256 keys, with all their methods. Proof: its receipt, which holds its rows of the table.
"""

from flows.engine.flow import flow
from flows.evaluation.options import ReportOptions
from storage.stores.durable import unsynced

__all__ = ["ReportOptions", "report"]


@flow("report {options.out}")
def report(options: ReportOptions) -> str:
    """Compare SR images with the ground truth: a table, a summary, and a page."""
    from flows.evaluation.run import evaluate

    with unsynced(applies=not options.sync):
        return evaluate(options)
