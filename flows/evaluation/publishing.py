"""How a report's files come from its table: made anew only when that, or what was asked for, is another."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar

from flows.evaluation.history import RUNS
from flows.evaluation.outputs import Published, Recorder
from storage.receipts.lease import hold
from storage.receipts.owners import LostError
from storage.receipts.status import is_planned
from storage.receipts.units import Unit
from storage.stores.location import Location

SUMMARY, PAGE, MARKDOWN, LATEX = "summary.json", "index.html", "summary.md", "summary.tex"


class Ground(Protocol):
    """What the files of a report are made from; stands_on: the same as plain JSON values."""

    @property
    def stands_on(self) -> list[Any]: ...


G = TypeVar("G", bound=Ground)


@dataclass(frozen=True)
class Publishing(ABC, Generic[G]):
    """The files of a report at `out`, but for the table, which is of some units.

    options: those of the run that change the files.
    """

    out: Location
    units: Sequence[Unit]
    options: Mapping[str, Any]

    def renew(self) -> None:
        """Make the files that the table stands for, unless they are there."""
        if self.published().is_of(self.ground().stands_on):
            return
        with hold(self.out, "report"):
            if not is_planned(self.out, self.units):
                raise LostError.of(self.out, "another run has changed its table")
            ground = self.ground()
            with self.published().renewing(ground.stands_on, self.planned()) as out:
                self.make(ground, out)

    def check_foreign_files(self) -> None:
        """StorageError where files of somebody else are in the way."""
        self.published().check_foreign_files(self.planned())

    @property
    def run(self) -> str:
        """The folder of this run among those that are kept."""
        return f"{RUNS}{self.options['run'] or datetime.now(UTC).strftime('%Y-%m-%d')}"

    @abstractmethod
    def ground(self) -> G:
        """What the files are made from, as it is now."""

    @abstractmethod
    def published(self) -> Published:
        """What reports have written at the target."""

    @abstractmethod
    def planned(self) -> Set[str]:
        """What may be written, but for images beside the page."""

    @abstractmethod
    def make(self, ground: G, out: Recorder) -> None:
        """Write the files."""
