"""A model and its folder: `config.json` and `model.safetensors`, the Hugging Face convention. Nothing is unpickled.

config.json holds the name of the model's class, `method`, and its configuration; without a name it is `dtls`.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from dtls.checkpoints.bounds import no_larger_than
from dtls.errors import CheckpointError
from dtls.models.base import Model
from dtls.registry import model_class

M = TypeVar("M", bound=Model)
CONFIG, WEIGHTS = "config.json", "model.safetensors"
MAX_CONFIG = 2**20
"""Bytes of a configuration."""


def nobody() -> None:
    """Asked where anybody may write."""


def save_checkpoint(model: Model, folder: Path, ask: Callable[[], None] = nobody, *, sync: bool = True) -> None:
    """Write `config.json` and `model.safetensors`; each file appears whole or not at all.

    ask: is called just before each file appears, and raises where it may not. sync: each is on the disk by then, so
    that it is whole even when the machine goes down.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / CONFIG, config_json(model.name, model.config), ask, sync=sync)
    save_tensors(dict(model.state_dict()), folder / WEIGHTS, ask=ask, sync=sync)


def config_json(name: str, config: Any) -> bytes:
    """What `config.json` holds for a model's name and configuration."""
    return (json.dumps(described(name, config), indent=2) + "\n").encode()


def described(name: str, config: Any) -> dict[str, Any]:
    """A model's name and configuration, for `make_model`; choices that are None are left out, as if there were none.

    So a configuration that has learned another choice describes the models without it as it always has.
    """
    return {"method": name, **{key: value for key, value in asdict(config).items() if value is not None}}


def save_tensors(
    tensors: dict[str, Tensor],
    path: Path,
    metadata: dict[str, str] | None = None,
    ask: Callable[[], None] = nobody,
    *,
    sync: bool = True,
) -> None:
    """Write a safetensors file that appears whole or not at all; OSError where it cannot be written."""
    with _renamed(path, ask, sync) as temporary:
        try:
            save_file(
                {k: v.contiguous() for k, v in tensors.items()}, temporary, metadata=metadata or {"format": "pt"}
            )
        except SafetensorError as error:  # a full disk, too
            raise OSError(f"{path}: {error}") from error
        temporary.chmod(0o644)  # safetensors makes files that only their owner can read


def write_whole(path: Path, data: bytes, ask: Callable[[], None] = nobody, *, sync: bool = True) -> None:
    """Write a file that appears whole or not at all."""
    with _renamed(path, ask, sync) as temporary:
        temporary.write_bytes(data)


@contextmanager
def _renamed(path: Path, ask: Callable[[], None], sync: bool) -> Iterator[Path]:
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        if sync:
            _bring_to_disk(temporary)
        ask()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if sync:
        with suppress(OSError):  # file systems that cannot bring a folder to the disk
            _bring_to_disk(path.parent)


def _bring_to_disk(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def load_checkpoint(folder: Path, kind: type[M] = Model) -> M:  # type: ignore[assignment]
    """The model in `folder`, ready for inference; CheckpointError says what is wrong with it."""
    model = load_hashed(folder)[0]
    if not isinstance(model, kind):
        raise CheckpointError(f"{folder}: a model of the method {model.name}, not {kind.name}")
    return model


def kind_of(folder: Path) -> type[Model]:
    """The class of the model in `folder`, by its configuration alone; CheckpointError where there is none."""
    content = _config(folder)
    try:
        return model_class({"method": "dtls", **json.loads(content)}["method"])
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder / CONFIG}: not the configuration of a model ({error})") from error


def load_hashed(folder: Path, device: str | torch.device = "cpu") -> tuple[Model, str]:
    """The model in `folder`, and the sha256 of the very bytes it was made of: what its results depend on."""
    config, weights = _config(folder), _read(folder, WEIGHTS)
    try:
        tensors = load(weights)
    except SafetensorError as error:
        raise CheckpointError(f"{folder / WEIGHTS}: not a readable safetensors file ({error})") from error
    model = _made(config, folder / CONFIG, tensors)
    load_weights(model, tensors, str(folder / WEIGHTS))
    if bad := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise CheckpointError(f"{folder / WEIGHTS}: {bad[0]} holds values that are no numbers")
    digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in (config, weights))).hexdigest()
    return model.to(device).eval().requires_grad_(False), digest


def _config(folder: Path) -> bytes:
    """The bytes of a configuration; CheckpointError for more than one has."""
    if (size := _size(folder / CONFIG)) > MAX_CONFIG:
        raise CheckpointError(f"{folder / CONFIG}: {size:,} bytes, and a configuration has {MAX_CONFIG:,} at most")
    return _read(folder, CONFIG)


def _size(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:  # which reading it tells
        return 0


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(f"{folder}: no {name} there, so it is no checkpoint") from error
    except OSError as error:
        raise CheckpointError(f"{folder / name}: {error}") from error


def load_weights(model: nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    """Fill `model` with exactly `tensors`; CheckpointError names the first that does not fit."""
    expected = model.state_dict()
    for key in [*expected, *tensors]:
        have, want = tensors.get(key), expected.get(key)
        if have is None or want is None or have.shape != want.shape:
            shapes = [tuple(t.shape) if t is not None else "nothing" for t in (want, have)]
            raise CheckpointError(f"{name}: does not fit its config: {key} should be {shapes[0]}, is {shapes[1]}")
    model.load_state_dict(tensors)


def _made(content: bytes, path: Path, tensors: Mapping[str, Tensor]) -> Model:
    """The model, not yet with its weights `tensors`, that config.json describes."""
    try:
        config = json.loads(content)
        config.pop("config", None)  # the hub's way of saving hands over the whole file once more under this name
        _ = config["size"]  # every model's has one
        with no_larger_than(tensors):
            make_model(config)
        return make_model(config)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, MemoryError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: not the configuration of a model ({reason})") from error


def make_model(config: Mapping[str, Any]) -> Model:
    """A new model, by what config.json has; ValueError where something does not fit."""
    config = {"method": "dtls", **config}
    name = config.pop("method")
    model = model_class(name)(**config)
    model.name = name
    return model
