"""Weights of two modules, compared."""

import torch
from torch import nn


def have_the_same_weights(first: nn.Module, second: nn.Module) -> bool:
    """Whether all that they save is the same, bit by bit."""
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
