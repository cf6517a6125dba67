"""An image in, an image out: what upscaling and downscaling do to each, and how the steps overlap.

Reading and decoding, compute, and encoding and writing overlap, with bounded queues. Networks get images of one
size in batches, one batch at a time; what is cheaper than handing over is done where the image was read.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TypeGuard, TypeVar

import numpy as np
import torch

from dtls.choices import TILE
from dtls.errors import SizeError
from dtls.inference.alpha import bounded, fill, of_alpha
from dtls.inference.method import Method
from dtls.inference.pixels import to_pixels, to_unit
from flows.inputs.grouping import in_batches
from flows.inputs.keys import Names
from flows.inputs.selection import check_absent
from flows.transform.memory import HOLES, needed
from storage.archives.source import Source
from storage.images import decode
from storage.images.decode import ImageError
from storage.images.encode import Encoded, Encoding
from storage.images.photo import Photo, Samples, open_photo
from storage.images.room import ROOM
from storage.parallel import ordered_map
from storage.receipts.units import COPIED, CROPPED, Row, SkippedError, failed, skipped
from storage.shards.write import Sample
from storage.stores.errands import Turn, in_hand
from storage.stores.location import Entry, StorageError, UnavailableError

SizeOf = Callable[[tuple[int, int]], tuple[int, int]]
"""From the (height, width) of an image to that of its result; SizeError or SkippedError where there is none."""
MAX_PIXELS = 400_000_000
"""Larger results are refused."""
WHERE_THERE_IS_MORE = "; --retry-failed tries it again where there is more"
WAITING_PIXELS = 16 * TILE * TILE
"""Images of other sizes wait for their batch as long as their results will not have more pixels than this."""
T = TypeVar("T")


@dataclass(frozen=True)
class Fetched:
    """The bytes of an image, how many of memory it and its result will take, and the seconds that reading took."""

    entry: Entry
    data: bytes
    sha256: str
    needed: int
    seconds: float


@dataclass(frozen=True)
class LoadedImage:
    """An image on its way, with the seconds spent on it so far. own: its bytes, where its result is itself.

    needed: the bytes of memory that it and its result take at their peak.
    """

    entry: Entry
    photograph: Photo
    sha256: str
    needed: int
    read_seconds: float
    compute_seconds: float = 0.0
    own: bytes | None = None

    @property
    def kind(self) -> tuple[object, ...]:
        """What images of one batch have in common."""
        pixels = self.photograph.pixels
        return (pixels.shape, pixels.dtype, self.photograph.alpha is None)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.photograph.pixels.shape[:2]
        return height, width

    def become(self, pixels: Samples, alpha: Samples | None, seconds: float) -> "LoadedImage":
        """The result of this image, and the seconds that computing it took."""
        made = replace(self.photograph, pixels=pixels, alpha=alpha)
        return replace(self, photograph=made, compute_seconds=seconds)


@dataclass(frozen=True)
class Transform:
    """One method at one scale: what a run does to each image.

    check_name: raises StorageError for a name that no result can have at the target. stamp: the text by which a
    result says what made it. bytes_at_once: of memory, for images and results on their way; what needs more is
    made alone. part_of: the part of an image that is used, from its top left. stays: by an image's size, whether
    it is its own result. refused: why some images are not read, by their keys.
    """

    source: Source
    method: Method
    size_of: SizeOf
    names: Names
    check_name: Callable[[str], object]
    encoding: Encoding
    stamp: str | None
    batch_size: int
    workers: int
    bytes_at_once: int
    part_of: SizeOf = lambda size: size
    stays: Callable[[tuple[int, int]], bool] = lambda _: False
    refused: Mapping[str, str] = field(default_factory=dict)
    turn: Turn = field(default_factory=Turn)

    def made(self, samples: Iterable[Entry], keep: Callable[[Sample | Row], T]) -> Iterator[T]:
        """What `keep`, called from several threads, returns for the result of each sample, or the row of its failure.

        Samples do not come in their order: those that wait for a batch are overtaken.
        """
        return ordered_map(
            lambda item: self._kept(item, keep),
            self._computed(samples),
            self.workers,
            weight=_weight,
            most=self.bytes_at_once,
        )

    def _kept(self, item: LoadedImage | Fetched | Row, keep: Callable[[Sample | Row], T]) -> T:
        with ROOM.work():
            return keep(self._encoded(self._alone(item) if isinstance(item, Fetched) else item))

    def _computed(self, samples: Iterable[Entry]) -> Iterator[LoadedImage | Fetched | Row]:
        alone = self.method.channelwise
        loaded = ordered_map(
            self._load_and_compute if alone else self._load,
            ordered_map(
                self._fetch,
                samples,
                self.workers,
                weight=lambda entry: entry.size,
                most=self.bytes_at_once,
            ),
            self.workers,
            weight=lambda item: 0 if self._is_large(item) else _weight(item),
            most=self.bytes_at_once,
        )
        return loaded if alone else self._in_batches(loaded)

    def _fetch(self, entry: Entry) -> Fetched | Row:
        def fetched() -> Fetched:
            started = time.perf_counter()
            check_absent(entry)
            if why := self.refused.get(entry.key):
                raise StorageError(why)
            self.check_name(self.names.of(entry.key))
            with ROOM.work():
                ROOM.claim(entry.size, WHERE_THERE_IS_MORE)
                data = self.source.fetch(entry)
                digest = hashlib.sha256(data).hexdigest()
            return Fetched(entry, data, digest, self._needed(data), time.perf_counter() - started)

        return _tried(entry, fetched)

    def _needed(self, data: bytes) -> int:
        """The bytes of memory that an image and its result take; SizeError for too many pixels."""
        if (extent := decode.extent(data)) is None:
            return 0  # decoding says what is wrong
        self._pixels(extent.size)
        return extent.decoding if self.stays(extent.size) else needed(extent, self.size_of(extent.size), self.method)

    def _is_large(self, item: LoadedImage | Fetched | Row) -> TypeGuard[Fetched]:
        """Whether this is to be made alone."""
        return isinstance(item, Fetched) and item.needed > self.bytes_at_once

    def _alone(self, fetched: Fetched) -> LoadedImage | Row:
        """The result of a large image, from its bytes on, as soon as there is room for all of it."""

        def made() -> LoadedImage | Row:
            ROOM.claim(fetched.needed, WHERE_THERE_IS_MORE)
            loaded = self._loaded(fetched)
            if self.method.channelwise or not _is_unmade(loaded):
                return self._interpolated(loaded)
            return next(self._under_lock([loaded]))

        return _tried(fetched.entry, made)

    def _load(self, fetched: Fetched | Row) -> LoadedImage | Fetched | Row:
        return self._loaded(fetched) if isinstance(fetched, Fetched) and not self._is_large(fetched) else fetched

    def _loaded(self, fetched: Fetched) -> LoadedImage | Row:
        def loaded() -> LoadedImage:
            started = time.perf_counter()
            photograph = self._cropped(open_photo(fetched.data))
            seconds = fetched.seconds + time.perf_counter() - started
            image = LoadedImage(fetched.entry, photograph, fetched.sha256, fetched.needed, seconds)
            self._pixels(image.shape)
            return replace(image, own=fetched.data) if self._is_result(image) else image

        return _tried(fetched.entry, loaded)

    def _cropped(self, photograph: Photo) -> Photo:
        height, width = photograph.pixels.shape[:2]
        if (part := self.part_of((height, width))) == (height, width):
            return photograph
        crop, alpha = np.s_[: part[0], : part[1]], photograph.alpha
        return replace(
            photograph,
            pixels=photograph.pixels[crop],
            alpha=None if alpha is None else alpha[crop],
            notes=(*photograph.notes, CROPPED),
        )

    def _is_result(self, image: LoadedImage) -> bool:
        """Whether an image is its own result."""
        is_whole = not self.method.takes_same_size and self._size(image) == image.shape
        return is_whole or self.stays(image.shape)

    def _load_and_compute(self, fetched: Fetched | Row) -> LoadedImage | Fetched | Row:
        loaded = self._load(fetched)
        return loaded if isinstance(loaded, Fetched) else self._interpolated(loaded)

    def _interpolated(self, loaded: LoadedImage | Row) -> LoadedImage | Row:
        if not _is_unmade(loaded):
            return loaded
        if self.method.copies:
            return _tried(loaded.entry, lambda: self._copied(loaded))
        return next(self._compute([loaded]))

    def _copied(self, image: LoadedImage) -> LoadedImage:
        """The result of a method that computes no numbers."""
        started = time.perf_counter()
        photograph, size = image.photograph, self._size(image)
        alpha = None if photograph.alpha is None else self.method.copied(photograph.alpha, size)
        return image.become(self.method.copied(photograph.pixels, size), alpha, time.perf_counter() - started)

    def _in_batches(self, loaded: Iterable[LoadedImage | Fetched | Row]) -> Iterator[LoadedImage | Fetched | Row]:
        """Results of the method, in batches of images of one size, and the failures as they come."""
        for batch in in_batches(
            loaded,
            kind=lambda item: item.kind if _is_unmade(item) else None,
            full=lambda item: self._batch_size(item) if _is_unmade(item) else 1,
            weight=lambda item: self._pixels(item.shape) if _is_unmade(item) else 0,
            most=WAITING_PIXELS,
        ):
            if images := [item for item in batch if _is_unmade(item)]:
                yield from self._under_lock(images)
            else:
                yield from batch

    def _pixels(self, size: tuple[int, int]) -> int:
        """The pixels of an image of this size or of its result, whichever are more; SizeError for too many."""
        rows, columns = size
        height, width = self.size_of(size)
        if height * width > MAX_PIXELS:
            scale = int(10 * math.sqrt(MAX_PIXELS / (rows * columns))) / 10
            way_out = f"--scale {scale:g} or --size {int(max(rows, columns) * scale)}"
            raise SizeError(f"{width}×{height} would be more than {MAX_PIXELS:,} pixels: take at most {way_out}")
        return max(height * width, rows * columns)

    def _size(self, image: LoadedImage) -> tuple[int, int]:
        return self.size_of(image.shape)

    def _batch_size(self, image: LoadedImage) -> int:
        return max(1, min(self.batch_size, TILE * TILE // self._pixels(image.shape)))

    def _under_lock(self, batch: Sequence[LoadedImage]) -> Iterator[LoadedImage | Row]:
        with in_hand(*(image.entry.key for image in batch)), self.turn:
            made = list(self._compute(batch))
        HOLES.empty()
        yield from made

    def _compute(self, batch: Sequence[LoadedImage]) -> Iterator[LoadedImage | Row]:
        started = time.perf_counter()
        try:
            with in_hand(*(image.entry.key for image in batch)):
                colours, alphas = self._results([image.photograph for image in batch], self._size(batch[0]))
        except Exception as error:  # models raise anything; torch, for want of memory, RuntimeError
            if len(batch) > 1:
                for image in batch:
                    yield from self._compute([image])
            else:
                yield failed(batch[0].entry, _reason(error))
            return
        seconds = (time.perf_counter() - started) / len(batch)
        for image, pixels, alpha in zip(batch, colours, alphas, strict=True):
            if pixels is None:
                yield failed(image.entry, f"{self.method.name} gave pixels that are no numbers")
            else:
                yield image.become(pixels, alpha, seconds)

    @torch.inference_mode()
    def _results(
        self, batch: Sequence[Photo], size: tuple[int, int]
    ) -> tuple[Sequence[Samples | None], Sequence[Samples | None]]:
        """Colours and alphas of the results of images of one kind; no colours where they are no numbers."""
        dtype = batch[0].pixels.dtype
        colours = to_unit(np.stack([photograph.pixels for photograph in batch]))
        transparent = [photograph.alpha[..., None] for photograph in batch if photograph.alpha is not None]
        alphas: Sequence[Samples | None] = [None] * len(batch)
        if transparent:
            alpha = to_unit(np.stack(transparent))  # (N, 1, h, w)
            colours = fill(colours, alpha)
            enlarged = of_alpha(self.method)(alpha, size).nan_to_num().cpu()
            alphas = list(to_pixels(bounded(enlarged, alpha), dtype)[..., 0])
        if self.method.channelwise:  # each channel alone takes a third of the memory
            channels = [to_pixels(self.method(channel, size), dtype) for channel in colours.split(1, dim=1)]
            return list(np.concatenate(channels, axis=-1)), alphas
        results = self.method(colours, size)
        finite = results.sum(dim=(1, 2, 3)).isfinite().tolist()
        made = to_pixels(results, dtype)
        return [pixels if good else None for pixels, good in zip(made, finite, strict=True)], alphas

    def _encoded(self, item: LoadedImage | Row) -> Sample | Row:
        """The bytes of a result and its row, or the row of the failure."""
        return _tried(item.entry, lambda: self._sample(item)) if isinstance(item, LoadedImage) else item

    def _sample(self, image: LoadedImage) -> Sample:
        started = time.perf_counter()
        output = self.names.of(image.entry.key)
        suffix = PurePosixPath(output).suffix
        is_copied = image.own is not None
        made = self._file(image, suffix)
        identity = {} if is_copied else self.method.identity
        height, width = image.shape
        row: Row = {
            "key": image.entry.key,
            "status": "ok",
            "output": output,
            "output_bytes": len(made.data),
            "source_bytes": image.entry.size,
            "source_sha256": image.sha256,
            "width": width,
            "height": height,
            "method": "copy" if is_copied else self.method.name,
            "protocol": identity.get("protocol"),
            "checkpoint": identity.get("checkpoint"),
            "note": "; ".join((*([COPIED] if is_copied else []), *made.notes)) or None,
            "read_seconds": image.read_seconds,
            "compute_seconds": image.compute_seconds,
            "write_seconds": time.perf_counter() - started,
        }
        return Sample(made.data, suffix[1:].lower(), row)

    def _file(self, image: LoadedImage, suffix: str) -> Encoded:
        """The file of a result; that of its source, where the result is the image itself, in its own format."""
        own, photograph = image.own, image.photograph
        if own is not None and self.encoding.is_of(photograph, suffix):
            return Encoded(own, ())
        made = self.encoding.encode(photograph, suffix, self.stamp if own is None else None)
        return replace(made, notes=(*photograph.notes, *made.notes))


def _weight(item: LoadedImage | Fetched | Row) -> int:
    """The bytes of memory that something on its way takes."""
    return item.needed if isinstance(item, LoadedImage | Fetched) else 0


def _is_unmade(item: LoadedImage | Fetched | Row) -> TypeGuard[LoadedImage]:
    """Whether this is an image that has yet to go through the method."""
    return isinstance(item, LoadedImage) and item.own is None


def _tried(entry: Entry, do: Callable[[], T]) -> T | Row:
    """What `do` returns, or the row of a sample whose own fault it is that it does not."""
    try:
        with in_hand(entry.key):
            return do()
    except UnavailableError:
        raise
    except SkippedError as error:
        return skipped(entry, error)
    except (ImageError, StorageError, SizeError) as error:
        return failed(entry, error)
    except Exception as error:  # one image never stops the rest, whatever libraries make of it
        return failed(entry, _reason(error))


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory"
    return next(iter(str(error).splitlines()), "") or type(error).__name__
