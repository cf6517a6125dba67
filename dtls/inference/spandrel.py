"""The method `spandrel`: the super-resolution models of others, ESRGAN, SwinIR, SPAN and what else spandrel knows.

A file of weights is enough: spandrel finds out the architecture. Nothing is unpickled but tensors.
"""

import hashlib
import io
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from dtls.checkpoints.bounds import load_pickled
from dtls.choices import SMALLEST, Precision
from dtls.compat import allow_torchvision_import
from dtls.degradations.scale import scale_between
from dtls.devices import best_precision
from dtls.errors import CheckpointError, SamplingError
from dtls.inference.channels import channel_by_channel, in_colour
from dtls.inference.method import Method
from dtls.inference.sampling import DEFAULT, Sampling
from dtls.inference.tiling import Tiler

PURPOSES = {
    "Restoration": "restoration",
    "SR": "super-resolution",
    "FaceSR": "faces alone",
    "Inpainting": "inpainting",
}
for library in (r"spandrel\.", r"timm\.", r"torch\.functional"):
    warnings.filterwarnings("ignore", module=library)  # of what its architectures still call
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")


class SpandrelModel(Method):
    """A model of another architecture, with the weights in a file; of `sampling`, precision and tile count.

    It enlarges by its own `scale`. Where another size is wanted, Pillow's bicubic makes it of that result.
    LR images of up to 128 pixels are enlarged in one piece, whatever `sampling.tile` says. CheckpointError for a file
    that is no such model, SamplingError for a precision it does not compute in.
    """

    is_learned = True
    uses_gpu = True

    def __init__(self, checkpoint: Path, device: str = "cpu", sampling: Sampling = DEFAULT) -> None:
        content = _read(checkpoint)
        self.model = _built(_tensors(content, checkpoint), checkpoint)
        self.model.to(device).eval()
        self.model.model.requires_grad_(False)
        self.name = f"spandrel-{self.model.architecture.id}"
        self.scale: int = self.model.scale
        self.device = device
        self.bf16 = self._computes_in_bf16(sampling.precision, checkpoint)
        self.tiler = Tiler(max(sampling.tile // self.scale, SMALLEST), self.scale)
        self.max_pixels = None if self._tiles_itself else self.tiler.tile**2
        self.identity: Mapping[str, str] = {
            "method": self.name,
            "checkpoint": hashlib.sha256(content).hexdigest(),
            "precision": "bf16" if self.bf16 else "fp32",
            "tile": str(sampling.tile),
        }

    @torch.inference_mode()
    def __call__(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        """SR images (N, C, H, W) in [0, 1] of LR images (N, C, h, w), C = 1 or 3.

        SizeError for sides of more than one scale.
        """
        scale_between((lr.shape[-2], lr.shape[-1]), size)
        fitted = channel_by_channel if self.model.input_channels == 1 else in_colour
        sr = fitted(self._enlarged, lr.to(self.device))
        if sr.shape[-2:] != size:
            sr = F.interpolate(sr, size, mode="bicubic", antialias=True)
        return sr.clamp(0, 1)

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
            made: Tensor = self.model(x)
        return made.float()

    def _computes_in_bf16(self, requested: Precision, checkpoint: Path) -> bool:
        if self.model.supports_bfloat16:
            return best_precision(requested, self.device) == "bf16"
        if requested == "bf16":
            raise SamplingError(f"{checkpoint}: {self.model.architecture.id} cannot compute in bf16; say fp32")
        return False


def _read(path: Path) -> bytes:
    if path.suffix.lower() not in SUFFIXES:
        raise CheckpointError(f"{path}: a model for spandrel is a file that ends in {', '.join(SUFFIXES)}")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error


def _tensors(content: bytes, path: Path) -> dict[str, Any]:
    """What the file holds; CheckpointError for one that wants more than tensors unpickled."""
    if path.suffix.lower() == ".safetensors":
        try:
            return load_safetensors(content)
        except SafetensorError as error:
            raise CheckpointError(f"{path}: not a readable safetensors file ({_line(error)})") from error
    if _is_torchscript(content):
        raise CheckpointError(f"{path}: a TorchScript program, not a file of weights; take the model's weights")
    try:
        loaded = load_pickled(content)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds more than weights, or is broken, and is not unpickled; convert it to .safetensors"
        ) from error
    except Exception as error:  # torch.load raises whatever its many formats raise
        raise CheckpointError(f"{path}: not a PyTorch checkpoint that can be read ({_line(error)})") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path}: holds no weights by name")
    return loaded


def _is_torchscript(content: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _built(tensors: dict[str, Any], path: Path) -> Any:
    """spandrel's descriptor of a model that enlarges images; CheckpointError for any other."""
    allow_torchvision_import()
    from spandrel import ModelLoader, UnsupportedModelError  # takes seconds

    try:
        model = ModelLoader("cpu").load_from_state_dict(tensors)
    except UnsupportedModelError as error:
        raise CheckpointError(f"{path}: not a model that spandrel knows") from error
    except Exception as error:  # its architectures raise whatever comes of weights that do not fit
        raise CheckpointError(f"{path}: its weights do not make a model ({_line(error)})") from error
    what = model.architecture.id
    purpose = PURPOSES.get(model.purpose, model.purpose)
    if model.scale < 2:
        raise CheckpointError(
            f"{path}: a ×{model.scale} {what} model ({purpose}), which returns images at the size they had; "
            "upscale needs a model that enlarges them, ×2 or more"
        )
    if model.purpose != "SR":
        raise CheckpointError(f"{path}: a {what} model for {purpose}, not for super-resolution, which upscale needs")
    channels = (model.input_channels, model.output_channels)
    if channels not in ((1, 1), (3, 3)):
        raise CheckpointError(f"{path}: a {what} model from {channels[0]} channels to {channels[1]}, not of 1 or 3")
    state: dict[str, Tensor] = model.model.state_dict()
    if bad := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
        raise CheckpointError(f"{path}: {bad[0]} holds values that are no numbers")
    return model


def _line(error: Exception) -> str:
    """The first line of an error; its kind where it says nothing."""
    return str(error).partition("\n")[0].rstrip(": ") or type(error).__name__
