"""Batches for training: random crops of the images in shards, or what is left of reduced images; the trainer mirrors
them, on its device.

The batch of a step follows from (seed, step) alone, so a resumed run sees what the undisturbed one would have seen,
and several processes share the batch that one would have made. Where an image cannot be used, the next
one of the epoch that can stands in its place.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from cachetools import LRUCache
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from storage.images import decode as codec
from storage.images import probe
from storage.images.formats import ImageError, Pixels
from storage.shards.read import ShardReader
from storage.stores.location import StorageError

CACHE_BYTES = 512 * 2**20


class Labelled(NamedTuple):
    """Images, uint8 (N, 3, S, S), and the numbers of their classes, int64 (N,)."""

    images: Tensor
    labels: Tensor


class Batches(Dataset[Tensor]):
    """`batches[step]`: uint8 (N / processes, 3, S, S), the share of one of `processes` in the step's N images.

    labels: the number of each image's class, of a classifier.

    Every image is seen once an epoch, in an order of that epoch. whole: images are reduced first, until their shorter
    side is S, by Pillow's bicubic; else they are cropped as they are. failed: why images cannot be used, by
    their indices, as far as they were looked at.
    """

    def __init__(
        self,
        reader: ShardReader,
        size: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        processes: int = 1,
        *,
        whole: bool = False,
        labels: Sequence[int] = (),
    ) -> None:
        self.labels = labels
        self.reader, self.size, self.batch_size, self.seed, self.whole = reader, size, batch_size, seed, whole
        self._share = range(rank * batch_size // processes, (rank + 1) * batch_size // processes)
        self._decoded: LRUCache[int, Pixels] = LRUCache(CACHE_BYTES, getsizeof=lambda pixels: pixels.nbytes)
        self.failed: dict[int, str] = {}
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def __getitem__(self, step: int) -> Tensor:
        return self.labelled(step).images

    def labelled(self, step: int) -> Labelled:
        """The images of a step, with their classes where `labels` says these."""
        found = [self._crop(step * self.batch_size + place) for place in self._share]
        images = torch.from_numpy(np.stack([crop for _, crop in found])).permute(0, 3, 1, 2)
        return Labelled(images, torch.tensor([self.labels[index] for index, _ in found if self.labels]).long())

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, epoch, 1]).permutation(len(self.reader))

    def look(self, seconds: float, stops: Callable[[], bool] = lambda: False) -> None:
        """Find, for so many seconds, images that cannot be used, by what they begin and end with."""
        end = time.monotonic() + seconds
        for index in range(len(self.reader)):
            if time.monotonic() > end or stops():
                return
            try:
                self._check_small(*probe.probe_size(self.reader.read(index)))
            except ImageError as error:
                self._note(index, error)

    def _crop(self, position: int) -> tuple[int, Pixels]:
        """Which image is at a position, and what is cut out of it."""
        index, pixels = self._usable(*divmod(position, len(self.reader)))
        height, width = pixels.shape[:2]
        generator = np.random.default_rng([self.seed, position, 2])
        top, left = generator.integers([height - self.size + 1, width - self.size + 1])
        return index, pixels[top : top + self.size, left : left + self.size]

    def _usable(self, epoch: int, place: int) -> tuple[int, Pixels]:
        """The image at a place in an epoch, or the next one that can be used; StorageError where there is none."""
        order = self._order(epoch)
        for index in map(int, chain(order[place:], order[:place])):
            if index not in self.failed:
                try:
                    return index, self._pixels(index)
                except ImageError as error:
                    self._note(index, error)
        raise StorageError(
            f"none of the {len(order):,} images can be used, such as {next(iter(self.failed.values()))}"
        )

    def _pixels(self, index: int) -> Pixels:
        if index not in self._decoded:
            pixels = codec.decode(self.reader.read(index))
            self._check_small(pixels.shape[1], pixels.shape[0])
            if self.whole:
                pixels = codec.resize_shorter(pixels, self.size)
            if pixels.nbytes > CACHE_BYTES:
                return pixels
            self._decoded[index] = pixels
        return self._decoded[index]

    def _check_small(self, width: int, height: int) -> None:
        if min(width, height) < self.size:
            raise ImageError(
                f"{width}×{height} is smaller than the model's size {self.size}; "
                f"make shards with `dtls shard --size {self.size}`"
            )

    def _note(self, index: int, error: ImageError) -> None:
        self.failed[index] = f"{self.reader.name(index)}: {error}"


class _Told(Dataset[tuple[Tensor | Labelled | StorageError, dict[int, str]]]):
    """Batches, with what has failed since the last one.

    An error is a value: raised in a worker, it would come back as the text of a traceback.
    """

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> tuple[Tensor | Labelled | StorageError, dict[int, str]]:
        failed = self.batches.failed
        known = len(failed)
        batch: Tensor | Labelled | StorageError
        try:
            batch = self.batches.labelled(step) if self.batches.labels else self.batches[step]
        except StorageError as error:
            batch = error
        return batch, dict(islice(failed.items(), known, None))


def load_batches(batches: Batches, start: int, steps: int, workers: int, *, pinned: bool) -> Iterator[Any]:
    """The batches of steps `start` … `steps` − 1, made by `workers` processes (0: as they are asked for).

    They are `Labelled` where `batches` has labels.

    What these find that cannot be used is in `batches.failed` by then.
    """
    loader = DataLoader(
        _Told(batches),
        batch_size=None,
        sampler=range(start, steps),
        num_workers=workers,
        pin_memory=pinned,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_leave_stopping_to_the_parent,
    )
    for batch, failed in loader:
        batches.failed.update(failed)
        if isinstance(batch, StorageError):
            raise batch
        yield batch


def _leave_stopping_to_the_parent(_worker: int) -> None:
    """A stopped process group gets its signal everywhere; only the training itself may act on it, and save."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
