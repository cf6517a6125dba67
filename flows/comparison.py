"""HR, LR and SR pictures matched by key, measured in batches of one size, and picked for the page."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from dtls.degradation import Protocol, SizeError
from flows.console import Advance
from flows.naming import refuse_twins
from flows.sources import list_pictures
from reports import metrics
from reports.gallery import GalleryItem, Picture
from reports.tables import SCHEMA_VERSION
from storage import images
from storage.archives import Source, open_source
from storage.images import ImageError
from storage.locations import ChangedError, Entry, StorageError, UnavailableError
from storage.parallel import ordered_map
from storage.units import Row, Unit, cut_by_key

UNIT_SIZE = 256


@dataclass(frozen=True)
class Collection:
    """The pictures of one folder by their key, the name without suffix."""

    source: Source
    entries: Mapping[str, Entry]

    @classmethod
    def of(cls, address: str) -> "Collection":
        source = open_source(address)
        pictures = list_pictures(source)
        refuse_twins(source, pictures)
        return cls(source, {images.stem(entry.key): entry for entry in pictures})

    def data(self, key: str) -> bytes:
        """The picture's bytes; StorageError where it is not there."""
        if key not in self.entries:
            raise StorageError(f"not in {self.source}")
        return self.source.fetch(self.entries[key])

    def tensor(self, key: str) -> Tensor:
        """uint8 (1, 3, H, W)."""
        try:
            pixels = images.decode(self.data(key))
        except ImageError as error:
            raise ImageError(f"{self.source}/{self.entries[key].key}: {error}") from error
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]


@dataclass(frozen=True)
class Trio:
    """A picture as HR, LR and SR: uint8 (1, 3, H, W), (1, 3, h, w), (1, 3, H, W)."""

    key: str
    hr: Tensor
    lr: Tensor
    sr: Tensor


@dataclass(frozen=True)
class Comparison:
    """What all units share."""

    hr: Collection
    lr: Collection
    sr: Mapping[str, Collection]
    protocol: Protocol
    lpips: nn.Module
    device: str
    batch_size: int
    workers: int
    lock: Lock

    def keys(self) -> list[str]:
        """Every key that the ground truth or a method has."""
        return sorted(set(self.hr.entries).union(*(sr.entries for sr in self.sr.values())))

    def units(self) -> list[Unit]:
        made_with = {"protocol": self.protocol, "lpips": "0.1 alex", "table": SCHEMA_VERSION}
        return [
            Unit.of("report", f"{method}-{hashlib.sha256(chunk[0].key.encode()).hexdigest()[:12]}", chunk, made_with)
            for method in self.sr
            for chunk in cut_by_key([self._entry(method, key) for key in self.keys()], UNIT_SIZE)
        ]

    def _entry(self, method: str, key: str) -> Entry:
        """A key with what its numbers depend on: the three pictures, where they are there."""
        found = [c.entries.get(key) for c in (self.hr, self.lr, self.sr[method])]
        tags = [f"{e.key}:{e.size}:{e.etag}" if e is not None else "-" for e in found]
        return Entry(key, sum(e.size for e in found if e is not None), "|".join(tags))

    def work(self, unit: Unit, samples: Sequence[Entry], advance: Advance) -> list[Row]:
        """The rows of the table for some keys of the unit's method."""
        method = unit.name.rpartition("-")[0]
        rows: dict[str, Row] = {}
        waiting: dict[tuple[torch.Size, torch.Size], list[Trio]] = {}
        for item in ordered_map(lambda s: self._load(method, s.key), samples, self.workers):
            if isinstance(item, dict):
                rows[item["key"]] = item
                advance(1)
                continue
            batch = waiting.setdefault((item.hr.shape, item.lr.shape), [])
            batch.append(item)
            if len(batch) == self.batch_size:
                rows |= self._measure(method, waiting.pop((item.hr.shape, item.lr.shape)), advance)
            elif sum(map(len, waiting.values())) > 2 * self.batch_size:
                rows |= self._measure(method, waiting.pop(next(iter(waiting))), advance)
        for batch in waiting.values():
            rows |= self._measure(method, batch, advance)
        return [rows[sample.key] for sample in samples]

    def _load(self, method: str, key: str) -> Trio | Row:
        try:
            trio = Trio(key, self.hr.tensor(key), self.lr.tensor(key), self.sr[method].tensor(key))
            if trio.sr.shape != trio.hr.shape:
                raise SizeError(f"SR is {_size(trio.sr)}, HR is {_size(trio.hr)}")
        except (UnavailableError, ChangedError):  # of no picture's quality
            raise
        except (ImageError, SizeError, StorageError) as error:
            return self._row(method, key, status="failed", error=str(error))
        return trio

    def _measure(self, method: str, batch: Sequence[Trio], advance: Advance) -> dict[str, Row]:
        hr, lr, sr = (
            torch.cat(parts).to(self.device) for parts in zip(*((t.hr, t.lr, t.sr) for t in batch), strict=True)
        )
        try:
            with self.lock, torch.inference_mode():
                numbers = {
                    "psnr": metrics.psnr(sr, hr),
                    "ssim": metrics.ssim(sr, hr),
                    "lpips": metrics.lpips(sr, hr, self.lpips),
                    "consistency": metrics.consistency(sr, lr, self.protocol),
                }
        except SizeError as error:
            return {t.key: self._row(method, t.key, status="failed", error=str(error)) for t in batch}
        finally:
            advance(len(batch))
        sizes = {"width": hr.shape[-1], "height": hr.shape[-2], "scale": hr.shape[-1] / lr.shape[-1]}
        return {
            trio.key: self._row(
                method, trio.key, status="ok", **sizes, **{name: values[i].item() for name, values in numbers.items()}
            )
            for i, trio in enumerate(batch)
        }

    def _row(self, method: str, key: str, **values: Any) -> Row:
        return {"method": method, "key": key, "protocol": self.protocol, **values}

    def gallery(self, frame: pd.DataFrame, count: int) -> list[GalleryItem]:
        """The first `count` keys as LR, every method, HR; pictures that are missing are left out."""
        rows = {(row["method"], row["key"]): row for row in records(frame)}
        items = []
        for key in [key for key in self.keys() if key in self.hr.entries and key in self.lr.entries][:count]:
            pictures = [("LR", self.lr, None), *((m, c, rows.get((m, key))) for m, c in self.sr.items())]
            shown = [
                _shown(label, collection, key, row) for label, collection, row in [*pictures, ("HR", self.hr, None)]
            ]
            items.append(GalleryItem(key, [picture for picture in shown if picture is not None]))
        return items


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as mappings."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _shown(label: str, collection: Collection, key: str, row: Mapping[str, Any] | None) -> Picture | None:
    try:
        return Picture(label, images.encode_png(images.decode(collection.data(key))), row)
    except UnavailableError:
        raise
    except (ImageError, StorageError):
        return None


def _size(x: Tensor) -> str:
    return f"{x.shape[-1]}×{x.shape[-2]}"
