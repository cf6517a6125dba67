"""`dtls/train`: shards become a trained model.

Unit: the run. Proof: the newest training state in the target, from which a stopped run goes on exactly. Training is a
process of its own; cancelling the flow stops it after it has saved.
"""

import json
import subprocess
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

import torch

from dtls.checkpoints.checkpoint import CONFIG, WEIGHTS, CheckpointError, config_json, save_tensors
from dtls.devices import DeviceError, best_device, best_precision
from dtls.inference.trained import DEFAULT
from dtls.models.base import Model
from dtls.training.presets import preset_of
from dtls.training.trainer import TrainingError
from flows.engine.flow import flow, in_task
from flows.inputs.methods import load_checkpointed
from flows.inputs.sources import folder_here
from flows.interface.console import Advance, flow_run, progress, tell
from flows.interface.extras import check_extra
from flows.interface.options import CORES
from flows.interface.outcome import NothingToDo, raised
from flows.training.options import TrainOptions
from flows.training.settings import ANOTHER_S, LOSSES, Group, Settings, states, states_in
from storage.receipts.lease import Lease, hold, sweep
from storage.receipts.owners import LostError
from storage.receipts.survey import list_target
from storage.shards.read import list_shards, local_shards
from storage.stores.cache import DAY, Cache
from storage.stores.location import Location, StorageError
from storage.stores.scratch import scratch_folder

GRACE_SECONDS = 25.0
"""How long a stopped training may take to save; Prefect gives a cancelled flow run 30 s."""
MODEL_FILES = (CONFIG, WEIGHTS)


@flow("train {options.source}")
def train(options: TrainOptions) -> str:
    """Train a model on shards."""
    check_extra("train", "training")
    source, target = Location.of(options.source, follow_links=options.follow_links), Location.of(options.target)
    device = best_device(options.device)
    start = load_checkpointed(options.start, "cpu", DEFAULT, options.method) if options.start else None
    config = options.model(start.model.config if start is not None else None)
    if start is not None and start.model.scale not in (1, config.scale):
        raise CheckpointError(f"{options.start}: enlarges by {start.model.scale}, not by {config.scale}")
    if device == "cuda" and options.processes > torch.cuda.device_count():
        raise DeviceError(f"{options.processes} processes want as many GPUs; here are {torch.cuda.device_count()}")
    listed = list_shards(source, options.shards, tell)
    group = Group(options.processes, options.machines, options.machine, options.rendezvous)
    list_target(target)  # refused, where it may be, before the lease is written
    with hold(target, "train") if group.leads else nullcontext() as lease, ExitStack() as stack:
        there = {entry.key for entry in target.list()}
        if lease is not None:
            sweep(target, there)
        run, is_retried = flow_run()
        kept = states_to_go_on_with(target, there, options.resume or is_retried)
        folder = folder_here(options.cache or str(Path.home() / ".cache" / "dtls"))
        cache = Cache(folder, options.cache_gb * 1e9, options.cache_days * DAY, tell)
        with progress(f"read {source}", len(listed), "shards") as advance:
            shards = stack.enter_context(local_shards(source, listed, cache, advance))
        workers = options.workers if options.workers is not None else (0 if device == "cpu" else min(CORES, 12))
        if lease is not None and not kept:
            target.write(CONFIG, config_json(options.method, config))  # a target that cannot be written is found now
        present = [name for name in (LOSSES, *kept, *MODEL_FILES) if name in there]
        begun = nullcontext() if start is None or kept else _saved(start.model)
        with begun as weights, _folder(target, present, publishes=group.leads) as (folder, publish):
            settings = Settings(
                shards=[(str(shard.path), shard.count) for shard in shards],
                folder=str(folder),
                model={"method": options.method, **asdict(config)},
                recipe=asdict(options.recipe()),
                batch_size=options.batch_size or preset_of(options.method, options.preset).batch_size,
                workers=workers,
                save_every=options.save_every,
                keep=options.keep,
                device=device,
                precision=best_precision(options.precision, device),
                compile=options.compile,
                resume=options.resume or is_retried,
                start=weights,
                started_from=start.identity["checkpoint"] if start is not None else None,
                image_ext=options.image_ext,
                max_failed=options.max_failed,
                run=run,
                only_own=is_retried and not options.resume,
                sync=options.sync and target.local is not None,
                claim=astuple(lease.claim) if lease is not None and target.local is not None else None,
            )
            # Called, not submitted: only in the main thread does a cancelled flow run raise, so that we can wait.
            loss: str = raised(in_task("training", training)(settings, group, publish, lease))
    tell(f"trained {config.lr_size}→{config.size} ({config.protocol}) → {target}: {loss}")
    return loss


@contextmanager
def _saved(model: Model) -> Iterator[str]:
    """The path of a model's weights, for as long as the training process may want them."""
    with scratch_folder() as folder:
        save_tensors(dict(model.state_dict()), folder / WEIGHTS)
        yield str(folder / WEIGHTS)


def states_to_go_on_with(target: Location, there: Collection[str], resume: bool) -> list[str]:
    """The training states at a target, told where there are none to go on with.

    CheckpointError where a new training would overwrite what is there, or where what is there is damaged.
    """
    kept = states(there)
    if WEIGHTS in there and not kept:
        raise CheckpointError(f"{target}: holds a model that cannot be trained on; choose another folder")
    if kept and not resume:
        raise CheckpointError(f"{target}: {ANOTHER_S}")
    if resume and CONFIG in there and not _is_json(target.read(CONFIG)):
        if not kept:
            raise CheckpointError(
                f"{target.address(CONFIG)}: empty or damaged, and no training state is there to go on with; "
                "remove it, and the training begins anew"
            )
        tell(f"{target.address(CONFIG)}: empty or damaged; it is made anew of the newest whole training state")
    if resume and not kept:
        tell(f"{target}: no training state is there to go on with; the training begins anew")
    return kept


def _is_json(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False


@contextmanager
def _folder(
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
    """Run the training process to its end, publishing whenever it has saved; how it ended, in words.

    Without a lease: as another than the first of several machines.
    """
    heard: dict[str, Any] = {"done": 0, "end": f"done, as machine {group.machine} of {group.machines}"}
    with scratch_folder() as folder, _progress(settings) as advance:
        path = folder / "settings.json"
        path.write_text(json.dumps(asdict(settings)))

        def hear(message: dict[str, Any]) -> None:
            if lease is not None:
                lease.check()
            if message["event"] == "error":
                raise TrainingError(message["message"])
            if message["event"] == "told":
                tell(message["message"])
                return
            if message["event"] == "saved":
                _try(publish)
            if message["event"] == "started" and 0 < message["done"] < message["steps"]:
                tell(f"going on after step {message['done']:,}")
            if message["event"] == "started" and message["done"] >= message["steps"]:
                heard["end"] = _nothing_left(settings, message["steps"])
            if message["event"] == "step":
                heard["end"] = f"{message['done']:,} steps, loss {message['loss']:.4f}"
            advance(message["done"] - heard["done"])
            heard["done"] = message["done"]

        try:
            _supervise([*group.command(), "-m", "flows.training.process", str(path)], hear)
        finally:  # publishing brings what is missing, and nothing where all is there
            if lease is not None and not lease.lost.is_set() and states_in(Path(settings.folder)):
                publish()
    return heard["end"]


def _nothing_left(settings: Settings, steps: int) -> NothingToDo:
    """That a training has all its steps, and how it can have more."""
    more = (
        "a larger --steps trains on"
        if settings.may_grow
        else "with its last step it is at its end: --start trains on"
    )
    return NothingToDo(f"nothing left to do: {steps:,} of {steps:,} steps are done; {more}")


def _try(publish: Callable[[], None]) -> None:
    """Publish, or tell that it failed; training goes on, and the next time brings all that is missing.

    LostError where the target is another run's.
    """
    try:
        publish()
    except LostError:
        raise
    except StorageError as error:
        tell(f"{error}; training goes on, and this will be tried again")


def _progress(settings: Settings) -> AbstractContextManager[Advance]:
    return progress("train", int(settings.recipe["steps"]), "steps")


def _supervise(command: Sequence[str], hear: Callable[[dict[str, Any]], None]) -> None:
    """Run a training process and `hear` what it tells; when we are stopped, let it finish its step and save first."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            for line in child.stdout or ():
                if line.startswith("{"):  # libraries print, too
                    hear(json.loads(line))
        except BaseException:
            child.terminate()
            try:
                child.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
            raise
    if child.returncode:
        raise TrainingError(f"the training process ended with code {child.returncode}, having saved what it could")
