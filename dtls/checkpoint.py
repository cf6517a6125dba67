"""A DTLS model and its folder: `config.json` and `model.safetensors`, the Hugging Face convention.

`DTLS.from_pretrained(folder)` and `push_to_hub` work as with any model there. Nothing is unpickled.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from huggingface_hub import PyTorchModelHubMixin
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from dtls.degradation import Degradation, Protocol, SizeError
from dtls.unet import UNet

CONFIG, WEIGHTS = "config.json", "model.safetensors"

Prediction = Literal["x0", "previous"]


class CheckpointError(ValueError):
    """A checkpoint that is missing, broken, or of another shape than it should be."""


@dataclass(frozen=True)
class ModelConfig:
    """All that makes a model: the network's widths and the degradation it undoes.

    patch: side in pixels of what the network sees as one. size, stride and steps are S, the stride in pixels and T of
    the degradation. predicts: what the network learned to give at t, x_0 as in the paper, or the previous step
    x_{t−1} = D(x_0, t − 1) of its ablation (DTLS B2).
    """

    dim: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    residual: bool = False
    patch: int = 1
    predicts: Prediction = "x0"
    size: int = 128
    stride: int = 4
    steps: int = 28
    protocol: Protocol = "reference"

    @property
    def lr_size(self) -> int:
        """The side in pixels of the smallest LR picture, S − T·stride."""
        return self.size - self.steps * self.stride

    def validate(self) -> Self:
        """Return self, or raise SizeError where the parts do not fit."""
        if type(self.dim) is not int or self.dim < 4 or self.dim % 2:
            raise SizeError(f"dim must be even and at least 4, not {self.dim!r}")
        if any(type(m) is not int or m < 1 for m in self.multipliers) or self.multipliers[:1] != (1,):
            raise SizeError(f"dim_mults must be whole numbers and start with 1, not {self.multipliers!r}")
        if self.predicts not in get_args(Prediction):
            raise SizeError(f"predicts is {' or '.join(get_args(Prediction))}, not {self.predicts!r}")
        if type(self.patch) is not int or self.patch < 1:
            raise SizeError(f"patch must be at least 1, not {self.patch!r}")
        multiple = self.patch * 2 ** (len(self.multipliers) - 1)
        if self.size % multiple:
            patches = f" of patches of {self.patch}" if self.patch > 1 else ""
            raise SizeError(
                f"size {self.size} is no multiple of {multiple}, as {len(self.multipliers)} levels "
                f"({','.join(map(str, self.multipliers))}){patches} need"
            )
        Degradation(self.size, self.stride, self.steps, self.protocol)
        return self


def steps_between(lr_size: int, size: int, stride: int) -> int:
    """T of a model from `lr_size` to `size` pixels; SizeError where no whole number of strides leads there."""
    steps, rest = divmod(size - lr_size, stride) if stride > 0 else (0, 0)
    if rest or steps < 1:
        raise SizeError(f"{lr_size}→{size} pixels is no whole number of strides of {stride}")
    return steps


class DTLS(nn.Module, PyTorchModelHubMixin, library_name="dtls", tags=["super-resolution"]):
    """The U-Net and the degradation it was trained to undo; called like the U-Net."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        config.pop("config", None)  # the mixin hands over the whole file once more under this name
        config["multipliers"] = tuple(config.get("multipliers", ModelConfig.multipliers))
        self.config = ModelConfig(**config).validate()
        self.unet = UNet(
            self.config.dim, self.config.multipliers, residual=self.config.residual, patch=self.config.patch
        )
        self.degradation = Degradation(self.config.size, self.config.stride, self.config.steps, self.config.protocol)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """U(x, t): pictures (N, 3, H, W) in [0, 1] and timesteps (N,) → (N, 3, H, W)."""
        prediction: Tensor = self.unet(x, t)
        return prediction


def save_checkpoint(model: DTLS, folder: Path) -> None:
    """Write `config.json` and `model.safetensors`; each file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / CONFIG, config_json(model.config))
    save_tensors(dict(model.state_dict()), folder / WEIGHTS)


def config_json(config: ModelConfig) -> bytes:
    """What `config.json` holds."""
    return (json.dumps(asdict(config), indent=2) + "\n").encode()


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file that appears whole or not at all; OSError where it cannot be written."""
    with _renamed(path) as temporary:
        try:
            save_file(
                {k: v.contiguous() for k, v in tensors.items()}, temporary, metadata=metadata or {"format": "pt"}
            )
        except SafetensorError as error:  # a full disk, too
            raise OSError(f"{path}: {error}") from error
        temporary.chmod(0o644)  # safetensors makes files that only their owner can read


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all."""
    with _renamed(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def _renamed(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the body succeeds and vanishes when it fails."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(folder: Path, device: str | torch.device = "cpu") -> DTLS:
    """The model in `folder`, ready for inference; CheckpointError says what is wrong with it."""
    return load_hashed(folder, device)[0]


def load_hashed(folder: Path, device: str | torch.device = "cpu") -> tuple[DTLS, str]:
    """The model in `folder`, and the sha256 of the very bytes it was made of: what its results depend on."""
    config, weights = (_read(folder, name) for name in (CONFIG, WEIGHTS))
    model = DTLS(**_parsed(config, folder / CONFIG))
    try:
        tensors = load(weights)
    except SafetensorError as error:
        raise CheckpointError(f"{folder / WEIGHTS}: not a readable safetensors file ({error})") from error
    load_weights(model, tensors, str(folder / WEIGHTS))
    if bad := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise CheckpointError(f"{folder / WEIGHTS}: {bad[0]} holds values that are no numbers")
    digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in (config, weights))).hexdigest()
    return model.to(device).eval().requires_grad_(False), digest


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


def _parsed(content: bytes, path: Path) -> dict[str, Any]:
    try:
        config = json.loads(content)
        config.pop("config", None)  # the mixin hands over the whole file once more under this name
        config["multipliers"] = tuple(config["multipliers"])
        ModelConfig(**config).validate()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}: not the configuration of a DTLS model ({error})") from error
    return dict(config)
