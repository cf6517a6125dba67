"""What a training process learns from: the images of its shards, and what becomes of those that cannot be used."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from dtls.errors import TrainingError
from dtls.registry import model_class
from flows.engine.summary import MAX_REASONS
from flows.interface.text import counted
from flows.training.batches import Batches, load_batches
from flows.training.classes import class_of
from flows.training.settings import Settings
from storage.shards.read import LocalShard, ShardReader
from storage.stores.location import StorageError

LOOK_SECONDS = 60.0
"""How long images are looked at before the first step; what is found later is skipped then."""
MAX_FITTED = 20_000
"""Images that a model takes something of before the first step: more would change it little."""


class EndedError(Exception):
    """Batches have ended before their time, as `TrainingData.error` says, or since the training stops."""


class TrainingData:
    """The batches of one process of a training. Images that cannot be used are skipped and logged; more of them than
    `max_failed` allows end the batches, of all processes at the same step.

    error: why they ended, if not as they should.
    """

    def __init__(self, settings: Settings, fabric: Fabric, log: Callable[[str], None]) -> None:
        self.settings, self.fabric, self.log = settings, fabric, log
        shards = [LocalShard(Path(path), count) for path, count in settings.shards]
        self.reader = ShardReader(shards, settings.image_ext)
        kind = model_class(settings.model["method"])
        self.batches = Batches(
            self.reader,
            settings.model["size"],
            settings.batch_size,
            settings.recipe["seed"],
            fabric.global_rank,
            fabric.world_size,
            whole=not kind.restores,
            labels=self._labels(settings.model["classes"]) if kind.classifies else (),
        )
        self.error: Exception | None = None
        self._reported, self._shared, self._failed = 0, 0, 0
        log(f"{counted(len(self.reader), 'image')} in {counted(len(shards), 'shard')}")
        if others := self.reader.others():
            log(f"left out: other images of their samples: {others}; --image-ext says which one to train on")

    def _labels(self, classes: Sequence[str]) -> list[int]:
        """The number of each image's class."""
        numbers = {name: number for number, name in enumerate(classes)}
        return [numbers[class_of(key)] for key in self.reader.source_keys()]

    def look(self, stops: Callable[[], bool]) -> None:
        """Log images whose first and last bytes show that they cannot be used; TrainingError for too many."""
        if self.fabric.is_global_zero:
            self.batches.look(LOOK_SECONDS, stops)
            self._log_failures()
            self._failed = len(self.batches.failed)
            if self._are_too_many():
                raise self._too_many()

    def feed(self, start: int, steps: int, stops: Callable[[], bool]) -> Iterator[Any]:
        """The batches of steps `start` … `steps` − 1, until one of the processes stops, or cannot go on."""
        on_gpu = self.fabric.device.type == "cuda"
        loader = load_batches(self.batches, start, steps, self.settings.workers, pinned=on_gpu)
        while not (stops() and self.fabric.world_size == 1):
            batch = None
            try:
                batch = next(loader)
            except StorageError as error:
                self.error = error
            self._log_failures()
            if self._ends(batch is None or stops()) or batch is None:
                return
            yield batch

    def epoch(self, stops: Callable[[], bool]) -> Iterator[Tensor]:
        """The batches in which each image is once, of at most MAX_FITTED images; EndedError if they end before."""
        steps = -(-min(len(self.reader), MAX_FITTED) // self.settings.batch_size)
        seen = 0
        for images in islice(self.feed(0, steps, stops), steps):
            seen += 1
            yield images
        if seen < steps:
            raise EndedError

    def conclude(self) -> None:
        """Log how many images could not be used, and raise the error that has ended the batches, if one has."""
        if self.error is not None:
            raise self.error
        if self._failed:
            self.log(f"skipped {self._failed:,} of {counted(len(self.reader), 'image')}, which cannot be used")

    def _log_failures(self) -> None:
        for reason in islice(self.batches.failed.values(), self._reported, MAX_REASONS):
            self.log(f"skipped: {reason}")
        self._reported = len(self.batches.failed)

    def _ends(self, here: bool) -> bool:
        """Whether one of the processes ends `here`, or all together have met too much that cannot be used."""
        failed = self.batches.failed
        ended, news = self._sum(torch.tensor([here, len(failed) > self._shared])).tolist()
        self._shared = len(failed)
        if news:
            mine = torch.zeros(len(self.reader), dtype=torch.int32)
            mine[list(failed)] = 1
            self._failed = int((self._sum(mine) > 0).sum())
            if self._are_too_many():
                self.error = self.error or self._too_many()
                return True
        return bool(ended)

    def _sum(self, numbers: Tensor) -> Tensor:
        """The sum of what the processes have."""
        if self.fabric.world_size == 1:
            return numbers
        return cast(Tensor, self.fabric.all_reduce(numbers.int().to(self.fabric.device), reduce_op="sum"))

    def _are_too_many(self) -> bool:
        return self._failed > self.settings.max_failed * len(self.reader)

    def _too_many(self) -> TrainingError:
        example = next(iter(self.batches.failed.values()), "those of another process")
        return TrainingError(
            f"{self._failed:,} of {len(self.reader):,} images cannot be used, more than --max-failed "
            f"{self.settings.max_failed:g} allows; such as {example}"
        )
