"""Real images and what methods make of them; a page in Debian's chromium."""

import io
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor, nn

from dtls.degradations.resize import resize
from reports.figures.gallery import GalleryImage, GalleryItem
from reports.metrics.consistency import consistency
from reports.metrics.lpips import load_lpips, lpips
from reports.metrics.psnr import psnr
from reports.metrics.ssim import ssim

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def photographs() -> dict[str, Tensor]:
    """Crops of scikit-image's own photographs: uint8 (3, 128, 128) by name."""
    corners = {"astronaut": (20, 160), "coffee": (120, 220), "chelsea": (60, 120), "rocket": (180, 280)}
    crops = {}
    for name, (top, left) in corners.items():
        image = torch.from_numpy(getattr(data, name)())
        crops[name] = image[top : top + 128, left : left + 128, :3].permute(2, 0, 1).contiguous()
    return crops


@pytest.fixture(scope="session")
def model() -> nn.Module:
    return load_lpips()


@pytest.fixture(scope="session")
def gallery(photographs: dict[str, Tensor], model: nn.Module) -> list[GalleryItem]:
    """Each photograph as LR (×4), made large again by three of Pillow's filters, and HR; with its numbers."""
    return [gallery_item(f"{name}.png", hr, model) for name, hr in photographs.items()]


@pytest.fixture(scope="session")
def rows(gallery: list[GalleryItem]) -> list[dict[str, Any]]:
    """One failure, and the table of that gallery."""
    failure = {"method": "bicubic", "key": "broken.png", "status": "failed", "error": "truncated after 512 bytes"}
    return [failure, *(dict(p.metrics) for item in gallery for p in item.images if p.metrics)]


def gallery_item(key: str, hr: Tensor, model: nn.Module) -> GalleryItem:
    size = (hr.shape[-2], hr.shape[-1])
    lr = resize(hr[None].double(), (size[0] // 4, size[1] // 4), "antialias").round().clamp(0, 255).byte()
    images = [GalleryImage("LR", png(lr[0]), role="lr")]
    for how in (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC):
        large = Image.fromarray(lr[0].permute(1, 2, 0).numpy()).resize(size[::-1], how)
        sr = torch.from_numpy(np.array(large)).permute(2, 0, 1)
        row = scored(key, how.name.lower(), sr[None], lr, hr[None], model)
        images.append(GalleryImage(how.name.lower(), png(sr), row))
    return GalleryItem(key, [*images, GalleryImage("HR", png(hr), role="hr")])


def scored(key: str, method: str, sr: Tensor, lr: Tensor, hr: Tensor, model: nn.Module) -> dict[str, Any]:
    return {
        "method": method,
        "key": key,
        "protocol": "antialias",
        "scale": hr.shape[-1] / lr.shape[-1],
        "width": hr.shape[-1],
        "height": hr.shape[-2],
        "psnr": psnr(sr, hr).item(),
        "ssim": ssim(sr, hr).item(),
        "lpips": lpips(sr, hr, model).item(),
        "consistency": consistency(sr, lr, "antialias").item(),
        "status": "ok",
        "error": None,
    }


def png(image: Tensor) -> bytes:
    """An image, uint8 (3, H, W), as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Debian's chromium; the tests that want it skip where it is missing."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no browser: install Debian's chromium (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        yield opened
        opened.close()
