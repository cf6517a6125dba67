"""What samples come of: z that is drawn, images that noise is added to, images that are inverted, mixes of two."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dtls.errors import SamplingError
from dtls.inference.pixels import to_unit
from flows.generation.seeds import EXPONENTIAL, seed_of
from flows.inputs.sources import file_at
from storage.images import decode as codec
from storage.images.formats import ImageError
from storage.stores.location import Entry

if TYPE_CHECKING:
    from dtls.inference.generation import Generator, Start

Step = Callable[[float, Tensor, Tensor], None]
"""What is called at every step of a chain."""


@dataclass(frozen=True)
class Seeded:
    """A sample to be made: its seed, and the image (C, S, S) in [0, 1] that it starts from, if it starts from one."""

    entry: Entry
    seed: int
    image: Tensor | None = None
    sha256: str | None = None
    seconds: float = 0.0

    @property
    def key(self) -> str:
        return self.entry.key


@dataclass(frozen=True)
class Drawn:
    """Images (N, C, S, S) in [0, 1] as the model makes them, and what the row of each says of its origin.

    That has the seed None where the image is of none of its own.
    """

    images: Tensor
    rows: Sequence[Mapping[str, Any]]


class Origin(Protocol):
    """Makes images of samples."""

    def __call__(self, generator: "Generator", samples: Sequence[Seeded], step: Step) -> Drawn: ...

    def check(self, generator: "Generator") -> None:
        """Raise, before any work, where the model cannot begin so: SamplingError, StorageError or ImageError."""

    @property
    def identity(self) -> dict[str, Any]:
        """What images depend on besides the model and their seeds, as plain JSON values."""


def seeds_of(samples: Sequence[Seeded]) -> Tensor:
    """The seeds (N,) of samples."""
    return torch.tensor([sample.seed for sample in samples], dtype=torch.int64)


def images_of(samples: Sequence[Seeded]) -> Tensor:
    """The images (N, C, S, S) that samples start from."""
    return torch.stack([sample.image for sample in samples if sample.image is not None])


@dataclass(frozen=True)
class FromSeeds:
    """z is drawn by each sample's own seed. rate: of an exponential distribution. truncate: a factor on z."""

    kind: Literal["gaussian", "exponential"] = "gaussian"
    rate: float = 0.5
    truncate: float = 1.0

    @classmethod
    def of(cls, start: str, truncate: float = 1.0) -> Self:
        """By noise as `flows.generation.seeds.checked_start` writes it: `gaussian`, or `exponential:0.5`."""
        kind, _, rate = start.partition(":")
        return cls("exponential", float(rate), truncate) if kind == EXPONENTIAL else cls(truncate=truncate)

    def __call__(self, generator: "Generator", samples: Sequence[Seeded], step: Step) -> Drawn:
        seeds = seeds_of(samples)
        z = generator.z(seeds, self.start)
        return Drawn(generator.images(z, seeds, step), [{}] * len(samples))

    def check(self, generator: "Generator") -> None:
        """Every model begins with z."""

    @property
    def start(self) -> "Start":
        from dtls.inference.generation import Start

        return Start(self.kind, self.rate, self.truncate)

    @property
    def identity(self) -> dict[str, Any]:
        kind = self.kind if self.kind == "gaussian" else f"{self.kind}:{self.rate:g}"
        return {"start": kind, "truncate": self.truncate}


@dataclass(frozen=True)
class FromImages:
    """Images with noise up to `strength`, which the model takes away again (SDEdit, arXiv 2108.01073)."""

    strength: float

    def __call__(self, generator: "Generator", samples: Sequence[Seeded], step: Step) -> Drawn:
        made = generator.partly(images_of(samples), self.strength, seeds_of(samples), step)
        return Drawn(made, [{"start": sample.entry.parts[0].key} for sample in samples if sample.entry.parts[0]])

    def check(self, generator: "Generator") -> None:
        if not generator.edits:
            raise SamplingError(
                f"{named(generator)} does not begin with images, only with noise: say gaussian or exponential:0.5"
            )

    @property
    def identity(self) -> dict[str, Any]:
        return {"start": "images", "strength": self.strength}


@dataclass(frozen=True)
class Inverted:
    """z of images, and what the model makes of that z."""

    def __call__(self, generator: "Generator", samples: Sequence[Seeded], step: Step) -> Drawn:
        z = generator.invert(images_of(samples))
        shape = ",".join(map(str, generator.z_shape))
        rows = [{"z": one.cpu().numpy().astype("<f4").tobytes(), "z_shape": shape, "seed": None} for one in z]
        return Drawn(generator.images(z, seeds_of(samples), step), rows)

    def check(self, generator: "Generator") -> None:
        check_inverts(generator, "--invert")

    @property
    def identity(self) -> dict[str, Any]:
        return {"start": "inverted"}


@dataclass(frozen=True)
class Mixed:
    """Steps from one sample to another; an end is the key of a sample, or the address of an image.

    hashes: of the files of images, empty for samples. draw: how z of a sample is drawn. in_z: the steps are of z, on
    the arc between the two (Shoemake, 1985), as DDIM interpolates (arXiv 2010.02502); else of the pixels that the
    model makes. seed: the run's.
    """

    ends: tuple[str, str]
    steps: int
    in_z: bool
    seed: int
    draw: FromSeeds = field(default_factory=FromSeeds)
    hashes: tuple[str, ...] = ()

    @classmethod
    def of(cls, ends: tuple[str, str], steps: int, in_z: bool, seed: int, draw: FromSeeds) -> Self:
        """The same, with the hashes of the files as they are now; StorageError where there are none."""
        hashes = tuple("" if is_key(end) else sha256_of(file_of(end)) for end in ends)
        return cls(ends, steps, in_z, seed, draw, hashes)

    def __call__(self, generator: "Generator", samples: Sequence[Seeded], step: Step) -> Drawn:
        shares = [int(sample.key) / (self.steps - 1) for sample in samples]
        rows = [{"start": f"{self.ends[0]} and {share:.0%} of {self.ends[1]}", "seed": None} for share in shares]
        if self.in_z:
            first, last = (self._z(generator, end) for end in self.ends)
            z = torch.stack([between(first, last, share) for share in shares])
            noise = self._noise(self.ends[0]).expand(len(samples))
            return Drawn(generator.images(z, noise, step), rows)
        first, last = (self._image(generator, end, step) for end in self.ends)
        return Drawn(torch.stack([torch.lerp(first, last, share) for share in shares]), rows)

    def check(self, generator: "Generator") -> None:
        files = [end for end in self.ends if not is_key(end)]
        if files and self.in_z:
            check_inverts(generator, "--mix of files in z")
        for end in files:
            image_at(end, generator)

    @property
    def identity(self) -> dict[str, Any]:
        return {**self.draw.identity, "mix": [*self.ends, *self.hashes], "mix_steps": self.steps, "in_z": self.in_z}

    def _z(self, generator: "Generator", end: str) -> Tensor:
        """z of an end, in one piece."""
        if is_key(end):
            return generator.z(self._noise(end), self.draw.start)[0]
        return generator.invert(image_at(end, generator)[None])[0]

    def _noise(self, end: str) -> Tensor:
        """The seed (1,) of the noise that a sampler adds on the way to an end."""
        return torch.tensor([seed_of(self.seed, end)], dtype=torch.int64)

    def _image(self, generator: "Generator", end: str, step: Step) -> Tensor:
        """The image (C, S, S) of an end: a sample's, or that of the file as the model would make it."""
        if is_key(end):
            return generator.images(self._z(generator, end)[None], self._noise(end), step)[0]
        return image_at(end, generator)


def check_inverts(generator: "Generator", what: str) -> None:
    """SamplingError for a model that has no way back."""
    if not generator.inverts:
        raise SamplingError(f"{named(generator)} has no way back from images to z: {what} is not for it")


def named(generator: "Generator") -> str:
    """A model's name, with its sampler if it has several."""
    method, sampler = generator.identity["method"], generator.identity.get("sampler")
    return f"{method} with the sampler {sampler}" if sampler else method


def is_key(end: str) -> bool:
    """Whether an end of a mix is a sample's key, and no image's address."""
    return end.isdecimal()


def between(first: Tensor, last: Tensor, share: float) -> Tensor:
    """The point so far along the arc from one z to another of the same shape; along the line where they are one."""
    cosine = torch.nn.functional.cosine_similarity(first.flatten(), last.flatten(), dim=0)
    angle = float(torch.arccos(cosine.clamp(-1, 1)))
    if math.sin(angle) < 1e-6:
        return torch.lerp(first, last, share)
    return (math.sin((1 - share) * angle) * first + math.sin(share * angle) * last) / math.sin(angle)


def image_at(address: str, generator: "Generator") -> Tensor:
    """The image (C, S, S) in a file; StorageError or ImageError, with its address, where there is none."""
    data = file_of(address)
    try:
        return fitted(data, generator)
    except ImageError as error:
        raise ImageError(f"{address}: {error}") from error


def file_of(address: str) -> bytes:
    """The bytes of an image's file; StorageError where there is none."""
    place, name = file_at(address, "the file of an image, or the number of a sample")
    return place.read(name)


def fitted(data: bytes, generator: "Generator") -> Tensor:
    """An image's bytes as the model makes images, (C, S, S) in [0, 1]: its centre square, reduced, in grey if C is 1.

    ImageError for what is no image, or a smaller one.
    """
    pixels = codec.resize_square(codec.decode(data), generator.size)
    if generator.channels == 1:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    return to_unit(pixels[None].copy())[0]


def sha256_of(data: bytes) -> str:
    """The hash of an image's bytes."""
    return hashlib.sha256(data).hexdigest()
