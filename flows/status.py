"""`dtls status`: how far a run is, from what its target has; Prefect is not asked, and nothing is changed."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast, get_args

from pydantic import Field

from flows.inputs.keys import Names
from flows.interface.console import log, progress
from flows.interface.options import CORES, RUNNING, WHAT, Address, Options, Panels
from flows.interface.text import counted
from flows.training.settings import LOSSES, states
from storage.archives.writer import Packing, is_archive
from storage.images.encode import Encoding
from storage.images.formats import Format
from storage.receipts.owners import Owner, owner_of
from storage.receipts.receipts import PLANNED
from storage.receipts.status import Namer, RunStatus, standing
from storage.stores.location import Location

REASONS = 5


class StatusOptions(Options):
    """Of which run."""

    panels: ClassVar[Panels] = {
        WHAT: "target",
        RUNNING: "workers",
    }

    target: Address = Field(
        description="folder, archive or URL that a flow writes: shards, images, a report or a model"
    )
    workers: int = Field(CORES, ge=1, le=256, description="threads that read receipts, like 8")


def status(options: StatusOptions) -> str:
    """Print how far the run over a target is, and which run is active."""
    target = Location.of(options.target)
    packing = None
    if is_archive(options.target) and target.what_is_there() != "folder":
        packing = Packing(options.target)
        target = packing.staging
    if trained := states(entry.key for entry in target.list()):
        return _of_training(target, trained[0])
    if (owner := owner_of(target)) is not None and not target.exists(PLANNED):
        return f"{target}: nothing is done yet; {_work(owner)}"
    found = standing(target, options.workers, lambda count: progress(f"read {target}", count, "receipts"), _namer)
    for reason, count in found.reasons.most_common(REASONS):
        some = f"{found.examples[reason]} and {count - 1:,} more" if count > 1 else found.examples[reason]
        log(f"  failed: {some}: {reason}")
    if (more := len(found.reasons) - REASONS) > 0:
        log(f"  … and {counted(more, 'more reason')}; the manifest has them all")
    work = _work(found.owner, is_finished=found.is_finished and not found.left)
    is_packed_last = packing is not None and not found.left and not found.is_finished
    return f"{target}: {_progress_of(found)}; {'to be packed; ' if is_packed_last else ''}{work}"


def _namer(made_with: Mapping[str, Any]) -> Namer | None:
    """What results that were made with these options are called; None for shards, and where that is not known."""
    form, suffix = cast(Format, made_with.get("format")), made_with.get("suffix")
    if form not in get_args(Format) or not isinstance(suffix, str) or made_with.get("samples_per_shard") is not None:
        return None
    names = Names(Encoding(form).suffix, suffix)
    return lambda keys: names.among(keys).of


def _of_training(target: Location, state: str) -> str:
    """How far a training is: its newest state, and the last loss it has written."""
    done = int(state.split("-")[1].split(".")[0])
    lines = (target.read_if_there(LOSSES) or b"").decode(errors="replace").splitlines()
    loss = f", loss {lines[-1].partition(',')[2]}" if len(lines) > 1 else ""
    owner = owner_of(target)
    return f"{target}: {counted(done, 'step')} saved{loss}; " + (_work(owner) if owner else "no active run")


def _progress_of(found: RunStatus) -> str:
    share = f"{(found.samples - found.left) / found.samples:.0%}" if found.samples else "100%"
    parts = [
        f"{found.ok + found.under_way:,} done",
        f"{found.skipped:,} skipped",
        f"{found.failed:,} failed",
        f"{found.left:,} left",
    ]
    counts = ", ".join(part for part in parts if not part.startswith("0 "))
    return (
        f"{share} of {counted(found.samples, 'image')}: {counts}, in {found.done:,} of {counted(found.units, 'unit')}"
    )


def _work(owner: Owner | None, *, is_finished: bool = False) -> str:
    if owner is None:
        return "finished" if is_finished else "no active run; run it again to resume"
    if owner.is_dead:
        return f"its run ({owner}) has ended early; run it again to resume"
    return f"active run: {owner}"
