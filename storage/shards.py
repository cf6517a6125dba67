"""WebDataset shards: tars of `000000042.png` + `000000042.json`, written whole and read at random.

A shard is built as a local file and committed by one upload. Keys are zero-padded numbers, as WebDataset splits
names at their first dot; the picture's own name is in the JSON. Times and owners are fixed, so the same source gives
the same bytes.
"""

import hashlib
import json
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import webdataset

from storage import images
from storage.images import ImageError
from storage.locations import Entry, Location, StorageError
from storage.parallel import ordered_map
from storage.receipts import Row, Unit, failed, read_manifest


def shard_name(index: int) -> str:
    """The name, without `.tar`, of the shard with this number."""
    return f"shard-{index:06d}"


@dataclass(frozen=True)
class Sample:
    """A picture ready for a shard, and the row that says so."""

    data: bytes
    suffix: str
    row: Row


def write_shard(
    source: Location,
    target: Location,
    unit: Unit,
    first: int,
    size: int | None,
    workers: int,
    advance: Callable[[int], None],
) -> list[Row]:
    """Make the shard of `unit` at `target`; sample numbers count from `first`. One row a sample comes back.

    With `size` every picture becomes its centre square, reduced to `size` and stored as PNG; without, its bytes
    are copied after a check that they decode.
    """
    output = f"{unit.name}.tar"
    rows: list[Row] = []
    with tempfile.NamedTemporaryFile(prefix="dtls-", suffix=".tar") as file:
        with webdataset.TarWriter(file, encoder=False, mtime=0) as writer:
            for number, sample in enumerate(ordered_map(lambda e: _prepare(source, e, size), unit.samples, workers)):
                advance(1)
                if isinstance(sample, Sample):
                    sample.row["sample"] = f"{first + number:09d}"
                    writer.write(_members(sample))
                    rows.append(sample.row)
                else:
                    rows.append(sample)
        file.flush()
        path = Path(file.name)
        made = [row for row in rows if row["status"] == "ok"]
        if made:
            digest, length = _sha256(path), path.stat().st_size
            target.upload(output, path)
            for row in made:
                row |= {"output": output, "output_bytes": length, "sha256": digest}
    return rows


def _prepare(source: Location, entry: Entry, size: int | None) -> Sample | Row:
    started = time.perf_counter()
    try:
        data = source.read(entry.key)
        pixels = images.decode(data)
        suffix = PurePosixPath(entry.key).suffix.lower().lstrip(".")
        if size is not None:
            pixels = images.resize_square(pixels, size)
            data, suffix = images.encode_png(pixels), "png"
    except (ImageError, StorageError) as error:
        return failed(entry, str(error))
    height, width = pixels.shape[:2]
    row = {"key": entry.key, "status": "ok", "source_bytes": entry.size, "width": width, "height": height}
    return Sample(data, suffix, row | {"seconds": time.perf_counter() - started})


def _members(sample: Sample) -> dict[str, bytes | str]:
    facts = {"key": sample.row["key"], "width": sample.row["width"], "height": sample.row["height"]}
    content = json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()
    return {"__key__": sample.row["sample"], sample.suffix: sample.data, "json": content}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class LocalShard:
    """A shard on this machine, and how many samples its manifest says it has, if there is one."""

    path: Path
    count: int | None


def list_shards(source: Location) -> list[Entry]:
    """The shards at `source`, sorted; StorageError where there are none."""
    entries = [entry for entry in source.list() if entry.key.endswith(".tar")]
    if not entries:
        raise StorageError(f"{source}: no shard (*.tar) there; make some with `dtls shard`")
    return entries


def local_shards(
    source: Location, entries: Sequence[Entry], cache: Path, advance: Callable[[int], None]
) -> list[LocalShard]:
    """The listed shards of `source`; those that are not on this machine are fetched into `cache` once."""
    manifest = read_manifest(source)
    outputs = manifest.column("output").to_pylist() if manifest is not None else []
    counts = Counter(output for output in outputs if output is not None)

    def fetch(entry: Entry) -> LocalShard:
        path = Path(source.path(entry.key))
        if source.local is None:
            tag = hashlib.sha256(f"{source}/{entry.key}:{entry.size}:{entry.etag}".encode()).hexdigest()[:16]
            path = cache / f"{tag}-{PurePosixPath(entry.key).name}"
            if not path.exists():
                source.download(entry.key, path)
        advance(1)
        return LocalShard(path, counts.get(entry.key))

    return list(ordered_map(fetch, entries, workers=4))


class ShardReader:
    """Random access to the pictures in local shards: `len(reader)`, `reader.read(i)`.

    A shard with fewer pictures than its manifest says is refused: a tar cut between two members reads cleanly.
    """

    def __init__(self, shards: Sequence[LocalShard]) -> None:
        self._members: list[Member] = []
        for shard in shards:
            members = _image_members(shard.path)
            if shard.count is not None and len(members) != shard.count:
                raise StorageError(
                    f"{shard.path}: {len(members)} pictures where the manifest says {shard.count}; shard it again"
                )
            self._members += members
        if not self._members:
            raise StorageError(f"{shards[0].path.parent if shards else 'no shards'}: no picture in any shard")

    def __len__(self) -> int:
        return len(self._members)

    def name(self, index: int) -> str:
        """Where a picture lies, for people."""
        member = self._members[index]
        return f"{member.shard}, {member.name}"

    def read(self, index: int) -> bytes:
        member = self._members[index]
        with member.shard.open("rb") as file:
            file.seek(member.offset)
            return file.read(member.size)


@dataclass(frozen=True)
class Member:
    """A picture in a tar: its name and where its bytes are."""

    shard: Path
    name: str
    offset: int
    size: int


def _image_members(path: Path) -> list[Member]:
    try:
        with tarfile.open(path, "r:") as tar:
            return [
                Member(path, m.name, m.offset_data, m.size) for m in tar if m.isfile() and images.is_image(m.name)
            ]
    except (tarfile.TarError, OSError) as error:
        raise StorageError(f"{path}: not a readable tar ({error})") from error
