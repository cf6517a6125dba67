"""`dtls/train`: shards become a trained DTLS model.

Unit: the run. Proof: the newest training state in the target, from which a stopped run goes on exactly. Training is a
process of its own; cancelling the flow stops it after it has saved.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pydantic import BeforeValidator, Field, model_validator

from dtls.checkpoint import (
    CONFIG,
    WEIGHTS,
    CheckpointError,
    ModelConfig,
    Prediction,
    config_json,
    steps_between,
)
from dtls.degradation import Protocol
from dtls.devices import DeviceError, Precision, best_device, best_precision
from dtls.presets import PRESETS
from dtls.training import Recipe, TrainingError
from flows.console import Advance, in_flow_run, progress, tell
from flows.options import CORES, Address, Options
from flows.training_settings import LOSSES, Group, Settings, states, states_in
from reports.metrics import LPIPS_MIN_SIDE
from storage.leases import Lease, hold, sweep
from storage.locations import Location, StorageError
from storage.shard_reader import list_shards, local_shards

GRACE_SECONDS = 25.0
"""How long a stopped training may take to save; Prefect gives a cancelled flow run 30 s."""
MODEL_FILES = (CONFIG, WEIGHTS)


def _numbers(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class TrainOptions(Options):
    """What to train, on what, and how; what is not said is the preset's."""

    source: Address = Field(description="folder or URL of the shards")
    target: Address = Field(description="folder or URL for the model")
    preset: Literal["16-128", "32-512", "16-128-plus"] = Field(
        "16-128", description="model and recipe: the paper's two, or the first one improved"
    )
    steps: int | None = Field(None, ge=1, description="training steps; 50000 in preset 16-128")
    batch_size: int | None = Field(None, ge=1, le=65_536, description="pictures a step; 32 in preset 16-128")
    dim: int | None = Field(None, ge=4, le=1024, description="width of the first level")
    dim_mults: Annotated[tuple[int, ...] | None, BeforeValidator(_numbers)] = Field(
        None, description="widths of the levels as multiples of dim, like 1,2,4"
    )
    patch: int | None = Field(
        None, ge=1, le=64, description="side of what the network sees as one pixel: 4 is far faster than 1"
    )
    size: int | None = Field(None, ge=8, le=4096, description="side of the HR pictures")
    lr_size: int | None = Field(None, ge=1, le=4096, description="side of the LR pictures")
    stride: int | None = Field(None, ge=1, le=4096, description="pixels between timesteps")
    protocol: Protocol | None = Field(
        None, description="reference: bilinear as the DTLS authors do it; antialias: Pillow's bicubic"
    )
    residual: bool | None = Field(None, description="predict what to add to the enlarged picture, not the picture")
    predicts: Prediction | None = Field(None, description="predict the picture, or the previous step x_(t-1)")
    loss: Literal["l1", "mse"] | None = Field(None, description="the paper's L1, or the mean squared error")
    inputs: Literal["degraded", "sampled"] | None = Field(
        None, description="learn from degraded pictures, or from what the two-call sampler shows the network"
    )
    first_timestep: Literal[0, 1] | None = Field(None, description="timesteps are drawn from this one on")
    perceptual: float | None = Field(None, ge=0, le=100, description="weight of LPIPS beside the loss")
    learning_rate: float | None = Field(None, gt=0, le=1, description="AdamW's learning rate")
    schedule: Literal["constant", "cosine"] | None = Field(None, description="constant, or falling to 0")
    warmup: int | None = Field(
        None, ge=0, description="steps over which the learning rate rises; the preset's, at most a twentieth"
    )
    clip: float | None = Field(None, gt=0, description="largest norm of the gradient")
    seed: int = Field(0, ge=0, lt=2**31, description="of weights, crops and timesteps")
    save_every: int = Field(1000, ge=1, description="steps between checkpoints")
    keep: int = Field(2, ge=1, le=1000, description="training states kept, the newest")
    resume: bool = Field(
        False, description="go on from the target's newest training state, if there is one; with the same options"
    )
    workers: int | None = Field(None, ge=0, le=256, description="processes that decode; by default 0 on a CPU")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, …")
    processes: int = Field(1, ge=1, le=64, description="processes that share each batch, one a GPU (torchrun)")
    machines: int = Field(1, ge=1, le=4096, description="machines that share each batch; each runs this command")
    machine: int = Field(0, ge=0, description="which of the machines this is, from 0; machine 0 saves")
    rendezvous: str | None = Field(
        None, pattern=r"^\S+:\d+$", description="HOST:PORT of machine 0, where the others find it"
    )
    accumulate: int = Field(1, ge=1, le=4096, description="parts a batch is computed in, to save memory")
    precision: Precision = Field("auto", description="bf16 or fp32; auto is bf16 on GPUs that have it")
    compile: bool = Field(False, description="compile the network: minutes at the start, faster steps")
    cache: str | None = Field(None, description="folder for shards fetched from a URL; by default ~/.cache/dtls")

    def model(self) -> ModelConfig:
        """The model to train; SizeError where its sizes do not fit."""
        base = PRESETS[self.preset].model
        size, stride = self.size or base.size, self.stride or base.stride
        lr_size = self.lr_size or size * base.lr_size // base.size
        given = self.model_dump(include={"dim", "residual", "patch", "predicts", "protocol"}, exclude_none=True)
        return replace(
            base,
            multipliers=self.dim_mults or base.multipliers,
            size=size,
            stride=stride,
            steps=steps_between(lr_size, size, stride),
            **given,
        ).validate()

    def recipe(self) -> Recipe:
        """How to train it."""
        names = {field.name for field in fields(Recipe)}
        recipe = replace(PRESETS[self.preset].recipe, **self.model_dump(include=names, exclude_none=True))
        if self.warmup is not None or recipe.schedule != "cosine":
            return recipe
        return replace(recipe, warmup=min(recipe.warmup, recipe.steps // 20))

    @model_validator(mode="after")
    def _fits(self) -> Self:
        preset, recipe = PRESETS[self.preset], self.recipe()
        batch_size = self.batch_size or preset.batch_size
        if batch_size % (self.processes * self.machines):
            raise ValueError(
                f"a batch of {batch_size} cannot be shared by {self.processes * self.machines} processes"
            )
        if (self.machines > 1) != (self.rendezvous is not None):
            raise ValueError("--machines and --rendezvous HOST:PORT go together")
        if self.machine >= self.machines:
            raise ValueError(f"of {self.machines} machines the last is --machine {self.machines - 1}")
        if self.processes > 1 and ":" in self.device:
            raise ValueError(f"{self.processes} processes take the first devices of their kind, not {self.device}")
        if recipe.inputs == "sampled" and (self.predicts or preset.model.predicts) != "x0":
            raise ValueError("inputs sampled goes with predicts x0: the two-call sampler wants a prediction of x0")
        if recipe.inputs == "sampled" and batch_size < 2:
            raise ValueError("inputs sampled wants a batch of at least 2: every second picture is a predicted one")
        if recipe.perceptual and (self.size or preset.model.size) < LPIPS_MIN_SIDE:
            raise ValueError(f"perceptual wants a size of at least {LPIPS_MIN_SIDE}")
        return self


@flow(name="dtls", flow_run_name="train {options.source}")
def train(options: TrainOptions) -> str:
    """Train DTLS on shards."""
    source, target = Location.of(options.source), Location.of(options.target)
    config, device = options.model(), best_device(options.device)
    if device == "cuda" and options.processes > torch.cuda.device_count():
        raise DeviceError(f"{options.processes} processes want as many GPUs; here are {torch.cuda.device_count()}")
    listed = list_shards(source)
    group = Group(options.processes, options.machines, options.machine, options.rendezvous)
    with hold(target, "train") if group.leads else nullcontext() as lease:
        there = {entry.key for entry in target.list()}
        if lease is not None:
            sweep(target, there)
        kept = _states_to_go_on_with(target, there, options.resume)
        cache = Path(options.cache or Path.home() / ".cache" / "dtls")
        with progress(f"read {source}", len(listed), "shards") as advance:
            shards = local_shards(source, listed, cache, advance)
        workers = options.workers if options.workers is not None else (0 if device == "cpu" else min(CORES, 12))
        if lease is not None and not kept:
            target.write(CONFIG, config_json(config))  # so that a target that cannot be written is found out now
        present = [name for name in (LOSSES, *kept, *MODEL_FILES) if name in there]
        with _folder(target, present, publishes=group.leads) as (folder, publish):
            settings = Settings(
                shards=[(str(shard.path), shard.count) for shard in shards],
                folder=str(folder),
                model=asdict(config),
                recipe=asdict(options.recipe()),
                batch_size=options.batch_size or PRESETS[options.preset].batch_size,
                workers=workers,
                save_every=options.save_every,
                keep=options.keep,
                device=device,
                precision=best_precision(options.precision, device),
                compile=options.compile,
                resume=options.resume,
            )
            # Called, not submitted: only in the main thread does a cancelled flow run raise, so that we can wait.
            run = training if in_flow_run() else training.fn
            loss = run(settings, group, publish, lease)
    tell(f"trained {config.lr_size}→{config.size} ({config.protocol}) → {target}: {loss}")
    return loss


def _states_to_go_on_with(target: Location, there: Collection[str], resume: bool) -> list[str]:
    """The training states at a target; CheckpointError where a new training would overwrite what is there."""
    kept = states(there)
    if WEIGHTS in there and not kept:
        raise CheckpointError(f"{target}: holds a model that cannot be trained on; choose another folder")
    if kept and not resume:
        raise CheckpointError(f"{target}: holds a model already; go on with it by --resume, or choose another folder")
    return kept


@contextmanager
def _folder(
    target: Location, present: Sequence[str], *, publishes: bool
) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A local folder to train in, with the target's files, and what brings the target up to date from it."""
    if target.local is not None:
        yield target.local, lambda: None
        return
    folder = Path(tempfile.mkdtemp(prefix="dtls-training-"))
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
    except StorageError as error:
        raise StorageError(f"{error}; the model is kept in {folder}") from error
    except BaseException:  # all that was saved has been published by now
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)


@task(name="training", cache_policy=NO_CACHE, persist_result=False)
def training(settings: Settings, group: Group, publish: Callable[[], None], lease: Lease | None) -> str:
    """Run the training process to its end, publishing whenever it has saved; how it ended, in words.

    Without a lease: as another than the first of several machines.
    """
    end = "nothing left to do" if lease is not None else f"done, as machine {group.machine} of {group.machines}"
    heard: dict[str, Any] = {"done": 0, "end": end}
    with tempfile.TemporaryDirectory(prefix="dtls-") as folder, _progress(settings) as advance:
        path = Path(folder) / "settings.json"
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
            if message["event"] == "step":
                heard["end"] = f"{message['done']:,} steps, loss {message['loss']:.4f}"
            advance(message["done"] - heard["done"])
            heard["done"] = message["done"]

        try:
            _supervise([*group.command(), "-m", "flows.training_process", str(path)], hear)
        finally:  # publishing brings what is missing, and nothing where all is there
            if lease is not None and not lease.lost.is_set() and states_in(Path(settings.folder)):
                publish()
    return str(heard["end"])


def _try(publish: Callable[[], None]) -> None:
    """Publish, or tell that it failed; training goes on, and the next time brings all that is missing."""
    try:
        publish()
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
