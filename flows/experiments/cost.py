"""How long a training step takes on a device, and what a result costs: measured, not counted.

`python -m flows.experiments.cost CHECKPOINT SIDE SIZE DEVICE OPTIONS` is a process of its own, so that its peak of
memory is the method's.
"""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dtls.checkpoints.checkpoint import make_model
from dtls.degradations.holes import random_masks
from dtls.devices import best_device, best_precision
from dtls.errors import TrainingError
from dtls.inference.sampling import Sampling
from dtls.inference.trained import Trained
from dtls.models.base import Model
from dtls.training.presets import preset_of
from dtls.training.trainer import Trainer
from flows.inputs.methods import load_checkpointed
from flows.training.options import TrainOptions
from flows.training.run import network_of
from reports.metrics.lpips import load_lpips

WARM_UP, MIN, SECONDS = 2, 3, 3.0
"""Steps that do not count; then so many steps and so many seconds are measured at least."""


class Cost(NamedTuple):
    """What one image costs: seconds, peak memory in bytes beside the model's own, None where the system does not
    tell, and the model's parameters."""

    seconds: float
    memory: int | None
    parameters: int


class Column(NamedTuple):
    """What a method costs: how it is called and printed, in which unit."""

    name: str
    label: str
    form: str
    unit: float = 1

    @property
    def heading(self) -> str:
        return self.label

    def text(self, value: float | None) -> str:
        return "–" if value is None else format(value / self.unit if self.unit != 1 else value, self.form)


COSTS = (
    Column("steps", "steps", ",.0f"),
    Column("parameters", "parameters", ",.0f"),
    Column("seconds", "s an image", ".3f"),
    Column("memory", "MB an image", ".0f", 1e6),
)


def parameters_of(options: TrainOptions) -> int:
    """How many parameters a model has, before it is trained."""
    return sum(parameter.numel() for parameter in described(options).parameters())


def described(options: TrainOptions) -> Model:
    """The model that the options describe, without weights."""
    with torch.device("meta"):
        return make_model({"method": options.method, **asdict(options.model())})


def steps_in(seconds: float, options: TrainOptions) -> int:
    """The training steps that a device makes in so many seconds; at least one."""
    from lightning_fabric import Fabric  # takes seconds, and `--help` needs none of it

    device, recipe, (_, config) = best_device(options.device), options.recipe(), network_of(options)
    kind, _, index = device.partition(":")
    precision = "bf16-mixed" if best_precision(options.precision, device) == "bf16" else "32-true"
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)  # it repeats the options
    fabric = Fabric(accelerator=kind, devices=[int(index)] if index else 1, precision=precision)  # type: ignore[arg-type]
    model = make_model({"method": options.method, **asdict(config)})
    trainer = Trainer(model, recipe, fabric, load_lpips(fabric.device) if recipe.perceptual else None)
    count = options.batch_size or preset_of(options.method, options.preset).batch_size
    batch = torch.randint(0, 256, (count, 3, config.size, config.size), dtype=torch.uint8)
    first = model.config.first_stage if model.staged else 0.0
    shares = [(0.0, first), (first, 1 - first)] if first else [(0.0, 1.0)]
    a_step = 0.0
    for progress, share in shares:
        trainer.done = round(progress * recipe.steps)
        try:
            a_step += share * _seconds(partial(trainer.step, batch), device)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise TrainingError(f"{options.method} cannot be trained on {device}: {reason}") from error
    if device.startswith("cuda"):
        del trainer, model
        torch.cuda.empty_cache()  # the training process needs it
    return max(1, round(seconds / a_step))


def cost_of(checkpoint: str, side: int, size: int, device: str, sampling: Sampling) -> Cost:
    """What one result of `size` pixels from an LR or degraded image of `side` costs, with nothing else around."""
    given = json.dumps(asdict(sampling))
    command = [sys.executable, "-m", "flows.experiments.cost", checkpoint, str(side), str(size), device, given]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode:
        reason = ended.stderr.strip().rpartition("\n")[2]
        raise TrainingError(f"{checkpoint}: its cost cannot be measured: {reason}")
    return Cost(**json.loads(ended.stdout.splitlines()[-1]))


def _seconds(call: Callable[[], Any], device: str) -> float:
    """The mean time of a call."""
    for _ in range(WARM_UP):
        call()
    count, start = 0, _now(device)
    while count < MIN or _now(device) - start < SECONDS:
        call()
        count += 1
    return (_now(device) - start) / count


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _main(checkpoint: str, side: str, size: str, device: str, sampling: str) -> None:
    """Print what an image costs, as JSON."""
    method: Trained = load_checkpointed(checkpoint, device, Sampling(**json.loads(sampling)))
    lr = torch.rand(1, 1 if method.grey_only else 3, int(side), int(side), generator=torch.Generator().manual_seed(0))
    holes = random_masks((int(side), int(side)), torch.tensor([0])) if method.needs_mask else None
    before = _memory(device, "VmRSS")
    _forget_peak(device)
    seconds = _seconds(lambda: method(lr, (int(size), int(size)), holes), device)
    peak = _memory(device, "VmHWM")
    parameters = sum(parameter.numel() for parameter in method.model.parameters())
    cost = Cost(seconds, peak - before if peak is not None and before is not None else None, parameters)
    sys.stdout.write(json.dumps(cost._asdict()) + "\n")


def _memory(device: str, which: str) -> int | None:
    """What the device, or this process on Linux, holds (VmRSS) or held at most (VmHWM), in bytes."""
    if device.startswith("cuda"):
        return torch.cuda.memory_allocated(device) if which == "VmRSS" else torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return 1024 * int(status.partition(f"{which}:")[2].split()[0])


def _forget_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    elif (references := Path("/proc/self/clear_refs")).exists():
        references.write_text("5")


if __name__ == "__main__":
    _main(*sys.argv[1:])
