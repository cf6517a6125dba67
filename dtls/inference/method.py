"""Methods: what turns LR images into SR images. `load_method` finds one by name.

A method is called with a batch of LR images (N, C, h, w), float32 in [0, 1], C = 1 (grey) or 3 (RGB), and the size
(H, W) wanted, and returns (N, C, H, W) in [0, 1]; SizeError where it cannot reach that size. `identity` is what its
results depend on. What is named here is imported when it is asked for: some of it takes seconds.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from dtls.inference.trained import Sampling
    from dtls.models.base import Model

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
MODELS: Mapping[str, str] = {
    "dtls": "dtls.models.dtls:DTLS",
    "cold": "dtls.models.dtls:Cold",
    "srcnn": "dtls.models.srcnn:SRCNN",
    "fsrcnn": "dtls.models.fsrcnn:FSRCNN",
    "edsr": "dtls.models.edsr:EDSR",
    "rrdb": "dtls.models.rrdb:RRDB",
    "sr3": "dtls.models.sr3:SR3",
    "vae-ddpm": "dtls.models.vae_ddpm:VAEDDPM",
    "vqvae-ddpm": "dtls.models.vqvae_ddpm:VQVAEDDPM",
    "resshift": "dtls.models.resshift:ResShift",
    "heat": "dtls.models.heat:Heat",
}
"""What `dtls train` trains, by name: a subclass of `dtls.models.base.Model` each."""
METHODS = (*INTERPOLATIONS, *MODELS, "spandrel")


class Method(Protocol):
    """What every method offers."""

    name: str

    @property
    def identity(self) -> Mapping[str, str]: ...

    def __call__(self, lr: "Tensor", size: tuple[int, int], /) -> "Tensor": ...


def model_class(name: str) -> "type[Model]":
    """The model called `name`; ValueError for one that is not in the registry."""
    if name not in MODELS:
        raise ValueError(f"no model is called {name!r}; there are {', '.join(MODELS)}")
    module, _, cls = MODELS[name].partition(":")
    found: type[Model] = getattr(import_module(module), cls)
    return found


def load_method(
    name: str, checkpoint: Path | None = None, device: str = "cpu", how: "Sampling | None" = None
) -> Method:
    """The method called `name`; a trained one wants its checkpoint's folder, `spandrel` a file of weights.

    ValueError or CheckpointError says what is wrong.
    """
    if name in INTERPOLATIONS:
        from dtls.inference.interpolation import Interpolation

        return Interpolation(name)
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
    if checkpoint is None:
        raise ValueError(f"the method {name} needs a checkpoint")
    from dtls.inference.trained import DEFAULT, Trained

    if name != "spandrel":
        return Trained(checkpoint, device, how or DEFAULT, name)
    from dtls.inference.spandrel import SpandrelModel

    return SpandrelModel(checkpoint, device, how or DEFAULT)
