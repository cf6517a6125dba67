"""From the options of a training to a trained model: what it learns from, where, and with what settings."""

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dtls.checkpoints.checkpoint import CONFIG, config_json, described, load_hashed
from dtls.devices import best_device, best_precision
from dtls.errors import CheckpointError, DeviceError
from dtls.models.base import Model, Sized
from dtls.registry import model_class
from dtls.training.presets import preset_of
from flows.engine.flow import in_task
from flows.inputs.methods import checkpoint_folder
from flows.inputs.sources import folder_here
from flows.interface.console import flow_run, log, progress
from flows.interface.options import CORES
from flows.interface.outcome import raised
from flows.training.classes import classes_in
from flows.training.options import TrainOptions
from flows.training.settings import LOSSES, Group, Settings
from flows.training.supervisor import MODEL_FILES, saved_weights, states_to_resume, training, training_folder
from storage.receipts.lease import hold, sweep
from storage.receipts.survey import list_target
from storage.shards.read import LocalShard, list_shards, local_shards
from storage.stores.cache import DAY, Cache
from storage.stores.location import Location


def trained(options: TrainOptions) -> str:
    """Train the model that the options describe; its last loss, in words."""
    source, target = Location.of(options.source, follow_links=options.follow_links), Location.of(options.target)
    device = best_device(options.device)
    start, config = network_of(options)
    if device == "cuda" and options.processes > torch.cuda.device_count():
        raise DeviceError(f"--processes {options.processes} needs as many GPUs (found {torch.cuda.device_count()})")
    listed = list_shards(source, options.shards, log)
    group = Group(options.processes, options.machines, options.machine, options.rendezvous)
    list_target(target)  # refused, where it may be, before the lease is written
    with hold(target, "train") if group.leads else nullcontext() as lease, ExitStack() as stack:
        there = {entry.key for entry in target.list()}
        if lease is not None:
            sweep(target, there)
        run, is_retried = flow_run()
        kept = states_to_resume(target, there, options.resume or is_retried)
        cache = _cache(options)
        with progress(f"read {source}", len(listed), "shards") as advance:
            shards = stack.enter_context(local_shards(source, listed, cache, advance))
        if model_class(options.method).classifies:
            config = _of_classes(options, start, config, shards)
        if lease is not None and not kept:
            target.write(CONFIG, config_json(options.method, config))  # a target that cannot be written is found now
        present = [name for name in (LOSSES, *kept, *MODEL_FILES) if name in there]
        begun = nullcontext() if start is None or kept else saved_weights(start.model)
        with begun as weights, training_folder(target, present, publishes=group.leads) as (folder, publish):
            settings = Settings(
                shards=[(str(shard.path), shard.count) for shard in shards],
                folder=str(folder),
                model=described(options.method, config),
                recipe=asdict(options.recipe()),
                batch_size=options.batch_size or preset_of(options.method, options.preset).batch_size,
                workers=_workers(options, device),
                save_every=options.save_every,
                keep=options.keep,
                device=device,
                precision=best_precision(options.precision, device),
                compile=options.compile,
                resume=options.resume or is_retried,
                start=weights,
                started_from=start.checkpoint if start is not None else None,
                image_ext=options.image_ext,
                max_failed=options.max_failed,
                run=run,
                only_own=is_retried and not options.resume,
                sync=options.sync and target.local is not None,
                claim=astuple(lease.claim) if lease is not None and target.local is not None else None,
            )
            # Called, not submitted: only in the main thread does a cancelled flow run raise, so that we can wait.
            loss: str = raised(in_task("training", training)(settings, group, publish, lease))
    log(f"trained {config.summary} → {target}: {loss}")
    return loss


@dataclass(frozen=True)
class Beginning:
    """A model whose weights a training starts with, and the hash of its checkpoint."""

    model: Model
    checkpoint: str


def network_of(options: TrainOptions) -> tuple[Beginning | None, Sized]:
    """The model that training starts with, if one is given, and the configuration of the network to train."""
    start = _beginning(options) if options.start else None
    config = options.model(start.model.config if start is not None else None)
    if start is not None and start.model.scale > 1 and start.model.scale != config.scale:
        raise CheckpointError(f"{options.start}: enlarges by {start.model.scale}, not by {config.scale}")
    return start, config


def _of_classes(options: TrainOptions, start: Beginning | None, config: Sized, shards: Sequence[LocalShard]) -> Sized:
    """A classifier's configuration, with the classes that the images are of."""
    classes = classes_in(shards, options.image_ext)
    if start is not None and tuple(start.model.config.classes) != classes:
        raise CheckpointError(f"{options.start}: knows other classes than the images are of")
    found: Any = config
    return replace(found, classes=classes).validate()


def _beginning(options: TrainOptions) -> Beginning:
    with checkpoint_folder(str(options.start)) as folder:
        model, digest = load_hashed(folder)
    if options.family is not None and not model.takes_families:
        raise CheckpointError(
            f"{options.start}: a model of the method {model.name}, which does not learn to undo {options.family}; "
            f"for --task {options.task}, --start takes a model of dtls or cold, such as faces-x8"
        )
    if type(model) is not model_class(options.method):
        raise CheckpointError(
            f"{options.start}: a model of the method {model.name}, not {options.method}; say --method {model.name}"
        )
    return Beginning(model, digest)


def _cache(options: TrainOptions) -> Cache:
    """Where shards of other machines are kept for the next training."""
    folder = folder_here(options.cache or str(Path.home() / ".cache" / "dtls"))
    return Cache(folder, options.cache_gb * 1e9, options.cache_days * DAY, log)


def _workers(options: TrainOptions, device: str) -> int:
    if options.workers is not None:
        return options.workers
    return 0 if device == "cpu" else min(CORES, 12)
