"""Every method of the registry is trained by the one loop, saved in one format, and enlarges images by its name."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from dtls.checkpoints.bundled import BUNDLED
from dtls.checkpoints.checkpoint import load_checkpoint
from dtls.errors import CheckpointError, SamplingError, SizeError, TrainingError
from dtls.inference.generation import load_generator
from dtls.models.base import Model
from dtls.models.edsr import EDSR
from dtls.models.lr_flow import LRFlow
from dtls.registry import GENERATORS, MODELS
from flows.downscale import DownscaleOptions, downscale
from flows.shard import ShardOptions, shard
from flows.train import train
from flows.training.options import TrainOptions
from flows.upscale import UpscaleOptions, upscale
from tests.dtls.weights import have_the_same_weights

TINY: dict[str, Any] = {"size": 32, "lr_size": 8, "batch_size": 2, "steps": 4, "device": "cpu", "workers": 0}
DTLS_TINY: dict[str, Any] = {"dim": 8, "dim_mults": (1, 2), "stride": 8}
NETWORKS: dict[str, dict[str, Any]] = {
    "dtls": DTLS_TINY,
    "cold": DTLS_TINY,
    "edsr": {"network": {"features": "8", "blocks": "1"}},
    "rrdb": {"network": {"features": "8", "blocks": "1"}},
    "sr3": {"network": {"width": "8", "levels": "2", "timesteps": "20"}},
    "vae-ddpm": {"network": {"width": "8", "levels": "1", "timesteps": "20"}},
    "vqvae-ddpm": {"network": {"width": "8", "levels": "1", "timesteps": "20"}},
    "resshift": {"network": {"dim": "8", "levels": "2"}},
    "heat": {"network": {"dim": "8", "levels": "2", "timesteps": "6"}},
}


pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture(scope="module")
def shards(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    target = str(tmp_path_factory.mktemp("shards"))
    shard.fn(ShardOptions(source=str(photographs), target=target, samples_per_shard=6))
    return target


@pytest.fixture(scope="module")
def lr(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lr")
    downscale.fn(
        DownscaleOptions(source=str(photographs), target=str(folder), scale=4, protocol="antialias", limit=2)
    )
    return folder


def trained(shards: str, target: Path, method: str, **changes: Any) -> Path:
    options = {**TINY, **NETWORKS.get(method, {}), "protocol": "antialias", **changes}
    train.fn(TrainOptions(source=shards, target=str(target), method=method, **options))
    return target


@pytest.mark.slow
@pytest.mark.parametrize("method", MODELS)
def test_a_method_is_trained_and_enlarges_under_its_name(method: str, shards: str, lr: Path, tmp_path: Path) -> None:
    folder = trained(shards, tmp_path / "model", method)
    model = load_checkpoint(folder, Model)
    name, config = model.name, model.config
    assert (name, config.size, config.lr_size, config.protocol) == (method, 32, 8, "antialias")
    options = {"scale": 4, "device": "cpu", "checkpoint": str(folder), "batch_size": 2}
    upscale.fn(UpscaleOptions(source=str(lr), target=str(tmp_path / "sr"), **options))
    manifest = pd.read_parquet(tmp_path / "sr" / "manifest.parquet")
    assert set(manifest.method) == {method}
    assert set(manifest.protocol) == {"antialias"}
    assert list(manifest.status) == ["ok", "ok"]
    assert {Image.open(path).size for path in (tmp_path / "sr").rglob("*.png")} == {(64, 64)}


GENERATIVE: dict[str, dict[str, str]] = {
    "lr-flow": {"components": "8", "width": "8", "blocks": "1"},
    "ddpm": {"width": "8", "levels": "2", "timesteps": "20"},
    "dcgan": {"width": "8"},
    "vae-gen": {"width": "8", "levels": "1", "timesteps": "20"},
    "vqvae-gen": {"width": "8", "levels": "1", "timesteps": "20", "channels": "1"},
}


@pytest.mark.slow
@pytest.mark.parametrize("method", GENERATORS)
def test_a_generative_method_is_trained_and_started_from(method: str, shards: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"size": 16, "lr_size": None, "protocol": None, "steps": 2}
    folder = trained(shards, tmp_path / "model", method, **options, network=GENERATIVE[method])
    made = load_generator(folder)
    assert (made.identity["method"], made.size) == (method, 16)
    seeds = torch.arange(2)
    assert made.images(made.z(seeds), seeds).isfinite().all()
    trained(shards, tmp_path / "second", method, **options, start=str(folder))


@pytest.mark.slow
def test_what_is_fitted_once_is_kept_when_a_run_goes_on(shards: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"size": 16, "lr_size": None, "protocol": None, "network": GENERATIVE["lr-flow"]}
    options |= {"schedule": "constant", "warmup": 0}
    whole = trained(shards, tmp_path / "whole", "lr-flow", **options, steps=3)
    part = trained(shards, tmp_path / "part", "lr-flow", **options, steps=1)
    trained(shards, part, "lr-flow", **options, steps=3, resume=True)
    one, other = (load_checkpoint(folder, LRFlow) for folder in (whole, part))
    assert have_the_same_weights(one, other)
    assert one.deviations.min() > 0
    assert one.mean.std() > 0
    few = {**options, "network": {**GENERATIVE["lr-flow"], "components": "100"}}
    with pytest.raises(TrainingError, match="principal components, fewer than the 100 asked for; train on more"):
        trained(shards, tmp_path / "few", "lr-flow", **few, steps=1)


@pytest.mark.slow
def test_training_starts_with_the_weights_it_is_given(shards: str, tmp_path: Path) -> None:
    first = trained(shards, tmp_path / "first", "edsr")
    chosen = {"start": str(first), "network": {}, "learning_rate": 1e-12, "warmup": 0, "steps": 1, "size": 48}
    second = trained(shards, tmp_path / "second", "edsr", **chosen, lr_size=12)
    before, after = (load_checkpoint(folder, EDSR).state_dict() for folder in (first, second))
    for key, weight in before.items():
        torch.testing.assert_close(after[key], weight, rtol=0, atol=1e-9)
    assert load_checkpoint(second, EDSR).config.size == 48
    made = {path.name for path in second.iterdir()}
    assert made == {"config.json", "loss.csv", "model.safetensors", "training-000000001.safetensors"}


@pytest.mark.slow
def test_a_run_goes_on_with_the_start_it_had(shards: str, tmp_path: Path) -> None:
    first, other = (trained(shards, tmp_path / name, "edsr", seed=n) for n, name in enumerate(("first", "other")))
    chosen = {"network": {}, "steps": 1, "schedule": "constant", "warmup": 0}
    second = trained(shards, tmp_path / "second", "edsr", start=str(first), **chosen)
    with pytest.raises(TrainingError, match="trained with other options: start was '"):
        trained(shards, second, "edsr", start=str(other), resume=True, **{**chosen, "steps": 2})
    trained(shards, second, "edsr", start=str(first), resume=True, **{**chosen, "steps": 2})


@pytest.mark.slow
def test_what_keeps_a_run_from_going_on_is_told(shards: str, tmp_path: Path) -> None:
    first = trained(shards, tmp_path / "first", "edsr", steps=1)
    with pytest.raises(
        TrainingError, match="trained with other options: method was 'edsr', not 'srcnn'; use the same options"
    ):
        trained(shards, first, "srcnn", resume=True)
    with pytest.raises(
        TrainingError, match=r"steps was 1, not 2 \(the learning rate's cosine ends with the last step\)"
    ):
        trained(shards, first, "edsr", steps=2, resume=True)


@pytest.mark.slow
def test_training_starts_with_a_model_of_its_own_method_alone(shards: str, tmp_path: Path) -> None:
    first = trained(shards, tmp_path / "first", "edsr")
    with pytest.raises(CheckpointError, match="a model of the method edsr, not srcnn"):
        trained(shards, tmp_path / "second", "srcnn", start=str(first))
    with pytest.raises(ValidationError, match="network does not go with the model that training starts with"):
        trained(shards, tmp_path / "second", "edsr", start=str(first))
    with pytest.raises(CheckpointError, match="enlarges by 4, not by 2"):
        trained(shards, tmp_path / "second", "edsr", start=str(first), network={}, lr_size=16)
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"method": "magic"}, "no model is called 'magic'; there are dtls, cold, srcnn, "),
        ({"method": "edsr", "dim": 8}, "dim does not go with the method edsr"),
        ({"method": "edsr", "preset": "16-128"}, "preset does not go with the method edsr"),
        ({"method": "edsr", "inputs": "sampled"}, "inputs does not go with the method edsr"),
        ({"network": {"blocks": "2"}}, "network does not go with the method dtls"),
        ({"method": "edsr", "network": {"magic": "2"}}, "--network has no magic; there are features, blocks"),
        ({"method": "srcnn", "network": {"blocks": "2"}}, "--network has no blocks; there are no choices"),
        ({"method": "edsr", "network": {"blocks": "two"}}, "network blocks=two: Input should be a valid integer"),
        ({"method": "edsr", "network": ["blocks"]}, "blocks: write NAME=VALUE"),
        ({"method": "sr3", "loss": "mse"}, "loss does not go with the method sr3, which has its own"),
        ({"method": "sr3", "perceptual": 0.1}, "sr3 learns by its own loss, not between images"),
        ({"method": "ddpm", "perceptual": 0.1}, "ddpm learns by its own loss, not between images"),
        ({"method": "ddpm", "lr_size": 8}, "lr-size does not go with the method ddpm"),
        ({"method": "ddpm", "protocol": "reference"}, "protocol does not go with the method ddpm"),
        ({"method": "ddpm", "task": "sr:4"}, "task does not go with the method ddpm, which restores no images"),
        ({"method": "classifier", "network": {"classes": "a,b"}}, "--network has no classes; there are width"),
        ({"method": "ddpm", "network": {"beta_times_t": "1,2"}}, "--network has no beta_times_t; there are width"),
    ],
)
def test_options_of_another_method_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        TrainOptions(source="shards", target="model", **changes)


@pytest.mark.parametrize(
    ("method", "changes", "complaint"),
    [
        ("edsr", {"size": 50, "lr_size": 20}, "20→50 pixels is no whole scale of at least 2"),
        ("rrdb", {"size": 30, "lr_size": 10}, "rrdb enlarges by 2, 4 or 8, not by 3"),
        ("edsr", {"network": {"blocks": "0"}}, "features and blocks are at least 1, not 64 and 0"),
        ("heat", {"protocol": "realworld"}, "there is no realworld for it"),
        ("sr3", {"network": {"timesteps": "1999"}}, "timesteps 1999 have no divisor from 10 to 50, as ddim needs"),
        ("ddpm", {"lr_size": None, "protocol": None, "network": {"channels": "2"}}, "channels are 1, for grey"),
        ("dtls", {"protocol": "realworld"}, "unknown protocol 'realworld'; known: reference, antialias"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_before_anything_is_written(
    method: str, changes: dict[str, Any], complaint: str, shards: str, tmp_path: Path
) -> None:
    with pytest.raises(SizeError, match=complaint):
        trained(shards, tmp_path / "model", method, **{"network": {}, **changes} if method != "dtls" else changes)
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "name"), [(2, "photo-x4"), (4, "photo-x4"), (4.5, "faces-x8"), (8, "faces-x8")])
def test_without_a_method_the_model_that_fits_the_scale_is_taken_and_named(
    scale: float, name: str, lr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"scale": scale, "device": "cpu"}
    upscale.fn(UpscaleOptions(source=str(lr), target=str(tmp_path / "sr"), **options))
    assert f"with {name}, trained on {BUNDLED[name].subject}" in capsys.readouterr().err
    named = {**options, "checkpoint": name}
    upscale.fn(UpscaleOptions(source=str(lr), target=str(tmp_path / "named"), **named))
    made, same = (pd.read_parquet(tmp_path / where / "manifest.parquet") for where in ("sr", "named"))
    assert list(made.sha256) == list(same.sha256)
    assert len(set(made.checkpoint)) == 1


def test_beyond_the_models_that_come_with_dtls_a_method_has_to_be_named(lr: Path, tmp_path: Path) -> None:
    with pytest.raises(SizeError, match="no model that comes with dtls enlarges by 9, 8 is the most; say --method"):
        upscale.fn(UpscaleOptions(source=str(lr), target=str(tmp_path / "sr"), scale=9))
    assert not (tmp_path / "sr").exists()


@pytest.mark.slow
def test_of_photographs_beyond_the_model_s_scale_the_limit_is_told(
    lr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for scale, also in ((4, "there is also --checkpoint faces-x8 for faces"), (5, "for photographs, ×4 is the most")):
        options = {"scale": scale, "dry_run": True, "device": "cpu"}
        upscale.fn(UpscaleOptions(source=str(lr), target=str(tmp_path / "sr"), **options))
        assert f"trained on {'photographs' if scale == 4 else 'faces'}; {also}\n" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_refused_with_those_that_are(lr: Path, tmp_path: Path) -> None:
    options = {"checkpoint": str(tmp_path / "photo-x5"), "scale": 2, "device": "cpu"}
    told = f"{tmp_path}/photo-x5: no such folder; models that come with dtls are photo-x4 and faces-x8"
    with pytest.raises(CheckpointError, match=told):
        upscale.fn(UpscaleOptions(source=str(lr), target=str(tmp_path / "sr"), **options))


def test_results_of_realworld_images_are_not_projected(lr: Path, tmp_path: Path) -> None:
    downscale.fn(DownscaleOptions(source=str(lr), target=str(tmp_path / "small"), scale=2, protocol="realworld"))
    options = {"scale": 2, "device": "cpu", "any_protocol": True, "project": True}
    with pytest.raises(SamplingError, match="made by realworld, which is not linear: nothing to project on"):
        upscale.fn(UpscaleOptions(source=str(tmp_path / "small"), target=str(tmp_path / "sr"), **options))


def test_a_scale_beyond_the_model_s_is_refused_before_any_work(lr: Path, tmp_path: Path) -> None:
    options = {"checkpoint": "photo-x4", "scale": 6, "device": "cpu"}
    with pytest.raises(SizeError, match="upscales by at most ×4, not ×6"):
        upscale.fn(UpscaleOptions(source=str(lr), target=str(tmp_path / "sr"), **options))
    with pytest.raises(CheckpointError, match="bundled:magic: no model that comes with dtls; there are photo-x4, "):
        upscale.fn(UpscaleOptions(source=str(lr), target=str(tmp_path / "sr"), checkpoint="bundled:magic", scale=2))


@pytest.mark.slow
def test_a_folder_goes_before_a_model_of_the_same_name(
    shards: str, lr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(shards, tmp_path / "photo-x4", "edsr")
    monkeypatch.chdir(tmp_path)
    upscale.fn(UpscaleOptions(source=str(lr), target="mine", scale=4, device="cpu", checkpoint="photo-x4"))
    upscale.fn(UpscaleOptions(source=str(lr), target="theirs", scale=4, device="cpu"))
    mine, theirs = (set(pd.read_parquet(f"{where}/manifest.parquet").checkpoint) for where in ("mine", "theirs"))
    assert not mine & theirs
