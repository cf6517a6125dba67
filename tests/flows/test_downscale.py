"""LR images by realworld, as runs: each by its own pixels and the run's seed, whatever makes it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from dtls.checkpoints.checkpoint import save_checkpoint
from dtls.errors import ProtocolError
from dtls.registry import model_class
from flows.downscale import DownscaleOptions, downscale
from flows.inputs.compatibility import protocols
from flows.upscale import UpscaleOptions, upscale


@pytest.fixture
def source(tmp_path: Path, photographs: Path) -> Path:
    """Four photographs of one's own, the last one grey and of another size."""
    folder = tmp_path / "hr"
    folder.mkdir()
    for path in sorted(photographs.rglob("*.png"))[:3]:
        (folder / path.name).write_bytes(path.read_bytes())
    with Image.open(folder / "00000.png") as photograph:
        photograph.convert("L").crop((0, 0, 52, 36)).save(folder / "grey.png")
    return folder


def reduced(source: object, target: object, **options: Any) -> str:
    given = {"source": str(source), "target": str(target), "scale": 4, "protocol": "realworld", **options}
    return downscale.fn(DownscaleOptions.model_validate(given))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


@pytest.mark.slow
def test_a_second_run_does_nothing_and_another_seed_makes_all_anew(source: Path, tmp_path: Path) -> None:
    lr = tmp_path / "lr"
    assert reduced(source, lr) == "4 done"
    first = contents(lr)
    assert reduced(source, lr) == "4 already done"
    assert contents(lr) == first
    assert reduced(source, lr, seed=1, overwrite=True) == "4 done"
    other = contents(lr)
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)
    assert reduced(source, lr, overwrite=True) == "4 done"
    assert contents(lr) == first


def test_the_manifest_keeps_the_protocol_and_grey_images_stay_grey(source: Path, tmp_path: Path) -> None:
    reduced(source, tmp_path / "lr")
    manifest = pd.read_parquet(tmp_path / "lr" / "manifest.parquet")
    assert set(manifest.protocol) == {"realworld"}
    assert protocols(str(tmp_path / "lr")) == {"realworld"}
    with Image.open(tmp_path / "lr" / "grey.png") as grey:
        assert (grey.mode, grey.size) == ("L", (13, 9))


def test_lr_images_are_degraded_more_than_by_down_sampling(source: Path, tmp_path: Path) -> None:
    reduced(source, tmp_path / "lr")
    reduced(source, tmp_path / "plain", protocol="antialias")
    for name in contents(tmp_path / "lr"):
        made, plain = (np.asarray(Image.open(tmp_path / folder / name)).astype(float) for folder in ("lr", "plain"))
        assert 1 < np.sqrt(((made - plain) ** 2).mean()) < 40


@pytest.mark.parametrize(
    "how", [{}, {"workers": 1, "in_flight": 1}, pytest.param({"runner": "processes"}, marks=pytest.mark.slow)]
)
def test_an_image_comes_out_the_same_under_any_name_and_in_any_company(
    source: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    reduced(source, tmp_path / "lr")
    expected = contents(tmp_path / "lr")
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    names = {name: f"{9 - place}.png" for place, name in enumerate(expected) if name != "00001.png"}
    for name, other in names.items():
        (renamed / other).write_bytes((source / name).read_bytes())
    reduced(renamed, tmp_path / "others", **how)
    made = contents(tmp_path / "others")
    assert made == {other: expected[name] for name, other in names.items()}


@pytest.mark.parametrize("protocol", ["reference", "antialias"])
def test_a_seed_that_changes_nothing_is_refused(source: Path, tmp_path: Path, protocol: str) -> None:
    with pytest.raises(ValidationError, match=f"the protocol {protocol} draws nothing"):
        reduced(source, tmp_path / "lr", protocol=protocol, seed=1)


@pytest.mark.slow
def test_a_model_is_used_on_images_of_its_own_protocol_unless_asked_for_others(source: Path, tmp_path: Path) -> None:
    made = {"realworld": tmp_path / "realworld", "antialias": tmp_path / "antialias"}
    for protocol, folder in made.items():
        reduced(source, folder, protocol=protocol)
        torch.manual_seed(0)
        model = model_class("edsr")(size=32, lr_size=8, protocol=protocol, blocks=1, features=4)
        save_checkpoint(model, tmp_path / f"{protocol}-model")
    for trained, other in (("realworld", "antialias"), ("antialias", "realworld")):
        given = {"checkpoint": str(tmp_path / f"{trained}-model"), "scale": 4, "device": "cpu"}
        to = str(tmp_path / f"{trained}-sr")
        with pytest.raises(ProtocolError, match=f"made for {trained}, .* made by {other}"):
            upscale.fn(UpscaleOptions.model_validate({**given, "source": str(made[other]), "target": to}))
        ours = {**given, "source": str(made[trained]), "target": to}
        assert upscale.fn(UpscaleOptions.model_validate(ours)) == "4 done"
