"""The methods that are trained: a checkpoint, how its results are made, and whatever size there is."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dtls.checkpoints.checkpoint import CheckpointError, load_hashed
from dtls.degradations.resize import project, scale_between
from dtls.devices import Precision, accelerated, best_precision
from dtls.inference.channels import in_colour
from dtls.inference.tiling import SMALLEST, TILE, Tiler
from dtls.models.base import Callback


@dataclass(frozen=True)
class Sampling:
    """How a checkpoint is used.

    sampler: by name, of models that have several; None for the model's own choice. steps: of samplers that have a
    choice of steps. seed: of the noise of models whose results depend on noise. projected: the result is moved to the
    nearest image that A reduces to the LR image; exact for clean LR images, and never worse then; noise and
    JPEG blocks of the LR image would come through. ensemble: the mean with what comes of the mirrored image, in
    twice the time. tile: results with a longer side, in pixels, are made in tiles.
    """

    sampler: str | None = None
    steps: int | None = None
    seed: int = 0
    projected: bool = False
    ensemble: bool = False
    precision: Precision = "auto"
    compiled: bool = False
    tile: int = TILE


DEFAULT = Sampling()


class Trained:
    """A model with the weights of a checkpoint; CheckpointError for choices in `how` that it does not have.

    A model works on enlarged images, or enlarges by its own scale; where another size is wanted, Pillow's bicubic
    makes it of that result. wish: the method that the checkpoint should be of.
    """

    def __init__(
        self, checkpoint: Path, device: str = "cpu", how: Sampling = DEFAULT, wish: str | None = None
    ) -> None:
        self.model, digest = load_hashed(checkpoint, device, wish)
        self.name, self.device, self.how = self.model.name, device, how
        try:
            self.sample, chosen = self.model.sampler(how.sampler, how.steps)
        except ValueError as error:
            raise CheckpointError(f"{checkpoint}: {error}") from error
        if how.projected and self.model.config.protocol == "realworld":
            raise CheckpointError(f"{checkpoint}: made for realworld, which is not linear: nothing to project on")
        if how.seed and not self.model.draws:
            raise CheckpointError(f"{checkpoint}: {self.name} draws nothing, so that a seed changes nothing")
        scale = self.model.scale
        self.tiler = Tiler(max(how.tile // scale, SMALLEST) if scale > 1 else how.tile, scale)
        precision = best_precision(how.precision, device)
        self.network = accelerated(self.model, device, precision, compiled=how.compiled)
        told = asdict(how) | {"precision": precision}
        for name in ("compiled", "sampler", "steps", "seed"):
            del told[name]
        told |= chosen | ({"seed": how.seed} if self.model.draws else {})
        self.identity: Mapping[str, str] = {
            "method": self.name,
            "checkpoint": digest,
            "protocol": self.model.config.protocol,
            **{key: str(value) for key, value in told.items()},
        }

    @torch.inference_mode()
    def __call__(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        """SR images (N, C, H, W) in [0, 1] of LR images (N, C, h, w), C = 1 or 3.

        SizeError for scales beyond the model's.
        """
        return in_colour(partial(self._upscaled, size=size), lr.to(self.device))

    def _upscaled(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        x, scale = self._input(lr, size)
        run = partial(self._sampled, scale=scale)
        sr = self.tiler(run, x)
        if self.how.ensemble:
            sr = (sr + self.tiler(run, x.flip(-1)).flip(-1)) / 2
        if sr.shape[-2:] != size:
            sr = F.interpolate(sr, size, mode="bicubic", antialias=True)
        if self.how.projected:
            sr = project(sr, lr, self.model.config.protocol)
        return torch.where(sr.isfinite(), sr, torch.nan).clamp(0, 1)  # an infinity is no white pixel

    @torch.inference_mode()
    def trajectory(self, lr: Tensor, size: tuple[int, int]) -> list[tuple[int, Tensor]]:
        """The sampler's predictions on its way, (t, images (N, 3, H, W) in [0, 1]), its last state as t = 0.

        In one piece, neither projected nor averaged with the mirrored image.
        """
        lr = lr.to(self.device)
        x, scale = self._input(lr, size)
        seen: list[tuple[int, Tensor]] = []

        def see(t: int, made: Tensor) -> None:
            seen.append((t, made[..., : size[0], : size[1]].clamp(0, 1)))

        sr = self._sampled(x, scale, see)
        return [*seen, (0, sr.clamp(0, 1))]

    @property
    def largest_scale(self) -> float:
        """The largest scale that the model was trained for."""
        return self.model.config.size / self.model.config.lr_size

    def _input(self, lr: Tensor, size: tuple[int, int]) -> tuple[Tensor, float]:
        """What goes into the model, and the scale that is wanted; SizeError for one beyond the model's."""
        low = (lr.shape[-2], lr.shape[-1])
        scale, largest = scale_between(low, size), self.largest_scale
        if all(m <= round(n * largest) for n, m in zip(low, size, strict=True)):
            scale = min(scale, largest)  # more is the rounding to whole pixels
        self.model.check_scale(scale)
        return lr if self.model.scale > 1 else self.model.enlarged(lr, size), scale

    def _sampled(self, x: Tensor, scale: float, callback: Callback | None = None) -> Tensor:
        """The model's result; x is padded to sides that the network can halve, by repeating its last pixels.

        All images have the same noise, where there is any: so a result does not depend on its neighbours.
        """
        height, width = x.shape[-2:]
        multiple, larger = self.model.multiple, self.model.scale
        padded = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        seeds = torch.full((len(x),), self.how.seed)
        sr = self.sample(self.network, padded, scale, seeds, callback)
        return sr[..., : larger * height, : larger * width]
