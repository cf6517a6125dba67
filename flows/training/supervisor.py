"""The process that trains, seen from the flow: its folder, its start and its end, and what it reports meanwhile.

A stopped training may finish its step and save. What it saves is published to the target whenever it has saved.
"""

import json
import subprocess
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from dtls.checkpoints.checkpoint import CONFIG, WEIGHTS, save_tensors
from dtls.errors import CheckpointError, TrainingError
from dtls.models.base import Model
from flows.interface.console import Advance, log, progress
from flows.interface.outcome import NothingToDo
from flows.training.events import Event, Failed, Logged, Saved, Started, Stepped, event_of
from flows.training.settings import ANOTHER_S, LOSSES, Group, Settings, states, states_in
from storage.receipts.lease import Lease
from storage.receipts.owners import LostError
from storage.stores.location import Location, StorageError
from storage.stores.scratch import scratch_folder

GRACE_SECONDS = 25.0
"""How long a stopped training may take to save; Prefect gives a cancelled flow run 30 s."""
MODEL_FILES = (CONFIG, WEIGHTS)


@contextmanager
def saved_weights(model: Model) -> Iterator[str]:
    """The path of a model's weights, for as long as the training process may read them."""
    with scratch_folder() as folder:
        save_tensors(dict(model.state_dict()), folder / WEIGHTS)
        yield str(folder / WEIGHTS)


def states_to_resume(target: Location, there: Collection[str], resume: bool) -> list[str]:
    """The training states at a target; a line of the log where there are none to resume from.

    StorageError where a new training would overwrite what is there, CheckpointError where that is damaged.
    """
    kept = states(there)
    if WEIGHTS in there and not kept:
        raise StorageError(f"{target}: holds a model that cannot be trained on; choose another folder")
    if kept and not resume:
        raise StorageError(f"{target}: {ANOTHER_S}")
    if resume and CONFIG in there and not _is_json(target.read(CONFIG)):
        if not kept:
            raise CheckpointError(
                f"{target.address(CONFIG)}: empty or damaged, and there is no training state to resume from; "
                "remove it to train from the beginning"
            )
        log(f"{target.address(CONFIG)}: empty or damaged; it is made again of the newest whole training state")
    if resume and not kept:
        log(f"{target}: there is no training state to resume from; training starts from the beginning")
    return kept


def _is_json(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False


@contextmanager
def training_folder(
    target: Location, present: Sequence[str], *, publishes: bool
) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A local folder to train in, with the target's files, and what brings the target up to date from it."""
    if target.local is not None:
        yield target.local, lambda: None
        return
    with scratch_folder() as folder:
        there: dict[str, int] = {}

        def publish() -> None:
            kept = states_in(folder)
            for file in (LOSSES, *kept, *MODEL_FILES):  # in the order in which they are saved
                with suppress(FileNotFoundError):  # not saved yet, or no longer kept
                    saved = (folder / file).stat().st_mtime_ns
                    if saved != there.get(file):
                        target.upload(file, folder / file)
                        there[file] = saved
            for state in set(states(there)) - set(kept):
                target.delete(state)
                del there[state]

        try:
            for file in present:
                target.download(file, folder / file)
                there[file] = (folder / file).stat().st_mtime_ns
            yield folder, publish if publishes else lambda: None
        except StorageError as error:  # else all that was saved has been published by now
            kept = folder.rename(folder.with_name(folder.name.replace("temporary", "training")))
            raise StorageError(f"{error}; the model is kept in {kept}") from error


def training(settings: Settings, group: Group, publish: Callable[[], None], lease: Lease | None) -> str:
    """Run the training process to its end, and publish whenever it has saved; the words for how it ended.

    lease: None on all machines but the first one of several.
    """
    with scratch_folder() as folder, progress("train", int(settings.recipe["steps"]), "steps") as advance:
        path = folder / "settings.json"
        path.write_text(json.dumps(asdict(settings)))
        course = _Course(settings, group, publish, lease, advance)
        try:
            _supervise([*group.command(), "-m", "flows.training.process", str(path)], course.follow)
        finally:  # publishing brings what is missing, and nothing where all is there
            if lease is not None and not lease.lost.is_set() and states_in(Path(settings.folder)):
                publish()
    return course.end


class _Course:
    """What became of a training so far, by the events of its process."""

    def __init__(
        self,
        settings: Settings,
        group: Group,
        publish: Callable[[], None],
        lease: Lease | None,
        advance: Advance,
    ) -> None:
        self.end = f"done, as machine {group.machine} of {group.machines}"
        self._settings, self._publish, self._lease, self._advance = settings, publish, lease, advance
        self._done = 0

    def follow(self, event: Event) -> None:
        """Log, publish and count what an event reports; TrainingError for an error."""
        if self._lease is not None:
            self._lease.check()
        match event:
            case Failed(message):
                raise TrainingError(message)
            case Logged(message):
                log(message)
                return
            case Saved():
                _try(self._publish)
            case Started(done, steps) if done >= steps:
                self.end = _nothing_left(self._settings, steps)
            case Started(done) if done:
                log(f"resuming after step {done:,}")
            case Stepped(done, loss):
                self.end = f"{done:,} steps, loss {loss:.4f}"
        self._advance(event.done - self._done)
        self._done = event.done


def _nothing_left(settings: Settings, steps: int) -> NothingToDo:
    """That a training has all its steps, and how it can have more."""
    more = (
        "a larger --steps trains on"
        if settings.may_grow
        else "with its last step it is at its end: --start trains on"
    )
    return NothingToDo(f"nothing left to do: {steps:,} of {steps:,} steps are done; {more}")


def _try(publish: Callable[[], None]) -> None:
    """Publish, or log that it failed: training continues, and the next time brings all that is missing.

    LostError where the target is another run's.
    """
    try:
        publish()
    except LostError:
        raise
    except StorageError as error:
        log(f"{error}; training continues, and this is tried again")


def _supervise(command: Sequence[str], follow: Callable[[Event], None]) -> None:
    """Run a training process and `follow` its events; when we are stopped, let it finish its step and save first."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            for line in child.stdout or ():
                if (event := event_of(line)) is not None:
                    follow(event)
        except BaseException:
            child.terminate()
            try:
                child.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
            raise
    if child.returncode:
        raise TrainingError(f"the training process ended with code {child.returncode}, having saved what it could")
