"""Files of weights that spandrel knows: read, checked, and built into a model. Nothing is unpickled but tensors."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from dtls.checkpoints.bounds import counted, load_pickled
from dtls.checkpoints.torchscript import is_torchscript, weights_of_torchscript
from dtls.compat import allow_torchvision_import
from dtls.errors import CheckpointError

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
for library in (r"spandrel\.", r"timm\.", r"torch\.functional"):
    warnings.filterwarnings("ignore", module=library)  # of what its architectures still call


def read(path: Path) -> bytes:
    """The bytes of a file of weights; CheckpointError for a file of another kind, or one that is not readable."""
    if path.suffix.lower() not in SUFFIXES:
        raise CheckpointError(f"{path}: a model for spandrel is a file that ends in {', '.join(SUFFIXES)}")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error


def _tensors(content: bytes, path: Path) -> dict[str, Any]:
    """What the file holds; CheckpointError for one that wants more than tensors unpickled."""
    if path.suffix.lower() == ".safetensors":
        try:
            return load_safetensors(content)
        except SafetensorError as error:
            raise CheckpointError(f"{path}: not a readable safetensors file ({_line(error)})") from error
    try:
        loaded = weights_of_torchscript(content) if is_torchscript(content) else load_pickled(content)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds more than weights, or is broken, and is not unpickled; convert it to .safetensors"
        ) from error
    except Exception as error:  # torch.load raises whatever its many formats raise
        raise CheckpointError(f"{path}: not a PyTorch checkpoint that can be read ({_line(error)})") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path}: holds no weights by name")
    return loaded


def build(content: bytes, path: Path) -> tuple[Any, bool]:
    """spandrel's descriptor of the model whose weights these are, and whether it fills holes that a mask names.

    path: of the file, for messages. CheckpointError for weights that no method here can use.
    """
    tensors = _tensors(content, path)
    allow_torchvision_import()
    from spandrel import ModelLoader, UnsupportedModelError  # takes seconds

    try:
        with counted(tensors):
            model = ModelLoader("cpu").load_from_state_dict(tensors)
    except UnsupportedModelError as error:
        raise CheckpointError(f"{path}: not a model that spandrel knows") from error
    except Exception as error:  # its architectures raise whatever comes of weights that do not fit
        raise CheckpointError(f"{path}: its weights do not make a model ({_line(error)})") from error
    what = model.architecture.id
    if model.purpose == "FaceSR":
        raise CheckpointError(
            f"{path}: a {what} model for cut-out, aligned faces alone, which no command here takes; "
            "take a model for any image"
        )
    channels = (model.input_channels, model.output_channels)
    if channels != (3, 3) and (channels != (1, 1) or model.purpose == "Inpainting"):
        raise CheckpointError(f"{path}: a {what} model from {channels[0]} channels to {channels[1]}, not of 1 or 3")
    state: dict[str, Tensor] = model.model.state_dict()
    if bad := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
        raise CheckpointError(f"{path}: {bad[0]} holds values that are no numbers")
    return model, model.purpose == "Inpainting"


def gets_noise_level(model: Any) -> bool:
    """Whether the network is given the level of the noise to remove, as one more channel."""
    return model.architecture.id == "DRUNet" or "FDnCNN" in model.tags


def with_noise_level(model: Any, level: float) -> Any:
    """The descriptor of such a network that gives it this deviation, on the scale of [0, 1]; spandrel's is 15/255."""
    from spandrel import ImageModelDescriptor

    return ImageModelDescriptor(
        model.model,
        model.model.state_dict(),
        architecture=model.architecture,
        purpose=model.purpose,
        tags=model.tags,
        supports_half=model.supports_half,
        supports_bfloat16=model.supports_bfloat16,
        scale=model.scale,
        input_channels=model.input_channels,
        output_channels=model.output_channels,
        size_requirements=model.size_requirements,
        tiling=model.tiling,
        call_fn=lambda network, x: network(torch.cat((x, torch.full_like(x[:, :1], level)), 1)),
    )


def _line(error: Exception) -> str:
    """The first line of an error; its kind where it says nothing."""
    return str(error).partition("\n")[0].rstrip(": ") or type(error).__name__
