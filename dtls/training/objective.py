"""What a training step optimises: a model's loss, LPIPS beside it, and the critic of a GAN or of a GAN stage."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtls.models.base import Draws, Model
from dtls.networks.critic import PatchCritic
from dtls.training.recipe import Recipe

LOSSES = {"l1": F.l1_loss, "mse": F.mse_loss}


class Objective(nn.Module):
    """What a step optimises: the loss of a model, and the critic that it is trained against with its own.

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
        self.critic = model.critic() or (PatchCritic() if recipe.adversarial else None)
        self._autocast = autocast
        self._others = (torch.compile(model, dynamic=False) if compiled else model, perceptual)  # no part of it

    def forward(self, batch: Tensor, drawn: Draws) -> Tensor:
        """The loss of uint8 images (N, 3, S, S), a scalar."""
        hr = batch.float() / 255
        t, mirrored, own = (each.to(hr.device) for each in drawn[:3])
        drawn = Draws(t, mirrored, own, drawn.seeds.cpu(), drawn.labels.to(hr.device))
        hr = torch.where(drawn.mirrored[:, None, None, None], hr.flip(-1), hr)
        with torch.autocast(hr.device.type, enabled=False):
            return self.model.loss(self._network, hr, drawn, self._compare)

    def _network(self, x: Tensor, t: Tensor) -> Tensor:
        with self._autocast():
            made: Tensor = self._others[0](x, t)
        return made.float()

    def _compare(self, prediction: Tensor, target: Tensor) -> Tensor:
        perceptual = self._others[1]
        value = LOSSES[self.recipe.loss](prediction, target) if self.model.compares else prediction.new_zeros(())
        if perceptual is not None:
            with self._autocast():
                distance = perceptual(prediction * 2 - 1, target * 2 - 1).float().mean()
            value = value + self.recipe.perceptual * distance
        if self.critic is not None:
            with self._autocast():
                fooled, told_apart = self.critic.losses(prediction, target)
            value = value + (self.recipe.adversarial or 1.0) * fooled + told_apart
        return value
