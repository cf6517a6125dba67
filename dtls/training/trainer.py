"""Training, of any model: its loss, AdamW, EMA, and a state from which a run goes on exactly.

Everything random follows from (seed, step), so a resumed run sees the images and timesteps that the undisturbed
run would have seen, and on one device ends with the same weights. Several processes, and parts of a batch, share
what one process would have drawn.
"""

import math
import zlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtls.checkpoints.checkpoint import CheckpointError, load_weights
from dtls.models.base import Draws, Model
from dtls.networks.critic import Critic

if TYPE_CHECKING:  # it takes seconds to import, and only the training process needs it
    from lightning_fabric import Fabric


class TrainingError(RuntimeError):
    """Training that cannot go on."""


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are the paper's (DTLS §3) with the EMA of the authors' code.

    steps: of the optimiser. schedule: `cosine` falls to 0 with the last step. warmup: steps over which the learning
    rate rises. loss: the paper's L1, or the mean squared error (Table B1). inputs: what the network learns from,
    `degraded` images D(x_0, t) as in the paper, or `sampled` ones, what the two-call sampler shows it: half the
    batch are degraded, every second of them to T, the other half are D_1 of the network's own first prediction.
    first_timestep: 1 as in the paper's text, 0 as in its code. perceptual: weight of LPIPS beside the loss.
    adversarial: weight of the loss against a critic that is trained beside the model, as in GANs.
    clip: largest norm of the gradient. accumulate: parts that a batch is computed in, to save memory.
    """

    steps: int = 50_000
    learning_rate: float = 2e-5
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: int = 0
    loss: Literal["l1", "mse"] = "l1"
    inputs: Literal["degraded", "sampled"] = "degraded"
    first_timestep: Literal[0, 1] = 1
    perceptual: float = 0.0
    adversarial: float = 0.0
    clip: float | None = None
    accumulate: int = 1
    ema_decay: float = 0.995
    ema_every: int = 10
    ema_start: int = 2000
    seed: int = 0

    def rate(self, step: int) -> float:
        """The learning rate of step 0 … `steps` − 1."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps)) if self.schedule == "cosine" else 1.0
        return self.learning_rate * rise * fall


M = TypeVar("M", bound=Model)
LOSSES = {"l1": F.l1_loss, "mse": F.mse_loss}


def check_recipe(model: type[Model], recipe: Recipe) -> None:
    """ValueError where a recipe wants what a model does not have."""
    if not model.compares and (recipe.perceptual or recipe.adversarial):
        raise ValueError(f"{model.name} learns by its own loss, not between images: no perceptual, no adversarial")
    if recipe.inputs == "sampled" and not hasattr(model, "preferred"):
        raise ValueError(f"inputs sampled goes with dtls, whose sampler takes two calls, not with {model.name}")


def generator_for(seed: int, step: int) -> torch.Generator:
    """The source of everything random at one step of one run."""
    mixed = zlib.crc32(f"{seed} {step}".encode())  # of a larger number, torch's generator takes the low 32 bits only
    return torch.Generator().manual_seed(mixed)


def draw(recipe: Recipe, step: int, count: int, steps: int) -> Draws:
    """The draws of a step: t evenly from first_timestep … T (DTLS §2.2, training procedure), or as `sampled` says."""
    generator = generator_for(recipe.seed, step)
    t = torch.randint(recipe.first_timestep, steps + 1, (count,), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    own = torch.zeros(count, dtype=torch.bool)
    if recipe.inputs == "sampled":
        t = torch.where(torch.rand(count, generator=generator) < 0.5, steps, t)
        own[::2] = True  # every second one, so that each process and each part has as many
    return Draws(t, mirrored, own, torch.randint(2**62, (count,), generator=generator))


class Objective(nn.Module):
    """What a step optimises: the loss of a model, and the critic of a GAN stage with its own.

    autocast: the context in which networks run; the arithmetic around them keeps fp32. perceptual: LPIPS of two
    batches in [−1, 1].
    """

    def __init__(
        self,
        model: Model,
        recipe: Recipe,
        autocast: Callable[[], AbstractContextManager[Any]],
        perceptual: nn.Module | None,
        *,
        compiled: bool,
    ) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe
        self.critic = Critic() if recipe.adversarial else None
        self._autocast = autocast
        self._others = (torch.compile(model, dynamic=False) if compiled else model, perceptual)  # no part of it

    def forward(self, batch: Tensor, drawn: Draws) -> Tensor:
        """The loss of uint8 images (N, 3, S, S), a scalar."""
        hr = batch.float() / 255
        t, mirrored, own = (each.to(hr.device) for each in drawn[:3])
        drawn = Draws(t, mirrored, own, drawn.seeds.cpu())
        hr = torch.where(drawn.mirrored[:, None, None, None], hr.flip(-1), hr)
        with torch.autocast(hr.device.type, enabled=False):
            return self.model.loss(self._network, hr, drawn, self._compare)

    def _network(self, x: Tensor, t: Tensor) -> Tensor:
        with self._autocast():
            made: Tensor = self._others[0](x, t)
        return made.float()

    def _compare(self, prediction: Tensor, target: Tensor) -> Tensor:
        value, perceptual = LOSSES[self.recipe.loss](prediction, target), self._others[1]
        if perceptual is not None:
            with self._autocast():
                distance = perceptual(prediction * 2 - 1, target * 2 - 1).float().mean()
            value = value + self.recipe.perceptual * distance
        if self.critic is not None:
            with self._autocast():
                fooled, told_apart = self.critic.losses(prediction, target)
            value = value + self.recipe.adversarial * fooled + told_apart
        return value


class Trainer(Generic[M]):
    """A model in training, its average (`ema`), its optimiser, and the number of steps done.

    averaged(): the average with the last step in it, the one to use. fabric: precision, and the other processes, if
    there are any. perceptual: LPIPS of two batches in [−1, 1]. compiled: run the network through torch.compile.
    """

    def __init__(
        self,
        model: M,
        recipe: Recipe,
        fabric: "Fabric",
        perceptual: nn.Module | None = None,
        *,
        compiled: bool = False,
    ) -> None:
        check_recipe(type(model), recipe)
        if recipe.inputs == "sampled" and model.config.predicts != "x0":
            raise CheckpointError("a network that predicts the previous step has no two-call sampler to learn from")
        if bool(recipe.perceptual) != (perceptual is not None):
            raise ValueError("a perceptual weight and a perceptual model go together")
        self.model, self.recipe, self.done = model, recipe, 0
        self.objective = Objective(model, recipe, fabric.autocast, perceptual, compiled=compiled)
        self.objective.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = deepcopy(model).requires_grad_(False).eval()
        self.optimizer = torch.optim.AdamW(
            self.objective.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=True
        )
        self._fabric = fabric
        self._loss, self._optimizer = fabric.setup(self.objective, self.optimizer)

    def step(self, batch: Tensor) -> float:
        """One step on this process's share of the batch, uint8 (N, 3, S, S); returns the loss of the whole batch.

        TrainingError where it is not finite.
        """
        count, recipe = len(batch), self.recipe
        first = count * self._fabric.global_rank
        drawn = draw(recipe, self.done, count * self._fabric.world_size, self.model.steps)
        drawn = drawn.part(slice(first, first + count))
        self.model.progress = self.done / recipe.steps
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate(self.done)
        self.optimizer.zero_grad()
        value = torch.zeros((), device=self._fabric.device)
        size = -(-count // recipe.accumulate)
        for start in range(0, count, size):
            part = slice(start, start + size)
            given = batch[part].to(self._fabric.device, memory_format=torch.channels_last, non_blocking=True)
            with self._fabric.no_backward_sync(self._loss, enabled=start + size < count):
                loss = self._loss(given, drawn.part(part)) * (len(given) / count)
                self._fabric.backward(loss)
            value += loss.detach()
        if self._fabric.world_size > 1:
            value = cast(Tensor, self._fabric.all_reduce(value, reduce_op="mean"))
        self._check(value, "loss")
        norm = self._fabric.clip_gradients(
            self._loss, self._optimizer, max_norm=recipe.clip or math.inf, error_if_nonfinite=False
        )
        self._check(cast(Tensor, norm), "norm of the gradient")
        self._optimizer.step()
        if self.done % recipe.ema_every == 0:
            self._average()
        self.done += 1
        return value.item()

    def _check(self, value: Tensor, name: str) -> None:
        if not torch.isfinite(value):
            raise TrainingError(
                f"the {name} is {value.item()} at step {self.done + 1}; try a lower learning rate in another folder"
            )

    def averaged(self) -> M:
        """A copy of the average that the last step is in, too; `ema` itself moves every `ema_every` steps only."""
        since = (self.done - 1) % self.recipe.ema_every
        copy = deepcopy(self.ema)
        if self.done and since:
            self._move(copy, self.done - 1, 1 - self.recipe.ema_decay ** (since / self.recipe.ema_every))
        return copy

    def _average(self) -> None:
        self._move(self.ema, self.done, 1 - self.recipe.ema_decay)

    def _move(self, average: M, step: int, weight: float) -> None:
        """Move an average towards the weights after a step; before `ema_start`, it is these weights."""
        weight = weight if step >= self.recipe.ema_start else 1.0
        for mean, current in zip(average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(current.detach(), weight)

    def state(self) -> dict[str, Tensor]:
        """Everything a resumed run needs: weights, average, optimiser, and the steps done."""
        tensors = dict(self.objective.state_dict())
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in moments.items()}
        return tensors | {"done": torch.tensor(self.done)}

    def load_state(self, tensors: dict[str, Tensor], name: str) -> None:
        """Go on from `state()`; CheckpointError, with `name`, where it is another model's."""
        if "done" not in tensors:
            raise CheckpointError(f"{name}: not the state of a training run")
        learned = {key: tensors[key] for key in tensors if key.startswith(("model.", "critic."))}
        load_weights(self.objective, learned, name)
        load_weights(self.ema, _below("ema.", tensors), name)
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _below("optimizer.", tensors).items():
            index, _, moment = key.partition(".")
            moments.setdefault(int(index), {})[moment] = value
        parameters = list(self.objective.parameters())
        complete = set(range(len(parameters))) if int(tensors["done"]) else set()
        if moments.keys() != complete and not (self.model.staged and moments.keys() < complete):
            raise CheckpointError(f"{name}: lacks moments of the optimiser")
        for place, of_one in moments.items():
            like = parameters[place]  # the fused optimiser wants moments that lie in memory as their parameter
            moments[place] = {
                k: torch.empty_like(like).copy_(v) if v.shape == like.shape else v for k, v in of_one.items()
            }
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.done = int(tensors["done"])


def train(
    trainer: Trainer[Any],
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
