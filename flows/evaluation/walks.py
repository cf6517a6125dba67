"""The chains that models walk, image by image: from LR or degraded images, from noise, or from noised images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dtls.inference.pixels import to_pixels, to_unit
from dtls.inference.trained import Trained
from dtls.models.base import Callback
from flows.generation.origins import FromSeeds, fitted
from flows.generation.seeds import key_of, seed_of
from flows.inputs.contents import list_images
from flows.inputs.masks import Masks
from flows.transform.holes import MaskReader, as_taken
from reports.tables.chain import chain_row
from storage.archives.source import Source
from storage.images.formats import ImageError
from storage.images.photo import open_photo
from storage.stores.location import Entry, StorageError

if TYPE_CHECKING:
    from dtls.inference.generation import Generator

Make = Callable[[Sequence[str], Tensor, Callback], object]
"""Makes the images of keys with seeds (N,), and shows each step."""


class Shot(NamedTuple):
    """A step of a chain: its timestep, the row of its state in chain.parquet, and uint8 pixels (H, W, C)."""

    t: float
    row: Mapping[str, Any]
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class Walk:
    """The key of an image, its chain from the first step to the result, and what that began with.

    given: uint8 (h, w, C), in which holes are white; None where it began with noise.
    """

    key: str
    shots: Sequence[Shot]
    given: NDArray[np.uint8] | None = None


class Recorder:
    """Takes a shot of each step, of images with these keys: of a state only its row is kept, as there may be many."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.shots: dict[str, list[Shot]] = {key: [] for key in keys}

    def __call__(self, t: float, x: Tensor, images: Tensor) -> None:
        pixels = to_pixels(images.clamp(0, 1), np.uint8)
        for (key, shots), state, shown in zip(self.shots.items(), x.float().cpu().numpy(), pixels, strict=True):
            shots.append(Shot(t, chain_row(key, t, state), shown))


def walks_of_images(
    method: Trained, source: Source, count: int, scale: float | None, masks: Masks | None
) -> Iterator[Walk]:
    """From the first images of a source to what a model makes of them; StorageError for one that cannot be taken.

    scale: None for the largest that the model was trained for.
    """
    for entry in list_images(source)[:count]:
        with _about(source, entry):
            yield _walked(method, source, entry, scale or method.max_scale, masks)


def walks_of_noise(generator: "Generator", start: FromSeeds, seed: int, count: int) -> Iterator[Walk]:
    """The first samples of `dtls generate` with this seed."""

    def make(_: Sequence[str], seeds: Tensor, see: Callback) -> None:
        generator.images(generator.z(seeds, start.start), seeds, see)

    return _generated(generator, [key_of(number) for number in range(count)], {}, seed, make)


def walks_of_noised(generator: "Generator", source: Source, count: int, strength: float, seed: int) -> Iterator[Walk]:
    """From the first images of a source, noised to a strength, to what a generative model makes of them."""
    images: dict[str, Tensor] = {}
    for entry in list_images(source)[:count]:
        with _about(source, entry):
            images[entry.key] = fitted(source.fetch(entry), generator)

    def make(keys: Sequence[str], seeds: Tensor, see: Callback) -> None:
        generator.partly(torch.stack([images[key] for key in keys]), strength, seeds, see)

    return _generated(generator, list(images), images, seed, make)


def _generated(
    generator: "Generator", keys: Sequence[str], images: Mapping[str, Tensor], seed: int, make: Make
) -> Iterator[Walk]:
    """The chains of samples with these keys, which begin with their images if they have some."""
    for start in range(0, len(keys), generator.batch):
        part = keys[start : start + generator.batch]
        recorder = Recorder(part)
        make(part, torch.tensor([seed_of(seed, key) for key in part], dtype=torch.int64), recorder)
        for key, shots in recorder.shots.items():
            yield Walk(key, shots, _shown(images[key][None]) if key in images else None)


def _walked(method: Trained, source: Source, entry: Entry, scale: float, masks: Masks | None) -> Walk:
    read = MaskReader(masks.source).fetch(masks.of(entry.key)) if masks is not None else None
    photograph, hole = as_taken(open_photo(source.fetch(entry)), method, read)
    x = to_unit(np.array(photograph.pixels)[None])
    mask = torch.from_numpy(hole).float()[None, None] if hole is not None else None
    height, width = x.shape[-2:]
    if not method.takes_same_size:
        x = x.expand(-1, 3, -1, -1)
        height, width = round(height * scale), round(width * scale)
    recorder = Recorder([entry.key])
    method.walk(x, (height, width), mask, recorder)
    return Walk(entry.key, recorder.shots[entry.key], _shown(x if mask is None else torch.where(mask > 0, 1.0, x)))


def _shown(x: Tensor) -> NDArray[np.uint8]:
    """An image (1, C, H, W) in [0, 1] as pixels (H, W, C)."""
    pixels: NDArray[np.uint8] = to_pixels(x.clone(), np.uint8)[0]
    return pixels


@contextmanager
def _about(source: Source, entry: Entry) -> Iterator[None]:
    """What is wrong with an image is told with its name."""
    try:
        yield
    except ImageError as error:
        raise StorageError(f"{source}/{entry.key}: {error}") from error
