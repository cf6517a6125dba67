"""Which of the pictures of a source a run takes: by patterns, by a list of keys, and no more than a limit."""

import re
from collections.abc import Callable, Container, Iterable, Sequence
from fnmatch import translate
from pathlib import PurePosixPath
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from flows.console import tell
from flows.options import Address, MakingOptions
from flows.sources import UNREAD, file_at
from flows.summary import counted
from storage import images
from storage.locations import Entry, StorageError
from storage.packing import is_archive

MISSING = "not in the source"
"""The tag of a key that was asked for and is not there."""
NO_TARGETS = images.SUFFIXES | UNREAD | {".7z", ".bz2", ".gz", ".rar", ".tbz", ".tbz2", ".txz", ".xz", ".zst"}
"""What names end in that say another kind of file."""
PATTERN = "pattern of keys as `aws s3` has them: * stands for anything, slashes too, ? for a character"


def _of_a_kind(target: str) -> str:
    if PurePosixPath(target).suffix.lower() in NO_TARGETS and not target.endswith("/") and not is_archive(target):
        raise ValueError(f"a target is a folder, .zip, .tar or .tar.gz, and {target} looks like none")
    return target


Target = Annotated[Address, AfterValidator(_of_a_kind)]
"""Where results go."""


class SelectionOptions(MakingOptions):
    """Options of the flows that can take a part of their source."""

    panel = "Which pictures"

    include: list[str] = Field(default_factory=list, description=f"only pictures whose keys match this {PATTERN}")
    exclude: list[str] = Field(default_factory=list, description="no pictures whose keys match this pattern")
    key_list: Address | None = Field(None, description="file or URL of keys, one a line: only these pictures")
    limit: int | None = Field(None, ge=1, description="no more than the first so many of these pictures")
    dry_run: bool = Field(False, description="tell the plan, with an estimate of time and bytes, and write nothing")

    @model_validator(mode="after")
    def _patterns_say_something(self) -> Self:
        if not all((*self.include, *self.exclude)):
            raise ValueError("an empty pattern matches nothing; leave it out")
        return self

    @property
    def takes_all(self) -> bool:
        return not (self.include or self.exclude or self.key_list or self.limit)


def select(pictures: Sequence[Entry], options: SelectionOptions) -> tuple[list[Entry], list[Entry]]:
    """The chosen ones of the `pictures`, in their order, and apart from them the keys that are listed but not there.

    A limit is for both together.
    """
    include, exclude = _matcher(options.include), _matcher(options.exclude)
    wanted = _listed(options.key_list) if options.key_list is not None else None
    chosen = [
        entry
        for entry in pictures
        if (include is None or include(entry.key))
        and (exclude is None or not exclude(entry.key))
        and (wanted is None or entry.key in wanted)
    ]
    missing = sorted((wanted or set()) - {entry.key for entry in pictures})
    if missing:
        hint = _hint(missing, {entry.key for entry in pictures})
        tell(f"{options.key_list}: not in the source: {counted(len(missing), 'key')}, such as {missing[0]!r}{hint}")
    if not chosen:
        raise StorageError(f"none of the {len(pictures):,} pictures is chosen by --include, --exclude and --key-list")
    chosen = chosen[: options.limit]
    more = None if options.limit is None else options.limit - len(chosen)
    return chosen, [Entry(key, 0, MISSING) for key in missing[:more]]


def _matcher(patterns: Iterable[str]) -> Callable[[str], object] | None:
    patterns = list(patterns)
    return re.compile("|".join(map(translate, patterns))).match if patterns else None


def _hint(missing: Iterable[str], there: Container[str]) -> str:
    """What may be wrong with keys that are not there: a path to the source in front of them."""
    for line in missing:
        ends = (line[found.end() :] for found in re.finditer("/", line))
        if key := next((end for end in ends if end in there), None):
            return f"; keys begin below the source: {key!r} for {line!r}"
    is_path = any(line.startswith("/") or "://" in line for line in missing)
    return "; keys begin below the source, without its address" if is_path else ""


def _listed(address: str) -> set[str]:
    """The keys in a list; lines may end as those of any system, and empty ones do not count."""
    place, name = file_at(address, "a text file with one key a line")
    try:
        text = place.read(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StorageError(f"{address}: not a text file in UTF-8") from error
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    if not (keys := {line.removeprefix("./") for line in lines if line.strip()}):
        raise StorageError(f"{address}: no keys in it")
    return keys
