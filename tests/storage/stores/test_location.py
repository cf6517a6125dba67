"""A location is the same locally, in memory and on S3: whole files, fresh listings, one line when it fails."""

import errno
import importlib.util
import os
import resource
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import s3fs
from botocore.exceptions import ClientError
from fsspec.implementations.memory import MemoryFileSystem

from storage.archives.source import place_of
from storage.stores import errors
from storage.stores.entry import FOLDER_LINK, FOLDER_LINK_OUT, LINK_OUT, UNLISTED, is_named_only
from storage.stores.errors import translating_errors
from storage.stores.local import BROKEN
from storage.stores.location import Entry, Location, StorageError, UnavailableError
from tests.faulty_s3 import Fault, FaultyS3
from tests.services import S3Server, free_ports

NOBODY = 65534


def refusal(do: Callable[[], object], *named: str) -> str:
    """The one line with which something is refused; it names all of `named`."""
    with pytest.raises(StorageError) as refused:
        do()
    message = str(refused.value)
    assert "\n" not in message
    assert all(name in message for name in named), message
    return message


def names(location: Location) -> list[str]:
    return [entry.key for entry in location.list()]


def test_what_is_written_is_read(location: Location) -> None:
    for data in (b"", b"one", bytes(range(256)) * 5000):
        location.write("folder/deep/file.bin", data)
        assert location.read("folder/deep/file.bin") == data
        assert location.exists("folder/deep/file.bin")


def test_a_listing_has_everything_below_sorted_with_sizes(location: Location) -> None:
    for key in ("b.png", "a/2.png", "a/10.png", "a/.hidden/x", "ü ß/日本.png", "a b+c%20#?.png"):
        location.write(key, key.encode())
    assert [(e.key, e.size) for e in location.list()] == [
        (key, len(key.encode()))
        for key in ("a b+c%20#?.png", "a/.hidden/x", "a/10.png", "a/2.png", "b.png", "ü ß/日本.png")
    ]
    for key in names(location):
        assert location.read(key) == key.encode()


def test_a_listing_is_fresh_and_its_tags_tell_of_changes(location: Location) -> None:
    assert location.list() == []
    location.write("key", b"old")
    first = location.list()
    assert first == location.list()
    location.write("key", b"new")
    second = location.list()
    assert [(e.key, e.size) for e in first] == [(e.key, e.size) for e in second] == [("key", 3)]
    assert first[0].etag != second[0].etag
    assert "" not in (first[0].etag, second[0].etag)


def test_a_listing_has_nothing_of_a_neighbour_whose_name_begins_alike(location: Location) -> None:
    Location.of(f"{location}-more").write("x", b"neighbour")
    location.write("x", b"own")
    assert names(location) == ["x"]


def test_what_is_deleted_is_gone_and_may_be_deleted_again(location: Location) -> None:
    location.write("a", b"1")
    location.write("b", b"2")
    location.delete("a")
    location.delete("a")
    location.delete("never/was")
    assert names(location) == ["b"]
    assert not location.exists("a")


def test_what_is_created_is_there_whole_and_never_takes_the_place_of_another(location: Location) -> None:
    assert location.list() == []
    assert location.create("folder/key", b"first")
    assert not location.create("folder/key", b"second")
    assert location.read("folder/key") == b"first"
    assert names(location) == ["folder/key"]
    location.delete("folder/key")
    assert location.create("folder/key", b"third")
    assert location.read("folder/key") == b"third"


@pytest.mark.parametrize("kind", ["local", pytest.param("s3", marks=pytest.mark.integration)])
def test_of_many_that_create_a_key_one_does(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    location = Location.of(request.getfixturevalue("s3") if kind == "s3" else tmp_path / "place")
    ready = Barrier(8)

    def create(number: int) -> bool:
        ready.wait(30)
        return location.create("key", str(number).encode())

    for _ in range(1 if kind == "s3" else 20):  # SeaweedFS takes seconds a time
        with ThreadPoolExecutor(8) as pool:
            created = list(pool.map(create, range(8)))
        assert created.count(True) == 1
        assert location.read("key") == str(created.index(True)).encode()
        location.delete("key")


def test_a_disk_without_hard_links_creates_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    location = Location.of(tmp_path)
    assert location.create("key", b"first")
    assert not location.create("key", b"second")
    assert location.read("key") == b"first"
    assert names(location) == ["key"]


def test_what_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refusal(lambda: Location.of(tmp_path / "file").create("key", b"1"), f"{tmp_path}/file/key")
    refusal(lambda: Location.of(tmp_path).create("../key", b"1"), "is no name for a file below it")


def test_files_go_up_and_come_down_whole(location: Location, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(7_000_000))
    location.upload("shards/large.bin", large)
    location.download("shards/large.bin", tmp_path / "new" / "copy.bin")
    assert (tmp_path / "new" / "copy.bin").read_bytes() == large.read_bytes() == location.read("shards/large.bin")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["copy.bin"]
    assert names(location) == ["shards/large.bin"]


def test_a_key_that_is_missing_is_named(location: Location, tmp_path: Path) -> None:
    location.write("there", b"1")
    for do in (lambda: location.read("gone"), lambda: location.download("gone", tmp_path / "copy")):
        assert refusal(do) == f"{location}/gone: no such file, folder or bucket"
    assert not location.exists("gone")
    assert not (tmp_path / "copy").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_missing_download_leaves_the_file_that_was_there(location: Location, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(b"old")
    refusal(lambda: location.download("gone", tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == b"old"


def test_an_upload_of_nothing_leaves_what_was_there(location: Location, tmp_path: Path) -> None:
    location.write("key", b"old")
    refusal(lambda: location.upload("key", tmp_path / "gone"), f"{location}/key")
    assert location.read("key") == b"old"
    assert names(location) == ["key"]


@pytest.mark.parametrize(
    "key",
    ["../x", "/x", "a/../../x", "a/..", "..", "", "a\\..\\x", "a\x00b", "a\nb", "\x1b[2J", "/etc/passwd", "a/../b"],
)
def test_a_key_that_would_leave_is_refused(location: Location, key: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    attempts: tuple[Callable[[], object], ...] = (
        lambda: location.write(key, b"1"),
        lambda: location.read(key),
        lambda: location.delete(key),
        lambda: location.exists(key),
        lambda: location.upload(key, tmp_path / "file"),
        lambda: location.download(key, tmp_path / "copy"),
        lambda: location / key,
    )
    for do in attempts:
        assert refusal(do).startswith(f"{location}: {key!r} is no name for a file below it (")
    assert location.list() == []


def test_a_location_below_a_location(location: Location) -> None:
    below = location / "a/b"
    below.write("c", b"1")
    assert names(location) == ["a/b/c"]
    assert names(below) == ["c"]
    assert str(below) == f"{location}/a/b"
    assert below.within(location)
    assert location.within(location)
    assert not location.within(below)
    assert not Location.of(f"{location}-more").within(location)


def test_what_is_there_is_told(location: Location) -> None:
    location.write("folder/file", b"1")
    assert (location / "folder").what_is_there() == "folder"
    assert (location / "folder/file").what_is_there() == "file"
    assert (location / "other").what_is_there() == "nothing"


def test_a_trailing_slash_changes_nothing(location: Location) -> None:
    location.write("key", b"1")
    assert names(Location.of(f"{location}/")) == ["key"]
    assert str(Location.of(f"{location}/")) == str(location)


def test_only_paths_are_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for address in (str(tmp_path / "x"), "x", f"file://{tmp_path}/x"):
        assert Location.of(address).local == tmp_path / "x"
    assert Location.of("~/x").local == tmp_path / "home" / "x"
    assert Location.of("memory://x").local is None


@pytest.mark.parametrize("name", ["a:b", "100%", "a#b", "a?b", "[x]", "*", "ü", "a b", "x::y"])
def test_a_local_folder_may_have_any_name(name: str, tmp_path: Path) -> None:
    location = Location.of(tmp_path / name)
    location.write("key", b"1")
    assert (tmp_path / name / "key").read_bytes() == b"1"
    assert names(Location.of(tmp_path / name)) == ["key"]


def test_a_local_write_that_fails_leaves_nothing_new(tmp_path: Path) -> None:
    location = Location.of(tmp_path)
    location.write("key", b"old")
    with pytest.raises(StorageError, match="key"):
        location.write("key", "text is no bytes")  # type: ignore[arg-type]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").touch()
    refusal(lambda: location.write("folder", b"new"), f"{tmp_path}/folder")
    refusal(lambda: location.write("key/below", b"new"), f"{tmp_path}/key/below")
    assert (tmp_path / "key").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "inside", "key"]


def test_a_write_that_breaks_off_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    location, other = Location.of(tmp_path / "place"), tmp_path / "large.bin"
    location.write("key", b"old")
    other.write_bytes(bytes(2_000_000))
    (tmp_path / "copy").write_bytes(b"old")
    attempts: tuple[Callable[[], object], ...] = (
        lambda: location.write("key", bytes(2_000_000)),
        lambda: location.upload("key", other),
        lambda: Location.of(tmp_path).download("large.bin", tmp_path / "copy"),
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))  # as if the disk were full then
    try:
        for do in attempts:
            refusal(do, "File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["copy", "key", "large.bin", "place"]
    assert (tmp_path / "copy").read_bytes() == location.read("key") == b"old"


def test_a_listing_names_links_that_lead_out_follows_them_where_asked_to_and_ends(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "image").write_bytes(b"123")
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "place" / "circle").symlink_to(tmp_path / "place")
    (tmp_path / "place" / "broken").symlink_to(tmp_path / "nowhere")
    (tmp_path / "place" / "file").symlink_to(tmp_path / "real" / "image")
    (tmp_path / "real" / "back").symlink_to(tmp_path / "place")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    listed = Location.of(tmp_path / "place").list()
    assert {e.key: e.etag for e in listed} == {
        "broken": BROKEN,
        "circle": FOLDER_LINK,
        "file": LINK_OUT,
        "linked": FOLDER_LINK_OUT,
    }
    with pytest.raises(StorageError, match="--follow-links"):
        Location.of(tmp_path / "place").fetch(listed[2])
    followed = Location.of(tmp_path / "place", follow_links=True).list()
    there = [(e.key, e.size) for e in followed if not is_named_only(e)]
    assert there == [("broken", 0), ("file", 3), ("linked/image", 3)]


def test_links_to_what_is_not_for_us_to_see_are_named_and_the_rest_is_listed() -> None:
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as made:
        place, closed = Path(made, "place"), Path(made, "closed")
        place.mkdir()
        closed.mkdir(mode=0)
        (place / "file.png").symlink_to(closed / "x.png")
        (place / "folder").symlink_to(closed / "deeper")
        (place / "kept.png").write_bytes(b"123")
        Path(made).chmod(0o755)
        os.seteuid(user or NOBODY)  # no mode keeps root out
        try:
            listed, followed = (Location.of(place, follow_links=follow).list() for follow in (False, True))
        finally:
            os.seteuid(user)
    assert [entry.key for entry in listed] == ["file.png", "folder", "kept.png"]
    assert [entry.etag for entry in listed[:2]] == [LINK_OUT, LINK_OUT]
    assert [entry.etag for entry in followed[:2]] == [f"{UNLISTED}Permission denied"] * 2


def test_links_within_a_folder_count_and_a_root_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "place" / "z").mkdir(parents=True)
    (tmp_path / "place" / "z" / "image").write_bytes(b"123")
    (tmp_path / "place" / "a").symlink_to("z")
    (tmp_path / "place" / "file").symlink_to("z/image")
    (tmp_path / "link").symlink_to("place")
    listed = [entry for entry in Location.of(tmp_path / "link").list() if not is_named_only(entry)]
    assert [(e.key, e.size) for e in listed] == [("file", 3), ("z/image", 3)]


@pytest.mark.parametrize(
    "address",
    [
        "s3://KEY:hunter2@bucket/x",
        "https://user:hunter2@host:9000/bucket",
        "s3://:hunter2@bucket/x",
        "ftp://hunter2@h/x",
        "simplecache::ftp://user:hunter2@h/x",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(address: str) -> None:
    message = refusal(
        lambda: Location.of(address), "credentials do not belong in an address", "AWS_SECRET_ACCESS_KEY"
    )
    assert "hunter2" not in message


@pytest.mark.parametrize("address", ["nosuch://bucket/x", "s3://", "s3:///x", "http://[bad/x", "s3://bucket/x//"])
def test_an_address_that_means_nothing_is_refused(address: str) -> None:
    refusal(lambda: Location.of(address), address)


@pytest.mark.parametrize("scheme", ["s3", "S3", "https", "memory"])
def test_an_address_that_lacks_a_slash_is_no_local_folder(scheme: str) -> None:
    says = (f"write {scheme}://bucket/x", f"or ./{scheme}:/bucket/x for a folder of that name")
    refusal(lambda: Location.of(f"{scheme}:/bucket/x"), *says)
    assert Location.of(f"./{scheme}:/x").local is not None
    assert Location.of("file:/bucket/x").local == Path("/bucket/x")
    refusal(lambda: Location.of(f"{scheme}:bucket/x"), "two slashes are missing", f"write {scheme}://bucket/x")
    assert Location.of(f"./{scheme}:x").local is not None
    assert Location.of("notes:bucket").local is not None


@pytest.mark.parametrize(("scheme", "package"), [("gs", "gcsfs"), ("abfs", "adlfs"), ("sftp", "paramiko")])
def test_a_kind_of_address_that_wants_a_package_names_it(scheme: str, package: str) -> None:
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    refusal(lambda: Location.of(f"{scheme}://bucket/x"), f"{scheme}://bucket/x: ", f"pip install {package}")


def test_a_limit_on_the_size_of_files_is_of_the_place(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        for put in (Location.write, Location.create):
            with pytest.raises(UnavailableError, match=r"a\.png: File too large"):
                put(Location.of(tmp_path), "a.png", bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["d::d/a.png", "/double.png", "a//b.png", "zip://x::y"])
def test_what_means_something_to_fsspec_is_a_part_of_a_key_on_s3(key: str) -> None:
    location = Location.of(f"s3://bucket/{key}")
    assert (str(location), location.root) == (f"s3://bucket/{key}", f"bucket/{key}")
    folder, name = place_of(location)
    assert (folder.path(name), folder.address(name)) == (location.root, str(location))


@pytest.mark.integration
def test_a_folder_on_s3_may_have_colons(s3: str) -> None:
    Location.of(f"{s3}/d::d").write("e::e", b"1")
    assert names(Location.of(f"{s3}/d::d")) == ["e::e"]
    assert Location.of(f"{s3}/d::d/e::e").what_is_there() == "file"
    assert names(Location.of(s3)) == ["d::d/e::e"]


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("a//b", "a part of it is empty"),
        ("/b", "empty"),
        ("a/./b", "a dot"),
        ("a\\b", "a backslash"),
        ("..", "leads out"),
    ],
)
def test_a_name_that_is_none_says_why(key: str, why: str, tmp_path: Path) -> None:
    refusal(lambda: Location.of(tmp_path).write(key, b""), str(tmp_path), repr(key), why, "rename")


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which folders named `closed` and `lost+found` cannot be listed, whoever asks."""
    for name in ("open/a.png", "open/closed/b.png", "lost+found/c.png", ".Trash-0/d.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True)
        path.touch()
    scandir = os.scandir

    def scan(path: str) -> object:
        if Path(path).name in ("closed", "lost+found", ".Trash-0"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    return tmp_path / "in"


def test_a_folder_that_cannot_be_listed_is_named(closed: Path) -> None:
    listed = Location.of(closed).list()
    assert [(e.key, e.etag) for e in listed] == [
        ("open/a.png", listed[0].etag),
        ("open/closed", f"{UNLISTED}Permission denied"),
    ]
    said = refusal(Location.of(closed / "open" / "closed").list)
    assert said == f"{closed}/open/closed: cannot be listed: Permission denied; make it readable"


def test_a_system_s_folder_that_cannot_be_listed_is_passed_over(closed: Path) -> None:
    (closed / "open" / "closed" / "b.png").unlink()
    (closed / "open" / "closed").rmdir()
    assert names(Location.of(closed)) == ["open/a.png"]


def test_pipes_are_listed_and_never_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    [entry] = Location.of(tmp_path).list()
    refusal(lambda: Location.of(tmp_path).fetch(entry), f"{tmp_path}/pipe.png: a pipe")


def test_no_address_at_all_is_refused() -> None:
    refusal(lambda: Location.of(""), "empty")


@pytest.mark.quiet  # they have five seconds
@pytest.mark.integration
@pytest.mark.parametrize("wrong", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_wrong_credentials_are_refused_at_once_and_kept_secret(
    wrong: str, s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(wrong, "hunter2hunter2hunter2")
    s3fs.S3FileSystem.clear_instance_cache()
    (tmp_path / "file").write_bytes(b"1")
    location, started = Location.of(s3), time.monotonic()
    attempts: tuple[Callable[[], object], ...] = (
        location.list,
        location.what_is_there,
        lambda: location.read("key"),
        lambda: location.exists("key"),
        lambda: location.write("key", b"1"),
        lambda: location.upload("key", tmp_path / "file"),
        lambda: location.download("key", tmp_path / "copy"),
        lambda: location.delete("key"),
    )
    for do in attempts:
        message = refusal(do, s3, "refused by the S3 server")
        assert "hunter2" not in message
        assert s3_server.secret_key not in message
    assert time.monotonic() - started < 5
    assert not (tmp_path / "copy").exists()


@pytest.mark.integration
def test_a_missing_bucket_is_named(s3: str, tmp_path: Path) -> None:
    missing = Location.of(f"s3://missing-{uuid.uuid4().hex}/x")
    assert refusal(missing.list) == f"{missing}: no such file, folder or bucket"
    assert refusal(lambda: missing.read("key")) == f"{missing}/key: no such file, folder or bucket"
    assert missing.what_is_there() == "nothing"


@pytest.mark.slow
@pytest.mark.integration
def test_an_endpoint_that_is_not_there_is_named_within_seconds(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = f"http://127.0.0.1:{free_ports()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    s3fs.S3FileSystem.clear_instance_cache()
    started = time.monotonic()
    message = refusal(Location.of(s3).list, s3, f'Could not connect to the endpoint URL: "{endpoint}/')
    assert time.monotonic() - started < 30
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in message


@pytest.mark.integration
def test_an_upload_that_breaks_off_leaves_what_was_there(s3: str, s3_server: S3Server, tmp_path: Path) -> None:
    location = Location.of(s3)
    location.write("key", b"old")
    (tmp_path / "folder").mkdir()
    refusal(lambda: location.upload("key/", tmp_path / "gone"), "key/")
    refusal(lambda: location.upload("key", tmp_path / "gone"), f"{s3}/key")
    assert location.read("key") == b"old"
    prefix = s3.removeprefix(s3_server.url())  # others may upload into the bucket meanwhile
    assert s3_server.client().list_multipart_uploads(Bucket="data", Prefix=prefix).get("Uploads") is None


def test_entries_sort_by_key() -> None:
    assert sorted([Entry("b", 1, "x"), Entry("a", 9, "y")])[0].key == "a"


def answered(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")


@pytest.mark.parametrize(
    ("error", "of_the_place"),
    [
        (answered("AccessDenied", 403), False),
        (answered("InvalidObjectState", 403), False),
        (answered("403", 403), False),  # all that a HEAD request is told
        (answered("AccountSuspended", 403), True),
        (answered("NotSignedUp", 403), True),
        (answered("SomethingElse", 403), True),
        (answered("KMS.DisabledException", 400), True),
        (answered("KMS.KeyUnavailableException", 500), True),
        (OSError(errno.ENOTCONN, "Transport endpoint is not connected"), True),
        (OSError(errno.ENFILE, "Too many open files in system"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (PermissionError(errno.EACCES, "Permission denied"), False),
    ],
    ids=repr,
)
def test_what_is_closed_to_us_as_a_whole_is_told_from_what_one_file_is(error: Exception, of_the_place: bool) -> None:
    with pytest.raises(StorageError) as told_of, translating_errors("s3://bucket/key"):
        raise error
    assert isinstance(told_of.value, UnavailableError) == of_the_place


def test_a_place_out_of_reach_does_not_pass_for_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(self: object, path: str, **options: object) -> None:
        raise ConnectionError("reset by peer")

    location = Location.of("memory://away")
    monkeypatch.setattr(MemoryFileSystem, "info", away)
    for patience in ("PATIENCE", "IMPATIENCE"):
        monkeypatch.setattr(f"storage.stores.fsspec_store.{patience}", 0.1)
    for ask in (lambda: location.exists("manifest.parquet"), location.what_is_there):
        with pytest.raises(UnavailableError, match="reset by peer"):
            ask()


MANY = 1001
"""Files; one more than a page of a listing holds."""


@pytest.fixture(scope="module")
def two_pages(s3_server: S3Server) -> str:
    """A prefix whose listing comes in two pages."""
    client = s3_server.client()
    with ThreadPoolExecutor(8) as pool:
        for number in range(MANY):
            pool.submit(client.put_object, Bucket=s3_server.bucket, Key=f"two-pages/{number:05}", Body=b"x")
    return s3_server.url("two-pages")


@pytest.mark.integration
@pytest.mark.parametrize(
    "answer", [b"<html><body>busy, come back later</body></html>", b"<html>", b"", b"<ListBucketResult/>"]
)
def test_an_answer_that_is_no_listing_never_makes_a_listing_shorter(
    answer: bytes, two_pages: str, s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(errors, "IMPATIENCE", 0.2)
    for name in ("PATIENCE", "IMPATIENCE"):
        monkeypatch.setattr(f"storage.stores.s3.{name}", 0.5)
    with FaultyS3(s3_server) as proxy:
        for name, value in proxy.environment().items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        location = Location.of(two_pages)
        no_listing = Fault("no listing", change=lambda _: answer)
        proxy.inject(no_listing, when=lambda request: "continuation-token" in request.query, times=1)
        assert len(location.list()) == MANY
        assert any(request.fault for request in proxy.requests)
        proxy.inject(no_listing, when=lambda request: "continuation-token" in request.query)
        refusal(location.list, two_pages)
        proxy.clear()
        proxy.inject(no_listing, when=lambda request: "list-type" in request.query)
        refusal(location.list, two_pages)
