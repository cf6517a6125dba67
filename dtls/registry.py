"""Methods and models by name. What is named here is imported when it is asked for: some of it takes seconds."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dtls.models.base import Model

INTERPOLATIONS: dict[str, str] = dict.fromkeys(
    ("nearest", "bilinear", "bicubic", "lanczos"), "dtls.inference.interpolation:Interpolation"
)
"""Methods without weights, by name: what makes a `dtls.inference.method.Method` of the name."""
FILLINGS: dict[str, str] = {"membrane": "dtls.inference.membrane:Membrane"}
"""Methods without weights that fill the holes of images, by name: a `dtls.inference.method.Method` each."""
INVERSES: dict[str, str] = {"inverse": "dtls.inference.inverse:Inverse"}
"""Methods without weights that undo a degradation by its equations, by name: what makes a
`dtls.inference.method.Method` of the name and the degradation's spec."""
MODELS: dict[str, str] = {
    "dtls": "dtls.models.dtls:DTLS",
    "cold": "dtls.models.dtls:DTLS",
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
"""Trained models that make images of degraded ones, by name: a subclass of `dtls.models.base.Model` each."""
GENERATORS: dict[str, str] = {
    "lr-flow": "dtls.models.lr_flow:LRFlow",
    "ddpm": "dtls.models.ddpm:DDPM",
    "vae-gen": "dtls.models.vae_gen:VAEGen",
    "vqvae-gen": "dtls.models.vqvae_gen:VQVAEGen",
    "dcgan": "dtls.models.dcgan:DCGAN",
}
"""Trained models that make images of noise, by name: a subclass of `dtls.models.generative.Generative` each."""
CLASSIFIERS: dict[str, str] = {"classifier": "dtls.models.classifier:Classifier"}
"""Trained models that tell the classes of images, by name: a `dtls.models.classifier.Classifier` each."""
PRESET_SAMPLERS: dict[str, str] = {"cold": "cold"}
"""The sampler of a name in `MODELS` where none is asked for; of all others, the model's own choice."""


def methods() -> tuple[str, ...]:
    """The names of all methods."""
    return (*INTERPOLATIONS, *FILLINGS, *INVERSES, *MODELS, "spandrel")


def model_class(name: str) -> "type[Model]":
    """The model called `name`; ValueError for one that is not in the registry."""
    if name not in trained():
        raise ValueError(f"no model is called {name!r}; there are {', '.join(trained())}")
    found: type[Model] = imported(trained()[name])
    return found


def trained() -> dict[str, str]:
    """What `dtls train` trains, by name."""
    return MODELS | GENERATORS | CLASSIFIERS


def imported(path: str) -> Any:
    """What `module:name` leads to."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
