"""Folders of a source that could not be listed this time: what was made of them before stays as it is."""

from flows.engine.job import Job, Remaining
from flows.engine.options import BatchOptions
from flows.inputs.contents import Contents, reason_of_refusal
from storage.receipts.receipts import Receipts
from storage.stores.location import Entry, StorageError


def made_before(contents: Contents, receipts: Receipts) -> list[Entry]:
    """The images below such folders that have receipts, as they were listed then."""
    if not contents.unlisted:
        return []
    below = tuple(f"{folder}/" for folder in contents.unlisted)
    made = (entry for entry, *_ in receipts.made({}) if entry.key.startswith(below))
    return [entry for entry in made if not reason_of_refusal(entry)]


def check_remaking(job: Job, options: BatchOptions, contents: Contents, before: list[Entry]) -> None:
    """StorageError where results of such images would have to be made again, with those of a shard of theirs."""
    lost = {entry.key for entry in before}
    gone = next((entry for entry in Remaining.of(job, options).samples if entry.key in lost), None) if lost else None
    if gone is not None:
        raise StorageError(
            f"{job.address}: the result of {gone.key} would have to be made again, and its folder in the source "
            f"cannot be listed; make {contents.unlisted[0]} readable, or choose another target"
        )
