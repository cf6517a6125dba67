"""One run at a time on a target: a lease, `TARGET/.dtls/lease.json`, held while a run works.

It says whose it is and until when. Its owner writes it anew, with a later end, every 30 seconds, and removes it when
it leaves. A lease whose end has passed, or whose process on this host is gone, belongs to nobody: the next run takes
it over. Of several that try, the one does that first makes a lease on the lease, named after its bytes: to delete
the lease and create it again would not be enough, as the second would delete what the first has just created.

A lease saves work; nothing rests on it. Where two runs do work at once, as after the sleep of one's machine, both put
whole files in their places, receipts last, and what they put there follows from the fingerprints of the units alone:
they write the same bytes twice. Where they differ in options, an output may be of one and its receipt of the other;
the sizes in the receipts tell the next run, which makes it again, and the sums tell whoever verifies. The run that
lost its lease learns of it at its next renewal, and stops at its next sample.
"""

import hashlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from storage.locations import TEMPORARY, Location, StorageError

STATE = ".dtls"
LEASE = f"{STATE}/lease.json"
LASTS = 120.0
EVERY = 30.0
GRACE = 30.0
"""Seconds by which the clocks of two hosts may differ."""
ATTEMPTS = 20


@dataclass(frozen=True)
class Owner:
    """What a lease says: which run holds it, and until when, in seconds since 1970."""

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
            return replace(owner, pid=int(owner.pid), expires=float(owner.expires))
        except (ValueError, TypeError, OverflowError, RecursionError):
            return None

    def __str__(self) -> str:
        return f"{self.flow} on {self.host} since {self.started}"

    def until(self, expires: float) -> bytes:
        """The lease of this owner, up to then."""
        return json.dumps(asdict(replace(self, expires=expires))).encode()

    @property
    def is_gone(self) -> bool:
        """Whether the lease has ended, or its process has, as far as one can see from here."""
        if not time.time() <= self.expires + GRACE:  # so that NaN has ended, too
            return True
        if (self.host, self.pids) != (socket.gethostname(), _pids()):
            return False
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:  # somebody else's process
            return False
        return False


class Lease:
    """A lease that is held; `lost` is set when it is no longer, and the run should stop then."""

    def __init__(self, target: Location, owner: Owner, expires: float) -> None:
        self.target, self.owner, self.expires = target, owner, expires
        self.lost = threading.Event()
        self.why = ""

    def check(self) -> None:
        """StorageError where the lease is lost."""
        if self.lost.is_set():
            raise StorageError(f"{self.target}: stopped, as {self.why}; run it again to go on")

    def renew(self, lasts: float) -> None:
        """Move the end of the lease to `lasts` seconds from now, or find that it is lost."""
        expires = time.time() + lasts
        try:
            owner = owner_of(self.target)
            if owner is None or owner.id != self.owner.id:
                self._lose(f"another run took over ({owner})" if owner else f"somebody removed or changed {LEASE}")
                return
            self.target.write(LEASE, self.owner.until(expires))
        except StorageError as error:
            if time.time() > self.expires:
                self._lose(f"{LEASE} could not be renewed in time ({error})")
            return
        self.expires = expires

    def remove(self) -> None:
        """Remove the lease if it is still held."""
        owner = owner_of(self.target)
        if owner is not None and owner.id == self.owner.id:
            self.target.delete(LEASE)
            if self.target.local is not None:
                with suppress(OSError):  # where receipts are
                    (self.target.local / STATE).rmdir()

    def _lose(self, why: str) -> None:
        self.why = why
        self.lost.set()


@contextmanager
def hold(target: Location, flow: str, lasts: float = LASTS, every: float = EVERY) -> Iterator[Lease]:
    """Hold the lease of `target` while the body runs; StorageError where another run does."""
    if target.local is not None and target.local.is_file():
        raise StorageError(f"{target}: is a file; choose a folder")
    owner, expires = Owner.here(flow), time.time() + lasts
    _acquire(target, LEASE, owner, expires)
    lease, left = Lease(target, owner, expires), threading.Event()

    def keep() -> None:
        while not left.wait(every) and not lease.lost.is_set():
            lease.renew(lasts)

    keeper = threading.Thread(target=keep, name="lease", daemon=True)
    try:
        keeper.start()
        yield lease
    finally:
        left.set()
        keeper.join()
        with suppress(StorageError):  # it ends by itself, and what the body raised matters more
            lease.remove()


def is_left_over(key: str) -> bool:
    """Whether `key` may be of a run that was killed: a temporary file, a lease, or a lease on a lease."""
    return bool(TEMPORARY.fullmatch(key)) or (key.startswith(LEASE.removesuffix(".json")) and key.endswith(".json"))


def owner_of(target: Location, key: str = LEASE) -> Owner | None:
    """Who holds the lease of a target, or held it when it was killed; None where there is none to be understood."""
    return Owner.of(target.read_if_there(key) or b"")


def is_free(target: Location) -> bool:
    """Whether nobody works on a target, by its lease."""
    return _is_abandoned(target, LEASE)


def sweep(target: Location, keys: Iterable[str], nested: Sequence[str] = ()) -> None:
    """Remove what killed runs left at a target whose lease is held: of `keys`, and unfinished uploads.

    Uploads to `nested` targets below it are others'.
    """
    for key in filter(is_left_over, keys):
        if TEMPORARY.fullmatch(key) or (key != LEASE and _is_abandoned(target, key)):
            target.delete(key)
    target.abort_uploads(nested)


def _is_abandoned(target: Location, key: str) -> bool:
    owner = owner_of(target, key)
    return owner is None or owner.is_gone


def _acquire(target: Location, key: str, owner: Owner, expires: float) -> None:
    """Make the lease `key` of `owner`; StorageError where another holds it."""
    for _ in range(ATTEMPTS):
        if target.create(key, owner.until(expires)):
            return
        found = target.read_if_there(key)
        if found is None:  # its owner left in between
            continue
        holder = Owner.of(found)
        if holder is not None and holder.id == owner.id:  # the first answer of the server was lost
            return
        if holder is not None and not holder.is_gone:
            raise StorageError(
                f"{target}: another run works here ({holder}); wait for it, or remove {LEASE} if it is gone"
            )
        claim = f".dtls/lease-{hashlib.sha256(found).hexdigest()[:16]}.json"
        _acquire(target, claim, owner, time.time() + LASTS)
        try:
            if target.read_if_there(key) == found:
                target.write(key, owner.until(expires))
                return
        finally:
            target.delete(claim)
    raise StorageError(f"{target}: {key} comes and goes; run it again")


def _pids() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
