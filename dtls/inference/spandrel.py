"""The method `spandrel`: models of others that upscale, restore or fill images, in any architecture spandrel knows.

A file of weights is enough: spandrel detects the architecture. Nothing is unpickled but tensors.
"""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dtls.choices import SMALLEST, Precision
from dtls.degradations.scale import scale_between
from dtls.devices import best_precision
from dtls.errors import SamplingError
from dtls.inference.channels import channel_by_channel, in_colour
from dtls.inference.membrane import seamless
from dtls.inference.method import Method
from dtls.inference.sampling import DEFAULT, Sampling
from dtls.inference.spandrel_file import build, gets_noise_level, read, with_noise_level
from dtls.inference.tiling import Tiler

FOURIER = ("LaMa", "FFTformer")
"""Architectures whose Fourier transforms have no bf16, though spandrel has them support it."""


class SpandrelModel(Method):
    """A model of another architecture, with the weights in a file; of `sampling`, precision and tile count.

    It enlarges by its own `scale`; where another size is wanted, Pillow's bicubic makes it of that result. At scale 1
    it restores images at the size they have. With `needs_mask` it fills holes, without seams, and all other pixels
    stay bit by bit. LR images of up to 128 pixels are enlarged in one piece, whatever `sampling.tile` says.
    CheckpointError for a file that is no such model, SamplingError for a precision it does not compute in.
    """

    is_learned = True
    uses_gpu = True

    def __init__(self, checkpoint: Path, device: str = "cpu", sampling: Sampling = DEFAULT) -> None:
        content = read(checkpoint)
        self.model, self.needs_mask = build(content, checkpoint)
        told = sampling.noise if gets_noise_level(self.model) else None
        if told is not None:
            self.model = with_noise_level(self.model, told)
        self.model.to(device).eval()
        self.model.model.requires_grad_(False)
        self.name = f"spandrel-{self.model.architecture.id}"
        self.scale: int = self.model.scale
        self.takes_same_size = self.scale == 1
        self.max_scale = 1 if self.scale == 1 else None
        self.multiple = self.model.size_requirements.multiple_of
        self.device = device
        self.bf16 = self._computes_in_bf16(sampling.precision, checkpoint)
        self.tiler = Tiler(max(sampling.tile // self.scale, SMALLEST), self.scale)
        self.max_pixels = None if self._tiles_itself else self.tiler.tile**2
        self.identity: Mapping[str, str] = {
            "method": self.name,
            "checkpoint": hashlib.sha256(content).hexdigest(),
            "precision": "bf16" if self.bf16 else "fp32",
            "tile": str(sampling.tile),
            **({} if told is None else {"noise": f"{told:g}"}),
        }

    @torch.inference_mode()
    def __call__(self, lr: Tensor, size: tuple[int, int], mask: Tensor | None = None) -> Tensor:
        """Results (N, C, H, W) in [0, 1] of images (N, C, h, w), C = 1 or 3; mask: (N, 1, h, w), 1 in holes.

        SizeError for sides of more than one scale, and for holes without a mask.
        """
        scale_between((lr.shape[-2], lr.shape[-1]), size)
        x = lr.to(self.device)
        if self.needs_mask:
            holes = (self.masked(mask).to(self.device) > 0.5).float()
            return seamless(in_colour(lambda colours: self._filled(colours, holes), x), x, holes).clamp(0, 1)
        fitted = channel_by_channel if self.model.input_channels == 1 else in_colour
        sr = fitted(self._enlarged, x)
        if sr.shape[-2:] != size:
            sr = F.interpolate(sr, size, mode="bicubic", antialias=True)
        return sr.clamp(0, 1)

    def _filled(self, colours: Tensor, holes: Tensor) -> Tensor:
        """RGB images (N, 3, h, w) with their holes (N, 1, h, w) filled, one by one."""
        return torch.cat([self._piecewise(x)[:, :3] for x in torch.cat((colours, holes), 1).split(1)])

    def _enlarged(self, x: Tensor) -> Tensor:
        """Images (N, C, h, w) at the model's own scale; spandrel promises no model that takes several at once."""
        if len(x) == 1 or self._takes_batches:
            return self._piecewise(x)
        return torch.cat([self._piecewise(part) for part in x.split(1)])

    @cached_property
    @torch.inference_mode()
    def _takes_batches(self) -> bool:
        """Whether two small images come out together as they do alone."""
        pair = torch.rand(2, self.model.input_channels, 32, 32, generator=torch.Generator().manual_seed(0))
        pair = pair.to(self.device)
        try:
            together = self._run(pair)
        except (RuntimeError, ValueError, AssertionError):
            return False
        return torch.allclose(together, torch.cat([self._run(one) for one in pair.split(1)]), atol=1e-3)

    def _piecewise(self, images: Tensor) -> Tensor:
        return self._run(images) if self._tiles_itself else self.tiler(self._run, images)

    @property
    def _tiles_itself(self) -> bool:
        return bool(self.model.tiling.name == "INTERNAL")

    def _run(self, x: Tensor) -> Tensor:
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.bf16):
            made: Tensor = self._run_masked(x) if self.needs_mask else self.model(x)
        return made.float()

    def _run_masked(self, x: Tensor) -> Tensor:
        """RGB and holes (1, 4, h, w), the holes filled; where there is none, nothing is computed."""
        colours, holes = x[:, :3], x[:, 3:]
        return torch.cat((self.model(colours, holes), holes), 1) if holes.any() else x

    def _computes_in_bf16(self, requested: Precision, checkpoint: Path) -> bool:
        if self.model.supports_bfloat16 and self.model.architecture.id not in FOURIER:
            return best_precision(requested, self.device) == "bf16"
        if requested == "bf16":
            raise SamplingError(f"{checkpoint}: {self.model.architecture.id} cannot compute in bf16; say fp32")
        return False
