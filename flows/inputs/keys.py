"""What results are called: as their sources, with a suffix of their own and the ending of their format.

Where two sources would give one name (`a.png` and `a.jpg`, both to become PNG), the one that has the ending already
keeps it, else the first; the others keep their whole name, too: `a.jpg.png`. Where even that is another's, it gets
the ending once more.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from storage.images import formats


@dataclass(frozen=True)
class Names:
    """The names of results by the keys of their sources.

    ending: ".png", … of the result for a key. suffix: what comes before the ending, for all.
    """

    ending: Callable[[str], str]
    suffix: str = ""
    exceptions: Mapping[str, str] = field(default_factory=dict)

    def of(self, key: str) -> str:
        return self.exceptions.get(key) or self._plain(key)

    def _plain(self, key: str) -> str:
        return f"{formats.stem(key)}{self.suffix}{self.ending(key)}"

    def among(self, keys: Sequence[str]) -> "Names":
        """These names, with exceptions where two of the sorted `keys` would have one."""
        exceptions: dict[str, str] = {}
        for duplicates in _duplicates(keys):
            by_name: dict[str, list[str]] = {}
            for key in duplicates:
                by_name.setdefault(self._plain(key), []).append(key)
            for same in by_name.values():
                first = next((key for key in same if key.endswith(self.ending(key))), same[0])
                for key in same:
                    if key != first:
                        stem = formats.stem(key)
                        exceptions[key] = f"{stem}{self.suffix}{key[len(stem) :]}{self.ending(key)}"
        taken = {self._plain(key) for key in keys if key not in exceptions} if exceptions else set()
        for key in exceptions:
            while exceptions[key] in taken:
                exceptions[key] += self.ending(key)
            taken.add(exceptions[key])
        return Names(self.ending, self.suffix, exceptions)


def _duplicates(keys: Iterable[str]) -> Iterator[list[str]]:
    """Those of the sorted `keys` that differ in their endings only, together.

    What is between two such keys begins with the stem of both and a dot, so that few have to be remembered.
    """
    before: list[tuple[str, list[str]]] = []
    for key in keys:
        while before and not key.startswith(before[-1][0]):
            yield before.pop()[1]
        stem = f"{formats.stem(key)}."
        for other, duplicates in before:
            if other == stem:
                duplicates.append(key)
                break
        else:
            before.append((stem, [key]))
    yield from (duplicates for _, duplicates in before)


def normalized(key: str) -> str:
    """The key in Unicode's composed form (NFC): `é` is one character there, and in names from a Mac often two."""
    return unicodedata.normalize("NFC", key)


def alike(wanted: Iterable[str], there: Collection[str]) -> dict[str, list[str]]:
    """By the wanted keys that are not there, the keys that are and differ in their Unicode form only.

    One such key is meant; several are ambiguous.
    """
    if not (absent := [key for key in wanted if key not in there]):
        return {}
    forms = {normalized(key) for key in absent}
    found = defaultdict(list)
    for key in there:
        if (form := normalized(key)) in forms:
            found[form].append(key)
    return {key: found[form] for key in absent if (form := normalized(key)) in found}
