"""What `dtls/benchmark` compares: each method's training and use, as data, and what each is for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dtls.degradations.base import LRProtocol, is_linear
from dtls.degradations.registry import operator_of, spec_of_task
from dtls.registry import model_class

Use = Literal["super-resolution", "restoration", "inpainting", "inversion"]
"""What a method without a model is for: restoration is any task that keeps the size of images, inversion one whose
images hold all that there was."""


@dataclass(frozen=True)
class BenchmarkMethod:
    """A method as it takes part. train: its options of training; None for what needs none. use: of upscaling.

    trained_as: another method whose weights it uses, too. slow: only taken when it is named. of: what it is for,
    where no model says it. is_input: whether it is what other methods are given.
    """

    train: Mapping[str, Any] | None = None
    use: Mapping[str, Any] = field(default_factory=dict)
    trained_as: str | None = None
    slow: bool = False
    of: Use = "super-resolution"
    is_input: bool = False


ON_PATCHES = {"dim": "64", "levels": "2", "patch": "4"}
NETWORK = {"dim": 64, "dim_mults": (1, 2), "patch": 4}
"""All U-Nets but those of `FINE` have some 4 million parameters, on patches of 4×4 pixels, which make them fast."""
FINE = {"dim": 32, "dim_mults": (1,), "patch": 2, "batch_size": 8}
"""For noise and fine detail: with more levels, all that a U-Net sees passes through half of its first resolution. Its
steps are small, so there are many of them."""
PLUS = {"preset": "16-128-plus", **NETWORK}
"""DTLS as this project improved it."""
LATENT = {"levels": "2", "ae_width": "16"}
GAN = {"perceptual": 0.1, "adversarial": 0.005}
SRGAN = {"method": "edsr", **GAN}
"""SRGAN: its network, of residual blocks, as EDSR has it, trained with a perceptual and an adversarial loss."""

BENCHMARK_METHODS: Mapping[str, BenchmarkMethod] = {
    "nearest": BenchmarkMethod(use={"method": "nearest"}),
    "bilinear": BenchmarkMethod(use={"method": "bilinear"}),
    "bicubic": BenchmarkMethod(use={"method": "bicubic"}),
    "input": BenchmarkMethod(of="restoration", is_input=True),
    "membrane": BenchmarkMethod(use={"method": "membrane"}, of="inpainting"),
    "inverse": BenchmarkMethod(use={"method": "inverse"}, of="inversion"),
    "srcnn": BenchmarkMethod({"method": "srcnn"}),
    "fsrcnn": BenchmarkMethod({"method": "fsrcnn"}),
    "edsr": BenchmarkMethod({"method": "edsr"}),
    "srgan": BenchmarkMethod(SRGAN, slow=True),
    "rrdb": BenchmarkMethod({"method": "rrdb", "network": {"blocks": "8"}}),
    "rrdb-gan": BenchmarkMethod({"method": "rrdb", "network": {"blocks": "8"}, **GAN}, slow=True),
    "sr3": BenchmarkMethod({"method": "sr3", "network": {"width": "64", "levels": "2", "patch": "4", "blocks": "2"}}),
    "sr3-2000": BenchmarkMethod(use={"sampler": "ddpm"}, trained_as="sr3", slow=True),
    "vae-ddpm": BenchmarkMethod({"method": "vae-ddpm", "network": LATENT}),
    "vqvae-ddpm": BenchmarkMethod({"method": "vqvae-ddpm", "network": LATENT}),
    "resshift": BenchmarkMethod({"method": "resshift", "network": ON_PATCHES}),
    "resshift-4": BenchmarkMethod(
        {"method": "resshift", "network": {**ON_PATCHES, "timesteps": "4", "first_noise": "0.2"}}
    ),
    "heat": BenchmarkMethod({"method": "heat", "network": ON_PATCHES}),
    "dtls-paper": BenchmarkMethod({"method": "dtls", "preset": "16-128", **NETWORK}),
    "dtls": BenchmarkMethod({"method": "dtls", **PLUS}),
    "dtls-fine": BenchmarkMethod({"method": "dtls", **PLUS, **FINE}, slow=True),
    "dtls-projected": BenchmarkMethod(use={"project": True}, trained_as="dtls"),
    "faces-x8": BenchmarkMethod({"method": "dtls", "preset": "16-128-plus", "start": "faces-x8"}, slow=True),
    "faces-x8-projected": BenchmarkMethod(use={"project": True}, trained_as="faces-x8", slow=True),
    "dtls-lpips": BenchmarkMethod({"method": "dtls", **PLUS, "perceptual": 0.004}),
    "cold": BenchmarkMethod(use={"sampler": "cold"}, trained_as="dtls"),
}


def chosen(names: Sequence[str], task: str | None = None, protocol: LRProtocol = "antialias") -> list[str]:
    """The methods with these names, or all that are for the task and not slow.

    task: one of restoration; None for super-resolution of LR images by the protocol. ValueError for a name that there
    is not, and for a method that is not for the task.
    """
    if unknown := [name for name in names if name not in BENCHMARK_METHODS]:
        raise ValueError(f"there is no {unknown[0]!r}; there are {', '.join(BENCHMARK_METHODS)}")
    fitting = [name for name in BENCHMARK_METHODS if fits(name, task, protocol)]
    if unfit := [name for name in names if name not in fitting]:
        what = f"the task {task}" if task is not None else f"the protocol {protocol}"
        raise ValueError(f"{unfit[0]} is not for {what}; there are {', '.join(fitting)}")
    return [name for name in fitting if (name in names if names else not BENCHMARK_METHODS[name].slow)]


def fits(name: str, task: str | None, protocol: LRProtocol) -> bool:
    """Whether a method can do a task; without one, whether it enlarges images of the protocol."""
    method, model = BENCHMARK_METHODS[name], training_of(name)
    if method.use.get("project") and not (is_linear(protocol) if task is None else projects(task)):
        return False
    if model is None:
        return method.of == "super-resolution" if task is None else _restores(method, task)
    kind = model_class((BENCHMARK_METHODS[model].train or {})["method"])
    return kind.takes_families if task is not None else kind.takes_any_protocol or is_linear(protocol)


def _restores(method: BenchmarkMethod, task: str) -> bool:
    """Whether a method without a model is for a task of restoration."""
    if method.of == "inversion":
        return operator_of(spec_of_task(task)).inverts
    return method.of == "restoration" or (method.of == "inpainting" and task == "inpaint")


def projects(task: str) -> bool:
    """Whether results of a task can be projected or not; what is known beside holes is kept in any case."""
    operator = operator_of(spec_of_task(task))
    return operator.projects and not operator.needs_mask


def training_of(name: str) -> str | None:
    """The method whose training makes the weights of `name`; None where it has none."""
    method = BENCHMARK_METHODS[name]
    return method.trained_as or (name if method.train is not None else None)
