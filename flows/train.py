"""`dtls/train`: shards become a trained DTLS model.

Unit: the run. Proof: `training.safetensors` in the target, from which a stopped run goes on exactly. Training is a
process of its own; cancelling the flow stops it after it has saved.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import TerminationSignal
from pydantic import BeforeValidator, Field

from dtls.checkpoint import CONFIG, PRESETS, WEIGHTS, CheckpointError, ModelConfig, config_json, steps_between
from dtls.degradation import Protocol
from dtls.devices import best_device
from dtls.training import Recipe, TrainingError
from flows.console import Advance, in_flow_run, progress, tell
from flows.options import CORES, Address, Options
from flows.training_process import LOSSES, STATE, Settings
from storage.locations import Location, StorageError
from storage.shards import list_shards, local_shards

GRACE_SECONDS = 25.0
"""How long a stopped training may take to save; Prefect gives a cancelled flow run 30 s."""
FILES = (CONFIG, WEIGHTS, LOSSES, STATE)


def _numbers(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class TrainOptions(Options):
    """What to train, on what, and how; without overrides, a preset is the paper's."""

    source: Address = Field(description="folder or URL of the shards")
    target: Address = Field(description="folder or URL for the model")
    preset: Literal["16-128", "32-512"] = Field("16-128", description="model and sizes of the paper")
    steps: int = Field(50_000, ge=1, description="training steps")
    batch_size: int = Field(32, ge=1, le=4096, description="pictures a step")
    dim: int | None = Field(None, ge=4, le=1024, description="width of the first level; overrides the preset")
    dim_mults: Annotated[tuple[int, ...] | None, BeforeValidator(_numbers)] = Field(
        None, description="widths of the levels as multiples of dim, like 1,2,4; overrides the preset"
    )
    size: int | None = Field(None, ge=8, le=4096, description="side of the HR pictures; overrides the preset")
    lr_size: int | None = Field(None, ge=1, le=4096, description="side of the LR pictures; overrides the preset")
    stride: int | None = Field(None, ge=1, le=4096, description="pixels between timesteps; overrides the preset")
    protocol: Protocol = Field(
        "reference", description="reference: bilinear as the DTLS authors do it; antialias: Pillow's bicubic"
    )
    residual: bool = Field(False, description="predict what to add to the enlarged picture, not the picture itself")
    loss: Literal["l1", "mse"] = Field("l1", description="the paper's L1, or the mean squared error")
    learning_rate: float = Field(2e-5, gt=0, le=1, description="AdamW's learning rate")
    schedule: Literal["constant", "cosine"] = Field("constant", description="constant, or up, then down to 0")
    seed: int = Field(0, ge=0, lt=2**31, description="of weights, crops and timesteps")
    save_every: int = Field(1000, ge=1, description="steps between checkpoints")
    resume: bool = Field(False, description="go on from the target's checkpoint, if there is one")
    workers: int | None = Field(None, ge=0, le=256, description="processes that decode; by default 0 on a CPU")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, …")
    cache: str | None = Field(None, description="folder for shards fetched from a URL; by default ~/.cache/dtls")

    def model(self) -> ModelConfig:
        """The model to train; SizeError where its sizes do not fit."""
        base = PRESETS[self.preset]
        size, stride = self.size or base.size, self.stride or base.stride
        lr_size = self.lr_size or size * (base.size - base.stride * base.steps) // base.size
        return replace(
            base,
            dim=self.dim or base.dim,
            multipliers=self.dim_mults or base.multipliers,
            residual=self.residual,
            size=size,
            stride=stride,
            steps=steps_between(lr_size, size, stride),
            protocol=self.protocol,
        ).validate()

    def recipe(self) -> Recipe:
        """How to train it."""
        return Recipe(
            steps=self.steps,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            loss=self.loss,
            seed=self.seed,
        )


@flow(name="dtls", flow_run_name="train {options.source}")
def train(options: TrainOptions) -> str:
    """Train DTLS on shards."""
    source, target = Location.of(options.source), Location.of(options.target)
    config, device = options.model(), best_device(options.device)
    there = {entry.key for entry in target.list()}
    if WEIGHTS in there and STATE not in there:
        raise CheckpointError(f"{target}: holds a model that cannot be trained on; choose another folder")
    if WEIGHTS in there and not options.resume:
        raise CheckpointError(f"{target}: holds a model already; go on with it by resume, or choose another folder")
    cache = Path(options.cache or Path.home() / ".cache" / "dtls")
    listed = list_shards(source)
    with progress(f"read {source}", len(listed), "shards") as advance:
        shards = local_shards(source, listed, cache, advance)
    workers = options.workers if options.workers is not None else (0 if device == "cpu" else min(CORES, 12))
    if STATE not in there:
        target.write(CONFIG, config_json(config))  # so that a target that cannot be written is found out now
    with _folder(target, [name for name in FILES if name in there]) as (folder, publish):
        settings = Settings(
            shards=[(str(shard.path), shard.count) for shard in shards],
            folder=str(folder),
            model=asdict(config),
            recipe=asdict(options.recipe()),
            batch_size=options.batch_size,
            workers=workers,
            save_every=options.save_every,
            device=device,
            resume=options.resume,
        )
        # Called, not submitted: only in the main thread does a cancelled flow run raise, so that we can wait.
        loss = training(settings, publish) if in_flow_run() else training.fn(settings, publish)
    tell(f"trained {config.lr_size}→{config.size} ({config.protocol}) → {target}: {loss}")
    return loss


@contextmanager
def _folder(target: Location, present: Sequence[str]) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A local folder to train in, with the target's files, and what brings the target up to date from it."""
    if target.local is not None:
        yield target.local, lambda: None
        return
    folder = Path(tempfile.mkdtemp(prefix="dtls-training-"))
    for file in present:
        target.download(file, folder / file)

    def publish() -> None:
        for file in FILES:
            target.upload(file, folder / file)

    try:
        yield folder, publish
    except StorageError as error:
        raise StorageError(f"{error}; the model is kept in {folder}") from error
    except BaseException:  # all that was saved has been published by now
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)


@task(name="training", cache_policy=NO_CACHE, persist_result=False)
def training(settings: Settings, publish: Callable[[], None]) -> str:
    """Run the training process to its end, publishing whenever it has saved; how it ended, in words."""
    heard: dict[str, Any] = {"done": 0, "end": "nothing left to do", "unpublished": False}
    with tempfile.TemporaryDirectory(prefix="dtls-") as folder, _progress(settings) as advance:
        path = Path(folder) / "settings.json"
        path.write_text(json.dumps(asdict(settings)))

        def hear(message: dict[str, Any]) -> None:
            if message["event"] == "error":
                raise TrainingError(message["message"])
            if message["event"] == "saved":
                heard["unpublished"] = _failure(publish)
            if message["event"] == "started" and 0 < message["done"] < message["steps"]:
                tell(f"going on after step {message['done']:,}")
            if message["event"] == "step":
                heard["end"] = f"{message['done']:,} steps, loss {message['loss']:.4f}"
            advance(message["done"] - heard["done"])
            heard["done"] = message["done"]

        try:
            _supervise([sys.executable, "-m", "flows.training_process", str(path)], hear)
        except (KeyboardInterrupt, SystemExit, TerminationSignal):
            if (Path(settings.folder) / STATE).exists():
                publish()
            raise
    if heard["unpublished"]:
        publish()
    return str(heard["end"])


def _failure(publish: Callable[[], None]) -> bool:
    """Whether publishing failed; training goes on, and the next checkpoint brings all that is missing."""
    try:
        publish()
    except StorageError as error:
        tell(f"{error}; training goes on, and this will be tried again")
        return True
    return False


def _progress(settings: Settings) -> AbstractContextManager[Advance]:
    return progress("train", int(settings.recipe["steps"]), "steps")


def _supervise(command: Sequence[str], hear: Callable[[dict[str, Any]], None]) -> None:
    """Run a training process and `hear` what it tells; when we are stopped, let it finish its step and save first."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            for line in child.stdout or ():
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
