"""S3 that misbehaves: an operation ends with the right bytes, or with one line that names the place and the cause."""

import errno
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import s3fs
from aiohttp import ClientResponseError, InvalidURL, RequestInfo
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    UnauthorizedSSOTokenError,
)
from huggingface_hub.errors import HTTPError as HubError  # type: ignore[attr-defined]
from huggingface_hub.errors import OfflineModeIsEnabled
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from storage.receipts.lease import hold
from storage.stores import errors
from storage.stores.errors import DamagedError, in_one_line, may_pass, retried
from storage.stores.location import ChangedError, Entry, Location, StorageError, UnavailableError
from storage.stores.s3 import CONFIG, S3
from tests.faulty_s3 import (
    Fault,
    FaultyS3,
    Request,
    corrupt,
    hang,
    reset,
    reset_within,
    slow,
    status,
    status_after,
    truncate,
    truncate_silently,
)
from tests.services import S3Server

DATA = os.urandom(5000)
PART = 5 * 2**20
"""The least that an S3 server takes as a part of an upload which is not the last."""
LARGE = os.urandom(2 * PART + 1000)
PATIENCE, READ_TIMEOUT = 5.0, 0.4
"""Seconds: enough for what passes, and for an answer of a few bytes."""
SOON = 0.3
"""Seconds after which what does not pass is given up."""

Operation = Callable[[Location, Path], object]


def created(location: Location, _: Path) -> object:
    """Whether a key is made; where the answer was lost, the next try finds it there."""
    return location.create("new", DATA) or location.read("new")


def downloaded(location: Location, folder: Path) -> bytes:
    location.download("key", folder / "copy")
    return (folder / "copy").read_bytes()


def written(location: Location, _: Path) -> bytes:
    location.write("new", DATA)
    return location.read("new")


def uploaded(location: Location, folder: Path) -> bytes:
    (folder / "file").write_bytes(DATA)
    location.upload("new", folder / "file")
    return location.read("new")


def deleted(location: Location, _: Path) -> bool:
    location.delete("key")
    return location.exists("key")


ENTRY = Entry("key", len(DATA), hashlib.md5(DATA).hexdigest())
READS: dict[str, tuple[Operation, tuple[object, ...]]] = {
    "read": (lambda location, _: location.read("key"), (DATA,)),
    "fetch": (lambda location, _: location.fetch(ENTRY), (DATA,)),
    "download": (downloaded, (DATA,)),
}
OPERATIONS: dict[str, tuple[Operation, tuple[object, ...]]] = {
    **READS,
    "list": (lambda location, _: location.list(), ([ENTRY],)),
    "fetch a part": (lambda location, _: location.fetch(ENTRY, 100, 200), (DATA[100:300],)),
    "info": (lambda location, _: location.info("key"), (ENTRY,)),
    "exists": (lambda location, _: location.exists("key"), (True,)),
    "kind": (lambda location, _: location.what_is_there(), ("folder",)),
    "write": (written, (DATA,)),
    "create": (created, (True, DATA)),
    "upload": (uploaded, (DATA,)),
    "delete": (deleted, (False,)),
}
PASSING: dict[str, Fault] = {
    "busy": status(503, "SlowDown"),
    "too many": status(429, "TooManyRequests"),
    "broken": status(500, "InternalError"),
    "broken after the work": status_after(500, "InternalError"),
    "bad gateway": status(502, "BadGateway"),
    "reset": reset(),
    "reset within": reset_within(3),
    "truncated": truncate(3),
    "silently truncated": truncate_silently(3),
    "hanging": hang(),
}
LASTING = {"busy": "SlowDown|503", "reset": "onnect", "hanging": "Read timeout"}
"""Faults that do not pass, with what the message says of each."""


def each(place: int, faults: int) -> list[str]:
    """Operations for one of so many faults: reading and writing for all, and each other one for one of them."""
    return ["read", "write", *list(OPERATIONS)[place::faults]]


def with_operations(faults: list[Any]) -> list[Any]:
    """Faults with what is tried with each: some operations, every night all of them."""
    some = [(fault, each(place, len(faults))) for place, fault in enumerate(faults)]
    return some + [pytest.param(fault, [*OPERATIONS], marks=pytest.mark.nightly) for fault in faults]


@pytest.fixture(scope="module")
def running(s3_server: S3Server) -> Iterator[FaultyS3]:
    """Give a proxy to all tests."""
    with FaultyS3(s3_server) as proxy:
        yield proxy


@pytest.fixture
def proxy(running: FaultyS3, s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """Lead a user's requests through a proxy, as yet without faults; tries follow each other soon."""
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr("storage.stores.errors.FIRST_WAIT", 0.01)
    monkeypatch.setattr("storage.stores.errors.MAX_WAIT", 0.05)
    monkeypatch.setattr("storage.stores.s3.PATIENCE", PATIENCE)
    monkeypatch.setattr("storage.stores.s3.IMPATIENCE", PATIENCE)
    monkeypatch.setattr("storage.stores.s3.PART", PART)
    monkeypatch.setattr("storage.stores.s3.PIECE", PART)
    running.requests.clear()
    yield running
    running.clear()


@pytest.fixture
def hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a server for hung soon; it is asked for before the `location` that is to do so."""
    monkeypatch.setitem(CONFIG, "read_timeout", READ_TIMEOUT)


@pytest.fixture
def soon(proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up soon."""
    for name in ("errors.IMPATIENCE", "s3.PATIENCE", "s3.IMPATIENCE"):
        monkeypatch.setattr(f"storage.stores.{name}", SOON)


@pytest.fixture
def location(proxy: FaultyS3, s3: str) -> Location:
    """Give a place behind the proxy that holds one file, `key`."""
    location = Location.of(s3)
    location.write("key", DATA)
    proxy.requests.clear()
    return location


@pytest.fixture(scope="module")
def direct(s3_server: S3Server) -> Any:
    """Give a client that goes past the proxy."""
    return s3_server.client()


def refusal(kind: type[StorageError], do: Callable[[], object], *named: str) -> str:
    """The one line with which something is refused; it names all of `named`."""
    with pytest.raises(StorageError) as refused:
        do()
    message = str(refused.value)
    assert refused.type is kind, message
    assert "\n" not in message
    assert all(name in message for name in named), message
    return message


def unfinished(direct: Any, location: Location) -> list[str]:
    uploads = direct.list_multipart_uploads(Bucket="data", Prefix=f"{location.root.partition('/')[2]}/")
    return [upload["Key"] for upload in uploads.get("Uploads", ())]


def put(direct: Any, location: Location, key: str, data: bytes) -> None:
    direct.put_object(Bucket="data", Key=location.path(key).partition("/")[2], Body=data)


def is_part(number: int) -> Callable[[Request], bool]:
    return lambda request: request.query.get("partNumber") == str(number)


def completes(request: Request) -> bool:
    return request.method == "POST" and "uploadId" in request.query


def is_conditional(request: Request) -> bool:
    return "If-None-Match" in request.headers


@pytest.mark.integration
@pytest.mark.usefixtures("hangs")
@pytest.mark.parametrize(("fault", "operations"), with_operations([*PASSING]))
def test_what_passes_leaves_no_trace(
    fault: str, operations: list[str], proxy: FaultyS3, location: Location, tmp_path: Path
) -> None:
    for name in operations:
        operation, expected = OPERATIONS[name]
        proxy.inject(PASSING[fault], times=1 if fault == "hanging" else 2)
        assert operation(location, tmp_path) in expected, name
        assert proxy.requests[0].fault, name
        proxy.clear()
        location.write("key", DATA)
        location.delete("new")
        proxy.requests.clear()


@pytest.mark.quiet  # each operation has a few seconds
@pytest.mark.integration
@pytest.mark.usefixtures("hangs")
@pytest.mark.parametrize(("fault", "operations"), with_operations([*LASTING]))
def test_a_server_that_does_not_recover_is_named_in_time(
    fault: str, operations: list[str], proxy: FaultyS3, location: Location, soon: None, tmp_path: Path
) -> None:
    cause = LASTING[fault]
    proxy.inject(PASSING[fault])
    for name in operations:
        operation = OPERATIONS[name][0]
        proxy.requests.clear()
        started = time.monotonic()
        message = refusal(UnavailableError, lambda do=operation: do(location, tmp_path), str(location))  # type: ignore[misc]
        assert re.search(cause, message), message
        assert time.monotonic() - started < SOON + 3 * READ_TIMEOUT + 1, name
    assert not (tmp_path / "copy").exists()


@pytest.mark.integration
def test_a_server_that_did_not_answer_is_waited_for_no_longer_than_one_that_never_did(
    proxy: FaultyS3, location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.stores.s3.PATIENCE", SOON)
    monkeypatch.setattr("storage.stores.s3.IMPATIENCE", 0.0)
    proxy.inject(status(503, "SlowDown"))
    tries = []
    for _ in range(2):
        proxy.requests.clear()
        refusal(UnavailableError, lambda: location.read("key"), "SlowDown")
        tries.append(len(proxy.requests))
    assert tries[0] > tries[1] == 1
    proxy.clear()
    assert location.read("key") == DATA
    proxy.inject(status(503, "SlowDown"), times=2)
    assert location.read("key") == DATA


@pytest.mark.integration
@pytest.mark.parametrize(
    "fault", [status(400, "ExpiredToken"), status(403, "InvalidAccessKeyId"), status(401, "?")], ids=lambda f: f.name
)
def test_credentials_that_are_refused_are_the_places_fault_and_told_at_once(
    fault: Fault, proxy: FaultyS3, location: Location, tmp_path: Path
) -> None:
    proxy.inject(fault)
    for name in ("read", "fetch", "fetch a part", "list", "write", "create", "upload", "delete"):
        proxy.requests.clear()
        message = refusal(UnavailableError, lambda do=OPERATIONS[name][0]: do(location, tmp_path), str(location))  # type: ignore[misc]
        assert fault.name.split()[-1] in message
        assert len(proxy.requests) == 1


@pytest.mark.integration
@pytest.mark.parametrize(
    ("operation", "checksums"),
    [
        ("read", "when_supported"),
        ("read", "when_required"),
        ("fetch", "when_required"),
        ("download", "when_supported"),
        pytest.param("fetch", "when_supported", marks=pytest.mark.nightly),
        pytest.param("download", "when_required", marks=pytest.mark.nightly),
    ],
)
def test_damaged_bodies_are_never_taken_for_data(
    operation: str,
    checksums: str,
    proxy: FaultyS3,
    s3: str,
    soon: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the server's checksum, or else by the ETag."""
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", checksums)
    location, read = Location.of(s3), READS[operation][0]
    location.write("key", DATA)
    (tmp_path / "copy").write_bytes(b"old")
    for fault, kind in (
        (truncate(3), UnavailableError),
        (truncate(len(DATA) - 1), UnavailableError),
        (reset_within(4000), UnavailableError),
        (truncate_silently(4000), StorageError),
        (truncate_silently(0), StorageError),
        (corrupt(), StorageError),
    ):
        proxy.inject(fault, when="GET")
        refusal(kind, lambda: read(location, tmp_path), f"{location}/key")
        proxy.clear()
    assert (tmp_path / "copy").read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "copy"]
    proxy.inject(corrupt(), when="GET", times=2)
    assert read(location, tmp_path) == DATA


@pytest.mark.integration
def test_parts_of_a_file_come_whole(proxy: FaultyS3, location: Location, soon: None) -> None:
    for start, length in ((0, 1), (100, 200), (4000, 1000), (4999, 1), (0, 5000), (77, 0)):
        proxy.inject(truncate_silently(0), when="GET", times=1)
        assert location.fetch(ENTRY, start, length) == DATA[start : start + length]
        proxy.clear()
    assert location.fetch(ENTRY, 4000) == DATA[4000:]
    proxy.inject(truncate_silently(100), when="GET")
    refusal(StorageError, lambda: location.fetch(ENTRY, 100, 200), f"{location}/key", "100 bytes came, and 200")


@pytest.mark.integration
@pytest.mark.usefixtures("hangs")
def test_a_slow_body_is_waited_for(proxy: FaultyS3, location: Location) -> None:
    proxy.inject(slow(10_000), when="GET", times=1)
    started = time.monotonic()
    assert location.read("key") == DATA
    assert time.monotonic() - started > READ_TIMEOUT
    assert len(proxy.requests) == 1


@pytest.mark.integration
def test_a_listing_over_pages_is_whole(proxy: FaultyS3, s3: str, direct: Any) -> None:
    location, keys = Location.of(s3), [f"{number:04}.png" for number in range(1003)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: put(direct, location, key, b""), keys))
    for fault in (status(503, "SlowDown"), reset(), truncate(100), truncate_silently(100)):
        proxy.requests.clear()
        proxy.inject(fault, when=lambda request: "continuation-token" in request.query, times=2)
        assert [entry.key for entry in location.list()] == keys
        assert [request.fault for request in proxy.requests] == ["", fault.name, fault.name, ""]
        proxy.clear()


@pytest.mark.integration
def test_a_listing_that_is_no_xml_is_refused_in_one_line(proxy: FaultyS3, location: Location, soon: None) -> None:
    proxy.inject(truncate_silently(100))
    refusal(UnavailableError, location.list, str(location))


@pytest.mark.integration
def test_a_part_that_fails_is_put_again_alone(
    proxy: FaultyS3, location: Location, direct: Any, tmp_path: Path
) -> None:
    (tmp_path / "large.tar").write_bytes(LARGE)
    for fault in (status(500, "InternalError"), reset(), status_after(503, "SlowDown")):
        proxy.requests.clear()
        proxy.inject(fault, when=is_part(2), times=3)
        location.upload("large", tmp_path / "large.tar")
        parts = sorted(request.query["partNumber"] for request in proxy.requests if "partNumber" in request.query)
        assert parts == ["1", "2", "2", "2", "2", "3"]
        assert location.read("large") == LARGE
        assert unfinished(direct, location) == []
        location.delete("large")


@pytest.mark.integration
def test_a_part_that_fails_for_good_leaves_what_was_there_and_nothing_unfinished(
    proxy: FaultyS3, location: Location, soon: None, direct: Any, tmp_path: Path
) -> None:
    (tmp_path / "large").write_bytes(LARGE)
    for fault, cause in ((status(503, "SlowDown"), "SlowDown"), (status(400, "ExpiredToken"), "ExpiredToken")):
        proxy.inject(fault, when=is_part(2))
        refusal(UnavailableError, lambda: location.upload("key", tmp_path / "large"), f"{location}/key", cause)
        proxy.clear()
    assert location.read("key") == DATA
    assert unfinished(direct, location) == []


REFUSED_WITHIN = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>Try again.</Message></Error>"


@pytest.mark.integration
@pytest.mark.parametrize(
    "fault",
    [
        status(500, "InternalError"),
        status_after(500, "InternalError"),
        status(404, "NoSuchUpload"),
        Fault("refused within 200", reaches_server=False, error=(200, "OK"), change=lambda _: REFUSED_WITHIN),
    ],
    ids=lambda fault: fault.name,
)
def test_an_upload_whose_end_fails_is_whole_and_nothing_unfinished(
    fault: Fault, proxy: FaultyS3, location: Location, direct: Any, tmp_path: Path
) -> None:
    (tmp_path / "large").write_bytes(LARGE)
    proxy.inject(fault, when=completes, times=2)
    location.upload("large", tmp_path / "large")
    assert location.read("large") == LARGE
    assert sum(map(completes, proxy.requests)) >= 2
    assert unfinished(direct, location) == []


@pytest.mark.integration
def test_the_types_of_uploads_are_told(location: Location, direct: Any, tmp_path: Path) -> None:
    for name, size in (("small.html", 10), ("large.html", len(LARGE))):
        (tmp_path / name).write_bytes(LARGE[:size])
        location.upload(name, tmp_path / name)
        key = location.path(name).partition("/")[2]
        assert direct.head_object(Bucket="data", Key=key)["ContentType"] == "text/html"


@pytest.mark.integration
def test_a_large_file_comes_down_whole(proxy: FaultyS3, location: Location, tmp_path: Path) -> None:
    location.write("large", LARGE)
    proxy.inject(truncate(1000), when="GET", times=2, after=1)
    proxy.inject(truncate_silently(1000), when="GET", times=2)
    proxy.inject(reset_within(1000), when="GET", times=2)
    location.download("large", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == LARGE


@pytest.mark.integration
def test_a_file_that_changes_while_it_comes_down_is_refused(
    proxy: FaultyS3, location: Location, direct: Any, tmp_path: Path
) -> None:
    location.write("large", LARGE)

    def replaced(request: Request) -> bool:
        if request.method == "GET" and request.headers["Range"] == f"bytes=0-{PART - 1}":
            put(direct, location, "large", LARGE[::-1])
        return False

    proxy.inject(reset(), when=replaced)
    refusal(ChangedError, lambda: location.download("large", tmp_path / "copy"), f"{location}/large", "changed since")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
def test_a_create_whose_answer_was_lost_is_made(proxy: FaultyS3, location: Location) -> None:
    for number, fault in enumerate((status_after(500, "InternalError"), reset_within(0))):
        proxy.inject(fault, when=is_conditional, times=1)
        location.create(f"new-{number}", DATA)
        assert location.read(f"new-{number}") == DATA
        proxy.inject(fault, when=is_conditional, times=1)
        with hold(location, "shard") as lease:
            lease.check()
        assert not location.exists(".dtls/lease.json")
        proxy.clear()


@pytest.mark.integration
def test_a_server_without_conditional_puts_is_looked_at_first(proxy: FaultyS3, location: Location) -> None:
    proxy.inject(status(501, "NotImplemented"), when=is_conditional)
    assert not location.create("key", b"other")
    assert location.create("new", b"new")
    assert not location.create("new", b"other")
    assert (location.read("key"), location.read("new")) == (DATA, b"new")
    assert sum(map(is_conditional, proxy.requests)) == 3
    with (
        hold(location, "shard"),
        pytest.raises(StorageError, match="another run works here"),
        hold(location, "shard"),
    ):
        pass


@pytest.mark.integration
def test_a_server_without_lists_of_uploads_is_no_hindrance(proxy: FaultyS3, location: Location) -> None:
    proxy.inject(status(501, "NotImplemented"), when=lambda request: "uploads" in request.query)
    location.abort_uploads()
    assert [request.server_status for request in proxy.requests] == [None]


@pytest.mark.integration
def test_what_changed_or_went_since_it_was_listed_is_never_taken_for_it(
    location: Location, direct: Any, proxy: FaultyS3
) -> None:
    (entry,) = location.list()
    for data in (DATA[::-1], DATA[:4000], b""):
        put(direct, location, "key", data)
        for part in ((), (100, 200), (4500, 100)):
            refusal(ChangedError, lambda part=part: location.fetch(entry, *part), f"{location}/key: changed since")  # type: ignore[misc]
    location.delete("key")
    for part in ((), (100, 200)):
        refusal(ChangedError, lambda part=part: location.fetch(entry, *part), f"{location}/key: gone since")  # type: ignore[misc]
    location.write("key", DATA)
    assert location.fetch(entry) == DATA
    proxy.inject(status(404, "NoSuchBucket"))
    refusal(UnavailableError, lambda: location.fetch(entry), f"{location}/key", "NoSuchBucket")


@pytest.mark.integration
def test_a_server_that_does_not_know_conditional_gets_is_seen_through(location: Location) -> None:
    (entry,) = location.list()
    location.write("key", DATA[::-1])
    assert isinstance(location.store, S3)
    location.store.fs.s3.meta.events.register(
        "before-sign.s3.GetObject", lambda request, **_: request.headers.__delitem__("If-Match")
    )
    for part in ((), (100, 200)):
        refusal(ChangedError, lambda part=part: location.fetch(entry, *part), f"{location}/key: changed since")  # type: ignore[misc]


KEYS = ("a?versionId=x.png", "a b+c%20d.png", "ü.png", "#x.png", "a/?x=1&y.png", "*[a].png", "100%.png", "~'\"<>.png")


@pytest.mark.integration
@pytest.mark.parametrize("below", ["", "/a?versionId=x", "/ü b+c%20d#x"])
def test_keys_of_any_name_are_listed_read_written_and_deleted(
    below: str, location: Location, direct: Any, tmp_path: Path
) -> None:
    place = Location.of(f"{location}/names{below}")
    for key in KEYS:
        place.write(key, key.encode())
        put(direct, place, key + "2", b"past it")
        assert place.create(key + "3", b"created")
        (tmp_path / "file").write_bytes(b"uploaded")
        place.upload(key + "4", tmp_path / "file")
    expected = {
        **{key: key.encode() for key in KEYS},
        **{
            key + end: data
            for key in KEYS
            for end, data in (("2", b"past it"), ("3", b"created"), ("4", b"uploaded"))
        },
    }
    entries = place.list()
    assert {entry.key: place.read(entry.key) for entry in entries} == expected
    assert {entry.key: place.fetch(entry) for entry in entries} == expected
    for entry in entries:
        assert place.exists(entry.key)
        assert place.info(entry.key) == entry
        place.download(entry.key, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == expected[entry.key]
        place.delete(entry.key)
    assert place.list() == []
    assert [entry.key for entry in location.list()] == ["key"]


def answered(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")


def web_answer(status: int) -> ClientResponseError:
    return ClientResponseError(
        RequestInfo(URL("http://x/y"), "GET", CIMultiDictProxy(CIMultiDict())), (), status=status
    )


OF_PLACES = (errno.EFBIG, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EUCLEAN, errno.ENOMEDIUM)
OF_FILES = (errno.ENAMETOOLONG, errno.EACCES, errno.EINVAL)
ENDPOINT = {"endpoint_url": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("error", "passes", "of_the_place"),
    [
        (answered("SlowDown", 503), True, True),
        (answered("InternalError", 500), True, True),
        (answered("InternalError", 200), True, True),
        (answered("429", 429), True, True),
        (answered("?", 504), True, True),
        (answered("XMinioStorageFull", 507), True, True),
        (answered("NotImplemented", 501), False, False),
        (answered("AccessDenied", 403), False, False),
        (answered("NoSuchKey", 404), False, False),
        (answered("NoSuchBucket", 404), False, True),
        (answered("ExpiredToken", 400), False, True),
        (answered("?", 401), False, True),
        (EndpointConnectionError(**ENDPOINT), True, True),
        (ReadTimeoutError(**ENDPOINT), True, True),
        (NoCredentialsError(), False, True),
        (UnauthorizedSSOTokenError(), False, True),
        (DamagedError("short"), True, False),
        (ConnectionResetError(), True, True),
        (OSError(errno.ENOSPC, "No space left on device"), False, True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), False, True),
        (OSError(errno.EROFS, "Read-only file system"), False, True),
        (OSError(errno.EIO, "Input/output error"), False, True),
        *((OSError(number, os.strerror(number)), False, True) for number in OF_PLACES),
        *((OSError(number, os.strerror(number)), False, False) for number in OF_FILES),
        (web_answer(503), True, True),
        (web_answer(429), True, True),
        (web_answer(501), False, False),
        (web_answer(403), False, False),
        (web_answer(401), False, True),
        (InvalidURL("http://[bad"), False, False),
        (HubError("no such host\nat all"), True, True),
        (OfflineModeIsEnabled("HF_HUB_OFFLINE is set\nin 150 lines"), False, True),
        (FileNotFoundError(errno.ENOENT, "No such file"), False, False),
        (IsADirectoryError(errno.EISDIR, "Is a directory"), False, False),
    ],
    ids=repr,
)
def test_each_failure_is_told_of_the_place_or_of_the_file(error: Exception, passes: bool, of_the_place: bool) -> None:
    assert may_pass(error) is passes
    told = in_one_line("s3://bucket/key", error)
    assert type(told) is (UnavailableError if of_the_place else StorageError)
    assert str(told).startswith("s3://bucket/key: ")
    assert "\n" not in str(told)


def waits(monkeypatch: pytest.MonkeyPatch, failures: int) -> list[float]:
    """How long is waited after each of so many failures, without waiting."""
    slept: list[float] = []
    test, sleep = threading.current_thread(), time.sleep
    monkeypatch.setattr(time, "sleep", lambda s: slept.append(s) if threading.current_thread() is test else sleep(s))
    left = iter(range(failures))

    def do() -> str:
        if next(left, None) is not None:
            raise ConnectionResetError
        return "done"

    assert retried(do) == "done"
    monkeypatch.setattr(time, "sleep", sleep)
    return slept


def test_waits_grow_and_are_drawn_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [waits(monkeypatch, 12) for _ in range(100)]
    ceilings = [min(errors.MAX_WAIT, errors.FIRST_WAIT * 2**number) for number in range(12)]
    assert ceilings[-1] == errors.MAX_WAIT
    for waited, ceiling in zip(zip(*drawn, strict=True), ceilings, strict=True):
        assert all(0 <= seconds <= ceiling for seconds in waited)
        assert len(set(waited)) > 90
        assert 0.3 * ceiling < sum(waited) / len(waited) < 0.7 * ceiling


def test_patience_ends_and_the_last_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(errors, "IMPATIENCE", 0.1)
    monkeypatch.setattr(errors, "MAX_WAIT", 0.05)
    for error, patience, least in ((ConnectionResetError("x"), 0.3, 0.3), (DamagedError("x"), 10.0, 0.1)):
        started = time.monotonic()
        with pytest.raises(type(error)):
            retried(lambda error=error: (_ for _ in ()).throw(error), patience)  # type: ignore[misc]
        assert least <= time.monotonic() - started < 10.0


def test_what_cannot_pass_is_tried_once() -> None:
    for error in (answered("AccessDenied", 403), answered("ExpiredToken", 400), FileNotFoundError(), ValueError()):
        tries: list[int] = []

        def do(error: Exception = error, tries: list[int] = tries) -> None:
            tries.append(1)
            raise error

        with pytest.raises(type(error)):
            retried(do)
        assert len(tries) == 1
