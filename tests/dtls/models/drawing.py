"""What a step draws, chosen: timesteps and seeds, nothing mirrored."""

import torch
from torch import Tensor

from dtls.models.base import Draws


def draws(*t: int) -> Draws:
    nothing = torch.zeros(len(t), dtype=torch.bool)
    return Draws(torch.tensor(t), nothing, nothing, 100 + torch.arange(len(t)))


def seeds(*values: int) -> Tensor:
    return torch.tensor(values)
