"""Checkpoints of the authors' code are imported whole, and nothing in them is ever executed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dtls.authors_checkpoint import import_checkpoint
from dtls.checkpoints.checkpoint import load_checkpoint
from dtls.errors import CheckpointError, SizeError
from dtls.models.dtls import DTLS, ModelConfig
from dtls.samplers.dtls import two_call
from dtls.training.presets import PRESETS
from tests.dtls.weights import have_the_same_weights


class Intruder:
    """An object whose unpickling makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.fixture
def content(authors_pt: Path) -> dict[str, Any]:
    """What the authors' file holds, to be changed at will."""
    loaded: dict[str, Any] = torch.load(authors_pt, weights_only=True)
    return loaded


def refusal(content: Any, folder: Path, name: str = "SR_8_32_s4.pt", preset: str | None = None) -> str:
    """The one line with which `content`, as a file called `name`, is refused; nothing is left of it."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError) as refused:
        import_checkpoint(path, folder / "out", preset)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)
    assert [p.name for p in folder.iterdir()] == [name]
    return str(refused.value)


def test_the_name_gives_the_sizes_and_the_tensors_the_widths(imported: Path) -> None:
    assert load_checkpoint(imported).config == ModelConfig(dim=8, multipliers=(1, 2, 4), size=32, stride=4, steps=6)


def test_the_returned_model_is_the_one_saved(authors_pt: Path, tmp_path: Path, expected: dict[str, Tensor]) -> None:
    named = tmp_path / "my_8_32_s4_best.pt"
    named.write_bytes(authors_pt.read_bytes())
    model = import_checkpoint(named, tmp_path / "out")
    loaded = load_checkpoint(tmp_path / "out", DTLS)
    assert have_the_same_weights(loaded, model)
    sr = two_call(loaded, loaded.degradation, expected["lr_up"], 6)
    torch.testing.assert_close(sr, expected["sr"], rtol=0, atol=1e-5)


def test_the_averaged_weights_are_taken(content: dict[str, Any], tmp_path: Path, imported: Path) -> None:
    content["model"] = {key: torch.zeros_like(tensor) for key, tensor in content["ema"].items()}
    torch.save(content, tmp_path / "SR_8_32_s4.pt")
    taken = import_checkpoint(tmp_path / "SR_8_32_s4.pt", tmp_path / "out").state_dict()
    assert all(torch.equal(taken[k], v) for k, v in load_checkpoint(imported, DTLS).state_dict().items())


def test_a_preset_of_other_widths_is_refused(content: dict[str, Any], tmp_path: Path) -> None:
    assert refusal(content, tmp_path / "x", preset="16-128").endswith(
        "has dim 8 and multipliers 1,2,4; preset 16-128 has 64 and 1,2,4,8"
    )


def test_an_unknown_preset_is_refused_with_those_there_are(content: dict[str, Any], tmp_path: Path) -> None:
    assert refusal(content, tmp_path / "x", preset="8-32").endswith(
        "no preset 8-32; known: 16-128, 32-512, 16-128-plus"
    )


def test_a_name_without_sizes_and_widths_of_no_preset_are_refused(content: dict[str, Any], tmp_path: Path) -> None:
    assert "name it LR_HR_sSTRIDE, like SR_16_128_s4.pt" in refusal(content, tmp_path / "x", name="model.pt")


@pytest.mark.parametrize("name", ["SR_8_32_s5.pt", "SR_32_8_s4.pt", "SR_8_30_s2.pt", "SR_8_32_s0.pt"])
def test_a_name_with_sizes_that_cannot_be_is_refused(content: dict[str, Any], tmp_path: Path, name: str) -> None:
    refusal(content, tmp_path / "x", name=name)


def test_widths_of_a_preset_give_its_sizes(tmp_path: Path) -> None:
    wide = {f"denoise_fn.downs.{i}.1.ds_conv.bias": torch.zeros(64 * m) for i, m in enumerate((1, 2, 4, 8))}
    message = refusal({"step": 1, "model": wide, "ema": wide}, tmp_path / "x", name="model.pt")
    assert "does not fit its config: unet.time.hidden.weight should be (256, 64), is nothing" in message
    assert PRESETS["16-128"].model.multipliers == (1, 2, 4, 8)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"This is no checkpoint.\n",
        b"PK\x03\x04 nor is this",
        [1, 2, 3],
        {"step": 1},
        {"step": 1, "ema": 3},
        {"step": 1, "ema": {}},
        {"step": 1, "ema": {"unet.weight": torch.zeros(2)}},
        {"step": 1, "ema": {"denoise_fn.weight": torch.zeros(2)}},
        {"step": 1, "ema": {3: torch.zeros(2)}},
        {"step": 1, "ema": {"denoise_fn.downs.0.1.ds_conv.bias": 7}},
        {"step": 1, "ema": {"denoise_fn.downs.0.1.ds_conv.bias": torch.zeros(0)}},
        {"step": 1, "ema": {"denoise_fn.downs.0.1.ds_conv.bias": torch.tensor(1.0)}},
        {"step": 1, "ema": {"denoise_fn.downs.0.1.ds_conv.bias": torch.zeros(3)}},
    ],
)
def test_what_is_no_checkpoint_of_the_authors_is_refused(content: object, tmp_path: Path) -> None:
    refusal(content, tmp_path / "x")


def test_a_cut_file_is_refused(authors_pt: Path, tmp_path: Path) -> None:
    refusal(authors_pt.read_bytes()[:-1000], tmp_path / "a")
    refusal(authors_pt.read_bytes()[:1000], tmp_path / "b")


def test_a_missing_tensor_is_named_and_nothing_saved(content: dict[str, Any], tmp_path: Path) -> None:
    del content["ema"]["denoise_fn.mid_attn.fn.norm.g"]
    assert "unet.middle_attention.norm.weight should be (32,), is nothing" in refusal(content, tmp_path / "x")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pt: no such file"):
        import_checkpoint(tmp_path / "nowhere.pt", tmp_path / "out")


@pytest.mark.parametrize("legacy", [False, True])
def test_an_intruder_is_refused_and_not_executed(legacy: bool, tmp_path: Path) -> None:
    intruder, proof = tmp_path / "SR_8_32_s4.pt", tmp_path / "executed"
    torch.save({"step": 1, "ema": Intruder(proof)}, intruder, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="not a PyTorch checkpoint that can be read safely"):
        import_checkpoint(intruder, tmp_path / "out")
    assert not proof.exists()
    torch.load(intruder, weights_only=False)  # it was a real one
    assert proof.exists()


def test_sizes_that_do_not_fit_the_levels_are_refused_by_their_own_name() -> None:
    with pytest.raises(SizeError, match="size 30 is no multiple of 4"):
        ModelConfig(dim=8, multipliers=(1, 2, 4), size=30, stride=2, steps=11).validate()
