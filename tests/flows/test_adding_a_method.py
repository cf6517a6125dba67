"""A method is one module and one line of the registry: here the module is this one, and the tests add the line."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dtls.checkpoints.checkpoint import make_model, save_checkpoint
from dtls.inference.method import Method
from dtls.models.base import departing
from dtls.models.regression import Regression
from dtls.registry import INTERPOLATIONS, MODELS
from dtls.training.recipe import Recipe
from dtls.training.trainer import Trainer
from flows.training.options import TrainOptions
from flows.upscale import UpscaleOptions, upscale
from tests.dtls import one_cpu


class Blocks(Method):
    """Each pixel becomes a block: a method without weights."""

    identity: Mapping[str, str] = MappingProxyType({"method": "blocks"})
    scale = 2.0

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, lr: Tensor, size: tuple[int, int], _: Tensor | None = None) -> Tensor:
        rows, columns = (torch.arange(m) * n // m for n, m in zip(lr.shape[-2:], size, strict=True))
        return lr[..., rows[:, None], columns]


class Sharpened(Regression):
    """One convolution of the enlarged image: a method with weights."""

    name = "sharpened"
    defaults = departing(learning_rate=1e-2, batch_size=2)

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.network = nn.Conv2d(3, 3, 3, padding=1)


@pytest.fixture
def lr(tmp_path: Path, photographs: Path) -> Path:
    (tmp_path / "lr").mkdir()
    photograph = sorted(photographs.rglob("*.png"))[0]
    Image.open(photograph).convert("RGB").resize((16, 12)).save(tmp_path / "lr" / "a.png")
    return tmp_path / "lr"


def test_a_method_without_weights_upscales(lr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(INTERPOLATIONS, "blocks", f"{__name__}:Blocks")
    upscale.fn(UpscaleOptions(source=str(lr), target=str(tmp_path / "sr"), method="blocks"))
    pixels, made = (np.asarray(Image.open(folder / "a.png")) for folder in (lr, tmp_path / "sr"))
    np.testing.assert_array_equal(made, pixels.repeat(2, axis=0).repeat(2, axis=1))
    assert pd.read_parquet(tmp_path / "sr" / "manifest.parquet")["method"].tolist() == ["blocks"]


def test_a_method_with_weights_is_trained_saved_and_upscales(
    lr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "sharpened", f"{__name__}:Sharpened")
    options = TrainOptions(source="shards", target="model", method="sharpened", size=32, lr_size=16)
    model, recipe = make_model({"method": "sharpened", "size": 32, "lr_size": 16}), options.recipe()
    assert recipe == Recipe(learning_rate=1e-2)
    trainer = Trainer(model, recipe, one_cpu.fabric())
    batch = torch.from_numpy(np.array(Image.open(lr / "a.png").resize((32, 32)))).permute(2, 0, 1)[None]
    losses = [trainer.step(batch.expand(2, -1, -1, -1)) for _ in range(4)]
    assert losses[-1] < losses[0]
    save_checkpoint(trainer.averaged(), tmp_path / "model")
    upscale.fn(
        UpscaleOptions(source=str(lr), target=str(tmp_path / "sr"), checkpoint=os.fspath(tmp_path / "model"), scale=2)
    )
    assert Image.open(tmp_path / "sr" / "a.png").size == (32, 24)
    assert pd.read_parquet(tmp_path / "sr" / "manifest.parquet")["method"].tolist() == ["sharpened"]
