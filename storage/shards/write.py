"""WebDataset shards: tars of `000000042.png` + `000000042.json`, written whole.

A shard is built as a local file and committed whole. Keys are zero-padded numbers, as WebDataset splits names at
their first dot; the image's own name is in the JSON. Times and owners are fixed, and images go in by their order
in the plan, so the same source gives the same bytes on any machine, for any number of workers.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from typing import Any

from storage.archives.source import Source
from storage.archives.tar import Tar
from storage.archives.tar_writer import TarWriter
from storage.images import decode as codec
from storage.images import formats, probe
from storage.images.formats import ImageError
from storage.images.room import ROOM
from storage.parallel import ordered_map
from storage.receipts.schemas import SampleRow
from storage.receipts.units import Row, Unit, failed
from storage.shards.ffhq import Origin, image_number
from storage.stores.errands import current
from storage.stores.location import Entry, Location, StorageError, UnavailableError

VALIDATION = "validation-"
SHARD = re.compile(r"(shard|train|validation)-\d{6,}\.tar")
to_json = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode


def shard_name(index: int, split: str = "shard") -> str:
    """The name, without `.tar`, of the shard with this number."""
    return f"{split}-{index:06d}"


def shard_index(name: str) -> int:
    """The number in a shard's name."""
    return int(name.rpartition("-")[2])


@dataclass(frozen=True, slots=True)
class Sample:
    """An image ready for its place, and the row that says so; facts: what else a shard's JSON says of it."""

    data: bytes
    suffix: str
    row: Row
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Sharding:
    """What a run does to each image on its way into a shard.

    size: every image becomes its centre square, reduced to so many pixels and stored as PNG; without it, its bytes
    are copied. checked: bytes are copied only if all of the image decodes, not just if its header and its end are
    sound. origins: who made FFHQ's images, by their numbers, as far as that is known.
    """

    source: Source
    target: Location
    size: int | None
    checked: bool
    workers: int
    origins: Callable[[], Mapping[int, Origin]]

    def write(self, unit: Unit, first: int, advance: Callable[[int], None]) -> list[Row]:
        """Make the shard of `unit`; sample numbers count from `first`. One row a sample comes back."""
        numbers = {entry.key: f"{number:09d}" for number, entry in enumerate(unit.samples, first)}
        return write_shard(self.target, f"{unit.name}.tar", self._prepared(unit, advance), numbers)

    def _prepared(self, unit: Unit, advance: Callable[[int], None]) -> Iterator[Sample | Row]:
        chunks, prepare = _chunks(unit.samples), partial(self._prepare_some, unit.refused)
        done: Iterable[list[Sample | Row]]
        if self.source.is_local and self.size is None and not self.checked:
            done = map(prepare, chunks)  # threads would only wait for each other's turn in Python
        else:
            done = ordered_map(prepare, chunks, self.workers)
        for some in done:
            advance(len(some))
            yield from some

    def _prepare_some(self, refused: Mapping[str, str], entries: Sequence[Entry]) -> list[Sample | Row]:
        made: list[Sample | Row] = []
        errand = current()
        try:
            for entry in entries:
                errand.take((entry.key,))
                is_lost = entry.key in refused
                made.append(failed(entry, refused[entry.key]) if is_lost else self._prepare(entry))
        finally:
            errand.put_down()
        return made

    def _prepare(self, entry: Entry) -> Sample | Row:
        started = time.perf_counter()
        try:
            with ROOM.work():
                ROOM.claim(entry.size)
                data = self.source.fetch(entry)
                digest = None
                if self.size is not None:
                    digest = hashlib.sha256(data).hexdigest()  # of what is copied the shard tells: see `copies`
                    data, suffix = codec.encode_png(codec.resize_square(codec.decode(data), self.size)), "png"
                    width = height = self.size
                else:
                    suffix = _suffix(entry.key, data)
                    if self.checked:
                        codec.decode(data)
                    width, height = probe.probe_size(data)
        except UnavailableError:
            raise
        except (ImageError, StorageError) as error:
            return failed(entry, error)
        row: SampleRow = {
            "key": entry.key,
            "status": "ok",
            "source_bytes": entry.size,
            "source_sha256": digest,
            "width": width,
            "height": height,
        }
        origin = {}
        if origins := self.origins():
            number = image_number(entry.key)
            known = UNKNOWN if number is None else origins.get(number, UNKNOWN)
            origin = {field: getattr(known, field) for field in ORIGIN}
        row["seconds"] = time.perf_counter() - started
        return Sample(data, suffix, {**row, **origin})


def copies(target: Location) -> Callable[[Mapping[str, Any]], str | None]:
    """What gives the sha256 of a copied image as it is in the shard that its row names; None where it is not."""

    @cache
    def members(shard: str) -> tuple[Tar, dict[str, Entry]]:
        tar = Tar(target, shard)
        return tar, {entry.key.partition(".")[0]: entry for entry in tar.list() if not entry.key.endswith(".json")}

    def sha256(row: Mapping[str, Any]) -> str | None:
        try:
            tar, found = members(row["output"])
            return hashlib.sha256(tar.fetch(found[row["sample"]])).hexdigest()
        except (StorageError, KeyError):
            return None

    return sha256


def _suffix(key: str, data: bytes) -> str:
    """What the name of an image in a shard ends in: as its source's name, or as its bytes say."""
    own = key[key.rfind(".") :].lower() if formats.is_image(key) else formats.suffix_of(data)
    return (own or ".bin")[1:]


UNKNOWN = Origin()
ORIGIN = ("author", "license", "license_url", "photo_url")
FACTS = ("key", "width", "height", *ORIGIN)
"""What the JSON beside an image says."""
CHUNK, CHUNK_BYTES = 64, 2**20
"""Small images are read so many at a time by one thread: to hand over each costs more than to read it."""


def _chunks(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    chunk: list[Entry] = []
    size = 0
    for entry in entries:
        chunk.append(entry)
        size += entry.size
        if len(chunk) == CHUNK or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def write_shard(
    target: Location, output: str, samples: Iterator[Sample | Row], names: Mapping[str, str]
) -> list[Row]:
    """A shard of `samples`, called in it by `names` of their keys, put at `output` whole; none where none is good.

    One row a sample comes back.
    """
    rows: list[Row] = []
    for first in samples:
        if isinstance(first, Sample):
            break
        rows.append(first)
    else:
        return rows
    with target.writing(output) as path, path.open("wb", buffering=0) as file, TarWriter(file) as tar:
        rows.extend(
            _add(tar, names[item.row["key"]], item) if isinstance(item, Sample) else item
            for item in chain([first], samples)
        )
        size, digest = tar.close()
    for row in rows:
        if row["status"] == "ok":
            row |= {"output": output, "output_bytes": size, "sha256": digest}
    return rows


def _add(tar: TarWriter, name: str, sample: Sample) -> Row:
    row = sample.row
    row["sample"] = name
    told = {fact: row[fact] for fact in FACTS if row.get(fact) is not None}
    facts = to_json({**told, **sample.facts}).encode()
    members = ((sample.suffix, sample.data), ("json", facts))
    for suffix, data in members if sample.suffix < "json" else reversed(members):  # webdataset's order
        tar.add(f"{name}.{suffix}", data)
    return row
