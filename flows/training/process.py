"""The process that trains: `python -m flows.training.process SETTINGS.json`, started by `dtls/train`, or several of
them under torchrun.

A process of its own, so that GPUs and a launcher can be given to it, and so that stopping it is safe: at SIGTERM it
finishes its step, saves, and ends. It reports what it does on its standard output, as flows/training/events.py says.

Its folder holds `config.json` and `model.safetensors` (the averaged weights, the ones to use), the last states of the
training, `training-000001000.safetensors` (each all that a resumed run needs, in one file), and `loss.csv`.
"""

import json
import logging
import os
import signal
import sys
import time
import warnings
import zlib
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from dtls.checkpoints.checkpoint import (
    load_checkpoint,
    load_weights,
    make_model,
    nobody,
    save_checkpoint,
    save_tensors,
    write_whole,
)
from dtls.errors import CheckpointError, DtlsError, TrainingError
from dtls.inference.tiling import ran_out_of_memory
from dtls.registry import model_class
from dtls.training.recipe import Recipe
from dtls.training.trainer import Trainer, train
from flows.training.data import EndedError, TrainingData
from flows.training.events import Event, Failed, Logged, Saved, Started, Stepped, line_of
from flows.training.settings import ANOTHER_S, LOSSES, STOPPED, Settings, state_name, states_in
from reports.metrics.lpips import load_lpips
from storage.receipts.claims import Claim, Watch
from storage.stores.location import StorageError

REPORT_SECONDS = 0.2


class Run:
    """One training run in its folder, or one of several processes that share it; rank 0 writes and reports."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = Path(settings.folder)
        self.ask = Watch(Claim(*settings.claim)).confirm if settings.claim is not None else nobody
        self.fabric = _fabric(settings)
        recipe = Recipe(**settings.recipe)
        torch.manual_seed(recipe.seed)
        model = make_model(settings.model)
        if settings.start is not None:
            load_weights(model, load_file(settings.start), "the model that training starts with")
        perceptual = load_lpips(self.fabric.device) if recipe.perceptual else None
        self.trainer = Trainer(model, recipe, self.fabric, perceptual, compiled=settings.compile)
        self.losses: list[str] = []
        self.stopping = False
        self.reported = 0.0

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        """Ask the loop to end after its step."""
        self.stopping = True

    def resume(self) -> None:
        """Load the folder's newest whole state, if it has one; CheckpointError where its options differ."""
        found = states_in(self.folder) if self.folder.exists() else []
        now = json.loads(json.dumps(self.settings.fixed()))
        for name in found:
            try:
                metadata, tensors = self._read_state(self.folder / name)
                options = json.loads(metadata["options"])
                options = _completed(options, now)
            except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
                self.report(Logged(f"{self.folder / name} is not whole ({error}); trying an older one"))
                continue
            if self.settings.only_own and metadata.get("run") != self.settings.run:
                raise StorageError(f"{self.folder}: {ANOTHER_S}")
            if options != now:
                raise CheckpointError(
                    f"{self.folder}: trained with other options: {_difference(options, now)}; "
                    "use the same options, or choose another folder"
                )
            self.trainer.load_state(tensors, str(self.folder / name))
            if (losses := self.folder / LOSSES).exists():
                self.losses = losses.read_text().splitlines()[1 : self.trainer.done + 1]
            return
        if found:
            raise CheckpointError(
                f"{self.folder}: none of its {len(found)} training states can be read; remove them to train from the "
                "beginning, or choose another folder"
            )

    def _read_state(self, path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
        with safe_open(path, "pt", device=str(self.fabric.device)) as file:
            return file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it is no dictionary

    def save(self) -> None:
        """Bring the folder up to date, each file whole or not at all; the state comes before the model made of it."""
        if self.fabric.is_global_zero:
            sync = self.settings.sync
            losses = "\n".join(["step,loss", *self.losses, ""]).encode()
            write_whole(self.folder / LOSSES, losses, self.ask, sync=sync)
            options = json.dumps(self.settings.fixed())
            metadata = {"options": options} | ({"run": self.settings.run} if self.settings.run else {})
            save_tensors(
                self.trainer.state(), self.folder / state_name(self.trainer.done), metadata, self.ask, sync=sync
            )
            save_checkpoint(self.trainer.averaged(), self.folder, self.ask, sync=sync)
            found = states_in(self.folder)
            kept = [name for name in found if name <= state_name(self.trainer.done)][: self.settings.keep]
            for name in set(found) - set(kept):  # one of a later step was not whole when this run went on
                self.ask()
                (self.folder / name).unlink()
            self.report(Saved(self.trainer.done))

    def go(self) -> None:
        """Train to the end, or until stopped, and save."""
        if self.settings.resume:
            self.resume()
        self._check_different_starts()
        data = TrainingData(self.settings, self.fabric, lambda message: self.report(Logged(message)))
        start, steps = self.trainer.done, self.trainer.recipe.steps
        self.report(Started(start, steps))
        if start >= steps:
            if not self._model_is_current():
                self.save()
            return
        data.look(lambda: self.stopping)
        with suppress(EndedError):
            if start == 0 and self.trainer.model.fits and self.settings.start is None:
                self.report(Logged(f"{self.trainer.model.name}: looking at all images once, before the first step"))
                self.trainer.fit(data.epoch(lambda: self.stopping))
            train(self.trainer, data.feed(start, steps, lambda: self.stopping), self._after_step)
        if self.trainer.done > start:
            self.save()
        self.fabric.barrier()
        data.conclude()

    def _check_different_starts(self) -> None:
        """TrainingError where the processes of a run would go on from different steps, or with different options."""
        if self.fabric.world_size > 1:
            if self._differs(self.trainer.done):
                raise TrainingError("the machines found states of different steps; start them again, all together")
            options = json.dumps([self.settings.fixed(), self.settings.recipe]).encode()
            if self._differs(zlib.crc32(options)):
                raise TrainingError("the machines were started with different options; give all of them the same")

    def _differs(self, number: int) -> bool:
        """Whether processes of this run have different numbers."""
        numbers = self.fabric.all_gather(torch.tensor(number, device=self.fabric.device))
        return len(torch.as_tensor(numbers).unique()) > 1

    def _model_is_current(self) -> bool:
        """Whether the folder's model is that of the state that was loaded; a run cut while it saved left another.

        Earlier versions saved the average as it stood some steps before.
        """
        try:
            saved: dict[str, Tensor] = load_checkpoint(self.folder).state_dict()
        except CheckpointError:
            return False
        averages = (self.trainer.averaged().state_dict(), self.trainer.ema.state_dict())
        return any(all(torch.equal(saved[name], tensor.cpu()) for name, tensor in a.items()) for a in averages)

    def _after_step(self, done: int, value: float) -> None:
        self.losses.append(f"{done},{value:.8g}")
        now = time.monotonic()
        if now - self.reported > REPORT_SECONDS or done == self.trainer.recipe.steps:
            self.reported = now
            self.report(Stepped(done, value))
        if done % self.settings.save_every == 0 and done < self.trainer.recipe.steps:
            self.save()

    def report(self, event: Event) -> None:
        """One line to the parent; without a parent there is nobody to train for."""
        if not self.fabric.is_global_zero:
            return
        try:
            sys.stdout.write(line_of(event))
            sys.stdout.flush()
        except BrokenPipeError:
            self.stopping = True


def _fabric(settings: Settings) -> Fabric:
    """Precision, device, and the processes that torchrun started, if it did."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", "1"))
    staged = model_class(settings.model["method"]).staged
    kind, _, index = settings.device.partition(":")
    fabric = Fabric(
        accelerator=kind,
        devices=[int(index)] if index and processes == 1 else processes,
        num_nodes=nodes,
        strategy=DDPStrategy(find_unused_parameters=True) if processes * nodes > 1 and staged else "auto",
        precision="bf16-mixed" if settings.precision == "bf16" else "32-true",
    )
    fabric.launch()
    if settings.batch_size % fabric.world_size:
        raise TrainingError(f"a batch of {settings.batch_size} cannot be shared by {fabric.world_size} processes")
    return fabric


def _completed(saved: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The options of a state, with what an earlier version did not know yet as it did it."""
    model = {"method": "dtls", "patch": 1} if "method" not in saved["model"] else {}
    recipe = {name: value for name, value in asdict(Recipe()).items() if name in now["recipe"] and name != "steps"}
    return {"start": None, **saved, "model": model | saved["model"], "recipe": recipe | saved["recipe"]}


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The first run's options that this one lacks, as one would have to write them; of another method, that alone."""
    methods = [options["model"]["method"] for options in (before, now)]
    if methods[0] != methods[1]:
        return f"method was {methods[0]!r}, not {methods[1]!r}"
    flat = [
        {
            **{_SPELLED.get(key, key): value for key, value in options["model"].items()},
            **options["recipe"],
            "batch_size": options["batch_size"],
            "start": options["start"],
        }
        for options in (before, now)
    ]
    differences = ", ".join(
        f"{key.replace('_', '-')} was {flat[0].get(key, 'not fixed')!r}, not {flat[1].get(key, 'not fixed')!r}"
        for key in {**flat[0], **flat[1]}
        if flat[0].get(key) != flat[1].get(key)
    )
    is_longer = flat[0].get("steps") != flat[1].get("steps") and flat[0].get("schedule") == "cosine"
    return f"{differences} (the learning rate's cosine ends with the last step)" if is_longer else differences


_SPELLED = {"multipliers": "dim_mults", "steps": "timesteps"}
"""How the options call what the model's configuration calls otherwise."""


def main() -> int:
    """Run with the settings in the file named on the command line; exit code 1 after reporting an expected error."""
    settings = Settings(**json.loads(Path(sys.argv[1]).read_text()))
    warnings.filterwarnings("ignore", module="lightning_fabric")
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view")  # of speed alone, on CPUs
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)  # it repeats the options
    try:
        run = Run(settings)
        signal.signal(signal.SIGTERM, run.stop)
        signal.signal(signal.SIGINT, run.stop)
        run.go()
        return 0 if run.trainer.done >= run.trainer.recipe.steps else STOPPED
    except (DtlsError, OSError) as error:
        return _failed(str(error))
    except RuntimeError as error:
        if not ran_out_of_memory(error):
            raise
        return _failed(f"the memory of {settings.device} does not suffice; try --accumulate 2, or 4, or more")


def _failed(message: str) -> int:
    sys.stdout.write(line_of(Failed(message)))
    return 1


if __name__ == "__main__":
    sys.exit(main())
