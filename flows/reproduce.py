"""`dtls/reproduce`: a table of the paper, or an ablation: what is missing is trained, everything is measured.

Unit: a row. Proof: the receipts and training states of the flows it calls, so that a second run does only what is
missing. The table, with the paper's numbers beside ours, is `table-NAME.md` in the target.
"""

from flows.engine.flow import flow
from flows.experiments.options import ReproduceOptions
from flows.interface.console import log_markdown
from storage.receipts.lease import hold
from storage.stores.location import Location

__all__ = ["ReproduceOptions", "reproduce"]


@flow("reproduce table {options.table}")
def reproduce(options: ReproduceOptions) -> str:
    """Reproduce a table of the paper: train what is missing, measure, and print the numbers side by side."""
    from flows.experiments.reproduction import Reproduction

    made = Reproduction(options)
    made.check()
    made.testbed.data.check_learned()
    out, name = Location.of(options.out), f"table-{options.table}.md"
    with hold(out, "reproduce"):
        table = made.markdown(made.measured())
        out.write(name, table.encode())
    log_markdown(table)
    return out.address(name)
