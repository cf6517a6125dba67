"""A foreign file of weights makes nobody allocate what it does not have itself."""

import io
import json
import zipfile
from pathlib import Path

import pytest
import torch

from dtls.authors_checkpoint import import_checkpoint
from dtls.checkpoints.bounds import SLACK_BYTES, TooLargeError, load_pickled, no_larger_than
from dtls.checkpoints.checkpoint import CONFIG, MAX_CONFIG, kind_of, load_checkpoint, make_model, save_checkpoint
from dtls.errors import CheckpointError
from dtls.inference.spandrel import SpandrelModel
from dtls.models.base import MAX_TIMESTEPS
from dtls.registry import CLASSIFIERS, GENERATORS

SMALL = {"method": "edsr", "size": 32, "lr_size": 8, "features": 4, "blocks": 1}


@pytest.mark.parametrize(
    "absurd",
    [
        {"blocks": 10**7},
        {"features": 2**16},
        {"method": "sr3", "width": 2**20},
        {"method": "sr3", "timesteps": 10**10},
        {"method": "resshift", "timesteps": 10**10},
        {"method": "heat", "timesteps": 10**10},
        {"method": "ddpm", "timesteps": 10**10},
        {"method": "lr-flow", "width": 2**20},
        {"method": "lr-flow", "blocks": 10**7},
        {"method": "dcgan", "numbers": 2**30},
        {"method": "vqvae-gen", "codebook": 2**34},
        {"method": "classifier", "classes": ["a", "b"], "width": 2**20},
        {"method": "dtls", "dim": 2**16, "stride": 4, "steps": 6},
    ],
)
def test_a_configuration_far_larger_than_its_weights_is_refused_before_it_is_made(
    tmp_path: Path, absurd: dict[str, object]
) -> None:
    save_checkpoint(make_model(SMALL), tmp_path)
    kept = SMALL if "method" not in absurd else {"size": 32, "lr_size": 8}
    if absurd.get("method") in {**GENERATORS, **CLASSIFIERS}:
        kept = {"size": 16}
    if absurd.get("method") == "dtls":
        kept = {"size": 32}
    (tmp_path / CONFIG).write_text(json.dumps(kept | absurd))
    refused = r"\((describes a larger model than its weights are of|10,000,000,000 timesteps are more than 100,000)"
    with pytest.raises(CheckpointError, match=rf"config\.json: not the configuration of a model {refused}"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [b"[" * 10**5, b"{}" + b" " * MAX_CONFIG], ids=["deep", "long"])
def test_the_kind_of_a_model_is_not_read_of_an_absurd_configuration(content: bytes, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{CONFIG}: .*configuration"):
        kind_of(tmp_path)


def test_what_is_made_afterwards_is_not_counted() -> None:
    with pytest.raises(TooLargeError), no_larger_than({}):
        torch.nn.Linear(4096, 4096)
    assert sum(p.numel() for p in torch.nn.Linear(4096, 4096).parameters()) > 10**7


def packed(content: bytes) -> bytes:
    """A PyTorch checkpoint with its parts deflated."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    return buffer.getvalue()


def saved(tensors: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


BOMBS = {
    "deflated": packed(saved({"x": torch.zeros(2**21)})),
    "one number, expanded": saved({"x": torch.zeros(1).expand(2**40)}),
    "one tensor under many names": saved({"params": dict.fromkeys(map(str, range(99)), torch.zeros(2**16))}),
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_a_checkpoint_that_would_grow_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(TooLargeError, match="far more than the file has"):
        load_pickled(content)
    (tmp_path / "bomb.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"bomb\.pth: .*would take [\d,]+ bytes of memory"):
        SpandrelModel(tmp_path / "bomb.pth")
    with pytest.raises(CheckpointError, match=r"bomb\.pth: would take [\d,]+ bytes of memory"):
        import_checkpoint(tmp_path / "bomb.pth", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_checkpoint_of_ordinary_tensors_is_read() -> None:
    tensors = {"x": torch.rand(SLACK_BYTES), "y": torch.rand(3, 3).t()}
    loaded = load_pickled(saved(tensors))
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_dictionaries_in_each_other_are_counted_once_each() -> None:
    nested: dict[str, object] = {"weight": torch.zeros(4)}
    for _ in range(60):
        nested = {"a": nested, "b": nested}
    assert load_pickled(saved(nested)).keys() == {"a", "b"}


def test_the_documents_timesteps_are_allowed() -> None:
    assert MAX_TIMESTEPS >= 2000
