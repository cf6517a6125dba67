"""Real pictures and what methods make of them; a page in Debian's chromium."""

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import torch
from skimage import data
from torch import Tensor

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
        picture = torch.from_numpy(getattr(data, name)())
        crops[name] = picture[top : top + 128, left : left + 128, :3].permute(2, 0, 1).contiguous()
    return crops


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
