"""The models that come along are what their cards say: their bytes, their size, numbers that anyone can repeat."""

import hashlib
import re
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dtls.checkpoints.bundled import (
    BUNDLED,
    ENLARGING,
    FOLDER,
    PRIORS,
    RESTORING,
    UPSCALING,
    Bundled,
    bundled_for,
    bundled_for_task,
)
from dtls.checkpoints.checkpoint import CONFIG, WEIGHTS, load_checkpoint
from dtls.degradations.registry import spec_of_task
from dtls.errors import CheckpointError, SizeError
from dtls.inference.degrade import Degrading, Downscaling
from dtls.inference.method import load_method
from dtls.inference.sampling import Sampling
from dtls.inference.trained import Trained
from dtls.models.base import Model
from dtls.models.generative import Generative

SIZE = (128, 128)


class Sample(NamedTuple):
    """A crop of 128×128 of a photograph of scikit-image's, and the side of its LR image, where there is one."""

    photograph: str
    x: int
    y: int
    low: int = 128


COFFEE = Sample("coffee.png", 260, 110)
SAMPLES = {"photo-x4": COFFEE._replace(low=32), "faces-x8": Sample("astronaut.png", 160, 64, 16)}
OF_IMAGES = {**UPSCALING, **RESTORING}
"""Those that make images of images."""
MARGIN = 1.0
"""Decibels that each model wins on its sample, at least, over what needs no model."""


def card(model: Bundled) -> str:
    return (model.folder / "README.md").read_text()


def in_8_bits(x: Tensor) -> Tensor:
    return (x * 255).round() / 255


def psnr(made: Tensor, hr: Tensor) -> float:
    return float(-10 * torch.log10((in_8_bits(made) - hr).square().mean()))


def cropped(sample: Sample) -> Tensor:
    box = (sample.x, sample.y, sample.x + 128, sample.y + 128)
    with (files("skimage") / "data" / sample.photograph).open("rb") as stream, Image.open(stream) as photograph:
        return torch.tensor(np.asarray(photograph.convert("RGB").crop(box))).permute(2, 0, 1)[None].float() / 255


def without_and_with(model: Bundled, hr: Tensor, low: int) -> tuple[float, float]:
    """PSNR of what needs no model, and of the model, as the flows use it."""
    if model.task == ENLARGING:
        lr = in_8_bits(Downscaling("antialias")(hr, (low, low)))
        return psnr(load_method("bicubic")(lr, SIZE), hr), psnr(Trained(model.folder)(lr, SIZE), hr)
    made = in_8_bits(Degrading(spec_of_task(model.task))(hr, SIZE))
    if model.task == "inpaint":
        mask, y = 1 - made[:, 3:], made[:, :3]
        return psnr(load_method("membrane")(y, SIZE, mask), hr), psnr(Trained(model.folder)(y, SIZE, mask), hr)
    sampling = Sampling(projected=model.task == "colourise")
    return psnr(made, hr), psnr(Trained(model.folder, sampling=sampling)(made, SIZE), hr)


@pytest.mark.parametrize("model", OF_IMAGES.values(), ids=OF_IMAGES)
def test_a_card_tells_what_its_file_is(model: Bundled) -> None:
    weights = (model.folder / WEIGHTS).read_bytes()
    text = card(model)
    assert hashlib.sha256(weights).hexdigest() in text
    for part in ("dtls train ", "--seed 0", "research", *(("antialias", "bicubic") if model.scale > 1 else ())):
        assert part in text
    loaded = load_checkpoint(model.folder, Model)
    name, config = loaded.name, loaded.config
    assert config.size / config.lr_size == model.scale
    assert name in ("dtls", "edsr")
    if model.task == ENLARGING:
        assert len(weights) <= 16e6
        assert loaded.undoes == "antialias"
    else:
        assert len(weights) <= 4e6
        assert loaded.undoes == spec_of_task(model.task)
        assert f"`{model.task}`" in text


@pytest.mark.slow
@pytest.mark.parametrize("model", OF_IMAGES.values(), ids=OF_IMAGES)
def test_the_number_that_a_card_has_of_an_image_at_hand_is_found_again(model: Bundled) -> None:
    sample = SAMPLES.get(model.name, COFFEE)
    told = re.search(rf"{re.escape(sample.photograph)}.*\| (\d+\.\d\d) \| (\d+\.\d\d) \|", card(model))
    assert told is not None
    without, ours = without_and_with(model, cropped(sample), sample.low)
    assert (without, ours) == pytest.approx(tuple(map(float, told.groups())), abs=0.02)
    assert ours > without + MARGIN


def test_the_card_of_a_prior_says_whom_it_learned_from_and_what_it_is_not_for() -> None:
    for model in PRIORS.values():
        weights, text = (model.folder / WEIGHTS).read_bytes(), card(model)
        assert load_checkpoint(model.folder, Generative).config.size <= 64
        assert len(weights) <= 5e6
        assert hashlib.sha256(weights).hexdigest() in text
        for part in ("dtls train ", "--seed 0", "research", "identify", "synthetic"):
            assert part in text


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
    monkeypatch.setattr("dtls.checkpoints.bundled.RESTORING", {denoiser.name: denoiser})
    assert bundled_for_task("denoise:0.0980392") is denoiser
    with pytest.raises(CheckpointError, match=r"comes with dtls; there is one for denoise:25/255; else give"):
        bundled_for_task("denoise:0.2")
    with pytest.raises(CheckpointError, match=r"for denoise:25/255 \(for these images: .* --strength 0\.6\); else"):
        bundled_for_task("denoise:15/255")
    with pytest.raises(CheckpointError, match=r"no model for colourise comes .* or --method spandrel:FILE"):
        bundled_for_task("colourise")
