"""How to train: the recipe of a run, and what is drawn at random in each of its steps."""

import math
import zlib
from dataclasses import dataclass
from typing import Literal

import torch

from dtls.models.base import Draws, Model


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are the paper's (DTLS §3) with the EMA of the authors' code.

    steps: of the optimiser. beta1: of AdamW, the share of the mean gradient that a step keeps. schedule: `cosine`
    falls to 0 with the last step. warmup: steps over which the learning rate rises. loss: the paper's L1, or the mean
    squared error (Table B1). inputs: what the network learns from, `degraded` images D(x_0, t) as in the paper, or
    `sampled` ones, what the two-call sampler shows it: half the batch are degraded, every second of them to T, the
    other half are D_1 of the network's own first prediction. first_timestep: 1 as in the paper's text, 0 as in its
    code. flip: whether images are mirrored, each with a chance of one half. perceptual: weight of LPIPS beside the
    loss. adversarial: weight of the loss against a critic that is trained beside the model, as in GANs. clip: largest
    norm of the gradient. accumulate: parts that a batch is computed in, to save memory.
    """

    steps: int = 50_000
    learning_rate: float = 2e-5
    beta1: float = 0.9
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: int = 0
    loss: Literal["l1", "mse"] = "l1"
    inputs: Literal["degraded", "sampled"] = "degraded"
    first_timestep: Literal[0, 1] = 1
    flip: bool = True
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


def check_recipe(model: type[Model], recipe: Recipe) -> None:
    """ValueError where a recipe wants what a model does not have."""
    if not model.compares and (recipe.perceptual or recipe.adversarial):
        raise ValueError(f"{model.name} learns by its own loss, not between images: no perceptual, no adversarial")
    if recipe.inputs == "sampled" and not model.sees_own:
        raise ValueError(f"inputs sampled goes with dtls, whose sampler takes two calls, not with {model.name}")


def generator_for(seed: int, step: int) -> torch.Generator:
    """The source of everything random at one step of one run."""
    mixed = zlib.crc32(f"{seed} {step}".encode())  # of a larger number, torch's generator takes the low 32 bits only
    return torch.Generator().manual_seed(mixed)


def draw(recipe: Recipe, step: int, count: int, timesteps: int) -> Draws:
    """The draws of a step: t evenly from first_timestep … T (DTLS §2.2, training procedure), or as `sampled` says."""
    generator = generator_for(recipe.seed, step)
    t = torch.randint(recipe.first_timestep, timesteps + 1, (count,), generator=generator)
    mirrored = (torch.rand(count, generator=generator) < 0.5) & recipe.flip
    own = torch.zeros(count, dtype=torch.bool)
    if recipe.inputs == "sampled":
        t = torch.where(torch.rand(count, generator=generator) < 0.5, timesteps, t)
        own[::2] = True  # every second one, so that each process and each part has as many
    return Draws(t, mirrored, own, torch.randint(2**62, (count,), generator=generator))
