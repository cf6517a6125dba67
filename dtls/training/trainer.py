"""Training, of any model: its loss, AdamW, EMA, and a state from which a run goes on exactly.

Everything random follows from (seed, step), so a resumed run sees the images and timesteps that the undisturbed
run would have seen, and on one device ends with the same weights. Several processes, and parts of a batch, share
what one process would have drawn.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from dtls.checkpoints.checkpoint import load_weights
from dtls.errors import CheckpointError, TrainingError
from dtls.models.base import Model
from dtls.training.objective import Objective
from dtls.training.recipe import Recipe, check_recipe, draw

if TYPE_CHECKING:  # it takes seconds to import, and only the training process needs it
    from lightning_fabric import Fabric


M = TypeVar("M", bound=Model)
NONE = torch.empty(0, dtype=torch.int64)


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
            raise TrainingError("a network that predicts the previous step has no two-call sampler to learn from")
        if recipe.inputs == "sampled" and "two-call" not in model.samplers:
            raise TrainingError(f"{model.undoes} is not linear, so there is no two-call sampler to learn from")
        if bool(recipe.perceptual) != (perceptual is not None):
            raise ValueError("a perceptual weight and a perceptual model go together")
        self.model, self.recipe, self.done = model, recipe, 0
        self.objective = Objective(model, recipe, fabric.autocast, perceptual, compiled=compiled)
        self.objective.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = deepcopy(model).requires_grad_(False).eval()
        self.optimizer = torch.optim.AdamW(
            self.objective.parameters(), lr=recipe.learning_rate, betas=(recipe.beta1, 0.999), eps=1e-8, fused=True
        )
        self._fabric = fabric
        self._loss, self._optimizer = fabric.setup(self.objective, self.optimizer)

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Let the model take what it needs of this process's images, uint8 (N, 3, S, S), before the first step."""
        self.model.fit(self._seen(batches))
        self.ema.load_state_dict(self.model.state_dict())

    def _seen(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Images in [0, 1] as the model will see them: where images are mirrored in training, as they are and so."""
        for batch in batches:
            images = batch.to(self._fabric.device).float() / 255
            yield images
            if self.recipe.flip:
                yield images.flip(-1)

    def step(self, batch: Tensor, labels: Tensor = NONE) -> float:
        """One step on this process's share of the batch, uint8 (N, 3, S, S); returns the loss of the whole batch.

        labels: of a classifier, the number of each image's class, int64 (N,).

        TrainingError where it is not finite.
        """
        count, recipe = len(batch), self.recipe
        first = count * self._fabric.global_rank
        drawn = draw(recipe, self.done, count * self._fabric.world_size, self.model.timesteps)
        drawn = drawn.part(slice(first, first + count))._replace(labels=labels)
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
        """Move an average towards the weights after a step, and towards what layers have counted; before `ema_start`,
        it is these."""
        weight = weight if step >= self.recipe.ema_start else 1.0
        for mean, current in zip(average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(current.detach(), weight)
        for counted, now in zip(average.buffers(), self.model.buffers(), strict=True):
            if counted.is_floating_point():
                counted.lerp_(now, weight)
            else:
                counted.copy_(now)

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
    batches: Iterable[Any],
    on_step: Callable[[int, float], None],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train until the recipe's steps are done or `stop()` says so; `on_step(done, loss)` after each.

    `batches` starts with the batch of step `trainer.done`: (N, 3, S, S), uint8; of a classifier, it and its labels.
    """
    steps = trainer.recipe.steps
    trainer.model.train()
    if trainer.done >= steps:
        return
    for batch in batches:
        value = trainer.step(*batch) if trainer.model.classifies else trainer.step(batch)
        on_step(trainer.done, value)
        if trainer.done >= steps or stop():
            return


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
