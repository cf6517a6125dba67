"""How far results that are degraded again are from what they were made of, for any degradation by its name.

The names are those of `dtls.degradations.recorded`.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from dtls.degradations.base import is_linear
from dtls.degradations.grayscale import luma
from dtls.degradations.operator import Operator
from dtls.degradations.recorded import reduces, split
from dtls.degradations.registry import operator_of


def can_be_measured(name: str) -> bool:
    """Whether it is known which results agree with the images that a degradation has made."""
    return is_linear(name) if reduces(name) else again(name) is not None


def operator_named(name: str) -> Operator | None:
    """The operator of a degradation at an image's own size; None for one that makes images smaller."""
    return None if reduces(name) else operator_of(split(name)[0])


def needs_alpha(name: str) -> bool:
    """Whether degraded images say by their alpha channel which pixels are missing."""
    operator = operator_named(name)
    return operator is not None and operator.needs_mask


@dataclass(frozen=True)
class Again:
    """Degrades results again. operator: that of a degradation at an image's own size; strength: t / T."""

    operator: Operator
    strength: float = 1.0

    def misfit(self, x: Tensor, y: Tensor) -> Tensor:
        """How far images x (N, 3, H, W) are from agreeing with degraded images y (N, 3 or 4, H, W), alpha last.

        All are in [0, 1], as files hold them: RGB also where these are grey. `Operator.misfit`, which for most is the
        mean of (A x − y)²; at a part of the strength, that of (D_t x − y)². Returns (N,).
        """
        if self.strength != 1:
            made = self.operator(x, self.strength * self.operator.steps)
            return (made - y[:, :3]).square().mean((1, 2, 3))
        return self.operator.misfit(x, luma(y[:, :3]) if self.operator.channels == 1 else y)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def again(name: str) -> Again | None:
    """What degrades results as a name says; None where a part of the strength is of what is drawn at random."""
    spec, strength = split(name)
    operator = operator_of(spec)
    if strength == 1:
        return Again(operator)
    return None if operator.draws or operator.needs_mask else Again(operator, strength)
