"""From the options of a report on generated images to its tables, summary and page."""

from flows.engine import run as fanout
from flows.engine.job import Job, WorkerSpec
from flows.evaluation.collection import Collection
from flows.evaluation.options import REAL, TRAIN, ReportOptions
from flows.evaluation.outputs import SETS_TABLE
from flows.evaluation.sets.classes import check_classes
from flows.evaluation.sets.extract import FLOW, RECEIPT, SetsSpec
from flows.evaluation.sets.publish import SetsPublication
from flows.inputs.methods import found
from flows.inputs.sources import SourceSpec, check_within
from storage.receipts.receipts import Receipts
from storage.stores.location import Location

SHOWN_OPTIONS = {"generated", "real", "train", "title", "gallery", "run", "features", "classifier"}
TITLE = "Generated images compared with real ones"


def evaluate(options: ReportOptions) -> str:
    """Compare the sets that the options name; the address of the page."""
    out = Location.of(options.out)
    addresses = {**options.generated, REAL: options.real or ""} | ({TRAIN: options.train} if options.train else {})
    for address in addresses.values():
        check_within(out, address)
    collections = {name: Collection.of(address, options) for name, address in addresses.items()}
    spec = SetsSpec(
        sets=tuple(
            (
                name,
                SourceSpec.of(
                    address, collections[name].source, options.names_encoding, follow_links=options.follow_links
                ),
            )
            for name, address in addresses.items()
        ),
        features=options.features,
        device=options.device,
        batch_size=options.batch_size,
        workers=options.workers,
        classifier=found(options.classifier) if options.classifier else None,
    )
    sets = spec.image_sets(collections, is_here=options.runner == "threads")
    if sets.classify is not None:
        check_classes(options.real or "", collections[REAL], sets.classify.classes)
    job = Job(
        title=f"features of {', '.join(addresses)}",
        units=sets.units(),
        work=sets.work,
        worker_spec=WorkerSpec(spec, uses_gpu=True),
        receipts=Receipts(out, FLOW, RECEIPT, SETS_TABLE),
    )
    shown = options.model_dump(include=SHOWN_OPTIONS) | {"title": options.title or TITLE}
    publication = SetsPublication(out, job.units, shown, sets)
    publication.check_foreign_files()
    fanout.run(job, options)
    return publication.publish()
