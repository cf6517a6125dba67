"""The figure of a sampler's way."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from dtls.checkpoints.checkpoint import save_checkpoint
from dtls.errors import ProtocolError, SamplingError
from dtls.models.dtls import DTLS, ModelConfig
from flows.downscale import DownscaleOptions, downscale
from flows.trajectory import TrajectoryOptions, trajectory


@pytest.fixture(scope="module")
def folders(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """LR images of 16×16, and an untrained model that takes them to 64×64 in six steps."""
    root = tmp_path_factory.mktemp("trajectory")
    downscale.fn(DownscaleOptions(source=str(photographs), target=str(root / "lr"), scale=4))
    torch.manual_seed(0)
    config = ModelConfig(dim=8, multipliers=(1, 2), residual=True, size=64, stride=8, steps=6)
    save_checkpoint(DTLS(**asdict(config)), root / "model")
    return str(root / "lr"), str(root / "model")


def figure(folders: tuple[str, str], out: Path, **changes: object) -> Image.Image:
    chosen = {"source": folders[0], "checkpoint": folders[1], "out": str(out), "scale": 4, "device": "cpu", **changes}
    assert trajectory(TrajectoryOptions.model_validate(chosen)) == str(out / "trajectory.png")
    return Image.open(out / "trajectory.png")


@pytest.mark.slow
def test_the_figure_has_a_row_an_image_and_a_column_a_step(folders: tuple[str, str], tmp_path: Path) -> None:
    wide = figure(folders, tmp_path / "wide", images=2, columns=6)
    narrow = figure(folders, tmp_path / "narrow", images=2, columns=3)
    tall = figure(folders, tmp_path / "tall", images=4, columns=3)
    assert wide.width - narrow.width == 3 * (256 + 16)  # three steps more
    assert tall.height > 1.7 * narrow.height


@pytest.mark.slow
def test_more_columns_than_steps_show_every_step(folders: tuple[str, str], tmp_path: Path) -> None:
    every = figure(folders, tmp_path / "every", images=1, columns=64)
    six = figure(folders, tmp_path / "six", images=1, columns=6)  # t = 6 … 2, and the result, which is that of t = 1
    assert every.size == six.size


@pytest.mark.slow
def test_images_made_for_another_protocol_are_refused_unless_asked_for(
    folders: tuple[str, str], photographs: Path, tmp_path: Path
) -> None:
    lr = str(tmp_path / "lr")
    downscale.fn(DownscaleOptions(source=str(photographs), target=lr, scale=4, protocol="antialias"))
    with pytest.raises(ProtocolError, match=r"made for reference, and the images in .* are made by antialias"):
        figure((lr, folders[1]), tmp_path / "figure")
    figure((lr, folders[1]), tmp_path / "figure", any_protocol=True)


def test_a_sampler_that_does_not_fit_the_network_is_refused(folders: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(SamplingError, match="predicts x0, so the sampler previous cannot use it"):
        figure(folders, tmp_path, sampler="previous")
    assert not list(tmp_path.iterdir())


def test_out_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"the figure in it is trajectory\.png"):
        TrajectoryOptions(source="a", checkpoint="b", out=str(tmp_path / "figure.PNG"), scale=4)
