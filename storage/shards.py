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
from collections.abc import Callable, Iterable, Sequence
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


def local_shards(source: Location, cache: Path, advance: Callable[[int], None]) -> list[Path]:
    """The shards of `source` as local files, sorted; remote ones are fetched into `cache` once."""
    entries = [entry for entry in source.list() if entry.key.endswith(".tar")]
    if not entries:
        raise StorageError(f"{source}: no shard (*.tar) there; make some with `dtls shard`")
    if (root := source.local) is not None:
        return [root / entry.key for entry in entries]

    def fetch(entry: Entry) -> Path:
        tag = hashlib.sha256(f"{source}/{entry.key}:{entry.size}:{entry.etag}".encode()).hexdigest()[:16]
        path = cache / f"{tag}-{PurePosixPath(entry.key).name}"
        if not path.exists():
            source.download(entry.key, path)
        advance(1)
        return path

    return list(ordered_map(fetch, entries, workers=4))


def expected_counts(source: Location) -> Counter[str]:
    """How many samples each shard holds by the manifest beside it; empty without one."""
    manifest = read_manifest(source)
    outputs = manifest.column("output").to_pylist() if manifest is not None else []
    return Counter(output for output in outputs if output is not None)


class ShardReader:
    """Random access to the pictures in local shards: `len(reader)`, `reader.read(i)`.

    `expected` (by file name) finds shards that were cut short: a tar cut between two members reads cleanly.
    """

    def __init__(self, paths: Sequence[Path], expected: Iterable[int | None] = ()) -> None:
        self._members: list[tuple[Path, int, int]] = []
        for path, count in zip(paths, [*expected] or [None] * len(paths), strict=True):
            members = _image_members(path)
            if count is not None and len(members) != count:
                raise StorageError(f"{path}: {len(members)} pictures where the manifest says {count}; shard it again")
            self._members += members
        if not self._members:
            raise StorageError(f"{paths[0].parent if paths else 'shards'}: no picture in any shard")

    def __len__(self) -> int:
        return len(self._members)

    def read(self, index: int) -> bytes:
        path, offset, size = self._members[index]
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)


def _image_members(path: Path) -> list[tuple[Path, int, int]]:
    try:
        with tarfile.open(path, "r:") as tar:
            return [(path, m.offset_data, m.size) for m in tar if m.isfile() and images.is_image(m.name)]
    except (tarfile.TarError, OSError) as error:
        raise StorageError(f"{path}: not a readable tar ({error})") from error
