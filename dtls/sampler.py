"""Samplers of DTLS: from the enlarged LR picture x_T to the SR picture, all with one signature.

`model(x, t)` is the U-Net, `degrade(x, t)` is D; x (N, 3, H, W) is D_t of the unknown HR picture, t its timestep;
`callback(t, x_{t,0})` sees every prediction. Results are not clamped.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from dtls.degradation import Degradation

Callback = Callable[[int, Tensor], None]
Model = Callable[[Tensor, Tensor], Tensor]


class Sampler(Protocol):
    """What every sampler of this file looks like."""

    def __call__(
        self, model: Model, degrade: Degradation, x: Tensor, t: int, callback: Callback | None = None
    ) -> Tensor: ...


def step_by_step(model: Model, degrade: Degradation, x: Tensor, t: int, callback: Callback | None = None) -> Tensor:
    """The paper's sampler, t calls (DTLS §2.2, super-resolution flow; the order of the authors' code).

    x_{s,0} = U(x_s + D(M, s), s);  M += x_{s+1,0} − x_{s,0};  x_{s−1} = D(x_{s,0}, s − 1).
    """
    momentum, previous = torch.zeros_like(x), None
    for s in range(t, 0, -1):
        current = _predict(model, x + degrade(momentum, s), s, callback)
        if previous is not None:
            momentum = momentum + previous - current
        previous = current
        x = degrade(current, s - 1)
    return x


def two_call(model: Model, degrade: Degradation, x: Tensor, t: int, callback: Callback | None = None) -> Tensor:
    """The same picture in two calls: SR = U(D(x_{T,0}, 1), 1) with x_{T,0} = U(x_T, T).

    M telescopes to x_{T,0} − x_{s+1,0} and D is linear, so from the second step on every input
    D(x_{s+1,0}, s) + D(M, s) of the paper's sampler is D(x_{T,0}, s), and only the last one reaches the output.
    """
    first = _predict(model, x, t, callback)
    return first if t == 1 else _predict(model, degrade(first, 1), 1, callback)


def _predict(model: Model, x: Tensor, t: int, callback: Callback | None) -> Tensor:
    prediction = model(x, torch.full((len(x),), t, device=x.device))
    if callback is not None:
        callback(t, prediction)
    return prediction
