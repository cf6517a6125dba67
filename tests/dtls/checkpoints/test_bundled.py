"""The models that come along are what their cards say: their bytes, their size, numbers that anyone can repeat."""

import hashlib
import re
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dtls.checkpoints.bundled import BUNDLED, FOLDER, Bundled, bundled_for, bundled_for_task
from dtls.checkpoints.checkpoint import CONFIG, WEIGHTS, load_checkpoint
from dtls.errors import CheckpointError, SizeError
from dtls.inference.degrade import Downscaling
from dtls.inference.method import Method, load_method
from dtls.inference.trained import Trained
from dtls.models.base import Model

CROPS = {
    "photo-x4": ("coffee.png", (260, 110, 388, 238), (32, 32)),
    "faces-x8": ("astronaut.png", (160, 64, 288, 192), (16, 16)),
}
"""A photograph of scikit-image's, a crop of it, and the size of its LR image."""


def card(model: Bundled) -> str:
    return (model.folder / "README.md").read_text()


def in_8_bits(x: Tensor) -> Tensor:
    return (x * 255).round() / 255


def psnr(method: Method, hr: Tensor, lr: Tensor) -> float:
    error = (in_8_bits(method(lr, (128, 128))) - hr).square().mean()
    return float(-10 * torch.log10(error))


@pytest.mark.parametrize("model", BUNDLED.values(), ids=BUNDLED)
def test_a_card_tells_what_its_file_is(model: Bundled) -> None:
    weights = (model.folder / WEIGHTS).read_bytes()
    assert len(weights) <= 16e6
    text = card(model)
    assert hashlib.sha256(weights).hexdigest() in text
    for part in ("dtls train ", "--seed 0", "research", "antialias", "bicubic"):
        assert part in text
    loaded = load_checkpoint(model.folder, Model)
    name, config = loaded.name, loaded.config
    assert config.protocol == "antialias"
    assert config.size / config.lr_size == model.scale
    assert name in ("dtls", "edsr")


@pytest.mark.slow
@pytest.mark.parametrize("model", BUNDLED.values(), ids=BUNDLED)
def test_the_number_that_a_card_has_of_an_image_at_hand_is_found_again(model: Bundled) -> None:
    name, box, low = CROPS[model.name]
    with (files("skimage") / "data" / name).open("rb") as stream, Image.open(stream) as photograph:
        pixels = np.asarray(photograph.convert("RGB").crop(box))
    hr = torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255
    lr = in_8_bits(Downscaling("antialias")(hr, low))
    told = re.search(rf"{re.escape(name)}.*\| (\d+\.\d\d) \| (\d+\.\d\d) \|", card(model))
    assert told is not None
    bicubic, ours = map(float, told.groups())
    assert psnr(load_method("bicubic"), hr, lr) == pytest.approx(bicubic, abs=0.02)
    assert psnr(Trained(model.folder), hr, lr) == pytest.approx(ours, abs=0.02)
    assert ours > bicubic + 1


def test_nothing_else_is_bundled() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(BUNDLED)
    for model in BUNDLED.values():
        assert {path.name for path in model.folder.iterdir()} <= {CONFIG, WEIGHTS, "README.md", "data.txt"}


def test_the_smallest_model_that_reaches_a_scale_is_taken() -> None:
    assert [bundled_for(scale).name for scale in (None, 1.5, 4, 4.01, 8)] == [
        "photo-x4", "photo-x4", "photo-x4", "faces-x8", "faces-x8",
    ]  # fmt: skip
    with pytest.raises(SizeError, match=r"enlarges by 8\.5, 8 is the most"):
        bundled_for(8.5)


def test_a_task_has_the_model_of_what_it_undoes_however_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = Bundled("denoiser", 1, "photographs", "denoise:25/255")
    monkeypatch.setitem(BUNDLED, denoiser.name, denoiser)
    assert bundled_for_task("denoise:0.0980392") is denoiser
    with pytest.raises(CheckpointError, match=r"comes with dtls; there is one for denoise:25/255; else give"):
        bundled_for_task("denoise:0.2")
    with pytest.raises(CheckpointError, match=r"no model for inpaint comes .* or --method membrane or spandrel:FILE"):
        bundled_for_task("inpaint")
