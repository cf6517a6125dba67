"""Which image of a WebDataset sample is the one: members of a sample share their names up to the first dot."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.stores.location import StorageError

ORDER = ("jpg", "jpeg", "jfif", "png", "webp", "tif", "tiff", "bmp", "gif")
"""Of a sample's images with these extensions, the first is the one."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar: its name and where its bytes are."""

    shard: Path
    name: str
    offset: int
    size: int


def extension(name: str) -> str:
    """What tells a member from the others of its sample, like `seg.png` of `0001.seg.png`."""
    return _split(name)[1]


def sample(name: str) -> str:
    """The sample that a member belongs to, like `0001` of `0001.seg.png`."""
    return _split(name)[0]


def choose(shards: Iterable[Sequence[Member]], wanted: Sequence[str] = ()) -> tuple[list[Member], list[Member]]:
    """The images to train on, in their order, and the others.

    wanted: extensions, of which the first that a sample has is its image. Without them, an extension without a dot
    comes before one like `seg.png`, which is an image only where no sample has it beside its image. StorageError
    where samples have several such, and nothing else.
    """
    choice = _Choice(wanted)
    everything: list[Member] = []
    for members in shards:
        everything += members
        choice.add(members)
    choice.settle()
    left_out = [member for member in everything if member not in choice.chosen]
    return [member for member in everything if member in choice.chosen], left_out


def beside(names: Iterable[str]) -> list[str]:
    """Those of the images in shards that stand beside the image of their sample, as masks do."""
    choice = _Choice(())
    members = [Member(Path(), name, 0, 0) for name in names]
    choice.add(members)
    return [m.name for m in members if m not in choice.chosen and extension(m.name) in choice.beside]


class _Choice:
    """The images chosen so far, and the samples that have no image without a dot in its extension."""

    def __init__(self, wanted: Sequence[str]) -> None:
        self.wanted = wanted
        self.chosen: set[Member] = set()
        self.beside: set[str] = set()
        self._dotted: list[list[Member]] = []

    def add(self, members: Sequence[Member]) -> None:
        """Choose among the images of a shard."""
        samples: dict[str, list[Member]] = defaultdict(list)
        for member in members:
            samples[_split(member.name)[0]].append(member)
        for sample in samples.values():
            order = self.wanted or _order(sample)
            there = {extension(member.name) for member in sample}
            first = next((ending for ending in order if ending in there), None)
            if first is not None:
                self.chosen.update(member for member in sample if extension(member.name) == first)
                self.beside |= there - {first}
            elif not self.wanted:
                self._dotted.append(sample)

    def settle(self) -> None:
        """Choose among what has only extensions with dots, once it is known which of them stand beside images."""
        left = [[m for m in sample if extension(m.name) not in self.beside] for sample in self._dotted]
        seen = Counter(extension(member.name) for sample in left for member in sample)
        for sample in left:
            several = {extension(member.name) for member in sample}
            if len(several) > 1 and any(seen[ending] > 1 for ending in several):
                raise StorageError(
                    f"{sample[0].shard}: the sample {_split(sample[0].name)[0]} has several images "
                    f"({', '.join(sorted(several))}); --image-ext says which one to train on"
                )
            self.chosen.update(sample)  # names with dots are samples of their own


def _split(name: str) -> tuple[str, str]:
    """The key of a sample and the extension of a member, as WebDataset takes them apart."""
    folder, slash, base = name.rpartition("/")
    stem, _, ending = base.partition(".")
    return folder + slash + stem, ending.lower()


def _order(sample: Iterable[Member]) -> list[str]:
    """The extensions without a dot, the usual ones first."""
    plain = {ending for member in sample if "." not in (ending := extension(member.name))}
    return [ending for ending in (*ORDER, *sorted(plain - {*ORDER})) if ending in plain]
