"""Pictures in, pictures out, mirrored by key: what upscaling and downscaling share.

Reading and decoding, compute, and encoding and writing overlap, with bounded queues.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch

from dtls.degradation import SizeError
from dtls.methods import Method
from dtls.tiling import TILE
from flows import fanout
from flows.console import Advance
from flows.options import BatchOptions
from flows.sources import identity, list_pictures, refuse_within
from storage import images
from storage.archives import Source, open_source
from storage.images import ImageError, Pixels
from storage.locations import Entry, Location, StorageError, UnavailableError
from storage.parallel import ordered_map
from storage.receipts import Receipts, Row, Unit, cut_by_key, failed, is_passing

SizeOf = Callable[[tuple[int, int]], tuple[int, int]]
"""From the (height, width) of a picture to that of its result; SizeError where there is none."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture on its way, with the seconds spent on it so far."""

    entry: Entry
    pixels: Pixels
    seconds: float


@dataclass(frozen=True)
class Transform:
    """One method at one scale: what a run does to each picture, and what its results depend on."""

    source: Source
    target: Location
    method: Method
    size_of: SizeOf
    batch_size: int
    workers: int
    lock: Lock

    def work(self, samples: Sequence[Entry], advance: Advance) -> list[Row]:
        """Some pictures, from source to target; a row for each, in the same order."""

        def save(item: Picture | Row) -> Row:
            row = self._unmade(item) if isinstance(item, dict) else self._save(item)
            advance(1)
            return row

        loaded = ordered_map(self._load, samples, self.workers)
        rows = {row["key"]: row for row in ordered_map(save, self._computed(loaded), self.workers)}
        return [rows[entry.key] for entry in samples]

    def _load(self, entry: Entry) -> Picture | Row:
        started = time.perf_counter()
        try:
            pixels = images.decode(self.source.fetch(entry))
            height, width = self.size_of((pixels.shape[0], pixels.shape[1]))
            if height * width > images.MAX_PIXELS:
                raise SizeError(f"{width}×{height} would be more than {images.MAX_PIXELS:,} pixels")
        except UnavailableError:
            raise
        except (ImageError, StorageError, SizeError) as error:
            return failed(entry, error)
        return Picture(entry, pixels, time.perf_counter() - started)

    def _computed(self, loaded: Iterable[Picture | Row]) -> Iterator[Picture | Row]:
        """Results of the method, in batches of pictures of one size, and the failures as they come."""
        waiting: dict[tuple[int, ...], list[Picture]] = {}
        for item in loaded:
            if isinstance(item, dict):
                yield item
                continue
            batch = waiting.setdefault(item.pixels.shape, [])
            batch.append(item)
            if len(batch) >= self._batch_size(item):
                yield from self._compute(waiting.pop(item.pixels.shape))
            elif sum(map(len, waiting.values())) > 4 * self.batch_size:
                yield from self._compute(waiting.pop(next(iter(waiting))))
        for batch in waiting.values():
            yield from self._compute(batch)

    def _batch_size(self, picture: Picture) -> int:
        rows, columns = picture.pixels.shape[:2]
        height, width = self.size_of((rows, columns))
        return max(1, min(self.batch_size, TILE * TILE // max(height * width, rows * columns)))

    def _compute(self, batch: Sequence[Picture]) -> Iterator[Picture | Row]:
        started = time.perf_counter()
        height, width = batch[0].pixels.shape[:2]
        stacked = torch.from_numpy(np.stack([picture.pixels for picture in batch]))
        lr = stacked.permute(0, 3, 1, 2).float() / 255  # (N, 3, h, w)
        try:
            with self.lock, torch.inference_mode():
                result = self.method(lr, self.size_of((height, width)))
                finite = result.isfinite().all(dim=(1, 2, 3)).tolist()
                results = (result * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()  # (N, H, W, 3)
        except (SizeError, RuntimeError) as error:  # torch raises RuntimeError when memory runs out
            if len(batch) > 1:
                for picture in batch:
                    yield from self._compute([picture])
            else:
                yield failed(batch[0].entry, str(error).splitlines()[0])
            return
        seconds = (time.perf_counter() - started) / len(batch)
        for picture, pixels, good in zip(batch, results, finite, strict=True):
            if good:
                yield Picture(picture.entry, pixels, picture.seconds + seconds)
            else:
                yield failed(picture.entry, f"{self.method.name} gave pixels that are no numbers")

    def _unmade(self, row: Row) -> Row:
        """A failed sample leaves no result, not even that of an earlier run, unless it is tried again."""
        if not is_passing(row):
            self.target.delete(_output(row["key"]))
        return row

    def _save(self, picture: Picture) -> Row:
        started = time.perf_counter()
        output = _output(picture.entry.key)
        data = images.encode_png(picture.pixels)
        self.target.write(output, data)
        height, width = picture.pixels.shape[:2]
        return {
            "key": picture.entry.key,
            "status": "ok",
            "output": output,
            "output_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "source_bytes": picture.entry.size,
            "width": width,
            "height": height,
            "seconds": picture.seconds + time.perf_counter() - started,
            "method": self.method.name,
            "protocol": self.method.identity.get("protocol"),
            "checkpoint": self.method.identity.get("checkpoint"),
        }


def _output(key: str) -> str:
    return f"{images.stem(key)}.png"


def transform(
    title: str,
    source: str,
    target: str,
    method: Method,
    size_of: SizeOf,
    size_options: dict[str, float | int | None],
    batch_size: int,
    unit_size: int,
    options: BatchOptions,
) -> fanout.Summary:
    """Apply `method` to every picture below `source`; results lie below `target` under the same names, as PNG."""
    where, to = open_source(source), Location.of(target)
    refuse_within(to, source)
    pictures = list_pictures(where)
    made_with = {**method.identity, **size_options}
    units = [
        Unit.of(title, f"unit-{hashlib.sha256(chunk[0].key.encode()).hexdigest()[:12]}", chunk, made_with)
        for chunk in cut_by_key(pictures, unit_size)
    ]
    mapping = Transform(where, to, method, size_of, batch_size, options.workers, Lock())
    job = fanout.Job(
        title=f"{title} {where}",
        units=units,
        work=lambda _, samples, advance: mapping.work(samples, advance),
        receipts=Receipts(to, title, source=identity(source)),
    )
    return fanout.run(job, options)
