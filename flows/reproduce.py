"""`dtls/reproduce`: a table or figure of a paper, or an ablation: what is missing is trained, everything is measured.

Unit: a row. Proof: the receipts and training states of the flows it calls, so that a second run does only what is
missing. The table, with the paper's numbers beside ours, is `table-NAME.md` in the target; figures are beside it.
"""

from flows.engine.flow import flow
from flows.experiments.options import ReproduceOptions
from flows.experiments.studies import STUDIES, Reproducible
from flows.interface.console import log_markdown
from storage.receipts.lease import hold
from storage.stores.location import Location

__all__ = ["ReproduceOptions", "reproduce"]


@flow("reproduce table {options.table}")
def reproduce(options: ReproduceOptions) -> str:
    """Reproduce a table or figure: train what is missing, measure, and print the numbers side by side."""
    from flows.experiments.reproduction import Reproduction

    study = STUDIES.get(options.table)
    made: Reproducible = Reproduction(options) if study is None else study.load()(options)
    made.check()
    made.testbed.data.check_learned()
    out, name = Location.of(options.out), f"table-{options.table}.md"
    with hold(out, "reproduce"):
        document = made.document()
        for figure, data in document.figures.items():
            out.write(figure, data)
        out.write(name, document.text.encode())
    log_markdown(document.text)
    return out.address(name)
