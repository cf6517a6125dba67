"""Shards on this machine, read at random: those behind a URL are fetched into a cache once."""

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow.compute as pc

from storage import images, tars
from storage.locations import TEMPORARY, Entry, Location, StorageError
from storage.parallel import ordered_map
from storage.receipts import read_manifest
from storage.shards import VALIDATION
from storage.survey import UNFINISHED
from storage.tars import Damaged, Window

UNUSED_SECONDS = 7 * 86_400
"""Another training may still read an older version."""


@dataclass(frozen=True)
class LocalShard:
    """A shard on this machine, and how many samples its manifest says it has, if there is one."""

    path: Path
    count: int | None


def list_shards(source: Location) -> list[Entry]:
    """The shards to train on at `source`, sorted, but for those of validation; StorageError where there are none."""
    listed = source.list()
    if any(entry.key == UNFINISHED for entry in listed):
        raise StorageError(f"{source}: not all of its shards are made; run `dtls shard` there again")
    entries = [entry for entry in listed if entry.key.endswith(".tar")]
    found = [entry for entry in entries if not PurePosixPath(entry.key).name.startswith(VALIDATION)]
    if not found:
        if entries:
            raise StorageError(
                f"{source}: only shards of validation ({VALIDATION}*.tar) there; choose others to train on"
            )
        raise StorageError(f"{source}: no shard (*.tar) there; make some with `dtls shard`")
    return found


def local_shards(
    source: Location, entries: Sequence[Entry], cache: Path, advance: Callable[[int], None]
) -> list[LocalShard]:
    """The listed shards of `source`; those that are not on this machine are fetched into `cache` once.

    Older versions of a fetched shard, and what killed runs left there, go after a week. StorageError where one is
    not what the manifest says.
    """
    counts, sums = _told_by_manifest(source)

    def fetch(entry: Entry) -> LocalShard:
        path = Path(source.path(entry.key))
        if source.local is None:
            path = cache / f"{_digest(source, entry.key)}-{_digest(entry)}-{PurePosixPath(entry.key).name}"
            if not path.exists():
                _fetch(source, entry, path, sums.get(entry.key))
        advance(1)
        return LocalShard(path, counts.get(entry.key))

    return list(ordered_map(fetch, entries, workers=4))


def _fetch(source: Location, entry: Entry, path: Path, sha256: str | None) -> None:
    source.download(entry.key, path)
    with path.open("rb") as file:
        if sha256 not in (None, hashlib.file_digest(file, "sha256").hexdigest()):
            path.unlink(missing_ok=True)
            raise StorageError(
                f"{source.address(entry.key)}: not what its manifest says (sha256); see `dtls verify {source}`"
            )
    for older in path.parent.iterdir():
        version = older != path and older.name.startswith(f"{_digest(source, entry.key)}-")
        if version or TEMPORARY.fullmatch(older.name):
            with suppress(FileNotFoundError):  # another download ended, or tidied up
                if older.stat().st_mtime < time.time() - UNUSED_SECONDS:
                    older.unlink()


def _told_by_manifest(source: Location) -> tuple[dict[str, int], dict[str, str]]:
    """How many samples each shard has, and its sha256, if there is a manifest."""
    manifest = read_manifest(source)
    if manifest is None:
        return {}, {}
    made = manifest.filter(pc.is_valid(manifest["output"])).group_by(["output"])
    rows = made.aggregate([("key", "count"), ("sha256", "min")]).to_pylist()
    return {row["output"]: row["key_count"] for row in rows}, {row["output"]: row["sha256_min"] for row in rows}


def _digest(*what: object) -> str:
    return hashlib.sha256("\n".join(map(str, what)).encode()).hexdigest()[:16]


class ShardReader:
    """Random access to the pictures in local shards: `len(reader)`, `reader.read(i)`.

    A shard with fewer pictures than its manifest says is refused.
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
        try:
            with member.shard.open("rb") as file:
                file.seek(member.offset)
                return file.read(member.size)
        except OSError as error:
            raise StorageError(f"{self.name(index)}: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class Member:
    """A picture in a tar: its name and where its bytes are."""

    shard: Path
    name: str
    offset: int
    size: int


def _image_members(path: Path) -> list[Member]:
    folder = Location.of(path.parent)
    try:
        found = tars.members(Window(folder, folder.info(path.name)))
        return [Member(path, m.name, m.offset, m.size) for m in found if not m.refusal and images.is_image(m.name)]
    except Damaged as error:
        raise StorageError(f"{path}: not a readable tar ({error})") from error
