"""HR, LR and SR images matched by key, and measured in batches of one size, all methods at once."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, groupby
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn

from dtls.errors import SizeError
from flows.evaluation.collection import Collection
from flows.evaluation.samples import EvalSample, Stage
from flows.inputs.grouping import in_batches
from flows.interface.console import Advance
from reports.metrics.degraded import operator_named
from reports.metrics.file_size import FILE_SIZE
from reports.metrics.metric import References
from reports.metrics.planes import Measure, reduced_size
from reports.metrics.score import score
from reports.tables.table import NOTES, SCHEMA, SCHEMA_VERSION
from storage.images.formats import ImageError
from storage.images.room import ROOM
from storage.parallel import ordered_map
from storage.receipts.schemas import MADE_OF, SAMPLES
from storage.receipts.units import Row, Unit, cut_by_key
from storage.stores.errands import Turn, in_hand
from storage.stores.location import Entry

UNIT_SIZE = 256
WAITING_PIXELS = 2**24
"""Images of other sizes wait for their batch as long as they have no more pixels than this together."""
LARGE_PIXELS = 2**22
"""Images of more pixels together are measured as soon as they are read: none waits beside them."""
MEASURING, MEASURING_VGG, MEASURING_EACH, MATRICES = 230, 1500, 32, 30
"""Bytes that measuring takes: a pixel, with LPIPS by VGG, a pixel for each method, and for a matrix of each side."""


@dataclass(frozen=True)
class Measurement:
    """What is compared, and how. HR or LR may be missing, not both.

    protocol: the degradation that made the LR images, as `dtls.degradations.recorded` names them. note: what must be
    known of it. rates: whether the table has the sizes of files.
    """

    hr: Collection | None
    lr: Collection | None
    sr: Mapping[str, Collection]
    protocol: str
    measure: Measure
    network: str | None
    lpips: nn.Module | None
    device: str
    batch_size: int
    workers: int
    note: str = ""
    rates: bool = False
    turn: Turn = field(default_factory=Turn)

    @property
    def truth(self) -> Collection:
        """The images that define the keys: HR, or LR where there is no HR."""
        found = self.hr or self.lr
        if found is None:
            raise ValueError("a comparison needs HR or LR images")
        return found

    def pairs(self) -> list[tuple[str, str]]:
        """(key, method), by key: every method with every key there is, and what only some methods have."""
        there, place = self.truth.entries, {method: n for n, method in enumerate(self.sr)}
        extra = ((key, method) for method, sr in self.sr.items() for key in sr.entries if key not in there)
        pairs = [*((key, method) for key in there for method in self.sr), *extra]
        return sorted(pairs, key=lambda pair: (pair[0], place[pair[1]]))

    def without(self, keys: Set[str]) -> "Measurement":
        """The same, but for some keys, which none of its collections has."""

        def rest(collection: Collection) -> Collection:
            there = {key: entry for key, entry in collection.entries.items() if key not in keys}
            return replace(collection, entries=there)

        hr, lr = (rest(one) if one is not None else None for one in (self.hr, self.lr))
        return replace(self, hr=hr, lr=lr, sr={method: rest(one) for method, one in self.sr.items()})

    def units(self) -> list[Unit]:
        """About 256 keys with all their methods each; a sample is METHOD/KEY."""
        made_with = {
            "protocol": self.protocol,
            "colour": self.measure.colour,
            "border": self.measure.border,
            "data_range": self.measure.data_range,
            "lpips": self.network,
            "table": SCHEMA_VERSION,
            **({"rates": True} if self.rates else {}),
        }
        by_key = {
            key: [self._sample(method, key) for _, method in pairs]
            for key, pairs in groupby(self.pairs(), lambda pair: pair[0])
        }
        return [
            Unit.of(
                "report",
                f"keys-{hashlib.sha256(chunk[0].key.encode()).hexdigest()[:16]}",
                [sample for entry in chunk for sample in by_key[entry.key]],
                made_with,
            )
            for chunk in cut_by_key([Entry(key, 0, "") for key in by_key], UNIT_SIZE)
        ]

    def _sample(self, method: str, key: str) -> Entry:
        """A method and a key with what its numbers depend on: the three images, where they are there."""
        images = (self.hr, self.lr, self.sr[method])
        return Entry.of(f"{method}/{key}", (c.listed(key) if c is not None else None for c in images))

    def work(self, unit: Unit, samples: Sequence[Entry], advance: Advance) -> list[Row]:
        """The rows of the table for some methods and keys, called METHOD/KEY in each."""
        wanted: dict[str, dict[str, Sequence[Entry | None]]] = {}
        for sample in samples:
            method, key = sample.key.split("/", 1)
            wanted.setdefault(key, {})[method] = sample.parts
        rows: dict[str, Row] = {}
        stage = Stage(self.hr, self.lr, self.sr, unit.refused, operator_named(self.protocol))

        def seen(item: tuple[str, Mapping[str, Sequence[Entry | None]]]) -> list[EvalSample | Row]:
            with ROOM.work():
                scenes = stage.scenes(*item)
                if sum(scene.pixels for scene in scenes) <= LARGE_PIXELS:
                    return [*scenes]
                return [row for scene in scenes for row in self._rows([scene])]

        for batch in in_batches(
            chain.from_iterable(ordered_map(seen, wanted.items(), self.workers)),
            kind=lambda item: item.kind if isinstance(item, EvalSample) else None,
            full=lambda _: self.batch_size,
            weight=lambda item: item.pixels if isinstance(item, EvalSample) else 0,
            most=WAITING_PIXELS,
        ):
            scenes = [item for item in batch if isinstance(item, EvalSample)]
            made = [item for item in batch if not isinstance(item, EvalSample)]
            for row in self._rows(scenes) if scenes else made:
                rows[row["key"]] = row
                advance(1, row["status"] != "ok")
        return [rows[sample.key] | {"source_bytes": sample.size} for sample in samples]

    def _rows(self, batch: Sequence[EvalSample]) -> Iterable[Row]:
        for scene in batch:
            for method, reason in scene.failed.items():
                yield self._row(method, scene.key, status="failed", error=reason)
        for method, numbers in self._numbers(batch).items():
            for place, scene in enumerate(batch):
                if isinstance(numbers, str):
                    yield self._row(method, scene.key, status="failed", error=numbers)
                else:
                    found = {name: values[place].item() for name, values in numbers.items()}
                    yield self._row(method, scene.key, status="ok", **self._conditions(scene, method), **found)

    def _numbers(self, batch: Sequence[EvalSample]) -> dict[str, dict[str, Tensor] | str]:
        """By method its numbers, each (N,), or why there are none."""
        methods = tuple(batch[0].sr)
        hr, lr = (self._stacked([getattr(scene, name) for scene in batch]) for name in ("hr", "lr"))
        alpha = self._stacked([scene.alpha for scene in batch])
        stacked = {method: self._stacked([scene.sr[method] for scene in batch]) for method in methods}
        sr = {method: x for method, x in stacked.items() if x is not None}

        def scored(some: Mapping[str, Tensor], lr: Tensor | None = lr) -> dict[str, dict[str, Tensor] | str]:
            with ROOM.work(), in_hand(*(scene.key for scene in batch)), self.turn:
                ROOM.claim(self._needed(some))
                found = score(some, References(hr, lr, self.protocol, self.measure, self.lpips, alpha))
            return {method: {name: x.cpu() for name, x in numbers.items()} for method, numbers in found.items()}

        try:
            return scored(sr)
        except ImageError as error:
            return dict.fromkeys(sr, str(error))
        except SizeError as error:
            if hr is not None:  # SR has its size, so that it is LR which does not fit
                return scored(sr, None)
            if len(sr) == 1:
                return {method: str(error) for method in sr}
        one_by_one: dict[str, dict[str, Tensor] | str] = {}
        for method, x in sr.items():
            try:
                one_by_one |= scored({method: x})
            except SizeError as error:
                one_by_one[method] = str(error)
        return one_by_one

    def _needed(self, sr: Mapping[str, Tensor]) -> int:
        """The bytes of memory that measuring takes at its peak on a CPU, where one image is at work at a time."""
        height, width = next((x.shape[-2:] for x in sr.values()), (0, 0))
        a_pixel = (MEASURING if self.network != "vgg" else MEASURING_VGG) + MEASURING_EACH * len(sr)
        return a_pixel * height * width + MATRICES * (height**2 + width**2)

    def _stacked(self, images: Sequence[Tensor | None]) -> Tensor | None:
        found = [image for image in images if image is not None]
        return torch.cat(found).to(self.device) if found else None

    def _conditions(self, scene: EvalSample, method: str) -> dict[str, Any]:
        x = scene.sr[method]
        found: dict[str, Any] = {"width": x.shape[-1], "height": x.shape[-2], "scale": _scale(x, scene.lr)}
        if scene.hr is not None:
            found |= {**asdict(self.measure), "lpips_network": self.network}
        if self.rates:
            found[FILE_SIZE.name] = scene.file_sizes.get(method)
        return found | {NOTES: scene.notes.get(method) or None}

    def _row(self, method: str, key: str, **values: Any) -> Row:
        protocol = self.protocol if self.lr is not None else None
        return {"method": method, "key": f"{method}/{key}", "protocol": protocol, **values}


RECEIPT = pa.schema([*SCHEMA, *map(SAMPLES.field, MADE_OF)])
"""The columns of a unit's rows: those of the table, and the tags that show whether they are still true."""


def as_in_table(rows: Iterable[Row]) -> Iterable[Row]:
    """The rows of units as they stand in the table: METHOD/KEY becomes the key."""
    for row in rows:
        yield {name: row[name] for name in SCHEMA.names} | {"key": row["key"].partition("/")[2]}


def _scale(sr: Tensor, lr: Tensor | None) -> float | None:
    """How many times wider SR is than LR; None where there is no LR that fits."""
    if lr is None:
        return None
    try:
        _, width = reduced_size(sr, lr)
    except SizeError:
        return None
    return float(sr.shape[-1] / width)
