"""`dtls/report`: HR, LR and SR pictures become a Parquet table, a summary and a page.

Unit: about 256 keys of one method. Proof: its receipt, which holds its rows of the table.
"""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Annotated, Any, cast

import pandas as pd
from prefect import flow
from prefect.artifacts import create_markdown_artifact
from pydantic import BeforeValidator, Field

from dtls.checkpoint import CheckpointError
from dtls.degradation import Protocol
from dtls.devices import best_device
from flows import fanout
from flows.comparison import Collection, Comparison, records
from flows.console import in_flow_run, tell_markdown
from flows.options import Address, BatchOptions
from flows.sources import protocols, refuse_within
from reports.gallery import contact_sheet
from reports.lpips_alexnet import load_lpips
from reports.page import render_page
from reports.tables import SCHEMA, markdown_table, read_metrics, summarise, summary_json, write_metrics, write_summary
from storage.leases import STATE, hold
from storage.locations import Location, StorageError
from storage.receipts import Receipts

TABLE, SUMMARY, PAGE, SHEET = "metrics.parquet", "summary.json", "index.html", "contact-sheet.png"
PUBLISHED = f"{STATE}/published.json"
"""What the pages at a target stand on: written last."""
SHEET_ROWS = 8


def _named(value: object) -> object:
    """NAME=FOLDER texts, or a mapping, as a mapping; ValueError for names that cannot stand for a method."""
    if isinstance(value, list | tuple):
        pairs = [str(item).partition("=") for item in value]
        if any(not separator for _, separator, _ in pairs):
            raise ValueError("write each as NAME=FOLDER")
        names = [name for name, _, _ in pairs]
        if len(names) > len(set(names)):
            raise ValueError("two results have the same name")
        value = {name: folder for name, _, folder in pairs}
    for name in value if isinstance(value, dict) else ():
        if name in ("LR", "HR") or not re.fullmatch(r"[\w.+×-]{1,64}", str(name)):
            raise ValueError(
                f"{name!r} is no name for a method: letters, digits, and . _ + × - make one; LR and HR are taken"
            )
    return value


class ReportOptions(BatchOptions):
    """What to compare."""

    hr: Address = Field(description="folder or URL of the HR pictures, the ground truth")
    lr: Address = Field(description="folder or URL of the LR pictures that the methods were given")
    sr: Annotated[dict[str, Address], BeforeValidator(_named)] = Field(
        min_length=1, description="results to compare, NAME=FOLDER, one or more"
    )
    out: Address = Field(description="folder or URL for the table, the summary, the page and the contact sheet")
    protocol: Protocol | None = Field(
        None,
        description="the downscaling that made the LR pictures; by default what their manifest says, else reference",
    )
    any_protocol: bool = Field(
        False, description="measure results of models that were trained for another downscaling than the LR pictures'"
    )
    title: str = Field("Super-resolution compared", min_length=1, description="heading of the page")
    gallery: int = Field(24, ge=0, le=1000, description="pictures shown on the page")
    batch_size: int = Field(16, ge=1, le=1024, description="pictures of one size that are measured together")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, …")


@flow(name="dtls", flow_run_name="report {options.out}")
def report(options: ReportOptions) -> str:
    """Compare SR pictures with the ground truth: a table, a summary, and a page."""
    out = Location.of(options.out)
    for address in (options.hr, options.lr, *options.sr.values()):
        refuse_within(out, address)
    hr, lr = Collection.of(options.hr), Collection.of(options.lr)
    protocol = _protocol(options.protocol, options.lr)
    if not options.any_protocol:
        _refuse_others(options.sr, protocol)
    device = best_device(options.device)
    comparison = Comparison(
        hr=hr,
        lr=lr,
        sr={name: Collection.of(address) for name, address in options.sr.items()},
        protocol=protocol,
        lpips=load_lpips(device),
        device=device,
        batch_size=options.batch_size,
        workers=options.workers,
        lock=Lock(),
    )
    job = fanout.Job(
        title=f"compare {', '.join(options.sr)}",
        units=comparison.units(),
        work=comparison.work,
        receipts=Receipts(out, "report", SCHEMA, TABLE),
        gather=write_metrics,
    )
    try:
        fanout.run(job, options)
    except fanout.RunError:  # what could be measured is worth a page, too
        if out.exists(TABLE):
            _publish(out, comparison, options)
        raise
    _publish(out, comparison, options)
    return out.address(PAGE)


def _publish(out: Location, comparison: Comparison, options: ReportOptions) -> None:
    """Make summary, page and contact sheet of the table; those that stand on this very table already are left."""
    configuration = {**options.model_dump(include={"hr", "lr", "sr", "title"}), "protocol": comparison.protocol}
    with TemporaryDirectory(prefix="dtls-") as folder:
        table = Path(folder) / TABLE
        out.download(TABLE, table)
        frame = read_metrics(table)
    means = summarise(frame)
    stands_on = json.dumps([configuration, options.gallery, *astuple(out.info(TABLE))], sort_keys=True).encode()
    there = {entry.key for entry in out.list()}
    if not ({SUMMARY, PAGE, PUBLISHED} <= there and out.read(PUBLISHED) == stands_on):
        with hold(out, "report"):
            _write_pages(out, comparison, options, configuration, frame, means)
            out.write(PUBLISHED, stands_on)
    if in_flow_run():
        link = f"Page: `{out.address(PAGE)}`"
        create_markdown_artifact(f"# {options.title}\n\n{markdown_table(means)}\n\n{link}\n", key="dtls-report")
    tell_markdown(markdown_table(means))


def _write_pages(
    out: Location,
    comparison: Comparison,
    options: ReportOptions,
    configuration: Mapping[str, Any],
    frame: pd.DataFrame,
    means: list[dict[str, Any]],
) -> None:
    with out.writing(SUMMARY) as summary:
        write_summary(summary_json(frame, configuration), summary)
    gallery = comparison.gallery(frame, options.gallery)
    if gallery:
        buffer = io.BytesIO()
        contact_sheet(gallery[:SHEET_ROWS]).save(buffer, "PNG", optimize=True)
        out.write(SHEET, buffer.getvalue())
    page = render_page(options.title, means, records(frame), gallery, configuration)
    out.write(PAGE, page.encode())


def _protocol(wish: Protocol | None, lr: str) -> Protocol:
    """The protocol of the LR pictures; StorageError where their manifest says another than was asked for."""
    made = protocols(lr)
    if not made:
        return wish or "reference"
    if (wish is not None and made != {wish}) or len(made) > 1:
        raise StorageError(f"{lr}: made with the protocol {', '.join(sorted(made))}, not {wish}")
    return cast(Protocol, made.pop())


def _refuse_others(results: Mapping[str, str], protocol: Protocol) -> None:
    """CheckpointError for results whose model was trained for another protocol than that of the LR pictures."""
    for name, address in results.items():
        if others := protocols(address, "dtls") - {protocol}:
            raise CheckpointError(
                f"{name} ({address}) is of a model for {', '.join(sorted(others))}, and the LR pictures are made by "
                f"{protocol}; --any-protocol measures it all the same"
            )
