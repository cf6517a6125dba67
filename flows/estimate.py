"""What a run would do, and about how long: `--dry-run`. A few pictures are made, and kept nowhere."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import humanize

from flows import fanout
from flows.console import tell
from flows.options import BatchOptions
from flows.pictures import Transform
from flows.summary import Summary, duration
from storage.locations import Entry
from storage.parallel import ordered_map
from storage.shards import Sample

TRIED, SECONDS = 16, 20.0


@dataclass(frozen=True)
class Trial:
    """What some pictures took: how many, the bytes they came from and became, and seconds."""

    pictures: int
    read: int
    written: int
    seconds: float


def tell_plan(job: fanout.Job, mapping: Transform, options: BatchOptions) -> str:
    """Tell what a run of `job` would do; nothing is written anywhere."""
    left = fanout.Left.of(job, options)
    todo, failed = fanout.samples_left(job, left), fanout.skipped(job, left).failed
    total = sum(len(unit.samples) for unit in job.units)
    before = Summary(skipped=total - len(todo) - failed, failed=failed)
    size = sum(sample.size for unit in job.units for sample in unit.samples)
    bytes_left = sum(entry.size for entry in todo)
    tell(f"{job.title} → {job.address}")
    made = f"; {before}" if before.skipped or failed else ""
    tell(f"  {total:,} pictures, {humanize.naturalsize(size)}{made}")
    plan = f"{len(todo):,} to do"
    if todo:
        trial = _tried(mapping, todo)
        if trial.pictures:
            ratio = bytes_left / trial.read
            plan += (
                f" from {humanize.naturalsize(bytes_left)}: about {duration(trial.seconds * ratio)}, and about "
                f"{humanize.naturalsize(trial.written * ratio)} to write, by {trial.pictures} of them"
            )
        else:
            plan += ", and none of those tried could be made; a run says why"
    tell(f"  {plan}")
    tell("  a dry run: nothing was written")
    return plan


def _tried(mapping: Transform, todo: Sequence[Entry]) -> Trial:
    """Pictures from all over the plan, one at first, which warms up, then more as long as they take no longer."""
    chosen = [todo[round(i * (len(todo) - 1) / TRIED)] for i in range(min(TRIED, len(todo)))]
    trial = _timed(mapping, chosen[:1])
    if len(chosen) > 1 and trial.seconds < SECONDS / 2:
        several = max(1, min(len(chosen) - 1, int(SECONDS / max(trial.seconds, 0.1))))
        trial = _timed(mapping, chosen[1 : 1 + several])
    return trial


def _timed(mapping: Transform, samples: Sequence[Entry]) -> Trial:
    started = time.perf_counter()
    sizes = {sample.key: sample.size for sample in samples}
    made = [
        item
        for item in ordered_map(mapping.encoded, mapping.computed(samples), mapping.workers)
        if isinstance(item, Sample)
    ]
    return Trial(
        len(made),
        sum(sizes[item.row["key"]] for item in made),
        sum(len(item.data) for item in made),
        time.perf_counter() - started,
    )
