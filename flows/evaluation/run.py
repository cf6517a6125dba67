"""From the options of a report to its table, summary and page."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from dtls.degradations.recorded import task_in_words
from flows.engine import run as fanout
from flows.engine.job import Job, WorkerSpec
from flows.evaluation.collection import Collection
from flows.evaluation.matching import Keys, Naming, Template
from flows.evaluation.measure import RECEIPT, as_in_table
from flows.evaluation.options import ReportOptions
from flows.evaluation.outputs import TABLE
from flows.evaluation.publish import Publication
from flows.evaluation.spec import EvaluationSpec
from flows.inputs.compatibility import chosen_protocol
from flows.inputs.sources import SourceSpec, check_within
from flows.interface.console import log
from flows.interface.errors import RunError
from flows.interface.text import words_of
from reports.figures.fonts import check_unreadable
from reports.metrics.degraded import can_be_measured
from reports.metrics.planes import Measure
from reports.tables.table import write_metrics
from storage.receipts.receipts import Receipts
from storage.receipts.units import Row
from storage.stores.location import Location, StorageError

SHOWN_OPTIONS = {"sr", "hr", "lr", "title", "gallery", "figures", "rating", "ratings", "sets", "run"}


def evaluate(options: ReportOptions) -> str:
    """Compare what the options name; the address of the page."""
    out = Location.of(options.out)
    for address in filter(None, (options.hr, options.lr, *options.sr.values())):
        check_within(out, address)
    if options.figures:
        check_unreadable("".join(options.sr), "--figures")
    protocol, note = chosen_protocol(options.protocol, options.lr, options.sr, any_protocol=options.any_protocol)
    if not can_be_measured(protocol) and options.hr is None:
        raise StorageError(
            note or f"{options.lr}: made by {protocol}, which has no consistency: nothing to measure without --hr"
        )
    hr, lr, sr = _collections(options)
    spec = EvaluationSpec(
        hr=_reopened(hr, options.hr, options),
        lr=_reopened(lr, options.lr, options),
        sr=tuple(
            (
                name,
                SourceSpec.of(
                    options.sr[name], sr[name].source, options.names_encoding, follow_links=options.follow_links
                ),
            )
            for name in sr
        ),
        protocol=protocol,
        measure=Measure(options.colour, options.border, options.data_range),
        network=None if options.lpips == "none" or options.hr is None else options.lpips,
        device=options.device,
        batch_size=options.batch_size,
        workers=options.workers,
        rates=options.rates,
    )
    comparison = replace(spec.comparison(hr, lr, sr, is_here=options.runner == "threads"), note=note)
    job = Job(
        title=f"compare {', '.join(options.sr)}",
        units=comparison.units(),
        work=comparison.work,
        worker_spec=WorkerSpec(spec, uses_gpu=True),
        receipts=Receipts(out, "report", RECEIPT, TABLE),
        gather=_gather,
    )
    included = SHOWN_OPTIONS | ({"features"} if options.sets else set()) | ({"rates"} if options.rates else set())
    shown = options.model_dump(include=included) | {"title": options.title or title_of(protocol)}
    publication = Publication(out, job.units, shown, comparison)
    publication.check_foreign_files()
    try:
        fanout.run(job, options)
    except RunError:
        _publish_what_there_is(publication)
        raise
    return publication.publish()


def title_of(degradation: str) -> str:
    """The heading of a report on undoing a degradation."""
    task = task_in_words(degradation)
    return "Super-resolution compared" if task is None else f"{task[0].upper()}{task[1:]}: methods compared"


def _collections(
    options: ReportOptions,
) -> tuple[Collection | None, Collection | None, dict[str, Collection]]:
    """HR, LR and the results, by the keys that HR has, or LR without HR."""
    keys = Keys.of(options.hr or options.lr or "", options)
    if options.hr is None:
        hr, lr = None, keys.truth
    else:
        hr, lr = keys.truth, None
        if options.lr is not None:
            template = Template(options.lr_name) if options.lr_name is not None else None
            lr = keys.matched(options.lr, Naming("--lr-name", template))
            keys = keys.joined_by(lr)
    return hr, lr, {name: keys.matched(address, options.naming(name)) for name, address in options.sr.items()}


def _reopened(collection: Collection | None, address: str | None, options: ReportOptions) -> SourceSpec | None:
    if collection is None or address is None:
        return None
    return SourceSpec.of(address, collection.source, options.names_encoding, follow_links=options.follow_links)


def _publish_what_there_is(publication: Publication) -> None:
    """A page of a run that failed, which is what the run ends with, whatever becomes of the page."""
    try:
        if publication.out.exists(TABLE):
            publication.publish()
    except Exception as error:
        log(f"no page of what there is: {words_of(error)}")


def _gather(rows: Iterable[Row], path: Path) -> None:
    write_metrics(as_in_table(rows), path)
