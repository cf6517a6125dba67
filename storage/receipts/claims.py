"""The lease of a run as other processes know it that work for the run: Dask's workers, and the training's own."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from storage.receipts.owners import LEASE, TRUSTED, LostError, Owner
from storage.stores.fence import clock
from storage.stores.location import Location

LOOKS_EVERY = 10.0
"""Seconds for which one who works for the owner, in another process, trusts what it has seen."""
PATIENCE = 5.0
"""Seconds for which these wait for its renewal: it is late after the sleep of a machine."""


@dataclass(frozen=True)
class Claim:
    """The lease of a run, as another process knows it that works for the run; to be pickled, or sent as JSON."""

    target: str
    owner: str
    lasts: float

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """While the body runs, this process changes the target only as long as the lease is the run's."""
        with Location.of(self.target).fenced(Watch(self).confirm):
            yield


class Watch:
    """Asks for a lease that another process renews."""

    def __init__(self, claim: Claim) -> None:
        self.claim, self.target = claim, Location.of(claim.target)
        self._trusted_until = self._since = 0.0
        self._seen = b""

    def confirm(self) -> None:
        """LostError where the lease is no longer the run's, or its end is near; seldom looked up."""
        first = asked = clock()
        if asked <= self._trusted_until:
            return
        while (left := self._left()) <= 0:
            if asked > first + PATIENCE:
                raise LostError.of(self.target, "the run it is for does not renew its lease")
            time.sleep(PATIENCE / 20)
            asked = clock()
        self._trusted_until = asked + min(left, LOOKS_EVERY)

    def _left(self) -> float:
        """For how many seconds the lease may be trusted; LostError where it is lost.

        By the clock of its store, and by how long it was seen without a renewal: some stores tell no time, and some
        leases are dated tomorrow.
        """
        found = self.target.read_if_there(LEASE) or b""
        owner = Owner.of(found)
        if owner is None:
            raise LostError.of(
                self.target,
                "the lease of the run is not to be seen there from this process: it was lost, or the address is "
                "another place here (give addresses that mean the same to all machines)",
            )
        if owner.id != self.claim.owner:
            raise LostError.of(self.target, f"another run took over ({owner})")
        if found != self._seen:
            self._seen, self._since = found, clock()
        age = max(self.target.age(LEASE) or 0.0, clock() - self._since)
        return TRUSTED * self.claim.lasts - age
