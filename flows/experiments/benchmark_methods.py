"""What `dtls/benchmark` compares: each method's training and sampling, as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class BenchmarkMethod:
    """A method as it takes part. train: its options of training; None for what needs none. upscale: of upscaling.

    trained_as: another method whose weights it uses, too. slow: only taken when it is named.
    """

    train: Mapping[str, Any] | None = None
    upscale: Mapping[str, Any] = field(default_factory=dict)
    trained_as: str | None = None
    slow: bool = False


ON_PATCHES = {"dim": "64", "levels": "2", "patch": "4"}
NETWORK = {"dim": 64, "dim_mults": (1, 2), "patch": 4}
"""All U-Nets are of one size, some 4 million parameters, on patches of 4×4 pixels, which make a wide network fast."""
PLUS = {"preset": "16-128-plus", **NETWORK}
"""DTLS as this project improved it."""
LATENT = {"levels": "2", "ae_width": "16"}

BENCHMARK_METHODS: Mapping[str, BenchmarkMethod] = {
    "nearest": BenchmarkMethod(upscale={"method": "nearest"}),
    "bilinear": BenchmarkMethod(upscale={"method": "bilinear"}),
    "bicubic": BenchmarkMethod(upscale={"method": "bicubic"}),
    "srcnn": BenchmarkMethod({"method": "srcnn"}),
    "fsrcnn": BenchmarkMethod({"method": "fsrcnn"}),
    "edsr": BenchmarkMethod({"method": "edsr"}),
    "rrdb": BenchmarkMethod({"method": "rrdb", "network": {"blocks": "8"}}),
    "rrdb-gan": BenchmarkMethod(
        {"method": "rrdb", "network": {"blocks": "8"}, "perceptual": 0.1, "adversarial": 0.005}, slow=True
    ),
    "sr3": BenchmarkMethod({"method": "sr3", "network": {"width": "64", "levels": "2", "patch": "4", "blocks": "2"}}),
    "sr3-2000": BenchmarkMethod(upscale={"sampler": "ddpm"}, trained_as="sr3", slow=True),
    "vae-ddpm": BenchmarkMethod({"method": "vae-ddpm", "network": LATENT}),
    "vqvae-ddpm": BenchmarkMethod({"method": "vqvae-ddpm", "network": LATENT}),
    "resshift": BenchmarkMethod({"method": "resshift", "network": ON_PATCHES}),
    "resshift-4": BenchmarkMethod(
        {"method": "resshift", "network": {**ON_PATCHES, "timesteps": "4", "first_noise": "0.2"}}
    ),
    "heat": BenchmarkMethod({"method": "heat", "network": ON_PATCHES}),
    "dtls-paper": BenchmarkMethod({"method": "dtls", "preset": "16-128", **NETWORK}),
    "dtls": BenchmarkMethod({"method": "dtls", **PLUS}),
    "dtls-projected": BenchmarkMethod(upscale={"project": True}, trained_as="dtls"),
    "dtls-lpips": BenchmarkMethod({"method": "dtls", **PLUS, "perceptual": 0.004}),
    "cold": BenchmarkMethod(upscale={"sampler": "cold"}, trained_as="dtls"),
}


def chosen(names: Sequence[str]) -> dict[str, BenchmarkMethod]:
    """The methods with these names, or all that are not slow; ValueError for a name that there is not."""
    if unknown := [name for name in names if name not in BENCHMARK_METHODS]:
        raise ValueError(f"there is no {unknown[0]!r}; there are {', '.join(BENCHMARK_METHODS)}")
    return {name: c for name, c in BENCHMARK_METHODS.items() if (name in names if names else not c.slow)}


def training_of(name: str) -> str | None:
    """The method whose training makes the weights of `name`; None where it has none."""
    method = BENCHMARK_METHODS[name]
    return method.trained_as or (name if method.train is not None else None)
