"""A generative model with the weights of a checkpoint: z from seeds, images from z, and z from images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from dtls.checkpoints.checkpoint import load_hashed
from dtls.choices import TILE, Precision
from dtls.devices import accelerated, best_precision
from dtls.errors import CheckpointError, SamplingError
from dtls.models.base import Callback
from dtls.models.generative import Generative

BATCH = {"cpu": 16, "cuda": 64}
"""Images that pass through a network at once, by the kind of device; fewer of large ones, which take memory. Batches
are padded to that: what a network makes of an image depends in its last bits on how many are beside it."""


@dataclass(frozen=True)
class Start:
    """What z is drawn from: N(0, 1), or Exp(rate), whose mean and deviation are 1 / rate. truncate: what z is
    multiplied by; below 1 results are nearer to the average, and less diverse."""

    kind: Literal["gaussian", "exponential"] = "gaussian"
    rate: float = 0.5
    truncate: float = 1.0


GAUSSIAN = Start()


class Generator:
    """Makes images (N, C, S, S) of z, on `device`. What it makes of z and a seed depends on these, the machine and
    the precision alone, not on what else is made.

    size: S. channels: C, 1 or 3. z_shape: the shape of one z, which is standard normal in training. inverts: whether
    `invert` finds z. edits: whether `partly` can begin with images. identity: all that results depend on, but z and
    seeds. batch: how many images a step of `images` computes at once.
    """

    def __init__(
        self,
        checkpoint: Path,
        device: str = "cpu",
        precision: Precision = "auto",
        sampler: str | None = None,
        sampling_steps: int | None = None,
    ) -> None:
        model, digest = load_hashed(checkpoint, device)
        if not model.generates:
            other = "; see dtls upscale" if model.restores else ""
            raise CheckpointError(f"{checkpoint}: the method {model.name} makes no images of noise{other}")
        self.model = cast(Generative, model)
        try:
            self._way = self.model.way(sampler, sampling_steps)
        except ValueError as error:
            raise SamplingError(f"{checkpoint}: {error}") from error
        self.device = device
        chosen = best_precision(precision, device)
        self.network = accelerated(self.model, device, chosen, compiled=False)
        self.size: int = model.config.size
        most = BATCH.get(torch.device(device).type, BATCH["cpu"])
        self.batch = max(1, min(most, TILE * TILE // self.size**2))
        self.channels: int = model.config.channels
        self.z_shape = self.model.z_shape
        self.inverts, self.edits = self._way.z is not None, self._way.partly is not None
        self.identity: Mapping[str, str] = {
            "method": model.name,
            "checkpoint": digest,
            "precision": chosen,
            **self._way.made_with,
        }

    def z(self, seeds: Tensor, start: Start = GAUSSIAN) -> Tensor:
        """z of images with these seeds (N,), each drawn by a source of its own: float32 (N, *z_shape), on the CPU."""
        return torch.stack([torch.from_numpy(self._drawn(int(seed), start)) for seed in seeds])

    def _drawn(self, seed: int, start: Start) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        source = np.random.default_rng(seed)  # a generator of torch's would use 32 bits of it
        if start.kind == "exponential":
            drawn = source.standard_exponential(self.z_shape, dtype=np.float32) / np.float32(start.rate)
        else:
            drawn = source.standard_normal(self.z_shape, dtype=np.float32)
        return drawn * np.float32(start.truncate)

    @torch.inference_mode()
    def images(self, z: Tensor, seeds: Tensor, callback: Callback | None = None) -> Tensor:
        """Images (N, C, S, S) in [0, 1], on the CPU; not a number where the network's are none or infinite.

        seeds: of the noise that a sampler adds on its way. callback(t, x_t, images): sees each step of a chain, for
        `batch` images after the other: x_t in the space of z, and the images that are predicted there, not clamped;
        last t = 0. Both are on the device.
        """
        return self._in_batches(
            lambda part, some, count: self._way.images(self.network, part, some, _first(callback, count)), z, seeds
        )

    @torch.inference_mode()
    def invert(self, images: Tensor) -> Tensor:
        """z (N, *z_shape), on the CPU, of images (N, C, S, S) in [0, 1]; SamplingError where `inverts` is false."""
        way = self._way.z
        if way is None:
            raise SamplingError(f"{self._named()} has no way back from images to z")
        none = torch.zeros(len(images), dtype=torch.int64)
        return self._in_batches(lambda part, _, __: way(self.network, part), images, none, images_come=False)

    @torch.inference_mode()
    def partly(self, images: Tensor, strength: float, seeds: Tensor, callback: Callback | None = None) -> Tensor:
        """Images (N, C, S, S) in [0, 1] that begin as `images` with so much of the chain's noise, 0 < strength ≤ 1.

        callback: sees each step, as that of `images` does.
        SamplingError where `edits` is false.
        """
        way = self._way.partly
        if way is None:
            raise SamplingError(f"{self._named()} does not begin with images")
        if not 0 < strength <= 1:
            raise SamplingError(f"a strength is above 0 and at most 1, not {strength:g}")
        return self._in_batches(
            lambda part, some, count: way(self.network, part, strength, some, _first(callback, count)), images, seeds
        )

    def _named(self) -> str:
        sampler = self.identity.get("sampler")
        return self.model.name if sampler is None else f"{self.model.name} with the sampler {sampler}"

    def _in_batches(
        self, make: Callable[[Tensor, Tensor, int], Tensor], x: Tensor, seeds: Tensor, *, images_come: bool = True
    ) -> Tensor:
        """`make` of `batch` of x and their seeds at a time, the last ones padded, and how many of them count."""
        made = []
        for part, some in zip(x.split(self.batch), seeds.split(self.batch), strict=True):
            lack = self.batch - len(part)
            padded = torch.cat([part, part[:1].expand(lack, *part.shape[1:])]).to(self.device)
            out = make(padded, torch.cat([some, some[:1].expand(lack)]), len(part))[: len(part)].float().cpu()
            out = torch.where(out.isfinite(), out, torch.nan)  # an infinity is no white pixel
            made.append(out.clamp(0, 1) if images_come else out)
        return torch.cat(made)


def _first(callback: Callback | None, count: int) -> Callback | None:
    """`callback` without what a batch was padded with."""
    if callback is None:
        return None
    return lambda t, x, images: callback(t, x[:count], images[:count])


def load_generator(
    checkpoint: Path,
    device: str = "cpu",
    precision: Precision = "auto",
    sampler: str | None = None,
    sampling_steps: int | None = None,
) -> Generator:
    """The generative model of a checkpoint's folder.

    CheckpointError for what is none, SamplingError for a sampler, or a number of steps, that it does not have.
    """
    return Generator(checkpoint, device, precision, sampler, sampling_steps)
