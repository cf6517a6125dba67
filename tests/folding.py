"""A disk that takes names for one that differ in letter case or Unicode form only."""

from storage.stores.folding import folded
from storage.stores.local import LocalDisk


class FoldingDisk(LocalDisk):
    """A disk that has a file under every spelling of its name."""

    def write(self, path: str, data: bytes) -> None:
        super().write(folded(path), data)

    def kind(self, path: str) -> str:
        return super().kind(folded(path))

    def delete(self, path: str) -> None:
        super().delete(folded(path))
