"""`lr-flow`: LR images of a vector z of 100 numbers, which an upscaler then makes large.

An image x is μ + Vᵀ diag(d) c, by the principal components of the images that it learns from. Their mean μ,
directions V and deviations d are found once, before the first step. A rectified flow (2209.03003; 2210.02747, §4.1)
leads from z ~ N(0, 1) at t = 0 to c at t = 1, x_t = (1 − t) z + t c, by the velocity

    v(x_t, t) = (2t − 1) / σ_t² · x_t + net(x_t, t),  σ_t² = (1 − t)² + t².

The first term is what a standard normal c needs, and the last layer of the network begins as 0, so that an untrained
flow is exactly the normal distribution of the images' mean and covariance. Run backwards, the flow finds the z of an
image.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from dtls.errors import SizeError, TrainingError
from dtls.models.base import Callback, Compare, Draws, Network, Noise, departing, summed
from dtls.models.generative import Generative, GenerativeConfig, Way

MAX_NUMBERS = 4096
"""Of an image: the covariance has the square of that."""
MAX_FREQUENCY, FREQUENCIES = 2.0, 8
"""Of the sines and cosines by which the network is told t."""
FEWEST = 1e-4
"""The smallest deviation of a component, as a share of the largest: those below are rounding."""
HEUN_STEPS, MAX_STEPS, ROUNDS = 32, 1000, 8


@dataclass(frozen=True)
class LRFlowConfig(GenerativeConfig):
    """components: numbers of z, and principal components that are kept. width and blocks: of the network."""

    size: int = 16
    components: int = 100
    width: int = 512
    blocks: int = 2

    @property
    def numbers(self) -> int:
        """Of an image."""
        return self.channels * self.size**2

    def validate(self) -> Self:
        super().validate()
        for name in ("components", "width", "blocks"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise SizeError(f"{name} is a whole number, at least 1, not {getattr(self, name)!r}")
        if self.numbers > MAX_NUMBERS:
            raise SizeError(
                f"lr-flow is for small images of at most {MAX_NUMBERS:,} numbers, not {self.size}×{self.size}×"
                f"{self.channels}; say --size 32 or less, and let an upscaler enlarge them"
            )
        if self.components >= self.numbers:
            raise SizeError(
                f"components are fewer than the {self.numbers} numbers of an image, not {self.components}"
            )
        return self


class LRFlow(Generative):
    """z (N, k) is standard normal, and so is c (N, k) of the images that it learned from, each number for itself.

    mean: μ (C·S·S,). directions: V (k, C·S·S), orthonormal. deviations: d (k,).
    """

    name = "lr-flow"
    config_type = LRFlowConfig
    compares = False
    fits = True
    walks = True
    defaults = departing(steps=4000, learning_rate=1e-3, schedule="cosine", warmup=100, clip=1.0, batch_size=256)
    timesteps = 1000
    mean: Tensor
    directions: Tensor
    deviations: Tensor

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        c: LRFlowConfig = self.config
        self.z_shape = (c.components,)
        self.net = _Residual(c.components, c.width, c.blocks)
        self.register_buffer("mean", torch.full((c.numbers,), 0.5))
        self.register_buffer("directions", torch.eye(c.components, c.numbers))
        self.register_buffer("deviations", torch.ones(c.components))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """net(x_t, t) (N, k), of t in 0 … 1 (N,)."""
        made: Tensor = self.net(x, t)
        return made

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Set μ, V and d by images (N, 3, S, S) in [0, 1]; TrainingError for too few, or ones that are too alike."""
        count, total, products = torch.zeros(1), torch.zeros(self.config.numbers), torch.zeros(())
        count, total, products = count.double(), total.double(), products.double()
        for images in batches:
            x = self.of_colour(images).flatten(1).cpu().double() - 0.5
            count, total, products = count + len(x), total + x.sum(0), products + x.T @ x
        count, total, products = (summed(each, self.mean.device) for each in (count, total, products))
        mean = total / count
        values, vectors = torch.linalg.eigh(products / count - mean[:, None] * mean)
        kept = self.config.components
        deviations = values.flip(0)[:kept].clamp(min=0).sqrt()
        if (found := int((deviations > FEWEST * deviations[0]).sum())) < kept:
            raise TrainingError(
                f"{int(count):,} images have {found} principal components, fewer than the {kept} asked for; train on "
                f"more images, or say --network components={max(found, 1)}"
            )
        directions = vectors.T.flip(0)[:kept]
        aside = torch.randn(self.config.numbers, generator=torch.Generator().manual_seed(0)).double()
        directions = directions * (directions @ aside).sign()[:, None]  # both are as good; rounding shall not choose
        for name, value in (
            ("mean", mean + 0.5),
            ("directions", directions),
            ("deviations", deviations),
        ):
            getattr(self, name).copy_(value)

    def encoded(self, images: Tensor) -> Tensor:
        """c (N, k) of images (N, C, S, S)."""
        return (images.flatten(1) - self.mean) @ self.directions.T / self.deviations

    def decoded(self, c: Tensor) -> Tensor:
        """Images (N, C, S, S), not clamped, of c (N, k)."""
        made = self.mean + (c * self.deviations) @ self.directions
        return made.unflatten(1, (self.config.channels, self.config.size, self.config.size))

    def loss(self, network: Network, hr: Tensor, drawn: Draws, _: Compare) -> Tensor:
        """The mean of (v(x_t, t) − (c − z))² (2209.03003, eq. 1)."""
        with torch.no_grad():
            c = self.encoded(self.of_colour(hr))
            z = Noise(drawn.seeds)(c)
            t = (drawn.t - 0.5) / self.timesteps
            x = torch.lerp(z, c, t[:, None])
            needed = c - z - ((2 * t - 1) / _sigma(t) ** 2)[:, None] * x
        return (network(x, t) - needed).square().mean()

    @property
    def samplers(self) -> tuple[str, ...]:
        return ("heun",)

    def way(self, sampler: str | None, steps: int | None) -> Way:
        """`heun`, in 32 steps of two network evaluations unless said."""
        if sampler not in (None, "heun"):
            raise ValueError(f"{self.name} has no sampler {sampler}; there is heun")
        count = HEUN_STEPS if steps is None else steps
        if not 1 <= count <= MAX_STEPS:
            raise ValueError(f"the steps of heun are 1 to {MAX_STEPS:,}, not {count}")

        def images(network: Network, z: Tensor, _: Tensor, callback: Callback | None) -> Tensor:
            return self.decoded(self._flowed(network, z, count, callback))

        def z(network: Network, given: Tensor) -> Tensor:
            return self._unflowed(network, self.encoded(given), count)

        return Way(images, z, None, {"sampler": "heun", "steps": str(count)})

    def _flowed(self, network: Network, y: Tensor, steps: int, callback: Callback | None) -> Tensor:
        """c of z."""
        for k in range(steps):
            if callback is not None:
                t = y.new_tensor(k / steps)
                x = _sigma(t) * y
                v = (2 * t - 1) / _sigma(t) ** 2 * x + network(x, t.expand(len(x)))
                callback(float(1 - t), x, self.decoded(x + (1 - t) * v))
            y = y + _change(network, y, k, steps)
        if callback is not None:
            callback(0, y, self.decoded(y))
        return y

    def _unflowed(self, network: Network, y: Tensor, steps: int) -> Tensor:
        """z of c: of each step backwards, what it made y of, as a fixed point."""
        for k in reversed(range(steps)):
            after = y
            for _ in range(ROUNDS):
                y = after - _change(network, y, k, steps)
        return y


def _change(network: Network, y: Tensor, k: int, steps: int) -> Tensor:
    """What step k of Heun's method adds to y, where x_t = σ_t y.

    That takes in the first term of v exactly, and leaves dy/dt = net(σ_t y, t) / σ_t: an untrained flow changes
    nothing.
    """

    def slope(y: Tensor, t: Tensor) -> Tensor:
        return network(_sigma(t) * y, t.expand(len(y))) / _sigma(t)

    t, after = y.new_tensor(k / steps), y.new_tensor((k + 1) / steps)
    first = slope(y, t)
    return (first + slope(y + first / steps, after)) / (2 * steps)


class _Residual(nn.Module):
    """A network of vectors x (N, k) and t (N,): u + v x, of which both u and v begin as 0.

    Images differ in how strong their components are as a whole, which is most of what a normal distribution misses.
    So the network is given log(1 + x²), too, and can shrink x: with neither it learns nothing in the same time.
    """

    def __init__(self, numbers: int, width: int, blocks: int) -> None:
        super().__init__()
        self.first = nn.Linear(2 * numbers, width)
        self.time = nn.Linear(2 * FREQUENCIES, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, 2 * numbers)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        frequencies = math.pi * torch.logspace(-2, math.log2(MAX_FREQUENCY), FREQUENCIES, base=2, device=t.device)
        angles = t[:, None] * frequencies
        told = self.time(torch.cat((angles.sin(), angles.cos()), dim=1))
        hidden = self.first(torch.cat((x, (x * x).log1p()), dim=1)) + told
        for block in self.blocks:
            hidden = hidden + block(hidden + told)
        u, v = self.last(nn.functional.silu(self.norm(hidden))).chunk(2, dim=1)
        made: Tensor = u + v * x
        return made


def _sigma(t: Tensor) -> Tensor:
    """σ_t, the deviation of x_t where c is standard normal."""
    return ((1 - t) ** 2 + t**2).sqrt()
