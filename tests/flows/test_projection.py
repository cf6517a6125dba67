"""`dtls upscale --project`: what made the sources is known or asked for, and all results agree with them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from dtls.degradations.base import Protocol
from dtls.degradations.resize import resize
from dtls.errors import ProtocolError, SamplingError
from dtls.models.srcnn import SRCNN
from flows.downscale import DownscaleOptions, downscale
from flows.upscale import UpscaleOptions, upscale
from storage.stores.location import StorageError


@pytest.fixture
def hr(tmp_path: Path) -> Path:
    """Soft images of every kind: colour, grey, with transparency, of 16 bits."""
    (tmp_path / "hr").mkdir()
    down, across = np.mgrid[:32, :48] / 48
    soft = np.stack([0.5 + 0.4 * np.sin(9 * down + 5 * across + c) for c in range(3)], -1)
    pixels = (255 * soft).round().astype(np.uint8)
    alpha = np.where(across < 0.5, 255, 0).astype(np.uint8)
    kinds: dict[str, NDArray[Any]] = {
        "colour": pixels,
        "grey": pixels[..., 0],
        "alpha": np.dstack([pixels, alpha]),
        "deep": (65535 * soft[..., 0]).round().astype(np.uint16),
    }
    for name, samples in kinds.items():
        Image.fromarray(samples).save(tmp_path / "hr" / f"{name}.png")
    return tmp_path / "hr"


def made_small(hr: Path, protocol: Protocol = "antialias") -> Path:
    to = hr.parent / protocol
    downscale.fn(DownscaleOptions(source=str(hr), target=str(to), scale=4, protocol=protocol))
    return to


def foreign(lr: Path) -> Path:
    """The same images without what says how they were made."""
    to = lr.parent / f"foreign-{lr.name}"
    to.mkdir()
    for file in lr.glob("*.png"):
        (to / file.name).write_bytes(file.read_bytes())
    return to


def enlarged(lr: Path, to: Path, **options: object) -> str:
    given = {"source": str(lr), "target": str(to), "scale": 4, "device": "cpu", "provenance": False, **options}
    return upscale.fn(UpscaleOptions.model_validate(given))


def samples(file: Path) -> Tensor:
    """An image's channels (1, C, H, W) in [0, 1]."""
    with Image.open(file) as image:
        pixels = np.atleast_3d(np.asarray(image))
    return torch.from_numpy(pixels / np.iinfo(pixels.dtype).max).permute(2, 0, 1)[None]


def misfit(sr: Path, lr: Path, protocol: Protocol = "antialias") -> float:
    """How far a result of downscaling is from its LR image at most, in colours that are seen."""
    known, made = samples(lr), samples(sr)
    apart = (resize(made, (known.shape[-2], known.shape[-1]), protocol) - known).abs()
    seen = known[:, 3:] > 0 if known.shape[1] == 4 else torch.ones_like(known[:, :1], dtype=torch.bool)
    return float(apart[:, :3][seen.expand_as(apart[:, :3])].max())


@pytest.mark.slow
def test_results_of_every_kind_agree_with_their_sources(hr: Path, tmp_path: Path) -> None:
    lr = made_small(hr)
    assert enlarged(lr, tmp_path / "sr", method="bicubic", project=True) == "4 done"
    assert enlarged(lr, tmp_path / "plain", method="bicubic") == "4 done"
    for name in ("colour", "grey", "alpha"):
        assert misfit(tmp_path / "sr" / f"{name}.png", lr / f"{name}.png") < 0.75 / 255
        assert misfit(tmp_path / "plain" / f"{name}.png", lr / f"{name}.png") > 3 / 255
    assert misfit(tmp_path / "sr" / "deep.png", lr / "deep.png") < 0.75 / 65535
    visible, plainly = (samples(tmp_path / name / "alpha.png")[:, 3] for name in ("sr", "plain"))
    assert (visible[..., :16] == 1).all()
    assert (visible[..., 32:] == 0).all()
    assert ((visible > 0) == (plainly > 0)).float().mean() > 0.85
    rows = pd.read_parquet(tmp_path / "sr" / "manifest.parquet")
    assert {*rows["protocol"]} == {"antialias"}
    assert pd.read_parquet(tmp_path / "plain" / "manifest.parquet")["protocol"].isna().all()


def test_what_made_the_sources_is_asked_for_where_nothing_says_it(hr: Path, tmp_path: Path) -> None:
    lr = foreign(made_small(hr, "reference"))
    with pytest.raises(SamplingError, match=r"bicubic .* --protocol reference or antialias does$"):
        enlarged(lr, tmp_path / "sr", method="bicubic", project=True)
    assert not (tmp_path / "sr").exists()
    enlarged(lr, tmp_path / "sr", method="bicubic", project=True, protocol="reference")
    assert misfit(tmp_path / "sr" / "colour.png", lr / "colour.png", "reference") < 0.75 / 255


def test_another_downscaling_than_that_of_the_sources_is_refused(hr: Path, tmp_path: Path) -> None:
    lr = made_small(hr)
    with pytest.raises(ProtocolError, match=f"{lr}: made by antialias, not by reference"):
        enlarged(lr, tmp_path / "sr", method="bicubic", project=True, protocol="reference")
    rows = pd.read_parquet(lr / "manifest.parquet")
    rows.loc[0, "protocol"] = "reference"
    rows.to_parquet(lr / "manifest.parquet")
    with pytest.raises(ProtocolError, match="made by antialias and reference; project the images of one at a time"):
        enlarged(lr, tmp_path / "sr", method="bicubic", project=True)
    rows.loc[0, "protocol"] = "magic"
    rows.to_parquet(lr / "manifest.parquet")
    with pytest.raises(StorageError, match="names the protocol 'magic', which this version of dtls does not know"):
        enlarged(lr, tmp_path / "sr", method="bicubic", project=True)


def test_more_passes_are_other_results(hr: Path, tmp_path: Path) -> None:
    lr = made_small(hr)
    enlarged(lr, tmp_path / "sr", method="lanczos", project=True)
    assert enlarged(lr, tmp_path / "sr", method="lanczos", project=True, project_passes=4) == "4 already done"
    with pytest.raises(StorageError, match="passes"):
        enlarged(lr, tmp_path / "sr", method="lanczos", project=True, project_passes=1)


@pytest.mark.parametrize(
    "options", [{"project_passes": 4}, {"protocol": "antialias"}, {"project": True, "project_passes": 17}]
)
def test_options_of_projecting_need_it_and_have_bounds(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"goes with --project|less than or equal to 16"):
        UpscaleOptions.model_validate({"source": "a", "target": "b", "method": "bicubic", "scale": 2, **options})


@pytest.mark.slow
def test_a_checkpoint_is_projected_by_what_made_its_sources(hr: Path, tmp_path: Path) -> None:
    from dtls.checkpoints.checkpoint import save_checkpoint

    torch.manual_seed(0)
    save_checkpoint(SRCNN(size=32, lr_size=8, protocol="realworld"), tmp_path / "model")
    lr, how = made_small(hr), {"checkpoint": str(tmp_path / "model"), "project": True}
    with pytest.raises(ProtocolError, match=r"made for realworld, and the images .* are made by antialias"):
        enlarged(lr, tmp_path / "sr", **how)
    assert enlarged(lr, tmp_path / "sr", **how, any_protocol=True) == "4 done"
    enlarged(lr, tmp_path / "often", **how, any_protocol=True, project_passes=16)
    assert misfit(tmp_path / "often" / "colour.png", lr / "colour.png") < 1.5 / 255
    made_with = json.loads((tmp_path / "sr" / ".dtls" / "source.json").read_text())["made_with"]
    assert made_with["made_by"] == "antialias"
    assert "passes" not in made_with, "checkpoints that enlarge are projected once, as in version 0.1"
    unsaid = foreign(lr)
    with pytest.raises(
        SamplingError, match="model: nothing can be projected on images of realworld, which is not linear"
    ):
        enlarged(unsaid, tmp_path / "other", **how)
    with pytest.raises(ProtocolError, match=r"made for realworld, and the images in .* are made by reference"):
        enlarged(unsaid, tmp_path / "other", **how, protocol="reference")
