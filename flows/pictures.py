"""A picture in, a picture out: what upscaling and downscaling do to each, and how the steps overlap.

Reading and decoding, compute, and encoding and writing overlap, with bounded queues. Networks get pictures of one
size in batches, one batch at a time; what is cheaper than handing over is done where the picture was read.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dtls.degradation import SizeError
from dtls.methods import Interpolation, Method, nearest
from dtls.tiling import TILE
from dtls.transparency import bounded, fill
from flows.naming import Names
from flows.selection import MISSING
from flows.tensors import to_pixels, to_unit
from storage import images
from storage.archives import Source
from storage.encoding import Encoding
from storage.images import ImageError
from storage.locations import ChangedError, Entry, StorageError, UnavailableError
from storage.parallel import ordered_map
from storage.photographs import Photograph, open_photograph
from storage.shards import Sample
from storage.units import Row, failed

SizeOf = Callable[[tuple[int, int]], tuple[int, int]]
"""From the (height, width) of a picture to that of its result; SizeError where there is none."""
WAITING_PIXELS = 16 * TILE * TILE
"""Pictures of other sizes wait for their batch as long as their results will not have more pixels than this."""


@dataclass(frozen=True)
class Picture:
    """A picture on its way, with the seconds spent on it so far."""

    entry: Entry
    photograph: Photograph
    read_seconds: float
    compute_seconds: float = 0.0

    @property
    def kind(self) -> tuple[object, ...]:
        """What pictures of one batch have in common."""
        pixels = self.photograph.pixels
        return (pixels.shape, pixels.dtype, self.photograph.alpha is None)


@dataclass(frozen=True)
class Transform:
    """One method at one scale: what a run does to each picture.

    stamp: the text by which a result says what made it.
    """

    source: Source
    method: Method
    size_of: SizeOf
    names: Names
    encoding: Encoding
    stamp: str | None
    batch_size: int
    workers: int
    lock: Lock = field(default_factory=Lock)

    def computed(self, samples: Iterable[Entry]) -> Iterator[Picture | Row]:
        """Pictures made of `samples`, or the rows of those that failed; not in their order."""
        if isinstance(self.method, Interpolation):
            return ordered_map(self._load_and_compute, samples, self.workers)
        return self._in_batches(ordered_map(self._load, samples, self.workers))

    def encoded(self, item: Picture | Row) -> Sample | Row:
        """The bytes of a result and its row, or the row of the failure."""
        if not isinstance(item, Picture):
            return item
        started = time.perf_counter()
        output = self.names.of(item.entry.key)
        suffix = PurePosixPath(output).suffix
        try:
            made = self.encoding.encode(item.photograph, suffix, self.stamp)
        except ImageError as error:
            return failed(item.entry, error)
        height, width = item.photograph.pixels.shape[:2]
        row: Row = {
            "key": item.entry.key,
            "status": "ok",
            "output": output,
            "output_bytes": len(made.data),
            "source_bytes": item.entry.size,
            "width": width,
            "height": height,
            "method": self.method.name,
            "protocol": self.method.identity.get("protocol"),
            "checkpoint": self.method.identity.get("checkpoint"),
            "note": "; ".join((*item.photograph.notes, *made.notes)) or None,
            "read_seconds": item.read_seconds,
            "compute_seconds": item.compute_seconds,
            "write_seconds": time.perf_counter() - started,
        }
        return Sample(made.data, suffix[1:].lower(), row)

    def _load(self, entry: Entry) -> Picture | Row:
        started = time.perf_counter()
        try:
            if entry.etag == MISSING:
                raise ChangedError(MISSING)
            photograph = open_photograph(self.source.fetch(entry))
            height, width = self._size(photograph)
            if height * width > images.MAX_PIXELS:
                raise SizeError(f"{width}×{height} would be more than {images.MAX_PIXELS:,} pixels")
        except UnavailableError:
            raise
        except (ImageError, StorageError, SizeError) as error:
            return failed(entry, error)
        return Picture(entry, photograph, time.perf_counter() - started)

    def _load_and_compute(self, entry: Entry) -> Picture | Row:
        loaded = self._load(entry)
        if not isinstance(loaded, Picture):
            return loaded
        return self._copied(loaded) if self.method.name == "nearest" else next(self._compute([loaded]))

    def _copied(self, picture: Picture) -> Picture:
        """The result of nearest, which needs no numbers."""
        started = time.perf_counter()
        photograph, size = picture.photograph, self._size(picture.photograph)
        alpha = None if photograph.alpha is None else nearest(photograph.alpha, size)
        made = replace(photograph, pixels=nearest(photograph.pixels, size), alpha=alpha)
        return replace(picture, photograph=made, compute_seconds=time.perf_counter() - started)

    def _size(self, photograph: Photograph) -> tuple[int, int]:
        height, width = photograph.pixels.shape[:2]
        return self.size_of((height, width))

    def _in_batches(self, loaded: Iterable[Picture | Row]) -> Iterator[Picture | Row]:
        """Results of the method, in batches of pictures of one size, and the failures as they come."""
        waiting: dict[tuple[object, ...], list[Picture]] = {}
        pixels = 0
        for item in loaded:
            if not isinstance(item, Picture):
                yield item
                continue
            waiting.setdefault(item.kind, []).append(item)
            pixels += self._weight(item)
            ready = item.kind if len(waiting[item.kind]) >= self._batch_size(item) else None
            while ready or pixels > WAITING_PIXELS:
                batch = waiting.pop(ready or next(iter(waiting)))
                ready = None
                pixels -= sum(map(self._weight, batch))
                yield from self._under_lock(batch)
        for batch in waiting.values():
            yield from self._under_lock(batch)

    def _weight(self, picture: Picture) -> int:
        """The pixels of a picture or of its result, whichever are more."""
        rows, columns = picture.photograph.pixels.shape[:2]
        height, width = self._size(picture.photograph)
        return max(height * width, rows * columns)

    def _batch_size(self, picture: Picture) -> int:
        return max(1, min(self.batch_size, TILE * TILE // self._weight(picture)))

    def _under_lock(self, batch: Sequence[Picture]) -> Iterator[Picture | Row]:
        with self.lock:
            made = list(self._compute(batch))
        yield from made

    def _compute(self, batch: Sequence[Picture]) -> Iterator[Picture | Row]:
        started = time.perf_counter()
        try:
            colours, alphas = self._results([picture.photograph for picture in batch])
        except (SizeError, RuntimeError) as error:  # torch raises RuntimeError when memory runs out
            if len(batch) > 1:
                for picture in batch:
                    yield from self._compute([picture])
            else:
                yield failed(batch[0].entry, str(error).splitlines()[0])
            return
        seconds = (time.perf_counter() - started) / len(batch)
        for picture, pixels, alpha in zip(batch, colours, alphas, strict=True):
            if pixels is None:
                yield failed(picture.entry, f"{self.method.name} gave pixels that are no numbers")
            else:
                made = replace(picture.photograph, pixels=pixels, alpha=alpha)
                yield replace(picture, photograph=made, compute_seconds=seconds)

    @torch.inference_mode()
    def _results(
        self, batch: Sequence[Photograph]
    ) -> tuple[Sequence[NDArray[Any] | None], Sequence[NDArray[Any] | None]]:
        """Colours and alphas of the results of pictures of one kind; no colours where they are no numbers."""
        size, dtype = self._size(batch[0]), batch[0].pixels.dtype
        colours = to_unit(np.stack([photograph.pixels for photograph in batch]))
        transparent = [photograph.alpha[..., None] for photograph in batch if photograph.alpha is not None]
        alphas: Sequence[NDArray[Any] | None] = [None] * len(batch)
        if transparent:
            alpha = to_unit(np.stack(transparent))  # (N, 1, h, w)
            colours = fill(colours, alpha)
            alphas = list(to_pixels(bounded(self.method(alpha, size).nan_to_num(), alpha), dtype)[..., 0])
        results = self.method(colours, size)
        finite = results.sum(dim=(1, 2, 3)).isfinite().tolist()
        made = to_pixels(results, dtype)
        return [pixels if good else None for pixels, good in zip(made, finite, strict=True)], alphas
