"""Credentials, region, endpoint and options of S3 come from where AWS and fsspec users keep them."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pytest

from storage.stores import s3 as room
from storage.stores.location import Location, StorageError
from tests.faulty_s3 import FaultyS3, status
from tests.services import S3Server, isolated_environment

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]


@pytest.fixture
def proxy(s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """A proxy that the environment names as the endpoint, and that writes down what is asked."""
    with FaultyS3(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.environment()["AWS_ENDPOINT_URL"])
        yield proxy


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What fsspec's configuration says of S3; to be filled. Parts of uploads are as small as S3 lets them be."""
    monkeypatch.setattr(room, "PART", 5 * 2**20)
    options: dict[str, Any] = {}
    monkeypatch.setitem(fsspec.config.conf, "s3", options)
    return options


def profile(folder: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch, endpoint: str, more: str = "") -> None:
    """Leave AWS nothing but a profile, in files."""
    for name in server.environment():
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    (folder / "config").write_text(f"[profile lab]\nregion = eu-north-1\nendpoint_url = {endpoint}\n{more}")
    (folder / "credentials").write_text(
        f"[lab]\naws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "lab")


def client(address: str) -> Any:
    """The botocore client that serves an address."""
    return room.connect(address)[0].fs.s3


def used(location: Location, folder: Path) -> None:
    """Write, upload in one piece and in parts, list, look, read: all that S3 is asked for."""
    large = folder / "large"
    large.write_bytes(bytes(2 * room.PART))
    location.write("written", b"bytes")
    location.create("created", b"bytes")
    location.upload("large", large)
    assert [entry.key for entry in location.list()] == ["created", "large", "written"]
    assert location.info("written").size == 5
    assert location.read("written") == b"bytes"


def test_keys_endpoint_and_region_come_from_the_environment(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Location.of(s3).write("key", b"bytes")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    assert Location.of(s3).read("key") == b"bytes"
    assert client(s3).meta.region_name == "eu-north-1"
    assert client(s3).meta.endpoint_url == os.environ["AWS_ENDPOINT_URL"]


def test_wrong_keys_in_the_environment_are_refused(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match="SignatureDoesNotMatch"):
        Location.of(s3).write("key", b"bytes")


def test_keys_endpoint_and_region_come_from_a_profile(
    s3: str, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile(tmp_path, s3_server, monkeypatch, s3_server.endpoint)
    Location.of(s3).write("key", b"bytes")
    assert Location.of(s3).read("key") == b"bytes"
    assert client(s3).meta.region_name == "eu-north-1"
    monkeypatch.setenv("AWS_PROFILE", "another")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(StorageError, match=r"another.*could not be found"):
        Location.of(s3).read("key")


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_the_profile_chooses_how_a_bucket_is_addressed(
    s3: str, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: resolve("127.0.0.1", *rest, **more))
    with FaultyS3(s3_server) as proxy:
        endpoint = proxy.environment()["AWS_ENDPOINT_URL"].replace("127.0.0.1", "store.test")
        profile(tmp_path, s3_server, monkeypatch, endpoint, f"s3 =\n  addressing_style = {style}\n")
        with suppress(StorageError):  # SeaweedFS knows no buckets in names of hosts
            Location.of(s3).write("key", b"bytes")
    asked = proxy.requests[0]
    host, path = ("store.test", "/data/") if style == "path" else ("data.store.test", "/")
    assert asked.headers["Host"].split(":")[0] == host
    assert asked.path == f"{path}{s3.removeprefix('s3://data/')}/key"


def test_objects_are_encrypted_as_the_options_say_however_they_are_put(
    proxy: FaultyS3, s3: str, configured: dict[str, Any], tmp_path: Path
) -> None:
    configured["s3_additional_kwargs"] = {"ServerSideEncryption": "AES256"}
    used(Location.of(s3), tmp_path)
    for entry in Location.of(s3).list():
        head = proxy.client().head_object(Bucket="data", Key=f"{s3.removeprefix('s3://data/')}/{entry.key}")
        assert head["ServerSideEncryption"] == "AES256", entry


def test_a_key_of_kms_is_named_in_whatever_begins_an_object(
    proxy: FaultyS3, s3: str, configured: dict[str, Any], tmp_path: Path
) -> None:
    configured["s3_additional_kwargs"] = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "our-key"}
    proxy.inject(status(403, "AccessDenied"))  # SeaweedFS here has no KMS
    location, large = Location.of(s3), tmp_path / "large"
    large.write_bytes(bytes(2 * room.PART))
    for put in (
        lambda: location.write("written", b"bytes"),
        lambda: location.create("created", b"bytes"),
        lambda: location.upload("large", large),
    ):
        with pytest.raises(StorageError, match="AccessDenied"):
            put()
    header = "x-amz-server-side-encryption"
    assert [
        (asked.method, asked.headers[header], asked.headers[f"{header}-aws-kms-key-id"]) for asked in proxy.requests
    ] == [(method, "aws:kms", "our-key") for method in ("PUT", "PUT", "POST")]


def test_what_is_encrypted_with_the_users_own_key_is_read_with_it_alone(
    s3: str, configured: dict[str, Any], tmp_path: Path
) -> None:
    configured["s3_additional_kwargs"] = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
    location = Location.of(s3)
    used(location, tmp_path)
    location.download("large", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "large").read_bytes()
    configured.clear()
    with pytest.raises(StorageError, match="must provide the customer key"):
        Location.of(s3).read("written")


def test_the_requester_pays_for_every_request(
    proxy: FaultyS3, s3: str, configured: dict[str, Any], tmp_path: Path
) -> None:
    configured["requester_pays"] = True
    used(Location.of(s3), tmp_path)
    paid = {(asked.method, asked.headers["x-amz-request-payer"]) for asked in proxy.requests}
    assert paid == {(method, "requester") for method in ("GET", "HEAD", "PUT", "POST")}


def test_config_kwargs_of_the_user_win_and_ours_stay(s3: str, configured: dict[str, Any]) -> None:
    configured["config_kwargs"] = {"read_timeout": 7, "s3": {"addressing_style": "virtual"}}
    config = client(s3).meta.config
    assert (config.read_timeout, config.s3["addressing_style"]) == (7, "virtual")
    assert (config.connect_timeout, config.max_pool_connections) == (10, 64)


def test_the_command_line_takes_fsspecs_options_from_the_environment(
    proxy: FaultyS3, s3: str, photographs: Path
) -> None:
    options = {"requester_pays": True, "s3_additional_kwargs": {"ServerSideEncryption": "AES256"}}
    environment = isolated_environment(proxy.environment(), {"FSSPEC_S3": json.dumps(options)})
    command = [sys.executable, "-m", "flows", "shard", str(photographs), f"{s3}/shards"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    put = [asked for asked in proxy.requests if asked.method == "PUT"]
    assert {asked.headers["x-amz-server-side-encryption"] for asked in put} == {"AES256"}
    assert {asked.headers["x-amz-request-payer"] for asked in proxy.requests} == {"requester"}
