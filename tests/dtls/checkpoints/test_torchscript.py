"""Of TorchScript files the weights are read, as torch itself has them, and nothing is run."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dtls.checkpoints import torchscript
from dtls.checkpoints.bounds import TooLargeError
from dtls.checkpoints.torchscript import is_torchscript, weights_of_torchscript


class Tree(nn.Module):
    """Modules within modules, with tensors of several types, a transposed one and what is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 3, 1)))
        self.register_buffer("short", torch.arange(3).half())
        self.register_buffer("turned", torch.arange(12.0).reshape(3, 4).t())
        self.register_buffer("none", torch.zeros(0))
        self.sizes = [1, 2, 3]

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.generator(x)
        return made * self.sizes[0]


def script(network: nn.Module) -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(network), file)
    return file.getvalue()


def changed(content: bytes, **members: bytes) -> bytes:
    """The same file with other contents of these members, by their last names."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as after:
        for name in before.namelist():
            after.writestr(
                name, members.get(Path(name).stem if name.endswith("data.pkl") else name, before.read(name))
            )
    return file.getvalue()


def test_weights_are_those_that_torch_has() -> None:
    network = Tree()
    content = script(network)
    assert is_torchscript(content)
    weights, wanted = weights_of_torchscript(content), network.state_dict()
    assert weights.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert weights[name].dtype == tensor.dtype
        assert torch.equal(weights[name], tensor)


def test_other_files_are_no_programs() -> None:
    file = io.BytesIO()
    torch.save(Tree().state_dict(), file)
    assert not is_torchscript(file.getvalue())
    assert not is_torchscript(b"PK")


class Hostile:
    def __init__(self, left: Path) -> None:
        self.left = left

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.left),)


@pytest.mark.parametrize("protocol", [2, 5])
def test_what_would_be_called_is_refused_and_does_not_run(protocol: int, tmp_path: Path) -> None:
    content = changed(script(Tree()), data=pickle.dumps(Hostile(tmp_path / "left"), protocol))
    with pytest.raises(pickle.UnpicklingError, match=r"names posix\.mkdir, which is neither a module nor a tensor"):
        weights_of_torchscript(content)
    assert not (tmp_path / "left").exists()


@pytest.mark.parametrize("root", [None, [1], {"a": 1}])
def test_a_file_without_modules_is_refused(root: object) -> None:
    with pytest.raises(pickle.UnpicklingError, match="no module at its root"):
        weights_of_torchscript(changed(script(Tree()), data=pickle.dumps(root, 2)))


STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01t"
"""The first storage, before `persistent_load` is asked for it."""


def pickled(size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """A module with one tensor of the first storage, as TorchScript writes it."""

    def number(n: int) -> bytes:
        return b"J" + n.to_bytes(4, "little", signed=True)

    def numbers(many: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, many)) + b"t"

    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"Q" + number(offset) + numbers(size) + numbers(stride)
    )
    made = tensor + b"\x89ccollections\nOrderedDict\n)RtR"
    return b"\x80\x02c__torch__\nTree\n)\x81}X\x06\0\0\0weight" + made + b"sb."


def test_tensors_beyond_their_storage_or_the_file_are_refused() -> None:
    content = script(nn.Conv2d(1, 1, 1))
    first = changed(content, data=pickled((1,), (1,)))
    assert weights_of_torchscript(first)["weight"].shape == (1,)
    for size, stride, offset in [((2,), (1,), 0), ((1,), (1,), 1), ((1,), (1,), -1), ((-1,), (1,), 0)]:
        with pytest.raises(RuntimeError, match=r"torage|negative"):
            weights_of_torchscript(changed(content, data=pickled(size, stride, offset)))
    with pytest.raises(TooLargeError, match=r"would take 4,000,000,000 bytes of memory, far more than the file has"):
        weights_of_torchscript(changed(content, data=pickled((10**9,), (0,))))


def test_a_file_that_unpacks_to_far_more_is_refused() -> None:
    bomb = changed(script(nn.Conv2d(1, 1, 1)), data=b"\0" * 10**7)
    assert len(bomb) < 10**6
    with pytest.raises(TooLargeError, match="far more than the file has"):
        weights_of_torchscript(bomb)


def test_a_storage_that_is_named_often_is_there_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would fill the memory: a name takes three bytes of the file."""
    asked: list[str] = []
    read = zipfile.ZipFile.read

    def counted(archive: zipfile.ZipFile, name: str) -> bytes:
        asked.append(name)
        return read(archive, name)

    monkeypatch.setattr(zipfile.ZipFile, "read", counted)
    tree = b"\x80\x02(" + STORAGE + b"q\0Q" + b"h\0Q" * 99 + b"l."
    content = changed(script(nn.Conv2d(1, 1, 1)), data=tree)
    asked.clear()
    with pytest.raises(pickle.UnpicklingError, match="no module at its root"):
        weights_of_torchscript(content)
    assert len([name for name in asked if name.endswith("/data/0")]) == 1


@pytest.mark.parametrize("tree", [b"\x80\x02K\x01r\0\0\0\x01.", b"K\x01p16777216\n."])
def test_a_tree_that_keeps_things_far_away_is_refused(tree: bytes) -> None:
    """Pickle's memo has all places up to the last one: five bytes of a file would make it take 34 GB."""
    with pytest.raises(TooLargeError, match="keeps what it names at the place 16,777,216, far more than it has"):
        weights_of_torchscript(changed(script(nn.Conv2d(1, 1, 1)), data=tree))


def test_names_and_trees_far_longer_than_those_of_models_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each module adds to the names of all below it: a chain of n has names of n² characters."""
    monkeypatch.setattr(torchscript, "MAX_NAMES", 1000)
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"QK\0K\x01\x85K\x01\x85tR"
    record = b"h\x06)\x81}"
    chain = record + b"(X\x01\0\0\0th\x05X\x01\0\0\0a"
    for depth, is_refused in ((10, False), (100, True)):
        tree = (
            b"\x80\x02"
            + tensor
            + b"q\x050c__torch__\nM\nq\x060"
            + chain * depth
            + record
            + b"b"
            + b"ub" * depth
            + b"."
        )
        content = changed(script(nn.Conv2d(1, 1, 1)), data=tree)
        if not is_refused:
            assert len(weights_of_torchscript(content)) == depth
            continue
        with pytest.raises(TooLargeError, match="names far longer than a model needs"):
            weights_of_torchscript(content)
    monkeypatch.setattr(torchscript, "MAX_TREE", 100)
    with pytest.raises(TooLargeError, match=r"names its modules in [0-9,]+ bytes, far more than a model needs"):
        weights_of_torchscript(content)
