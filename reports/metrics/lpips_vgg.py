"""LPIPS with VGG16, offline: the package `lpips` brings the heads, and users torchvision's file of the trunk."""

from importlib.metadata import files
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from reports.metrics.lpips_alexnet import build

FILE = "vgg16-397923af.pth"
"""torchvision's name for it, on https://download.pytorch.org/models/."""


class WeightsError(RuntimeError):
    """VGG16's weights are not there, or are something else."""


def load_lpips_vgg(trunk: Path | None = None, device: torch.device | str = "cpu") -> nn.Module:
    """LPIPS 0.1 (Zhang et al. 2018) with VGG16 on `device`, to be used as that of `load_lpips`.

    trunk: torchvision's VGG16 as `.pth` or `.safetensors`; by default the one in torch hub's cache. Read as weights
    alone; nothing is downloaded. WeightsError when it is not there or holds something else.
    """
    path = trunk or Path(torch.hub.get_dir()) / "checkpoints" / FILE
    if not path.is_file():
        raise WeightsError(f"LPIPS with VGG wants torchvision's VGG16, {FILE}, and there is no {path}")
    state = _read(path)
    slices = {f"net.{_slice(name)}": tensor for name, tensor in state.items() if name.startswith("features.")}
    try:
        return build("vgg", {**slices, **_read(_heads())}, path, device)
    except RuntimeError as error:
        raise WeightsError(f"{path} is not torchvision's VGG16: {str(error).splitlines()[-1].strip()}") from error


def _slice(name: str) -> str:
    """Where `lpips` has the layer features.N of torchvision: its slices begin with the layers 0, 4, 9, 16, 23."""
    layer = int(name.split(".")[1])
    number = sum(layer >= first for first in (0, 4, 9, 16, 23))
    return name.replace("features", f"slice{number}")


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as weights: {str(error).splitlines()[0]}") from error
    return state


def _heads() -> Path:
    """The heads that the package `lpips` brings."""
    found = [file for file in files("lpips") or () if file.as_posix().endswith("weights/v0.1/vgg.pth")]
    return Path(str(found[0].locate()))
