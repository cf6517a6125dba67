"""An image in, an image out: what upscaling and downscaling do to each, and how the steps overlap.

Reading and decoding, compute, and encoding and writing overlap, with bounded queues. Networks get images of one
size in batches, one batch at a time; what is cheaper than handing over is done where the image was read.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeGuard, TypeVar

import numpy as np

from dtls.choices import TILE
from dtls.errors import SizeError
from dtls.inference.method import Method
from flows.inputs.grouping import in_batches
from flows.inputs.keys import Names
from flows.inputs.selection import check_absent
from flows.transform.compute import computed, copied
from flows.transform.holes import MaskReader, as_taken
from flows.transform.loaded import Fetched, LoadedImage, SizeOf, is_unmade, tried, weight_of
from flows.transform.memory import HOLES, needed
from flows.transform.sample import sample_of
from storage.archives.source import Source
from storage.images import decode
from storage.images.encode import Encoding
from storage.images.photo import Photo, open_photo
from storage.images.room import ROOM
from storage.parallel import ordered_map
from storage.receipts.units import CROPPED, Row
from storage.shards.write import Sample
from storage.stores.errands import Turn, in_hand
from storage.stores.location import Entry, StorageError

MAX_PIXELS = 400_000_000
"""Larger results are refused."""
WHERE_THERE_IS_MORE = "; --retry-failed tries it again where there is more"
WAITING_PIXELS = 16 * TILE * TILE
"""Images of other sizes wait for their batch as long as their results will not have more pixels than this."""
T = TypeVar("T")


@dataclass(frozen=True)
class Transform:
    """One method at one scale: what a run does to each image.

    check_name: raises StorageError for a name that no result can have at the target. stamp: the text in a
    result that records what made it. bytes_at_once: of memory, for images and results on their way; what needs more
    is made alone. part_of: the part of an image that is used, from its top left. stays: by an image's size, whether
    it is its own result. refused: why some images are not read, by their keys. masks: what reads the masks of the
    samples that have one.
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
    masks: MaskReader | None = None
    turn: Turn = field(default_factory=Turn)

    def made(self, samples: Iterable[Entry], keep: Callable[[Sample | Row], T]) -> Iterator[T]:
        """What `keep`, called from several threads, returns for the result of each sample, or the row of its failure.

        Samples do not come in their order: those that wait for a batch are overtaken.
        """
        return ordered_map(
            lambda item: self._kept(item, keep),
            self._computed(samples),
            self.workers,
            weight=weight_of,
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
            weight=lambda item: 0 if self._is_large(item) else weight_of(item),
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
            image, mask_entry = self._files(entry)
            with ROOM.work():
                ROOM.claim(entry.size, WHERE_THERE_IS_MORE)
                mask = self.masks.fetch(mask_entry) if self.masks and mask_entry else None
                data = self.source.fetch(image)
                digest = hashlib.sha256(data).hexdigest()
            seconds = time.perf_counter() - started
            return Fetched(entry, data, digest, self._needed(data), seconds, mask)

        return tried(entry, fetched)

    def _files(self, entry: Entry) -> tuple[Entry, Entry | None]:
        """The image of a sample, and its mask if it has one."""
        if self.masks is None or not entry.parts:
            return entry, None
        image, mask = entry.parts
        return image or entry, mask

    def _needed(self, data: bytes) -> int:
        """The bytes of memory that an image and its result take; SizeError for too many pixels."""
        if (extent := decode.extent(data)) is None:
            return 0  # decoding reports what is wrong
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
            if self.method.channelwise or not is_unmade(loaded):
                return self._interpolated(loaded)
            return next(self._under_lock([loaded]))

        return tried(fetched.entry, made)

    def _load(self, fetched: Fetched | Row) -> LoadedImage | Fetched | Row:
        return self._loaded(fetched) if isinstance(fetched, Fetched) and not self._is_large(fetched) else fetched

    def _loaded(self, fetched: Fetched) -> LoadedImage | Row:
        def loaded() -> LoadedImage:
            started = time.perf_counter()
            photograph, hole = as_taken(self._cropped(open_photo(fetched.data)), self.method, fetched.mask)
            seconds = fetched.seconds + time.perf_counter() - started
            image = LoadedImage(
                fetched.entry, photograph, fetched.sha256, fetched.needed, seconds, hole=hole, mask=fetched.mask
            )
            self._pixels(image.shape)
            return replace(image, own=fetched.data) if self._is_result(image) else image

        return tried(fetched.entry, loaded)

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
        if not is_unmade(loaded):
            return loaded
        if self.method.copies:
            return tried(loaded.entry, lambda: copied(self.method, self.size_of, loaded))
        return next(computed(self.method, self.size_of, [loaded]))

    def _in_batches(self, loaded: Iterable[LoadedImage | Fetched | Row]) -> Iterator[LoadedImage | Fetched | Row]:
        """Results of the method, in batches of images of one size, and the failures as they come."""
        for batch in in_batches(
            loaded,
            kind=lambda item: item.kind if is_unmade(item) else None,
            full=lambda item: self._batch_size(item) if is_unmade(item) else 1,
            weight=lambda item: self._pixels(item.shape) if is_unmade(item) else 0,
            most=WAITING_PIXELS,
        ):
            if images := [item for item in batch if is_unmade(item)]:
                yield from self._under_lock(images)
            else:
                yield from batch

    def _pixels(self, size: tuple[int, int]) -> int:
        """The pixels of an image of this size or of its result, whichever are more; SizeError for too many."""
        rows, columns = size
        height, width = self.size_of(size)
        if height * width > MAX_PIXELS:
            if (height, width) == size:
                raise SizeError(f"{width}×{height} is more than {MAX_PIXELS:,} pixels, the most that there can be")
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
            made = list(computed(self.method, self.size_of, batch))
        HOLES.empty()
        yield from made

    def _encoded(self, item: LoadedImage | Row) -> Sample | Row:
        """The bytes of a result and its row, or the row of the failure."""
        return (
            tried(item.entry, lambda: sample_of(item, self.method, self.names, self.encoding, self.stamp))
            if isinstance(item, LoadedImage)
            else item
        )
