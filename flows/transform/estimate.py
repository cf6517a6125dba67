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
from flows.interface.console import tell
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


def tell_plan(job: Job, mapping: Transform, options: BatchOptions) -> str:
    """Tell what a run of `job` would do; nothing is written anywhere."""
    left = Remaining.of(job, options)
    todo, done = left.samples, run.skipped(left)
    total = sum(len(unit.samples) for unit in job.units)
    before = Summary(skipped=total - len(todo) - done.failed - done.omitted, failed=done.failed, omitted=done.omitted)
    size = sum(sample.size for unit in job.units for sample in unit.samples)
    tell(f"{job.title} → {job.address}")
    made = f"; {before}" if len(todo) < total else ""
    tell(f"  {counted(total, 'image')}, {humanize.naturalsize(size)}{made}")
    plan = f"{len(todo):,} to do"
    if todo:
        trial = _tried(mapping, todo)
        plan += (
            _estimate(trial, todo, mapping.encoding.format)
            if trial.images
            else f", and none of those tried could be made; {trial.reason}"
        )
    tell(f"  {plan}")
    if words := replaced(left):
        tell(f"  the target {words}: the run will need --overwrite, or another target")
    tell("  a dry run: nothing was written")
    return plan


def _estimate(trial: DryRun, todo: Sequence[Entry], form: Format) -> str:
    size = sum(entry.size for entry in todo)
    ratio = size / trial.read
    written = "in the formats of the source" if form == "same" else f"as {form.upper()}"
    tried = f"{trial.images} of them" if len(todo) > 1 else "it"
    return (
        f" from {humanize.naturalsize(size)}: about {duration(trial.seconds * ratio)}, and about "
        f"{humanize.naturalsize(trial.written * ratio)} to write {written}, judged by trying {tried}"
    )


def _tried(mapping: Transform, todo: Sequence[Entry]) -> DryRun:
    """Images from all over the plan, one at first, which warms up, then more as long as they take no longer."""
    trial = _timed(mapping, todo[:1])
    if len(todo) > 1 and trial.seconds < SECONDS / 2:
        count = min(TRIED, max(1, int(SECONDS / max(trial.seconds, 0.1))))
        several = _timed(mapping, spread(todo[1:], count))
        return several if several.images else trial
    return trial


def spread(entries: Sequence[Entry], count: int) -> list[Entry]:
    """At most `count` of the entries, each once, from the first to the last; of one, the last."""
    count, last = min(count, len(entries)), len(entries) - 1
    return [entries[last - number * last // max(1, count - 1)] for number in reversed(range(count))]


def _timed(mapping: Transform, samples: Sequence[Entry]) -> DryRun:
    started = time.perf_counter()
    sizes = {sample.key: sample.size for sample in samples}
    items = list(mapping.made(samples, lambda made: made))
    made = [item for item in items if isinstance(item, Sample)]
    return DryRun(
        len(made),
        sum(sizes[item.row["key"]] for item in made),
        sum(len(item.data) for item in made),
        time.perf_counter() - started,
        next((reason_of(item) for item in items if not isinstance(item, Sample)), None),
    )
