"""Sources on web servers: a change is noticed, whatever a server tells of its files and however it answers."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.stores import web
from storage.stores.entry import HASHED
from storage.stores.errors import ChangedError, StorageError, UnavailableError
from storage.stores.location import Entry, Location
from tests.services import free_ports
from tests.web_server import Site, serving

OLD, NEW = os.urandom(10_000), os.urandom(10_000)
"""Of one length, so that nothing but a tag tells them apart."""
NINE, TEN = 1_700_000_000.0, 1_700_003_600.0


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site(files={"in/a.png": OLD, "in/deep/b.png": b"b"})) as site:
        yield site


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up soon."""
    for name in ("fsspec_store.PATIENCE", "fsspec_store.IMPATIENCE", "errors.IMPATIENCE"):
        monkeypatch.setattr(f"storage.stores.{name}", 0.2)
    monkeypatch.setattr("storage.stores.errors.FIRST_WAIT", 0.01)


def told(site: Site) -> dict[str, Entry]:
    return {entry.key: entry for entry in Location.of(f"{site.address}/in").list()}


STRONG = {"etag": "strong"}
KINDS: dict[str, dict[str, Any]] = {
    "an ETag": STRONG,
    "a weak ETag and a time": {"etag": "weak", "written": {"in/a.png": NINE}},
    "a time": {"written": {"in/a.png": NINE}},
    "a length alone": {},
    "nothing": {"length": False},
    "an ETag and no length": STRONG | {"length": False},
    "an ETag, and packed": STRONG | {"packs": True},
    "an ETag, and neither length nor parts": STRONG | {"length": False, "ranges": False},
    "packed, without parts": {"packs": True, "ranges": False},
    "to GET alone": STRONG | {"refuses": 405},
    "to GET alone, forbidding HEAD": STRONG | {"refuses": 403},
    "elsewhere": STRONG | {"elsewhere": {"in/a.png": "store/1"}},
}
"""What a server tells, and how it answers."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_is_noticed_by_whatever_a_server_tells(kind: str, site: Site, tmp_path: Path) -> None:
    vars(site).update(KINDS[kind])
    site.files["store/1"] = OLD
    place = Location.of(f"{site.address}/in")
    before = told(site)
    entry = before["a.png"]
    assert set(before) == {"a.png", "deep/b.png"}
    assert (entry.size, place.info("a.png")) == (len(OLD), entry)
    assert told(site) == before
    assert place.fetch(entry) == place.read("a.png") == OLD
    assert place.fetch(entry, 100, 50) == OLD[100:150]
    assert place.fetch(entry, 9_000) == OLD[9_000:]
    place.download("a.png", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == OLD

    site.files["in/a.png"] = site.files["store/1"] = NEW
    site.written = dict.fromkeys(site.written, TEN)
    assert told(site)["a.png"] != entry
    with pytest.raises(ChangedError, match=r"in/a\.png: changed since it was listed$"):
        place.fetch(entry)
    if not entry.etag.startswith(HASHED):  # which a part does not tell
        with pytest.raises(ChangedError, match=r"changed since it was listed$"):
            place.fetch(entry, 100, 50)


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("length", [True, False])
def test_what_is_shorter_or_longer_now_is_changed(ranges: bool, length: bool, site: Site) -> None:
    site.ranges, site.length = ranges, length
    entry = told(site)["a.png"]
    for now in (OLD[:-1], OLD + b"more", b""):
        site.files["in/a.png"] = now
        for part in ((0, None), (9_990, 10), (9_999, 1)):
            if len(now) < len(OLD) or part == (0, None):
                with pytest.raises(StorageError, match=r"in/a\.png: "):
                    Location.of(f"{site.address}/in").fetch(entry, *part)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("length", [True, False])
def test_an_answer_that_breaks_off_is_no_file(length: bool, site: Site, tmp_path: Path) -> None:
    site.etag, site.length = "strong", length
    place = Location.of(f"{site.address}/in")
    entry = place.info("a.png")
    site.lacks = 10
    for read in (
        lambda: place.fetch(entry),
        lambda: place.read("a.png"),
        lambda: place.download("a.png", tmp_path / "file"),
    ):
        with pytest.raises(UnavailableError, match=r"in/a\.png"):
            read()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_one(site: Site) -> None:
    site.files["in/a.png"] = b""
    assert told(site)["a.png"].size == 0
    assert Location.of(f"{site.address}/in").fetch(told(site)["a.png"]) == b""


@pytest.mark.parametrize(("status", "says"), [(404, "gone since"), (403, r"403 \(Forbidden\)"), (304, "answers 304")])
def test_a_link_to_nothing_is_listed_and_says_why_when_it_is_read(status: int, says: str, site: Site) -> None:
    site.status["in/gone.png"] = status
    entry = told(site)["gone.png"]
    with pytest.raises(StorageError, match=rf"in/gone\.png: .*{says}") as refused:
        Location.of(f"{site.address}/in").fetch(entry)
    assert not isinstance(refused.value, UnavailableError)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(("status", "says"), [(503, "503"), (500, "500"), (401, r"401 \(Unauthorized\)")])
def test_a_listing_that_is_not_had_whole_is_none(status: int, says: str, site: Site) -> None:
    site.status["in/deep/b.png"] = status
    with pytest.raises(UnavailableError, match=rf"/in: refused by the web server: {says}"):
        told(site)


def test_folders_without_end_are_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "DEEPEST", 3)
    site.files[f"in/{'loop/' * 5}c.png"] = b"c"
    with pytest.raises(StorageError, match=r"/in: folders in folders without end, such as .*/in/loop/loop/loop"):
        told(site)


def test_nothing_there_is_told_from_nobody_there(site: Site, hasty: None) -> None:
    assert Location.of(f"{site.address}/nowhere").what_is_there() == "nothing"
    nobody = Location.of(f"http://127.0.0.1:{free_ports()}/in")
    for ask in (nobody.what_is_there, nobody.list, lambda: nobody.read("a.png")):
        with pytest.raises(UnavailableError, match="/in"):
            ask()
