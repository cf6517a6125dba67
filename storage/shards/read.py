"""Shards on this machine, read at random: those behind a URL are fetched into a cache once."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from storage.archives import tars
from storage.archives.archive import resolved
from storage.archives.tars import Damaged, Window
from storage.images import formats, unsupported
from storage.parallel import ordered_map
from storage.receipts.receipts import read_manifest
from storage.receipts.survey import UNFINISHED
from storage.shards.choice import Member, choose, extension, sample
from storage.stores.cache import Cache
from storage.stores.entry import FOLDER_LINK_OUT, LINK_OUT, UNLISTED, is_hidden, is_named_only
from storage.stores.location import Entry, Location, StorageError

HELD_OUT = frozenset({"val", "valid", "validation", "dev", "test", "testing", "eval", "evaluation", "holdout"})
TRAINING = frozenset({"train", "training"})
PACKED = re.compile(r"\.(tgz|tar\.\w+)$", re.IGNORECASE)
MAX_FACTS = 2**20
"""Bytes of the JSON beside an image."""
TOLD = tuple((name, pa.string()) for name in ("key", "output", "sha256"))
"""The columns of a manifest that say something of shards; one of somebody else's may lack them."""


@dataclass(frozen=True)
class LocalShard:
    """A shard on this machine, and how many samples its manifest says it has, if there is one."""

    path: Path
    count: int | None


def list_shards(
    source: Location, patterns: Sequence[str] = (), tell: Callable[[str], None] = lambda _: None
) -> list[Entry]:
    """The shards to train on at `source`, sorted; StorageError where there are none.

    patterns: of shell, for keys; without them, all but what is named as validation or test. `tell` hears what is
    left out.
    """
    listed = source.list()
    if any(entry.key == UNFINISHED for entry in listed):
        raise StorageError(f"{source}: not all of its shards are made; run `dtls shard` there again")
    shown = [entry for entry in listed if not is_hidden(entry.key) and not is_named_only(entry)]
    if out := [entry.key for entry in listed if entry.etag in (LINK_OUT, FOLDER_LINK_OUT)]:
        tell(f"{source}: left out: {out[0]}{_more(out)}: leads out of it; --follow-links takes what links lead to")
    if unlisted := [entry.key for entry in listed if entry.etag.startswith(UNLISTED)]:
        tell(f"{source}: left out: {unlisted[0]}{_more(unlisted)}: cannot be listed; make it readable")
    if packed := [entry.key for entry in shown if PACKED.search(entry.key)]:
        tell(f"{source}: left out: {_some(packed)}: compressed; unpack them to .tar")
    entries = [entry for entry in shown if entry.key.lower().endswith(".tar")]
    if not entries:
        what = "folder" if listed else source.what_is_there()
        emptiness = {
            "nothing": "no such folder, prefix or bucket",
            "file": "is a file; give the folder it is in, with --shards and its name",
        }.get(what, "no shard (*.tar) there; make some with `dtls shard`")
        raise StorageError(f"{source}: {emptiness}")
    if patterns:
        found = [entry for entry in entries if any(fnmatchcase(entry.key, pattern) for pattern in patterns)]
        if not found:
            raise StorageError(f"{source}: --shards chooses none of its {_some([e.key for e in entries])}")
    else:
        found = [entry for entry in entries if not is_held_out(entry.key)]
        if not found:
            raise StorageError(
                f"{source}: only shards of validation or test there, by their names ({entries[0].key}); "
                "choose others to train on, or these with --shards '*'"
            )
    if others := sorted({entry.key for entry in entries} - {entry.key for entry in found}):
        why = (
            "not chosen by --shards" if patterns else "of validation or test, by their names; --shards chooses others"
        )
        tell(f"{source}: left out: {_some(others)}: {why}")
    return found


def is_held_out(key: str) -> bool:
    """Whether the name of a shard, or of the folders around it, says that it is for validation or test."""
    for name in reversed(key.lower().removesuffix(".tar").split("/")):
        words = {word.rstrip("0123456789") for word in re.split(r"[^a-z0-9]+", name)}
        if words & TRAINING:
            return False
        if words & HELD_OUT:
            return True
    return False


def _more(keys: Sequence[str]) -> str:
    return f" and {len(keys) - 1:,} more" if len(keys) > 1 else ""


def _some(keys: Sequence[str]) -> str:
    """How many, and the first."""
    return keys[0] if len(keys) == 1 else f"{len(keys):,} shards, such as {keys[0]}"


@contextmanager
def local_shards(
    source: Location, entries: Sequence[Entry], cache: Cache, advance: Callable[[int], None]
) -> Iterator[list[LocalShard]]:
    """The listed shards of `source`, on this machine for as long as the body runs: those from elsewhere in `cache`.

    StorageError where one is not what the manifest says.
    """
    counts, sums = _told_by_manifest(source)

    def here(entry: Entry, path: Path) -> LocalShard:
        advance(1)
        return LocalShard(path, counts.get(entry.key))

    if source.local is not None:
        yield [here(entry, Path(source.path(entry.key))) for entry in entries]
        return
    with cache.using(source, entries) as fetch:
        yield list(ordered_map(lambda entry: here(entry, fetch(entry, sums.get(entry.key))), entries, workers=4))


def _told_by_manifest(source: Location) -> tuple[dict[str, int], dict[str, str]]:
    """How many samples each shard has, and its sha256, if there is a manifest of ours."""
    manifest = read_manifest(source, [name for name, _ in TOLD])
    if manifest is None or not {*TOLD} <= {(field.name, field.type) for field in manifest.schema}:
        return {}, {}
    made = manifest.filter(pc.is_valid(manifest["output"])).group_by(["output"])
    rows = made.aggregate([("key", "count"), ("sha256", "min")]).to_pylist()
    return {row["output"]: row["key_count"] for row in rows}, {row["output"]: row["sha256_min"] for row in rows}


class ShardReader:
    """Random access to the images in local shards: `len(reader)`, `reader.read(i)`; one a sample.

    wanted: the extensions of these images; of those that a sample has, the first. left_out: the other images.
    A shard with fewer images than its manifest says is refused.
    """

    def __init__(self, shards: Sequence[LocalShard], wanted: Sequence[str] = ()) -> None:
        self._members, self.left_out = choose(
            (_whole(shard, image_members(shard.path, wanted)) for shard in shards), wanted
        )
        if not self._members:
            where = shards[0].path.parent if shards else "no shards"
            if self.left_out:
                raise StorageError(f"{where}: no sample has an image {', '.join(wanted)}; there are {self.others()}")
            raise StorageError(f"{where}: no image in any shard")

    def __len__(self) -> int:
        return len(self._members)

    def name(self, index: int) -> str:
        """Where an image is stored, for people."""
        return _name(self._members[index])

    def source_keys(self) -> list[str]:
        """What each image was called before it was in a shard, `cats/1.jpg`, by the JSON beside it; else its name."""
        told = {shard: told_keys(shard) for shard in {member.shard for member in self._members}}
        return [told[member.shard].get(sample(member.name), member.name) for member in self._members]

    def others(self) -> str:
        """What is left out, by its extensions, for people; empty where nothing is."""
        kinds = Counter(extension(member.name) for member in self.left_out)
        told = ", ".join(f"{count:,} .{kind}" for kind, count in kinds.most_common(5))
        return f"{told}, such as {_name(self.left_out[0])}" if told else ""

    def read(self, index: int) -> bytes:
        member = self._members[index]
        try:
            with member.shard.open("rb") as file:
                file.seek(member.offset)
                return file.read(member.size)
        except OSError as error:
            raise StorageError(f"{self.name(index)}: {error.strerror or error}") from error


def image_members(path: Path, wanted: Sequence[str] = ()) -> list[Member]:
    """The images in a shard, those that cannot be read among them; what has an extension `wanted` is one, too."""
    folder = Location.of(path.parent)
    try:
        found = resolved(tars.members(Window(folder, folder.info(path.name))))
    except Damaged as error:
        raise StorageError(f"{path}: not a readable tar ({error})") from error
    return [
        Member(path, m.name, m.offset, m.size)
        for m in found
        if formats.is_image(m.name) or _is_unread(m.name) or extension(m.name) in wanted
    ]


def told_keys(path: Path) -> dict[str, str]:
    """What the samples of a shard were called in its source, by their names, where a JSON beside them says it."""
    folder, keys = Location.of(path.parent), dict[str, str]()
    window = Window(folder, folder.info(path.name))
    for member in resolved(tars.members(window)):
        if extension(member.name) == "json" and member.size <= MAX_FACTS:
            try:
                facts = json.loads(window.read(member.offset, member.size))
            except (ValueError, RecursionError):
                continue
            if isinstance(facts, dict) and isinstance(facts.get("key"), str):
                keys[sample(member.name)] = facts["key"]
    return keys


def _is_unread(name: str) -> bool:
    return unsupported.is_unread(name)


def _whole(shard: LocalShard, members: list[Member]) -> list[Member]:
    """The images of a shard; StorageError where there are others than its manifest says."""
    count = sum(formats.is_image(member.name) for member in members)
    if shard.count is not None and count != shard.count:
        raise StorageError(f"{shard.path}: {count} images where the manifest says {shard.count}; shard it again")
    return members


def _name(member: Member) -> str:
    return f"{member.shard}, {member.name}"
