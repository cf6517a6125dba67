"""The figure and the table of the chain that a model walks."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from dtls.checkpoints.checkpoint import save_checkpoint
from dtls.inference.generation import load_generator
from dtls.inference.pixels import to_pixels
from dtls.models.base import Model
from dtls.models.dcgan import DCGAN
from dtls.models.dtls import DTLS, ModelConfig
from dtls.models.lr_flow import LRFlow
from dtls.models.sr3 import SR3
from dtls.models.srcnn import SRCNN
from dtls.models.vae_gen import VAEGen
from flows.downscale import DownscaleOptions, downscale
from flows.evaluation.walks import walks_of_noise
from flows.generation.origins import FromSeeds
from flows.generation.seeds import seed_of
from flows.interface.errors import UsageError
from flows.trajectory import TrajectoryOptions, trajectory
from storage.stores.location import StorageError
from tests.flows.generating import save_prior


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
    with pytest.raises(UsageError, match=r"made for reference, and the images in .* are made by antialias"):
        figure((lr, folders[1]), tmp_path / "figure")
    figure((lr, folders[1]), tmp_path / "figure", any_protocol=True)


def test_a_sampler_that_does_not_fit_the_network_is_refused(folders: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="predicts x0, so the sampler previous cannot use it"):
        figure(folders, tmp_path, sampler="previous")
    assert not list(tmp_path.iterdir())


def test_out_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"the figure in it is trajectory\.png"):
        TrajectoryOptions(source="a", checkpoint="b", out=str(tmp_path / "figure.PNG"), scale=4)


@pytest.mark.slow
def test_the_table_has_every_state_of_every_image(folders: tuple[str, str], tmp_path: Path) -> None:
    figure(folders, tmp_path, images=2, columns=2)
    rows = pq.read_table(tmp_path / "chain.parquet").to_pylist()
    names = sorted({row["sample"] for row in rows})
    assert [row["t"] for row in rows if row["sample"] == names[0]] == [6, 5, 4, 3, 2, 1, 0]
    assert len(rows) == 2 * 7
    lr = np.asarray(Image.open(Path(folders[0]) / names[0]).convert("RGB")) / 255
    assert rows[0]["mean"] == pytest.approx(lr.mean(), abs=0.01)
    assert all(row["kl_moments"] <= row["kl_histogram"] for row in rows)


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """Grey images of 16×16, and masks of their upper halves."""
    for name in ("a", "b"):
        (tmp_path / "tiles").mkdir(exist_ok=True)
        Image.radial_gradient("L").resize((16, 16)).rotate(len(name)).save(tmp_path / "tiles" / f"{name}.png")
    mask = Image.new("L", (16, 16))
    mask.paste(255, (0, 0, 16, 8))
    mask.save(tmp_path / "mask.png")
    return tmp_path / "tiles"


def saved(model: Model, folder: Path) -> str:
    save_checkpoint(model, folder)
    return str(folder)


def chain_of(source: Path | str, out: Path, **changes: object) -> list[dict[str, Any]]:
    options = {"source": str(source), "out": str(out), "device": "cpu", "images": 1, **changes}
    trajectory(TrajectoryOptions.model_validate(options))
    rows: list[dict[str, Any]] = pq.read_table(out / "chain.parquet").to_pylist()
    return rows


def restoring(folder: Path, degradation: str) -> str:
    config = ModelConfig(dim=8, multipliers=(1, 2), residual=True, size=16, steps=4, degradation=degradation)
    return saved(DTLS(**asdict(config)), folder)


def test_a_model_that_restores_is_shown_from_the_strength_that_is_asked_for(tiles: Path, tmp_path: Path) -> None:
    model = restoring(tmp_path / "model", "blur:2")
    rows = chain_of(tiles, tmp_path / "out", checkpoint=model, strength=0.5, columns=64)
    assert [row["t"] for row in rows] == [2, 1, 0]
    rows = chain_of(tiles, tmp_path / "cold", checkpoint=model, sampler="cold")
    assert [row["t"] for row in rows] == [4, 3, 2, 1, 0]


def test_holes_are_those_of_masks_or_what_is_transparent(tiles: Path, tmp_path: Path) -> None:
    model = restoring(tmp_path / "model", "mask")
    rows = chain_of(tiles, tmp_path / "out", checkpoint=model, masks=str(tmp_path / "mask.png"))
    assert [row["t"] for row in rows] == [4, 3, 2, 1, 0]
    with Image.open(tmp_path / "out" / "trajectory.png") as drawn:
        assert drawn.getpixel((32 + 128, 32 + 2 * 24 + 60 + 16)) == (255, 255, 255)
    with pytest.raises(StorageError, match="no pixel is transparent"):
        chain_of(tiles, tmp_path / "out", checkpoint=model)


def test_grey_images_are_given_colour_step_by_step(tiles: Path, tmp_path: Path) -> None:
    rows = chain_of(tiles, tmp_path / "out", checkpoint=restoring(tmp_path / "model", "grey"))
    assert [row["t"] for row in rows] == [4, 3, 2, 1, 0]


@pytest.mark.slow
def test_diffusion_models_are_shown_by_any_of_their_samplers_at_the_scale_they_know(
    tiles: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = saved(SR3(size=32, lr_size=16, width=8, levels=2, timesteps=20), tmp_path / "model")
    rows = chain_of(tiles, tmp_path / "out", checkpoint=model, sampler="ddpm", sampling_steps=4, seed=3)
    assert [row["t"] for row in rows] == [20, 15, 10, 5, 0]
    assert rows[0]["kl_moments"] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (SRCNN(size=32, lr_size=16), {}, "srcnn makes its results in one step"),
        ("blur:2", {"scale": 2}, "restores images at their own size; leave --scale out"),
        ("blur:2", {"masks": "a"}, "fills no holes; leave --masks out"),
    ],
)
def test_what_is_no_chain_and_options_of_others_are_refused(
    model: Model | str, options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    found = restoring(folder, model) if isinstance(model, str) else saved(model, folder)
    (tmp_path / "lr").mkdir()
    with pytest.raises(UsageError, match=words):
        chain_of(tmp_path / "lr", tmp_path / "out", checkpoint=found, **options)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of an untrained DDPM of 8×8 pixels, of 20 steps."""
    return save_prior(tmp_path_factory.mktemp("prior"), timesteps=20)


@pytest.mark.parametrize(("start", "kl"), [("gaussian", 0.0), ("exponential:0.5", 2.807)])
def test_noise_is_followed_to_the_samples_of_generate(start: str, kl: float, prior: str, tmp_path: Path) -> None:
    rows = chain_of(start, tmp_path, checkpoint=prior, images=2, sampling_steps=4)
    assert [(row["sample"], row["t"]) for row in rows] == [
        (name, t) for name in ("00000000", "00000001") for t in (20, 15, 10, 5, 0)
    ]
    assert rows[0]["kl_moments"] == pytest.approx(kl, abs=0.1 + kl / 4)  # of 192 values
    generator = load_generator(Path(prior), sampling_steps=4)
    walks = list(walks_of_noise(generator, FromSeeds(), 3, 2))
    seeds = torch.tensor([seed_of(3, walk.key) for walk in walks])
    for walk, image in zip(walks, generator.images(generator.z(seeds), seeds), strict=True):
        assert np.array_equal(walk.shots[-1].pixels, to_pixels(image[None].clone(), np.uint8)[0])


def test_the_way_of_a_flow_is_shown_from_1_to_0(tmp_path: Path) -> None:
    model = saved(LRFlow(size=8, components=4, width=8, blocks=1), tmp_path / "model")
    rows = chain_of("gaussian", tmp_path / "out", checkpoint=model, sampling_steps=4)
    assert [row["t"] for row in rows] == [1, 0.75, 0.5, 0.25, 0]
    assert rows[0]["mean"] == pytest.approx(rows[-1]["mean"])  # an untrained flow changes nothing
    assert rows[2]["mean"] == pytest.approx(rows[0]["mean"] * 0.5**0.5)


def test_images_are_noised_as_far_as_is_asked_for_and_followed_back(prior: str, tiles: Path, tmp_path: Path) -> None:
    rows = chain_of(tiles, tmp_path / "out", checkpoint=prior, strength=0.5, sampling_steps=4, images=2, columns=3)
    assert [(row["sample"], row["t"]) for row in rows] == [(key, t) for key in ("a.png", "b.png") for t in (10, 5, 0)]
    with Image.open(tmp_path / "out" / "trajectory.png") as drawn:
        assert drawn.width == 2 * 32 + 3 * 256 + 2 * 16  # the image, t = 10, and the result, which is that of t = 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": 2}, "makes images of noise; leave --scale out"),
        ({"strength": 0.5}, "--strength goes with a folder of images, not with gaussian"),
        ({"sampler": "cold"}, "has no sampler cold"),
    ],
)
def test_options_that_mean_nothing_to_a_generative_model_are_refused(
    options: dict[str, Any], words: str, prior: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        chain_of("gaussian", tmp_path / "out", checkpoint=prior, **options)
    assert not (tmp_path / "out").exists()


def test_a_generator_of_one_step_has_no_chain_and_one_of_latents_shows_these(tmp_path: Path) -> None:
    one_step = saved(DCGAN(size=8, width=8), tmp_path / "dcgan")
    with pytest.raises(UsageError, match="dcgan makes its results in one step"):
        chain_of("gaussian", tmp_path / "out", checkpoint=one_step)
    latent = saved(VAEGen(size=16, width=8, ae_width=8, levels=1, timesteps=4), tmp_path / "latent")
    rows = chain_of("gaussian", tmp_path / "out", checkpoint=latent, sampling_steps=2)
    assert [row["t"] for row in rows] == [4, 2, 0]


def test_a_model_of_lr_images_does_not_begin_with_noise(folders: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="makes no images of noise; gaussian is not for it"):
        chain_of("gaussian", tmp_path / "out", checkpoint=folders[1])
    with pytest.raises(UsageError, match="no such folder"):
        chain_of("gaussian", tmp_path / "out", checkpoint=str(tmp_path / "nowhere"))
    with pytest.raises(ValidationError, match="has no rate above 0"):
        chain_of("exponential:x", tmp_path / "out", checkpoint=folders[1])
