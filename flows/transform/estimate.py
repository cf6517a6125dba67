"""What a run would do, and about how long: `--dry-run`. A few images are made, and kept nowhere."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import humanize

from flows.engine import run
from flows.engine.job import Job, Remaining
from flows.engine.options import BatchOptions
from flows.engine.replacing import replaced
from flows.engine.summary import Summary, reason_of
from flows.interface.console import log
from flows.interface.text import counted, duration
from flows.transform.pipeline import Transform
from storage.images.formats import Format
from storage.shards.write import Sample
from storage.stores.location import Entry

TRIED, SECONDS = 16, 20.0


@dataclass(frozen=True)
class DryRun:
    """What some images took: how many were made, from and to how many bytes, seconds, and why the first was not."""

    images: int
    read: int
    written: int
    seconds: float
    reason: str | None


def log_plan(job: Job, transform: Transform, options: BatchOptions) -> str:
    """Tell what a run of `job` would do; nothing is written anywhere."""
    left = Remaining.of(job, options)
    todo, done = left.samples, run.skipped(left)
    total = sum(len(unit.samples) for unit in job.units)
    before = Summary(skipped=total - len(todo) - done.failed - done.omitted, failed=done.failed, omitted=done.omitted)
    size = sum(sample.size for unit in job.units for sample in unit.samples)
    log(f"{job.title} → {job.address}")
    made = f"; {before}" if len(todo) < total else ""
    log(f"  {counted(total, 'image')}, {humanize.naturalsize(size)}{made}")
    plan = f"{len(todo):,} to do"
    if todo:
        dry_run = _tried(transform, todo)
        plan += (
            _estimate(dry_run, todo, transform.encoding.format)
            if dry_run.images
            else f", and none of those tried could be made; {dry_run.reason}"
        )
    log(f"  {plan}")
    if words := replaced(left):
        log(f"  the target {words}: the run will need --overwrite, or another target")
    log("  a dry run: nothing was written")
    return plan


def _estimate(dry_run: DryRun, todo: Sequence[Entry], form: Format) -> str:
    size = sum(entry.size for entry in todo)
    ratio = size / dry_run.read
    written = "in the formats of the source" if form == "same" else f"as {form.upper()}"
    tried = f"{dry_run.images} of them" if len(todo) > 1 else "it"
    return (
        f" from {humanize.naturalsize(size)}: about {duration(dry_run.seconds * ratio)}, and about "
        f"{humanize.naturalsize(dry_run.written * ratio)} to write {written}, judged by trying {tried}"
    )


def _tried(transform: Transform, todo: Sequence[Entry]) -> DryRun:
    """Images from all over the plan, one at first, which warms up, then more as long as they take no longer."""
    dry_run = _timed(transform, todo[:1])
    if len(todo) > 1 and dry_run.seconds < SECONDS / 2:
        count = min(TRIED, max(1, int(SECONDS / max(dry_run.seconds, 0.1))))
        several = _timed(transform, spread(todo[1:], count))
        return several if several.images else dry_run
    return dry_run


def spread(entries: Sequence[Entry], count: int) -> list[Entry]:
    """At most `count` of the entries, each once, from the first to the last; of one, the last."""
    count, last = min(count, len(entries)), len(entries) - 1
    return [entries[last - number * last // max(1, count - 1)] for number in reversed(range(count))]


def _timed(transform: Transform, samples: Sequence[Entry]) -> DryRun:
    started = time.perf_counter()
    sizes = {sample.key: sample.size for sample in samples}
    items = list(transform.made(samples, lambda made: made))
    made = [item for item in items if isinstance(item, Sample)]
    return DryRun(
        len(made),
        sum(sizes[item.row["key"]] for item in made),
        sum(len(item.data) for item in made),
        time.perf_counter() - started,
        next((reason_of(item) for item in items if not isinstance(item, Sample)), None),
    )
