"""The process that trains: `python -m flows.training_process SETTINGS.json`, started by `dtls/train`.

A process of its own, so that a GPU or a launcher can be given to it, and so that stopping it is safe: at SIGTERM it
finishes its step, saves, and ends. It tells what it does in JSON lines on its standard output.

Its folder holds `config.json` and `model.safetensors` (the averaged weights, the ones to use), `training.safetensors`
(all that a resumed run needs, in one file, replaced as a whole) and `loss.csv`.
"""

import json
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from dtls.checkpoint import (
    DTLS,
    CheckpointError,
    save_checkpoint,
    save_tensors,
    write_whole,
)
from dtls.degradation import SizeError
from dtls.training import Recipe, Trainer, TrainingError, train
from flows.batches import Batches, load_batches
from storage.locations import StorageError
from storage.shards import LocalShard, ShardReader

STATE, LOSSES = "training.safetensors", "loss.csv"
TELL_SECONDS = 0.2
STOPPED = 143
"""Exit code of a training that was stopped and has saved, as shells tell SIGTERM."""


@dataclass(frozen=True)
class Settings:
    """What `dtls/train` hands over; paths are local."""

    shards: list[tuple[str, int | None]]
    folder: str
    model: dict[str, Any]
    recipe: dict[str, Any]
    batch_size: int
    workers: int
    save_every: int
    device: str
    resume: bool

    def fixed(self) -> dict[str, Any]:
        """What may not change when a run is resumed."""
        recipe = {key: value for key, value in self.recipe.items() if key != "steps"}
        return {"model": self.model, "recipe": recipe, "batch_size": self.batch_size}


class Run:
    """One training run in its folder."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = Path(settings.folder)
        torch.manual_seed(int(settings.recipe["seed"]))
        model = DTLS(**settings.model).to(settings.device)
        self.trainer = Trainer(model, Recipe(**settings.recipe))
        self.losses: list[str] = []
        self.stopping = False
        self.told = 0.0

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        """Ask the loop to end after its step."""
        self.stopping = True

    def resume(self) -> None:
        """Go on from the folder's state, if it has one; CheckpointError where its options were others."""
        path = self.folder / STATE
        if not path.exists():
            return
        try:
            with safe_open(path, "pt", device=self.settings.device) as file:
                options = json.loads(file.metadata()["options"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it is no dictionary
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path}: not the state of a training run ({error})") from error
        now = json.loads(json.dumps(self.settings.fixed()))
        if options != now:
            raise CheckpointError(f"{self.folder}: trained with other options: {_difference(options, now)}")
        self.trainer.load_state(tensors, str(path))
        if (log := self.folder / LOSSES).exists():
            self.losses = log.read_text().splitlines()[1 : self.trainer.done + 1]

    def save(self) -> None:
        """Bring the folder up to date; each file appears whole, the state last."""
        save_checkpoint(self.trainer.ema, self.folder)
        write_whole(self.folder / LOSSES, "\n".join(["step,loss", *self.losses, ""]).encode())
        options = json.dumps(self.settings.fixed())
        save_tensors(self.trainer.state(), self.folder / STATE, {"options": options})
        self.tell(event="saved", done=self.trainer.done)

    def go(self) -> None:
        """Train to the end, or until told to stop, and save."""
        if self.settings.resume:
            self.resume()
        start, steps = self.trainer.done, self.trainer.recipe.steps
        self.tell(event="started", done=start, steps=steps)
        if start >= steps:
            return
        reader = ShardReader([LocalShard(Path(path), count) for path, count in self.settings.shards])
        batches = Batches(reader, self.settings.model["size"], self.settings.batch_size, self.trainer.recipe.seed)
        on_gpu = self.settings.device.startswith("cuda")
        loader = load_batches(batches, start, steps, self.settings.workers, pinned=on_gpu)
        train(self.trainer, loader, self._after_step, lambda: self.stopping)
        self.save()

    def _after_step(self, done: int, value: float) -> None:
        self.losses.append(f"{done},{value:.8g}")
        now = time.monotonic()
        if now - self.told > TELL_SECONDS or done == self.trainer.recipe.steps:
            self.told = now
            self.tell(event="step", done=done, loss=value)
        if done % self.settings.save_every == 0 and done < self.trainer.recipe.steps:
            self.save()

    def tell(self, **message: Any) -> None:
        """One JSON line to the parent; without a parent there is nobody to train for."""
        try:
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            self.stopping = True


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    flat = [
        {**options["model"], **options["recipe"], "batch_size": options["batch_size"]} for options in (before, now)
    ]
    return ", ".join(
        f"{key} was {flat[0].get(key)!r}, not {value!r}"
        for key, value in flat[1].items()
        if flat[0].get(key) != value
    )


def main() -> int:
    """Run with the settings in the file named on the command line; exit code 1 after telling an expected error."""
    settings = Settings(**json.loads(Path(sys.argv[1]).read_text()))
    try:
        run = Run(settings)
        signal.signal(signal.SIGTERM, run.stop)
        signal.signal(signal.SIGINT, run.stop)
        run.go()
        return 0 if run.trainer.done >= run.trainer.recipe.steps else STOPPED
    except (CheckpointError, SizeError, StorageError, TrainingError, OSError) as error:
        sys.stdout.write(json.dumps({"event": "error", "message": str(error)}) + "\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
