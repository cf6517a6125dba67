"""Training: the loss between x_0 and U(D(x_0, t), t), AdamW, EMA, and a state from which a run goes on exactly.

Everything random follows from (seed, step), so a resumed run sees the pictures and timesteps that the undisturbed
run would have seen, and on one device ends with the same weights.
"""

import math
import zlib
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dtls.checkpoint import DTLS, CheckpointError, load_weights


class TrainingError(RuntimeError):
    """Training that cannot go on."""


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are the paper's (DTLS §3.1) with the EMA of the authors' code.

    `cosine` lets the learning rate rise over the first twentieth of `steps` and fall to 0 with the last.
    """

    steps: int = 50_000
    learning_rate: float = 2e-5
    schedule: Literal["constant", "cosine"] = "constant"
    loss: Literal["l1", "mse"] = "l1"
    ema_decay: float = 0.995
    ema_every: int = 10
    ema_start: int = 2000
    seed: int = 0

    def rate(self, step: int) -> float:
        """The learning rate of step 0 … `steps` − 1."""
        if self.schedule == "constant":
            return self.learning_rate
        rise = min(1.0, (step + 1) / max(1, self.steps // 20))
        return self.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / self.steps))


LOSSES = {"l1": F.l1_loss, "mse": F.mse_loss}


def random_timesteps(count: int, steps: int, generator: torch.Generator) -> Tensor:
    """Timesteps (count,) drawn evenly from 1…T (DTLS §2.2, training procedure)."""
    return torch.randint(1, steps + 1, (count,), generator=generator)


def generator_for(seed: int, step: int) -> torch.Generator:
    """The source of everything random at one step of one run."""
    mixed = zlib.crc32(f"{seed} {step}".encode())  # of a larger number, torch's generator takes the low 32 bits only
    return torch.Generator().manual_seed(mixed)


class Trainer:
    """A model in training, its average (`ema`, the one to use), its optimiser, and the number of steps done."""

    def __init__(self, model: DTLS, recipe: Recipe) -> None:
        self.model, self.recipe, self.done = model, recipe, 0
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
        self.ema = deepcopy(model).requires_grad_(False).eval()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.999), eps=1e-8)

    def step(self, batch: Tensor) -> float:
        """One step on pictures (N, 3, S, S), uint8; returns the loss, or raises TrainingError if it is not finite."""
        device = next(self.model.parameters()).device
        x0 = batch.to(device, memory_format=torch.channels_last, non_blocking=True).float() / 255
        t = random_timesteps(len(x0), self.model.degradation.steps, generator_for(self.recipe.seed, self.done))
        self.optimizer.zero_grad()
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.done)
        t = t.to(device)
        prediction = self.model(self.model.degradation(x0, t), t)
        value = LOSSES[self.recipe.loss](prediction, x0)
        if not torch.isfinite(value):
            raise TrainingError(f"the loss is {value.item()} at step {self.done}; try a lower learning rate")
        value.backward()
        self.optimizer.step()
        if self.done % self.recipe.ema_every == 0:
            self._average()
        self.done += 1
        return value.item()

    def _average(self) -> None:
        started = self.done >= self.recipe.ema_start
        weight = 1 - self.recipe.ema_decay if started else 1.0
        for average, current in zip(self.ema.parameters(), self.model.parameters(), strict=True):
            average.lerp_(current.detach(), weight)

    def state(self) -> dict[str, Tensor]:
        """Everything a resumed run needs: weights, average, optimiser, and the steps done."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in moments.items()}
        return tensors | {"done": torch.tensor(self.done)}

    def load_state(self, tensors: dict[str, Tensor], name: str) -> None:
        """Go on from `state()`; CheckpointError, with `name`, where it is another model's."""
        if "done" not in tensors:
            raise CheckpointError(f"{name}: not the state of a training run")
        load_weights(self.model, _below("model.", tensors), name)
        load_weights(self.ema, _below("ema.", tensors), name)
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _below("optimizer.", tensors).items():
            index, _, moment = key.partition(".")
            moments.setdefault(int(index), {})[moment] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.done = int(tensors["done"])


def train(
    trainer: Trainer,
    batches: Iterable[Tensor],
    on_step: Callable[[int, float], None],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train until the recipe's steps are done or `stop()` says so; `on_step(done, loss)` after each.

    `batches` starts with the batch of step `trainer.done`: (N, 3, S, S), uint8.
    """
    steps = trainer.recipe.steps
    trainer.model.train()
    if trainer.done >= steps:
        return
    for batch in batches:
        value = trainer.step(batch)
        on_step(trainer.done, value)
        if trainer.done >= steps or stop():
            return


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
