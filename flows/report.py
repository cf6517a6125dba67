"""`dtls/report`: HR, LR and SR images, or generated and real ones, become a Parquet table, a summary and a page.

Unit: about 256 keys, with all their methods, or 256 images of all sets. Proof: its receipt, which holds its rows of
the table.
"""

from flows.engine.flow import flow
from flows.evaluation.options import ReportOptions
from storage.stores.durable import unsynced

__all__ = ["ReportOptions", "report"]


@flow("report {options.out}")
def report(options: ReportOptions) -> str:
    """Compare SR images with the ground truth, or generated images with real ones: tables, a summary, and a page."""
    if options.generated:
        from flows.evaluation.sets.run import evaluate
    else:
        from flows.evaluation.run import evaluate

    with unsynced(applies=not options.sync):
        return evaluate(options)
