"""The features by which sets of images are compared: InceptionV3's, LPIPS', or the pixels themselves.

Images of any size become vectors of one length. InceptionV3's are those of published numbers and need the extra
`fid`. The other two come with dtls.
"""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from reports.metrics.choices import FeatureName
from reports.metrics.inception import Inception
from reports.metrics.lpips import features as lpips_features
from reports.metrics.lpips import load_lpips
from reports.metrics.planes import check_images

LPIPS_SIDE, PIXEL_SIDE = 128, 32
CPU_IMAGES, CUDA_IMAGES = 8, 64
"""Images that a device works on at a time."""


class Extractor(Protocol):
    """Turns images of any size, uint8 (N, 3, H, W) on any device, into float32 (N, D) on its own device."""

    def __call__(self, x: Tensor) -> Tensor: ...


class LpipsFeatures:
    """The five layers of LPIPS' AlexNet, each averaged over all places: float32 (N, 1152).

    Images are resized to 128×128 first. The layers are weighted as LPIPS does, so that the mean squared difference of
    two vectors is at most the LPIPS of the images, and KID's x·y/D is of the order of 1.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._network = load_lpips(self._device)

    def __call__(self, x: Tensor) -> Tensor:
        check_images(x)
        images = CUDA_IMAGES if self._device.type == "cuda" else CPU_IMAGES
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            parts = [self._averages(part.to(self._device)) for part in x.split(images)]
        return torch.cat(parts)

    def _averages(self, x: Tensor) -> Tensor:
        layers = lpips_features(_resized(x, LPIPS_SIDE), self._network)
        # LPIPS divides by the root of the places, which a mean over these has to make up for
        means = torch.cat([layer.mean(dim=(2, 3)) * layer[0, 0].numel() ** 0.5 for layer in layers], dim=1)
        return means * means.shape[1] ** 0.5


class PixelFeatures:
    """The pixels of the image resized to 32×32, in 0 … 1: float32 (N, 3072)."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)

    def __call__(self, x: Tensor) -> Tensor:
        check_images(x)
        return _resized(x.to(self._device), PIXEL_SIDE).flatten(1) / 255


EXTRACTORS: dict[FeatureName, Callable[[torch.device | str], Extractor]] = {
    "inception": Inception,
    "lpips": LpipsFeatures,
    "pixels": PixelFeatures,
}
IN_WORDS: dict[FeatureName, str] = {
    "inception": "InceptionV3, 2,048 numbers an image",
    "lpips": "LPIPS' AlexNet, averaged over the image, 1,152 numbers an image",
    "pixels": "pixels of the image at 32×32, 3,072 numbers an image",
}


def load_features(name: FeatureName, device: torch.device | str = "cpu") -> Extractor:
    """What makes features of this name, on `device`. InceptionError where InceptionV3's weights are not there."""
    return EXTRACTORS[name](device)


def _resized(x: Tensor, side: int) -> Tensor:
    """float32 (N, 3, side, side) in 0 … 255, smoothed where it is reduced."""
    if x.shape[-2:] == (side, side):
        return x.float()
    return F.interpolate(x.float(), (side, side), mode="bilinear", antialias=True, align_corners=False)
