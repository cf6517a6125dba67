"""Which of the images of a source a run takes: by patterns, by a list of keys, and no more than a limit."""

import re
from collections.abc import Callable, Container, Iterable, Mapping, Set
from fnmatch import translate
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Annotated, ClassVar, Self
from unicodedata import normalize

from pydantic import AfterValidator, Field, model_validator

from flows.engine.options import MakingOptions
from flows.inputs.contents import Contents, reason_of_refusal, refused_entry
from flows.inputs.keys import alike
from flows.inputs.options import SourceOptions
from flows.inputs.sources import file_at
from flows.interface.console import log
from flows.interface.options import RUNNING, WHAT, Address, Panels
from flows.interface.text import counted
from storage.archives import kinds
from storage.archives.writer import is_archive
from storage.images import formats, unsupported
from storage.stores.location import ChangedError, Entry, StorageError

MAX_BYTES = 2**29
"""Of a list of keys."""
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
MISSING = "not in the source"
"""The tag of a key that was asked for and is not there."""
AMBIGUOUS = (
    "several keys in the source differ from it in their Unicode form only (NFC, NFD); list one of them as it is"
)
NO_TARGETS = formats.by_suffix().keys() | formats.unread_suffixes() | {".bz2", ".gz", ".xz", ".zst"}
"""What the names of other kinds of files end in, besides archives that are not written."""
PATTERN = "pattern of keys as `aws s3` has them: * stands for anything, slashes too, ? for a character"


def _of_a_kind(target: str) -> str:
    is_another = PurePosixPath(target).suffix.lower() in NO_TARGETS or kinds.by_name(target) is not None
    if is_another and not target.endswith("/") and not is_archive(target):
        *some, last = kinds.written_endings()
        raise ValueError(f"a target is a folder, {', '.join(some)} or {last}, and {target} looks like none")
    return target


Target = Annotated[Address, AfterValidator(_of_a_kind)]
"""Where results go."""


class SelectionOptions(SourceOptions, MakingOptions):
    """Options of the flows that can take a part of their source."""

    panel = WHAT
    panels: ClassVar[Panels] = {RUNNING: "dry_run"}

    include: list[str] = Field(default_factory=list, description=f"take only images whose keys match this {PATTERN}")
    exclude: list[str] = Field(
        default_factory=list, description="leave out images whose keys match this pattern, like 'thumbs/*'"
    )
    key_list: Address | None = Field(
        None, description="take only the images whose keys this file or URL lists, one on each line"
    )
    limit: int | None = Field(
        None, ge=1, description="take at most this many images, the first ones by key, like 100"
    )
    dry_run: bool = Field(False, description="print the plan with an estimate of time and bytes, and write nothing")

    @model_validator(mode="after")
    def _patterns_say_something(self) -> Self:
        if not all((*self.include, *self.exclude)):
            raise ValueError("an empty pattern matches nothing; leave it out")
        return self

    @property
    def chooses(self) -> bool:
        """Whether it is said which of the images are taken, by their names."""
        return bool(self.include or self.exclude or self.key_list)

    @property
    def takes_all(self) -> bool:
        return not (self.chooses or self.limit)


def select(
    contents: Contents, options: SelectionOptions, listed: Mapping[str, int] = MappingProxyType({})
) -> tuple[list[Entry], list[Entry]]:
    """The chosen images of a source, in their order, and entries for what was chosen and cannot be had.

    listed: the keys in the list of keys, if there is one, by their lines. A limit is for both together.
    """
    include, exclude = _matcher(options.include), _matcher(options.exclude)
    there, absent = sorted((*contents.images, *contents.refused)), list[Entry]()
    if options.key_list is not None:
        wanted, absent = _meant(contents, listed, options.key_list)
        there = [entry for entry in there if entry.key in wanted]
    chosen = [
        entry
        for entry in there
        if (include is None or include(entry.key)) and (exclude is None or not exclude(entry.key))
    ]
    if not chosen:
        raise StorageError(
            f"none of the {len(contents.images):,} images is chosen by --include, --exclude and --key-list"
        )
    chosen = chosen[: options.limit]
    more = None if options.limit is None else options.limit - len(chosen)
    refused = [entry for entry in chosen if reason_of_refusal(entry)]
    return [entry for entry in chosen if not reason_of_refusal(entry)], [*refused, *absent[:more]]


def _meant(contents: Contents, lines: Mapping[str, int], address: str) -> tuple[Set[str], list[Entry]]:
    """The keys there that a list means, and entries for those of its keys that are not there, which is logged.

    No line is repeated, as the file may be another than was meant: StorageError for one that can be no image's key.
    """
    listed = lines.keys()
    there, hidden = contents.keys, {entry.key for entry in contents.hidden}
    meant = alike(listed, there)
    absent = [refused_entry(key, AMBIGUOUS) for key, found in meant.items() if len(found) > 1]
    absent += [refused_entry(key, "hidden: names that begin with a dot are not read") for key in listed & hidden]
    missing = sorted(listed - there - meant.keys() - hidden, key=lines.__getitem__)
    if missing:
        where = f"the first in line {lines[missing[0]]:,}{_hint(missing, there)}"
        log(f"{address}: {MISSING}: {counted(len(missing), 'key')}, {where}")
    if strange := [lines[key] for key in missing if not (formats.is_image(key) or unsupported.is_unread(key))]:
        raise StorageError(
            f"{address}: not a list of this source's keys: line {strange[0]:,} is neither one nor an image's name, "
            f"as are {len(strange):,} of {counted(len(lines), 'line')}; there is to be one key a line"
        )
    only = {found[0] for found in meant.values() if len(found) == 1}
    return (listed & there) | only, sorted((*absent, *(Entry(key, 0, MISSING) for key in missing)))


def is_absent(entry: Entry) -> bool:
    """Whether an entry stands for a file that cannot be had."""
    return entry.etag == MISSING or bool(reason_of_refusal(entry))


def check_absent(entry: Entry) -> None:
    """StorageError, with the reason, for an entry that stands for a file that cannot be had."""
    if entry.etag == MISSING:
        raise ChangedError(MISSING)
    if why := reason_of_refusal(entry):
        raise StorageError(why)


def _matcher(patterns: Iterable[str]) -> Callable[[str], object] | None:
    """Whether a key matches one of the patterns, in whatever Unicode form both are."""
    wanted = "|".join(translate(normalize("NFC", pattern)) for pattern in patterns)
    if not wanted:
        return None
    match = re.compile(wanted).match
    return lambda key: match(normalize("NFC", key))


def _hint(missing: Iterable[str], there: Container[str]) -> str:
    """What may be wrong with keys that are not there: a path to the source in front of them."""
    for line in missing:
        ends = (line[found.end() :] for found in re.finditer("/", line))
        if key := next((end for end in ends if end in there), None):
            return f"; keys begin below the source, like {key!r}"
    is_path = any(line.startswith("/") or "://" in line for line in missing)
    return "; keys begin below the source, without its address" if is_path else ""


def listed_keys(options: SelectionOptions) -> Mapping[str, int]:
    """The keys in the list of keys, each with its line; lines may end as on any system, and empty ones do not count.

    StorageError for what is no such list.
    """
    if (address := options.key_list) is None:
        return {}
    place, name = file_at(address, "a text file with one key a line")
    entry = place.info(name)
    data = place.fetch(entry) if entry.size <= MAX_BYTES else b""
    if max(entry.size, len(data)) > MAX_BYTES:
        raise StorageError(f"{address}: {entry.size:,} bytes, and a list of keys has {MAX_BYTES:,} at most")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StorageError(f"{address}: not a text file in UTF-8") from error
    keys: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        key = line.removesuffix("\r").removeprefix("./")
        if CONTROL.search(key):
            raise StorageError(
                f"{address}: not a text file with one key a line: line {number:,} has control characters"
            )
        if key.strip():
            keys.setdefault(key, number)
    if not keys:
        raise StorageError(f"{address}: no keys in it")
    return keys
