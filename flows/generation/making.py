"""From samples to files: images are generated, enlarged and encoded, with a row for each.

Networks get batches of one fixed size, which are padded, so that the bytes of an image depend on its own seed alone.
One batch is computed at a time; encoding and writing go on meanwhile.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dtls.choices import TILE
from dtls.inference.method import Method
from dtls.inference.pixels import to_pixels
from flows.generation.origins import Origin, Seeded, fitted, sha256_of
from flows.generation.seeds import seed_of
from flows.inputs.keys import Names
from flows.inputs.selection import check_absent
from flows.transform.loaded import tried
from storage.archives.source import Source
from storage.images.encode import Encoding
from storage.images.metadata import Carried
from storage.images.photo import Photo
from storage.parallel import ordered_map
from storage.receipts.units import Row, cut_evenly, failed
from storage.shards.write import Sample
from storage.stores.errands import Turn, current, in_hand
from storage.stores.location import Entry, StorageError

if TYPE_CHECKING:
    from dtls.inference.generation import Generator

ENLARGED_AT_ONCE = 8
"""Images in each batch of the upscaler, at most."""
T = TypeVar("T")


@dataclass(frozen=True)
class Enlarging:
    """What enlarges the images that a model makes, and the side of its results in pixels."""

    method: Method
    size: int

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, C, size, size) on the CPU of at most `at_once` images (N, C, S, S), both in [0, 1]."""
        padded = torch.cat([images, images[-1:].expand(self.at_once - len(images), -1, -1, -1)])
        return self.method(padded, (self.size, self.size))[: len(images)].cpu()

    @property
    def at_once(self) -> int:
        """Images in each batch: fewer of large ones, which take memory."""
        return max(1, min(ENLARGED_AT_ONCE, TILE * TILE // self.size**2))

    @property
    def identity(self) -> dict[str, str | int]:
        """What results depend on, as plain JSON values."""
        return {**{f"upscaler_{name}": value for name, value in self.method.identity.items()}, "size": self.size}


@dataclass(frozen=True)
class Generated:
    """A sample with its pixels, and what its row says of its origin. seconds: of computing."""

    sample: Seeded
    pixels: NDArray[np.uint8]
    origin: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True)
class Generation:
    """What makes the samples of a run, in one process.

    seed: the run's. source: of the images that samples start from, if they do. look: raises when the run has
    stopped. refused: why some images are not read, by the keys of their samples.
    """

    generator: "Generator"
    enlarging: Enlarging | None
    origin: Origin
    source: Source | None
    seed: int
    names: Names
    encoding: Encoding
    provenance: bool
    workers: int
    look: Callable[[], object] = lambda: None
    refused: Mapping[str, str] = field(default_factory=dict)
    turn: Turn = field(default_factory=Turn)

    def made(self, samples: Iterable[Entry], keep: Callable[[Sample | Row], T]) -> Iterator[T]:
        """What `keep`, called from several threads, returns for the result of each sample, or the row of its failure.

        Those whose images cannot be read come before others.
        """
        return ordered_map(lambda item: keep(self._encoded(item)), self._computed(samples), self.workers)

    def _computed(self, samples: Iterable[Entry]) -> Iterator[Generated | Row]:
        for chunk in cut_evenly(list(samples), self.generator.batch):
            self.look()
            loaded = list(ordered_map(self._loaded, chunk, self.workers))
            yield from (item for item in loaded if not isinstance(item, Seeded))
            if ready := [item for item in loaded if isinstance(item, Seeded)]:
                yield from self._generated(ready)

    def _loaded(self, entry: Entry) -> Seeded | Row:
        seed = seed_of(self.seed, entry.key)
        if self.source is None:
            return Seeded(entry, seed)
        return tried(entry, lambda: self._with_image(entry, seed))

    def _with_image(self, entry: Entry, seed: int) -> Seeded:
        started = time.perf_counter()
        if why := self.refused.get(entry.key):
            raise StorageError(why)
        image = entry.parts[0]
        if self.source is None or image is None:
            raise StorageError("no image to start from")
        check_absent(image)
        data = self.source.fetch(image)
        return Seeded(entry, seed, fitted(data, self.generator), sha256_of(data), time.perf_counter() - started)

    def _generated(self, samples: Sequence[Seeded]) -> Iterator[Generated | Row]:
        """The images of samples, computed while no other unit of this process computes."""
        keys = [sample.key for sample in samples]

        def step(*_: object) -> None:
            current().take((*keys,))  # each step has the time of an image
            self.look()

        with in_hand(*keys), self.turn:
            started = time.perf_counter()
            drawn = self.origin(self.generator, samples, step)
            seconds = (time.perf_counter() - started) / len(samples)
        images = drawn.images.float().cpu()
        for part in cut_evenly(range(len(samples)), self.enlarging.at_once if self.enlarging else len(samples)):
            some = [samples[place] for place in part]
            made, more = self._enlarged(images[part[0] : part[-1] + 1], [sample.key for sample in some])
            finite = made.isfinite().flatten(1).all(1).tolist()
            pixels = to_pixels(made.nan_to_num().clamp(0, 1), np.uint8)
            for sample, one, place, is_good in zip(some, pixels, part, finite, strict=True):
                if is_good:
                    yield Generated(sample, one, drawn.rows[place], seconds + more)
                else:
                    yield failed(sample.entry, f"{self.generator.identity['method']} gave pixels that are no numbers")

    def _enlarged(self, images: Tensor, keys: Sequence[str]) -> tuple[Tensor, float]:
        """Images (N, C, H, W) as results have them, and the seconds that each took."""
        if self.enlarging is None:
            return images, 0.0
        with in_hand(*keys), self.turn:
            self.look()
            started = time.perf_counter()
            return self.enlarging(images), (time.perf_counter() - started) / len(images)

    def _encoded(self, item: Generated | Row) -> Sample | Row:
        if not isinstance(item, Generated):
            return item
        return tried(item.sample.entry, lambda: self._sample_of(item))

    def _sample_of(self, item: Generated) -> Sample:
        """The file of a result, and its row."""
        started = time.perf_counter()
        entry, identity = item.sample.entry, self.generator.identity
        output = self.names.of(entry.key)
        suffix = output[output.rindex(".") :]
        photo = Photo(item.pixels, None, Carried(), "PNG", ())
        seed = item.origin.get("seed", item.sample.seed)
        made = self.encoding.encode(photo, suffix, self._stamp(seed) if self.provenance else None)
        height, width = item.pixels.shape[:2]
        upscaler = self.enlarging.method.identity if self.enlarging is not None else {}
        row: Row = {
            "key": entry.key,
            "status": "ok",
            "output": output,
            "output_bytes": len(made.data),
            "source_bytes": entry.size,
            "source_sha256": item.sample.sha256,
            "width": width,
            "height": height,
            "method": identity["method"],
            "checkpoint": identity["checkpoint"],
            "note": "; ".join(made.notes) or None,
            "seed": seed,
            "upscaler": upscaler.get("method"),
            "upscaler_checkpoint": upscaler.get("checkpoint"),
            **item.origin,
            "read_seconds": item.sample.seconds,
            "compute_seconds": item.seconds,
            "write_seconds": time.perf_counter() - started,
        }
        return Sample(made.data, suffix[1:], row)

    def _stamp(self, seed: int | None) -> str:
        """What made a result, for those who find it later; without a day: a seed gives the same file always."""
        identity = self.generator.identity
        parts = [
            f"dtls {version('dtls')}",
            "synthetic",
            f"method {identity['method']}",
            f"checkpoint sha256:{identity['checkpoint']}",
        ]
        if self.enlarging is not None:
            parts.append(f"upscaler {self.enlarging.method.name}")
            if checkpoint := self.enlarging.method.identity.get("checkpoint"):
                parts.append(f"checkpoint sha256:{checkpoint}")
        return "; ".join(parts if seed is None else [*parts, f"seed {seed}"])
