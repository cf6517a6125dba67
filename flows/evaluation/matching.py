"""Which file is of which image of a comparison, whatever it is called.

HR, or LR without HR, says which keys there are. A file is known by the name of its source, which a manifest of ours
beside it says; else by a template for names, else by its own name. Names fit as they are spelled, or else in the
composed form of Unicode.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from flows.evaluation.collection import Collection, files_at
from flows.inputs.keys import alike
from flows.inputs.options import SourceOptions
from flows.inputs.sources import manifest_beside
from flows.interface.console import log
from flows.interface.text import counted
from storage.archives.source import SHARD, Single, Source
from storage.images import formats
from storage.receipts.parquet import ROWS
from storage.stores.location import Entry, StorageError

KEY, METHOD = "{key}", "{method}"
Named = Mapping[Entry, str]
"""Files, and what each is called."""


@dataclass(frozen=True)
class Template:
    """How files are named: `{key}_x2`, where {method} stands for the name of the method."""

    text: str

    def __post_init__(self) -> None:
        rest = self.text.replace(METHOD, "")
        if rest.count(KEY) != 1 or set(rest.replace(KEY, "")) & set("{}"):
            raise ValueError(
                f"{self.text!r} is no template for names: it has {KEY} once, and may have {METHOD}, like {KEY}_x2"
            )

    def names(self, files: Iterable[Entry], method: str) -> dict[Entry, str]:
        """The files that are named so, each with its key. A template without a slash is for names within folders."""
        text = self.text.replace(METHOD, method)
        before, after = map(re.escape, text.split(KEY))
        folder = "" if "/" in text else "(?P<folder>(?:.*/)?)"
        pattern = re.compile(f"{folder}{before}(?P<name>{'.+' if '/' in text else '[^/]+'}){after}", re.DOTALL)
        found = {}
        for entry in files:
            if match := pattern.fullmatch(entry.key if formats.is_image(text) else formats.stem(entry.key)):
                found[entry] = match.groupdict("").get("folder", "") + match["name"]
        return found


@dataclass(frozen=True)
class Naming:
    """How the files of one collection are named, and the option for that.

    template: None where their own names are the keys. comes_first: whether it does before a manifest.
    """

    option: str
    template: Template | None = None
    method: str = ""
    comes_first: bool = False


@dataclass(frozen=True)
class Keys:
    """The keys of a comparison. known: by the whole names that images have in their folders, their keys."""

    truth: Collection
    known: Mapping[str, str] = field(default_factory=dict)
    options: SourceOptions | None = None

    @classmethod
    def of(cls, address: str, options: SourceOptions | None = None) -> "Keys":
        """Those of a folder; a file in it is also known by the name of what it was made from."""
        truth = Collection.of(address, options)
        own = {entry.key: key for key, entry in truth.entries.items()}
        before = {name: own[entry.key] for entry, name in _in_manifest(truth.entries.values(), address).items()}
        return cls(truth, {**before, **own}, options)

    def joined_by(self, others: Collection) -> "Keys":
        """These, where the files of `others` are known by their names, too: results may be made from them."""
        return replace(self, known={**self.known, **{entry.key: key for key, entry in others.entries.items()}})

    def matched(self, address: str, naming: "Naming") -> Collection:
        """What is at an address, by these keys; StorageError where two files fit one, or none fits any.

        What fits no key has one of its own.
        """
        source, files = files_at(address, self.options)
        made = _in_manifest(files, address) if not naming.comes_first else {}
        if naming.template is None or made:
            named = {entry: entry.key for entry in files if entry not in made}
        else:
            named = naming.template.names(files, naming.method)
            left = [entry for entry in files if entry not in named]
            _log_left_out(source, left, f"not named like {naming.template.text}")
        found: dict[str, Entry] = {}
        for some in (made, named):
            for fits in (self.known.get, self._by_stem):
                _claim(source, found, some, fits)
        self._claim_alike(found, {**named, **made})
        if not found and isinstance(source, Single) and isinstance(self.truth.source, Single):
            found = dict(zip(self.truth.entries, files, strict=True))
        if not found.keys() & self.truth.entries.keys():
            raise StorageError(f"{address}: {self._why_none(files, naming.option)}")
        free = found.keys() | self.truth.entries.keys()
        others = {*made, *named} - {*found.values()}
        extra = {formats.stem(entry.key): entry for entry in sorted(others) if formats.stem(entry.key) not in free}
        _log_left_out(source, sorted(others - {*extra.values()}), "another file has the same key")
        return Collection(source, {**found, **extra})

    def _by_stem(self, name: str) -> str | None:
        stem = formats.stem(name)
        return stem if stem in self.truth.entries else None

    def _claim_alike(self, found: dict[str, Entry], named: Named) -> None:
        """Match what is left where one name alone looks like a key that is left."""
        taken = set(found.values())
        left = {formats.stem(name): entry for entry, name in named.items() if entry not in taken}
        wanted = alike([key for key in self.truth.entries if key not in found and not key.isascii()], left)
        chosen = [names[0] for names in wanted.values() if len(names) == 1]
        for key, names in wanted.items():
            if len(names) == 1 and chosen.count(names[0]) == 1:
                found[key] = left[names[0]]

    def _why_none(self, files: list[Entry], option: str) -> str:
        keys = self.truth.entries
        why = f"none of {counted(len(files), 'image')} has the name of one in {self.truth.source}"
        stem = formats.stem(files[0].key)
        near = max((key for key in keys if key in stem), key=len, default=None)
        template = stem.replace(near, KEY, 1) if near else f"{KEY}_x2"
        return (
            f"{why}: {files[0].key} there, {next(iter(keys.values())).key} here; "
            f"{option} '{template}' says how files are named"
        )


def _in_manifest(files: Iterable[Entry], address: str) -> dict[Entry, str]:
    """The files that the manifest beside them names as results, with the names of their sources."""
    manifest = manifest_beside(address, ("key", "output", "sample"))
    if manifest is None or not {"key", "output"} <= {*manifest.column_names}:
        return {}
    by_name = {entry.key: entry for entry in files}
    in_shards = {formats.stem(key): entry for key, entry in by_name.items()}
    found = {}
    for row in (row for batch in manifest.to_batches(ROWS) for row in batch.to_pylist()):
        output, sample = str(row["output"] or ""), row.get("sample")
        place = f"{output.removesuffix(SHARD)}/{sample}" if sample is not None else ""
        if (entry := by_name.get(output) or in_shards.get(place)) is not None:
            found[entry] = str(row["key"])
    return found


def _claim(source: Source, found: dict[str, Entry], named: Named, fits: Callable[[str], str | None]) -> None:
    """Give files the keys that fit their names and are free; StorageError for two files with one key."""
    taken = set(found.values())
    claimed: dict[str, Entry] = {}
    for entry, name in named.items():
        key = fits(name)
        if key is None or key in found or entry in taken:
            continue
        if key in claimed:
            raise StorageError(f"{source}: {claimed[key].key} and {entry.key} have the same key {key!r}; rename one")
        claimed[key] = entry
    found |= claimed


def _log_left_out(source: Source, left: list[Entry], why: str) -> None:
    if left:
        log(f"{source}: left out: {counted(len(left), 'image')}, such as {left[0].key}: {why}")
