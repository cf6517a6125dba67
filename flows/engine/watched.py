"""A unit that no image holds up: what takes longer than it may is left behind, and the unit is done image by image.

A thread cannot be ended. The one that does a unit, and those that it started, are given up together as soon as an
image is too long in hand: whatever they come to, their stores refuse them any change. Then the images of the unit are
done apart, in a process that can be ended (see `flows.engine.apart`), where each may take as long again, but alone.
Looking at what is in hand costs a second's look a unit, and nothing an image.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from threading import Thread

from flows.engine.apart import Apart
from flows.engine.job import Work, WorkerSpec
from flows.engine.ticks import Ticks
from flows.interface.console import Advance
from storage.receipts.claims import Claim
from storage.receipts.units import Row, Unit
from storage.stores.errands import Errand
from storage.stores.location import Entry

LOOK_SECONDS = 1.0
MAX_LEFT = 8
"""When so many units were given up in a process, with threads that may compute for ever, the rest is done apart."""


def _unlogged(_: str) -> None:
    """Log nothing: the rows have it."""


@dataclass(frozen=True)
class Watched:
    """Work whose images may take `limit` seconds each, waiting included; None for any time."""

    work: Work
    apart: Apart
    log: Callable[[str], None]
    limit: float | None
    left: list[Errand] = field(default_factory=list)

    @classmethod
    def of(
        cls, work: Work, worker_spec: WorkerSpec, claim: Claim, limit: float, log: Callable[[str], None] = _unlogged
    ) -> "Watched":
        """The work of a run that has the lease of a claim; limit: 0 for any time."""
        return cls(work, Apart(work, worker_spec, claim, limit or None), log, limit or None)

    def __call__(self, unit: Unit, samples: Sequence[Entry], advance: Advance) -> list[Row]:
        """The rows of a unit."""
        if self.limit is None:
            return self.work(unit, samples, advance)
        if len(self.left) >= MAX_LEFT:
            return self.apart(unit, samples, advance)
        ticks, errand = Ticks(advance), Errand()
        outcome = self._begun(errand, unit, samples, ticks.started())
        while outcome not in wait([outcome], min(LOOK_SECONDS, self.limit)).done:
            if late := errand.late(self.limit):
                errand.give_up()
                self.left.append(errand)
                advance(0)  # a run that is stopped goes no further
                self.log(
                    f"{unit.name}: {late[0][0]} takes longer than --image-timeout {self.limit:g} s; "
                    "its unit is done image by image"
                )
                return self.apart(unit, samples, ticks.started())
        return outcome.result()

    def _begun(self, errand: Errand, unit: Unit, samples: Sequence[Entry], advance: Advance) -> Future[list[Row]]:
        outcome: Future[list[Row]] = Future()

        def attempt() -> None:
            try:
                with errand.carried_out():
                    outcome.set_result(self.work(unit, samples, advance))
            except BaseException as error:
                outcome.set_exception(error)

        Thread(target=copy_context().run, args=(attempt,), daemon=True).start()
        return outcome
