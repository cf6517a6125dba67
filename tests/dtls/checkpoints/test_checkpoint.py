"""A checkpoint comes back as it went, whole or not at all; what is wrong with one is said in a line."""

import json
import re
import resource
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dtls.checkpoints.checkpoint import (
    CONFIG,
    WEIGHTS,
    load_checkpoint,
    load_hashed,
    save_checkpoint,
    save_tensors,
    write_whole,
)
from dtls.errors import CheckpointError, SizeError
from dtls.models.dtls import DTLS, ModelConfig, steps_between
from dtls.training.presets import PRESETS
from dtls.training.recipe import Recipe
from tests.dtls.weights import have_the_same_weights

SMALL = ModelConfig(dim=8, multipliers=(1, 2), size=16, stride=4, steps=3, protocol="antialias")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A small checkpoint, to be changed at will."""
    torch.manual_seed(0)
    save_checkpoint(DTLS(**asdict(SMALL)), tmp_path / "model")
    return tmp_path / "model"


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))


def refusal(folder: Path) -> str:
    """The one line with which a checkpoint is refused."""
    with pytest.raises(CheckpointError) as refused:
        load_checkpoint(folder)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_checkpoint_comes_back_as_it_went(tmp_path: Path) -> None:
    model = DTLS(**asdict(replace(SMALL, residual=True)))
    torch.nn.init.normal_(model.unet.rgb.weight)
    save_checkpoint(model, tmp_path / "new" / "model")
    loaded = load_checkpoint(tmp_path / "new" / "model", DTLS)
    assert loaded.config == model.config
    assert loaded.degradation == model.degradation
    assert have_the_same_weights(loaded, model)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_a_checkpoint_is_two_files_that_everybody_may_read(saved: Path) -> None:
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in saved.iterdir()} == {
        CONFIG: "0o644",
        WEIGHTS: "0o644",
    }


def test_a_checkpoint_loads_as_any_model_of_the_hub(saved: Path) -> None:
    ours, hub = load_checkpoint(saved, DTLS), DTLS.from_pretrained(saved)
    assert hub.config == ours.config
    assert have_the_same_weights(hub, ours)


def test_what_the_hub_s_way_saves_is_a_checkpoint(saved: Path, tmp_path: Path) -> None:
    model = load_checkpoint(saved, DTLS)
    model.save_pretrained(tmp_path / "hub")
    loaded = load_checkpoint(tmp_path / "hub", DTLS)
    assert loaded.config == model.config
    assert have_the_same_weights(loaded, model)


def test_the_hash_stands_for_configuration_and_weights(saved: Path) -> None:
    model, first = load_hashed(saved)
    assert have_the_same_weights(load_checkpoint(saved), model)
    assert load_hashed(saved)[1] == first
    change_config(saved, stride=5)
    second = load_hashed(saved)[1]
    tensors = load_file(saved / WEIGHTS)
    tensors["unet.rgb.bias"] += 1e-6
    save_tensors(tensors, saved / WEIGHTS)
    assert len({first, second, load_hashed(saved)[1]}) == 3


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere") == f"{tmp_path}/nowhere: no config.json there, so it is no checkpoint"


@pytest.mark.parametrize("missing", [CONFIG, WEIGHTS])
def test_a_missing_file_is_named(saved: Path, missing: str) -> None:
    (saved / missing).unlink()
    assert refusal(saved).startswith(f"{saved}: no {missing} there")


def test_a_file_instead_of_a_folder_is_refused(saved: Path) -> None:
    assert refusal(saved / WEIGHTS).startswith(str(saved / WEIGHTS))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"3", b'"x"', b"{}", b"\xff\xfe", b'{"multipliers": 1}']
)
def test_a_broken_configuration_is_refused(saved: Path, content: bytes) -> None:
    (saved / CONFIG).write_bytes(content)
    assert refusal(saved).startswith(f"{saved / CONFIG}: not the configuration of a model")


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 15},
        {"size": "16"},
        {"size": 16.5},
        {"steps": 4},
        {"stride": 0},
        {"dim": 7},
        {"dim": 8.0},
        {"multipliers": [2, 4]},
        {"multipliers": []},
        {"multipliers": ["1", "2"]},
        {"protocol": "lanczos"},
        {"protocol": None},
        {"predicts": "noise"},
        {"extra": 1},
    ],
)
def test_a_configuration_that_makes_no_model_is_refused(saved: Path, changes: dict[str, Any]) -> None:
    change_config(saved, **changes)
    assert refusal(saved).startswith(f"{saved / CONFIG}: not the configuration of a model")


def test_a_configuration_that_is_too_long_for_one_is_refused_unread(saved: Path) -> None:
    with (saved / CONFIG).open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(CheckpointError, match=r"config\.json: 1,099,511,627,776 bytes, and a configuration has "):
        load_checkpoint(saved)


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_cut_weights_are_refused(saved: Path, kept: int) -> None:
    (saved / WEIGHTS).write_bytes((saved / WEIGHTS).read_bytes()[:kept])
    assert refusal(saved).startswith(f"{saved / WEIGHTS}: not a readable safetensors file")


def test_weights_that_are_something_else_are_refused(saved: Path) -> None:
    torch.save({"unet": torch.zeros(3)}, saved / WEIGHTS)
    assert refusal(saved).startswith(f"{saved / WEIGHTS}: not a readable safetensors file")


def test_weights_of_other_widths_are_refused(saved: Path) -> None:
    change_config(saved, dim=16)
    assert re.fullmatch(
        rf"{re.escape(str(saved / WEIGHTS))}: does not fit its config: unet\.\S+ should be \(.*\), is \(.*\)",
        refusal(saved),
    )


def test_a_tensor_too_many_and_one_too_few_are_refused(saved: Path) -> None:
    tensors = load_file(saved / WEIGHTS)
    save_file(tensors | {"surprise": torch.zeros(2)}, saved / WEIGHTS)
    assert refusal(saved).endswith("does not fit its config: surprise should be nothing, is (2,)")
    del tensors["unet.rgb.bias"]
    save_file(tensors, saved / WEIGHTS)
    assert refusal(saved).endswith("does not fit its config: unet.rgb.bias should be (3,), is nothing")


def test_a_write_that_breaks_off_half_way_leaves_the_old_file_and_nothing_else(saved: Path) -> None:
    old = {path: path.read_bytes() for path in saved.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))  # as if the disk were full then
    try:
        with pytest.raises(OSError, match="File too large"):
            write_whole(saved / CONFIG, bytes(2_000_000))
        with pytest.raises(OSError, match=r"model\.safetensors.*File too large"):
            save_tensors({"x": torch.zeros(500_000)}, saved / WEIGHTS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path: path.read_bytes() for path in saved.iterdir()} == old


def test_a_place_that_is_taken_keeps_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        write_whole(tmp_path / "taken", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_presets_are_the_models_and_recipes_of_the_paper_and_an_improved_one() -> None:
    models = {name: preset.model for name, preset in PRESETS.items()}
    assert {name: (c.lr_size, c.size, c.stride, c.steps) for name, c in models.items()} == {
        "16-128": (16, 128, 4, 28),
        "32-512": (32, 512, 16, 30),
        "16-128-plus": (16, 128, 4, 28),
    }
    assert all(config.validate() is config for config in models.values())
    for name, steps, batch_size in (("16-128", 50_000, 32), ("32-512", 374_000, 4)):
        assert (models[name].residual, models[name].predicts) == (False, "x0")
        assert (PRESETS[name].recipe, PRESETS[name].batch_size) == (Recipe(steps=steps), batch_size)


def test_a_model_predicts_the_image_or_the_previous_step(saved: Path) -> None:
    assert load_checkpoint(saved).config.predicts == "x0"
    change_config(saved, predicts="previous")
    assert load_checkpoint(saved).config.predicts == "previous"
    without = {k: v for k, v in json.loads((saved / CONFIG).read_text()).items() if k != "predicts"}
    (saved / CONFIG).write_text(json.dumps(without))  # as models were saved before there was a choice
    assert load_checkpoint(saved).config.predicts == "x0"


def test_steps_lead_from_lr_to_hr_or_are_refused() -> None:
    assert [steps_between(16, 128, 4), steps_between(32, 512, 16), steps_between(8, 32, 4)] == [28, 30, 6]
    for low, size, stride in ((16, 128, 5), (128, 128, 4), (128, 16, 4)):
        with pytest.raises(SizeError, match=f"{low}→{size} pixels is no whole number of strides of {stride}"):
            steps_between(low, size, stride)


@pytest.mark.parametrize(
    "config",
    [
        {"method": "rrdb", "size": 32, "lr_size": 0},
        {"method": "resshift", "kappa": 10**400, "size": 32, "lr_size": 8},
        {"method": "edsr", "features": 10**9, "size": 32, "lr_size": 8},
        {"method": ["edsr"], "size": 32},
        {"method": "edsr", "size": [32]},
        {"method": "edsr", "size": 32, "lr_size": 8, "magic": 1},
    ],
)
def test_a_configuration_of_any_method_that_makes_no_model_is_refused(saved: Path, config: dict[str, object]) -> None:
    (saved / CONFIG).write_text(json.dumps(config))
    assert refusal(saved).startswith(f"{saved / CONFIG}: not the configuration of a model")
