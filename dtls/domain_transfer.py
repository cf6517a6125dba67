"""The method `dtls`: a checkpoint, how it samples, and whatever size there is."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dtls.channels import in_colour
from dtls.checkpoint import CheckpointError, load_hashed
from dtls.degradation import project, resize, scale_between
from dtls.devices import Precision, accelerated, best_precision
from dtls.sampler import SAMPLERS, Callback, SamplerName
from dtls.tiling import TILE, Tiler


@dataclass(frozen=True)
class Sampling:
    """How a checkpoint is used.

    sampler: None for `two-call`, or `previous` where the network predicts that. projected: the result is moved to the
    nearest picture that A reduces to the LR picture; exact for clean LR pictures, and never worse then; noise and
    JPEG blocks of the LR picture would come through. ensemble: the mean with what comes of the mirrored picture, in
    twice the time. tile: results with a longer side, in pixels, are made in tiles.
    """

    sampler: SamplerName | None = None
    projected: bool = False
    ensemble: bool = False
    precision: Precision = "auto"
    compiled: bool = False
    tile: int = TILE


DEFAULT = Sampling()


class DomainTransfer:
    """DTLS with the weights of a checkpoint. CheckpointError for a sampler that its network cannot serve."""

    name = "dtls"

    def __init__(self, checkpoint: Path, device: str = "cpu", how: Sampling = DEFAULT) -> None:
        self.model, digest = load_hashed(checkpoint, device)
        self.device, self.how = device, how
        predicts = self.model.config.predicts
        name: SamplerName = how.sampler or ("two-call" if predicts == "x0" else "previous")
        if (name == "previous") != (predicts == "previous"):
            raise CheckpointError(
                f"{checkpoint}: its network predicts {predicts}, so the sampler {name} cannot use it"
            )
        self.sampler = SAMPLERS[name]
        self.tiler = Tiler(how.tile)
        precision = best_precision(how.precision, device)
        self.network = accelerated(self.model, device, precision, compiled=how.compiled)
        chosen = asdict(how) | {"sampler": name, "precision": precision}
        del chosen["compiled"]  # the same picture
        self.identity: Mapping[str, str] = {
            "method": self.name,
            "checkpoint": digest,
            "protocol": self.model.config.protocol,
            **{key: str(value) for key, value in chosen.items()},
        }

    @torch.inference_mode()
    def __call__(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        """SR pictures (N, C, H, W) in [0, 1] of LR pictures (N, C, h, w), C = 1 or 3.

        SizeError for scales beyond the model's.
        """
        return in_colour(partial(self._upscaled, size=size), lr.to(self.device))

    def _upscaled(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        x, t = self._enlarged(lr, size)
        sample = partial(self._sampled, t=t)
        sr = self.tiler(sample, x)
        if self.how.ensemble:
            sr = (sr + self.tiler(sample, x.flip(-1)).flip(-1)) / 2
        if self.how.projected:
            sr = project(sr, lr, self.model.config.protocol)
        return torch.where(sr.isfinite(), sr, torch.nan).clamp(0, 1)  # an infinity is no white pixel

    @torch.inference_mode()
    def trajectory(self, lr: Tensor, size: tuple[int, int]) -> list[tuple[int, Tensor]]:
        """The sampler's predictions on its way, (t, pictures (N, 3, H, W) in [0, 1]), its last state as t = 0.

        In one piece, neither projected nor averaged with the mirrored picture.
        """
        x, t = self._enlarged(lr.to(self.device), size)
        seen: list[tuple[int, Tensor]] = []
        sr = self._sampled(x, t, lambda s, made: seen.append((s, made[..., : size[0], : size[1]].clamp(0, 1))))
        return [*seen, (0, sr.clamp(0, 1))]

    def _enlarged(self, lr: Tensor, size: tuple[int, int]) -> tuple[Tensor, int]:
        """x_T and the timestep that stands for its scale."""
        low, degradation = (lr.shape[-2], lr.shape[-1]), self.model.degradation
        scale, largest = scale_between(low, size), degradation.size / degradation.lr_size
        if all(m <= round(n * largest) for n, m in zip(low, size, strict=True)):
            scale = min(scale, largest)  # more is the rounding to whole pixels
        t = degradation.timestep(scale)
        return resize(lr, size, self.model.config.protocol), t

    def _sampled(self, x: Tensor, t: int, callback: Callback | None = None) -> Tensor:
        """The sampler's result; x is padded to sides that the network can halve, by repeating its last pixels."""
        height, width = x.shape[-2:]
        multiple = self.model.unet.multiple
        padded = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        return self.sampler(self.network, self.model.degradation, padded, t, callback)[..., :height, :width]
