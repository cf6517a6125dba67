"""`dtls verify`: whether a target still matches its receipts, and with `--repair`, which of them no longer count.

It makes nothing: the next run of the flow makes what has no receipt.
"""

from collections.abc import Sequence, Set
from itertools import chain
from typing import ClassVar

from pydantic import Field

from flows.evaluation.outputs import SETS_TABLE, TABLE
from flows.inputs.methods import checkpoint_folder
from flows.interface.console import log, progress
from flows.interface.errors import RunError
from flows.interface.options import CORES, RUNNING, WHAT, Address, Options, Panels
from flows.interface.text import counted
from storage.archives.writer import Packing, is_archive
from storage.receipts.agreement import Gathered
from storage.receipts.lease import hold
from storage.receipts.schemas import MADE_OF
from storage.stores.location import Location
from storage.verification import RECEIPT, NoReceiptsError, Problem, Verification

LINES, NAMES = 20, 5
TABLES = {
    "report": Gathered(TABLE, lambda row: f"{row['method']}/{row['key']}", frozenset(MADE_OF)),
    "report-sets": Gathered(SETS_TABLE),
}
"""Of flows whose table is not made of receipts as they are."""


class VerifyOptions(Options):
    """What to verify, and whether to drop the receipts of what is bad."""

    panels: ClassVar[Panels] = {
        WHAT: "target",
        RUNNING: "workers",
    }

    target: Address = Field(description="folder, archive or URL that a flow wrote: shards, images, report or model")
    repair: bool = Field(
        False,
        description="remove the receipts of damaged files, and damaged tables, so that the next run of the flow "
        "makes them again",
    )
    workers: int = Field(CORES, ge=1, le=256, description="threads that read and hash, like 8")


def verify(options: VerifyOptions) -> str:
    """Recheck every file, hash and row of a target, and print what is wrong; of a model, whether it can be loaded."""
    target = Location.of(options.target)
    packing = Packing(options.target) if is_archive(options.target) and target.what_is_there() != "folder" else None
    receipts = packing.staging if packing else target
    try:
        found = Verification(receipts, options.workers, packing, TABLES)
    except NoReceiptsError:
        if (model := _model_at(target)) is None:
            raise
        return model
    reported: list[Problem] = []
    remove: set[str] = set()
    others: set[str] = set()
    total, files, stuck = 0, 0, 0
    with progress(f"verify {target}", len(found.claims), "files") as advance:
        for problem in chain(found.damaged, found.files(advance), found.tables()):
            total += 1
            files += problem.file in found.claims
            stuck += problem.is_open
            if problem.file not in found.claims and problem not in found.damaged:
                others.add(problem.file)
            remove |= problem.remove
            if len(reported) < LINES:
                reported.append(problem)
    _log("", reported, total)
    _log("not in any receipt: ", found.strays())
    _log("left by a run that was killed: ", found.leftovers())
    summary = f"verify {target}: {_summary(found, files)}"
    if others:
        summary += f"; {_listed(others)} {'does' if len(others) == 1 else 'do'} not match the receipts"
    elif not found.claims and not total:
        summary += "; what the run made is whole"
    log(summary)
    if total and not options.repair:
        first = (
            f"run `dtls verify {target} --repair`, then the flow again" if remove or stuck else "run the flow again"
        )
        raise RunError(f"{target}: {first}, which makes it whole")
    if remove:
        _repair(receipts, remove)
    if stuck:
        raise RunError(f"{target}: {counted(stuck, 'file')} could not be read, so no receipt was dropped for that")
    return summary


def _model_at(target: Location) -> str | None:
    """What a model there is, loaded, as it has no receipts; None for none, CheckpointError for a bad one."""
    from dtls.checkpoints.checkpoint import CONFIG, WEIGHTS, load_hashed

    if not (target.exists(CONFIG) and target.exists(WEIGHTS)):
        return None
    with checkpoint_folder(target.url) as folder:
        model, digest = load_hashed(folder)
    summary = f"verify {target}: a model of the method {model.name} that can be loaded (sha256 {digest[:16]}…)"
    log(summary)
    return summary


def _log(what: str, items: Sequence[object], total: int | None = None) -> None:
    """A line an item, the first ones, and how many more there are of `total`."""
    for item in items[:LINES]:
        log(f"  {what}{item}")
    if (more := (total or len(items)) - LINES) > 0:
        log(f"  … and {more:,} more")


def _summary(found: Verification, bad: int) -> str:
    files, readable = len(found.claims), counted(len(found.receipts) - len(found.damaged), "receipt")
    if bad:
        says = "does not match its receipt" if bad == 1 else "do not match their receipts"
        parts = [f"{bad:,} of {counted(files, 'file')} {says}"]
    elif files:
        parts = [f"{counted(files, 'file')} in {readable} {'is' if files == 1 else 'are'} whole"]
    else:
        parts = [f"{readable} can be read"]
    if found.damaged:
        parts.append(f"{counted(len(found.damaged), 'receipt')} cannot be read")
    return "; ".join(parts)


def _repair(target: Location, remove: set[str]) -> None:
    with hold(target, "verify"):
        for key in sorted(remove):
            target.delete(key)
    receipts = {key for key in remove if RECEIPT.fullmatch(key)}
    dropped = [counted(len(receipts), "receipt")] if receipts else []
    dropped += [_listed(remove - receipts)] if remove - receipts else []
    log(f"dropped {' and '.join(dropped)}; run the flow again, which makes it whole")


def _listed(files: Set[str]) -> str:
    """The names of files, the first ones."""
    names = sorted(files)[:NAMES]
    return ", ".join([*names, *(["…"] if len(files) > NAMES else [])])
