"""One run at a time on a target: a lease, `TARGET/.dtls/lease.json`, held while a run works.

It says whose it is. Its owner writes it anew every 30 seconds, and removes it when it leaves. A lease that was not
written for two minutes, or whose process on this host is gone, belongs to nobody: the next run takes it over. How old
it is is asked of the store, by the store's own clock; where a store does not tell, or has a lease of tomorrow, as
after its clock was set back, the lease is watched for so long. The clocks of two machines are never compared. Of
several that try, the one takes it over that first makes a lease on the lease, named after its bytes: to delete the
lease and create it again would not be enough, as the second would delete what the first has just created.

Whoever holds a lease asks before each change of the target whether it is still its own (`storage.stores.fence`): for
a minute and a half after it was last written without looking, then by looking. So a run that was paused, or whose
machine slept, finds that another took over before it changes anything, and stops with one line.

A run that ends while one of its threads is still at work does not remove its lease: it runs out.
"""

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from storage.receipts.claims import Claim
from storage.receipts.owners import LEASE, TRUSTED, LostError, Owner, owner_of
from storage.stores.entry import PROBES, STATE
from storage.stores.fence import LEASES, clock
from storage.stores.location import TEMPORARY, ChangedError, Entry, Location, StorageError
from storage.stores.scratch import sweep_scratch

LASTS = 120.0
EVERY = 30.0
WAKES_EVERY = 1.0
"""Seconds that its owner waits at a time: waiting stops while the machine sleeps, and the lease's life does not."""
ATTEMPTS = 20
ROUNDING = 2.0
"""Seconds by which a file may seem to be younger than it can be, where times are whole seconds."""


class Lease:
    """A lease that is held; `lost` is set when it is no longer, and the run should stop then."""

    def __init__(self, target: Location, owner: Owner, lasts: float, written: float) -> None:
        self.target, self.owner, self.lasts = target, owner, lasts
        self.lost = threading.Event()
        self.why = ""
        self._written = written
        self._renewing = threading.Lock()
        self._at_work = 0
        self._counting = threading.Lock()

    def check(self) -> None:
        """LostError where the lease is known to be lost."""
        if self.lost.is_set():
            raise LostError.of(self.target, self.why)

    def confirm(self) -> None:
        """LostError where the lease is lost, which is looked up unless it was written lately."""
        self.check()
        if not self._is_trusted:
            self.renew()
            if not self._is_trusted:
                self._lose(f"{LEASE} could not be renewed in time")
        self.check()

    def renew(self) -> None:
        """Write the lease anew, or find that it is lost."""
        with self._renewing:
            asked = clock()
            try:
                why = self._taken()
            except StorageError as error:
                if clock() > self._written + self.lasts:
                    self._lose(f"{LEASE} could not be renewed in time ({error})")
                return
            if why:
                self._lose(why)
            else:
                self._written = asked

    def _taken(self) -> str:
        """Write the lease anew if it is still held, else say what became of it."""
        entry, owner = _listed(self.target, LEASE)
        if owner is not None and owner.id != self.owner.id:
            return f"another run took over ({owner})"
        if entry is None or owner is None:
            return f"somebody removed or changed {LEASE}"
        if _replaced(self.target, entry, self.owner, self.lasts):
            return ""
        return f"another run took over ({owner_of(self.target) or 'and left'})"

    def leave(self) -> None:
        """Let threads that go on when the run has ended change nothing more."""
        self._lose("its run has ended")

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While the body runs, in whatever thread, the lease is not removed, even if the run ends before."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def run_out(self) -> None:
        """Do not remove the lease when the run ends: another process may be at work for it even then."""
        self._count(1)

    def _count(self, more: int) -> None:
        with self._counting:
            self._at_work += more

    def remove(self) -> None:
        """Remove the lease if it is still held, and nobody is at work any longer."""
        if self.lost.is_set() or self._at_work:
            return
        entry, owner = _listed(self.target, LEASE)
        if entry is None or owner is None or owner.id != self.owner.id or not self.target.remove(entry):
            return
        if self.target.local is not None:
            with suppress(OSError):  # where receipts are
                (self.target.local / STATE).rmdir()

    @property
    def claim(self) -> Claim:
        """What those who work for this run in other processes, and in other folders, know it by."""
        return Claim(self.target.absolute, self.owner.id, self.lasts)

    @property
    def _is_trusted(self) -> bool:
        return clock() <= self._written + TRUSTED * self.lasts

    def _lose(self, why: str) -> None:
        if not self.lost.is_set():
            self.why = why
            self.lost.set()


@contextmanager
def hold(
    target: Location, flow: str, lasts: float | None = None, every: float | None = None, also: Sequence[Location] = ()
) -> Iterator[Lease]:
    """Hold the lease of `target` while the body runs; StorageError where another run does.

    Meanwhile this process changes nothing there, or at the places `also`, without asking whether it is still held.
    """
    lasts, every = lasts or LASTS, every or EVERY
    if target.local is not None and target.local.is_file():
        raise StorageError(f"{target}: is a file; choose a folder")
    owner, asked = Owner.here(flow), clock()
    _acquire(target, LEASE, owner, lasts)
    lease, left = Lease(target, owner, lasts, asked), threading.Event()

    def keep() -> None:
        renewed = asked
        while not left.wait(min(every, WAKES_EVERY)) and not lease.lost.is_set():
            if clock() >= renewed + every:
                renewed = clock()
                lease.renew()

    keeper = threading.Thread(target=keep, name="lease", daemon=True)
    try:
        keeper.start()
        with target.fenced(lease.confirm, also):
            yield lease
    finally:
        left.set()
        keeper.join()
        with suppress(StorageError):  # it ends by itself, and what the body raised matters more
            lease.remove()
        lease.leave()


def is_stale(key: str) -> bool:
    """Whether `key` may be of a run that was killed: a temporary file, a lease, or what asked for names."""
    is_lease = key.startswith(LEASES) and key.endswith(".json")
    return is_lease or key.startswith(PROBES) or bool(TEMPORARY.fullmatch(key))


def is_released(target: Location, key: str = LEASE) -> bool:
    """Whether nobody works on a target, by its lease, as far as that can be told without waiting."""
    owner = owner_of(target, key)
    return owner is None or owner.has_died or _is_old(target, key)


def sweep(target: Location, keys: Iterable[str], nested: Sequence[str] = ()) -> None:
    """Remove what killed runs left at a target whose lease is held, of `keys` and of uploads, and in TMPDIR.

    Uploads to `nested` targets below it are others'.
    """
    for key in filter(is_stale, keys):
        if not key.startswith(LEASES) or (key != LEASE and is_released(target, key)):
            target.delete(key)
    target.abort_uploads(nested)
    sweep_scratch()


def _is_old(target: Location, key: str) -> bool:
    """Whether a lease was not written for as long as it lasts, by the clock of its store; False where it has none."""
    try:
        age = target.age(key)
    except StorageError:  # it is gone, or nothing may be written here
        return False
    return age is not None and age > LASTS


def _is_abandoned(target: Location, key: str, owner: Owner, found: bytes) -> bool:
    """Whether a lease with these bytes belongs to nobody; where its store cannot tell its age, it is watched first.

    So it is where its owner has left meanwhile.
    """
    if owner.has_died:
        return True
    try:
        age = target.age(key)
    except StorageError as error:
        if _is_missing(error):
            return True
        raise
    if age is not None and age >= -ROUNDING:
        return age > LASTS
    seen = clock()
    while (left := target.read_if_there(key)) == found:
        if clock() - seen > LASTS:
            return True
        time.sleep(min(1.0, LASTS / 20))
    return left is None


def _acquire(target: Location, key: str, owner: Owner, lasts: float) -> None:
    """Make the lease `key` of `owner`; StorageError where another holds it."""
    for _ in range(ATTEMPTS):
        if target.create(key, owner.until(time.time() + lasts)):
            return
        found = target.read_if_there(key)
        if found is None:  # its owner left in between
            continue
        holder = Owner.of(found)
        if holder is not None and holder.id == owner.id:  # the first answer of the server was lost
            return
        if holder is not None and not _is_abandoned(target, key, holder, found):
            raise StorageError(
                f"{target}: another run works here ({holder}); wait for it, or remove {LEASE} if it is gone"
            )
        claim = f"{LEASES}-{hashlib.sha256(found).hexdigest()[:16]}.json"
        _acquire(target, claim, owner, lasts)
        try:
            entry, _ = _listed(target, key)
            if entry is not None and target.fetch(entry) == found and _replaced(target, entry, owner, lasts):
                return
        except ChangedError:
            continue
        finally:
            target.delete(claim)
    raise StorageError(f"{target}: {key} comes and goes; run it again")


def _replaced(target: Location, entry: Entry, owner: Owner, lasts: float) -> bool:
    """Write a lease in the place of a version of it; False where there is another version by now."""
    data = owner.until(time.time() + lasts)
    return target.replace(entry, data) or target.read_if_there(entry.key) == data  # its first answer was lost


def _listed(target: Location, key: str) -> tuple[Entry | None, Owner | None]:
    """A lease as it is listed, and whose it is by the bytes of that very version; None where there is none."""
    try:
        entry = target.info(key)
        return entry, Owner.of(target.fetch(entry))
    except ChangedError:  # between the two
        return None, owner_of(target, key)
    except StorageError as error:
        if _is_missing(error):
            return None, None
        raise


def _is_missing(error: StorageError) -> bool:
    return isinstance(error.__cause__, FileNotFoundError | NotADirectoryError)
