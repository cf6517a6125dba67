"""Whose a lease is: what it says of the run that holds it, and whether that run is still there."""

import json
import math
import os
import socket
import time
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from storage.stores.fence import LEASES
from storage.stores.location import Location, UnavailableError

LEASE = f"{LEASES}.json"
TRUSTED = 0.75
"""The share of its life for which a lease is ours without a look: others may take it at the end of that life."""


@dataclass(frozen=True)
class Owner:
    """What a lease says: which run holds it, and, for people, until when by its own clock, in seconds since 1970."""

    id: str
    flow: str
    host: str
    pid: int
    pids: str
    """The namespace of `pid`: containers may share the name of their host."""
    started: str
    expires: float

    @classmethod
    def here(cls, flow: str) -> Self:
        """A run of this process, its lease not yet made."""
        started = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        return cls(uuid.uuid4().hex, flow, socket.gethostname(), os.getpid(), _pids(), started, 0.0)

    @classmethod
    def of(cls, data: bytes) -> Self | None:
        """Who wrote a lease; None where that is not to be understood."""
        try:
            owner = cls(**json.loads(data))
            expires = float(owner.expires)
            return replace(owner, pid=int(owner.pid), expires=expires) if math.isfinite(expires) else None
        except (ValueError, TypeError, OverflowError, RecursionError):
            return None

    def __str__(self) -> str:
        return f"{self.flow} on {self.host} since {self.started}"

    def until(self, expires: float) -> bytes:
        """The lease of this owner, up to then."""
        return json.dumps(asdict(replace(self, expires=expires))).encode()

    @property
    def has_died(self) -> bool:
        """Whether its process is gone, as far as one can see from here; where it cannot be seen, it is not."""
        if (self.host, self.pids) != (socket.gethostname(), _pids()):
            return False
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:  # somebody else's process
            return False
        return False

    @property
    def is_dead(self) -> bool:
        """Whether it seems to have ended, for people only: by this machine's clock, which may not be its own."""
        return self.has_died or time.time() > self.expires


class LostError(UnavailableError):
    """A target that another run works on by now."""

    @classmethod
    def of(cls, target: Location, why: str) -> Self:
        """The one line that a run ends with whose lease is lost."""
        return cls(f"{target}: stopped, as {why}; run it again to resume")


def owner_of(target: Location, key: str = LEASE) -> Owner | None:
    """Who holds the lease of a target, or held it when it was killed; None where there is none to be understood."""
    return Owner.of(target.read_if_there(key) or b"")


def _pids() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
