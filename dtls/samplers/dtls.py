"""Samplers of DTLS: from the degraded image x_T, such as an enlarged LR image, to the restored one.

All have one signature. `model(x, t)` is the U-Net, `degrade(x, t)` is D of any family of degradations; x (N, 3, H, W)
is D_t of the unknown image, t its timestep, a whole number or a part of one more; `callback(t, x_t, x_{t,0})` sees
what the network is given and what it predicts. Results are not clamped. `SAMPLERS` has them by name; s goes from t
down to 1 over the whole numbers between, M is the momentum, and x_{s,0} = U(x_s, s) unless said otherwise.
"""

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from dtls.choices import SamplerName

Callback = Callable[[float, Tensor, Tensor], None]
Model = Callable[[Tensor, Tensor], Tensor]
Degrade = Callable[[Tensor, float], Tensor]
NEEDS_LINEAR: tuple[SamplerName, ...] = ("two-call",)
"""Samplers that give what they stand for only where every D_t is linear."""
DEGRADES_NOTHING: tuple[SamplerName, ...] = ("one-call",)
"""Samplers that never call `degrade`, so that nothing is drawn."""


class Sampler(Protocol):
    """What every sampler of this file looks like."""

    def __call__(
        self, model: Model, degrade: Degrade, x: Tensor, t: float, callback: Callback | None = None, /
    ) -> Tensor: ...


def two_call(model: Model, degrade: Degrade, x: Tensor, t: float, callback: Callback | None = None) -> Tensor:
    """The image of `current` in two calls: SR = U(D(x_{T,0}, 1), 1) with x_{T,0} = U(x_T, T).

    M telescopes to x_{T,0} − x_{s+1,0} and D is linear, so from the second step on every input
    D(x_{s+1,0}, s) + D(M, s) of the paper's sampler is D(x_{T,0}, s), and only the last one reaches the output.
    """
    first = _predict(model, x, t, callback)
    return first if t <= 1 else _predict(model, degrade(first, 1), 1, callback)


def one_call(model: Model, _: Degrade, x: Tensor, t: float, callback: Callback | None = None) -> Tensor:
    """The image of `momentum_hr` in one call: SR = U(x_T, T)."""
    return _predict(model, x, t, callback)


def current(model: Model, degrade: Degrade, x: Tensor, t: float, callback: Callback | None = None) -> Tensor:
    """The paper's sampler in the order of the authors' code, t calls (DTLS §2.2; Table 4, iv).

    x_{s,0} = U(x_s + D(M, s), s);  M += x_{s+1,0} − x_{s,0};  x_{s−1} = D(x_{s,0}, s − 1).
    """
    return _with_momentum(model, degrade, x, t, callback, lambda m, s: degrade(m, s))


def no_momentum(model: Model, degrade: Degrade, x: Tensor, t: float, callback: Callback | None = None) -> Tensor:
    """Without M (DTLS Table 4, i; Cold Diffusion's algorithm 1): x_{s−1} = D(x_{s,0}, s − 1)."""
    for s, after in _steps(t):
        x = degrade(_predict(model, x, s, callback), after)
    return x


def momentum_last(model: Model, degrade: Degrade, x: Tensor, t: float, callback: Callback | None = None) -> Tensor:
    """M not accumulated (DTLS Table 4, ii): as `current`, with M = x_{s+1,0} − x_{s,0}."""
    return _with_momentum(model, degrade, x, t, callback, lambda m, s: degrade(m, s), accumulated=False)


def momentum_hr(model: Model, degrade: Degrade, x: Tensor, t: float, callback: Callback | None = None) -> Tensor:
    """M added in the HR domain (DTLS Table 4, iii): M += x_{s+1,0} − x_{s,0};  x_{s−1} = D(x_{s,0} + M, s − 1)."""
    momentum, before = torch.zeros_like(x), None
    for s, after in _steps(t):
        prediction = _predict(model, x, s, callback)
        if before is not None:
            momentum = momentum + before - prediction
        before, x = prediction, degrade(prediction + momentum, after)
    return x


def undegraded(model: Model, degrade: Degrade, x: Tensor, t: float, callback: Callback | None = None) -> Tensor:
    """M as it is (DTLS Table 4, v): as `current`, with M where `current` has D(M, s)."""
    return _with_momentum(model, degrade, x, t, callback, lambda m, _: m)


def as_printed(model: Model, degrade: Degrade, x: Tensor, t: float, callback: Callback | None = None) -> Tensor:
    """The paper's pseudo-code as it is written (DTLS §2.2), where D(M, t) is of the step that was just made.

    M += x_{s+1,0} − x_{s,0};  x_{s−1} = D(x_{s,0}, s − 1) + D(M, s).
    """
    momentum, before = torch.zeros_like(x), None
    for s, after in _steps(t):
        prediction = _predict(model, x, s, callback)
        if before is not None:
            momentum = momentum + before - prediction
        before, x = prediction, degrade(prediction, after) + degrade(momentum, s)
    return x


def cold(model: Model, degrade: Degrade, x: Tensor, t: float, callback: Callback | None = None) -> Tensor:
    """Cold Diffusion's algorithm 2 (2208.09392): x_{s−1} = x_s − D(x_{s,0}, s) + D(x_{s,0}, s − 1)."""
    for s, after in _steps(t):
        prediction = _predict(model, x, s, callback)
        x = x - degrade(prediction, s) + degrade(prediction, after)
    return x


def previous(model: Model, _: Degrade, x: Tensor, t: float, callback: Callback | None = None) -> Tensor:
    """For a network that predicts the previous step (DTLS B2): x_{s−1} = U(x_s, s)."""
    for s, _after in _steps(t):
        x = _predict(model, x, s, callback)
    return x


SAMPLERS: dict[SamplerName, Sampler] = {
    "two-call": two_call,
    "one-call": one_call,
    "current": current,
    "none": no_momentum,
    "last": momentum_last,
    "hr": momentum_hr,
    "undegraded": undegraded,
    "written": as_printed,
    "cold": cold,
    "previous": previous,
}


def _with_momentum(
    model: Model,
    degrade: Degrade,
    x: Tensor,
    t: float,
    callback: Callback | None,
    lowered: Degrade,
    *,
    accumulated: bool = True,
) -> Tensor:
    """x_{s,0} = U(x_s + lowered(M, s), s);  M += x_{s+1,0} − x_{s,0}, or = that;  x_{s−1} = D(x_{s,0}, s − 1)."""
    momentum, before = torch.zeros_like(x), None
    for s, after in _steps(t):
        prediction = _predict(model, x + lowered(momentum, s), s, callback)
        if before is not None:
            change = before - prediction
            momentum = momentum + change if accumulated else change
        before, x = prediction, degrade(prediction, after)
    return x


def _steps(t: float) -> Iterator[tuple[float, int]]:
    """Every step with the next one: t with the largest whole number below it, and so on down to (1, 0)."""
    step = t
    for after in range(math.ceil(t) - 1, -1, -1):
        yield step, after
        step = after


def _predict(model: Model, x: Tensor, t: float, callback: Callback | None) -> Tensor:
    prediction = model(x, torch.full((len(x),), t, device=x.device))
    if callback is not None:
        callback(t, x, prediction)
    return prediction
