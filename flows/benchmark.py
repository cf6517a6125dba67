"""`dtls/benchmark`: methods trained on the same data for the same time, and tested on the same images.

Unit: a method. Proof: the receipts and training states of the flows it calls, so that a second run does only what is
missing. The table is `table.md`; a report with images is stored beside it for each LR size.
"""

from flows.engine.flow import flow
from flows.experiments.options import BenchmarkOptions
from flows.interface.console import log_markdown
from storage.receipts.lease import hold
from storage.stores.location import Location

__all__ = ["BenchmarkOptions", "benchmark"]


@flow("benchmark {options.source}")
def benchmark(options: BenchmarkOptions) -> str:
    """Train methods for the same time, test them on the same images, and set the numbers side by side."""
    from flows.experiments.benchmark import Benchmark

    made = Benchmark(options)
    made.check()
    made.testbed.data.check_learned()
    out = Location.of(options.out)
    with hold(out, "benchmark"):
        made.train()
        table = made.table(made.tested())
        out.write("table.md", table.encode())
    log_markdown(table)
    return out.address("table.md")
