"""Commands that fail say why, and neither with which keys nor with the secrets of an address.

test_deployments.py looks at those that work.
"""

import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import s3fs

from flows.cli import main
from flows.upscale import UpscaleOptions
from storage.stores import s3 as room
from storage.stores.location import Location, StorageError
from tests.faulty_s3 import FaultyS3, hang
from tests.services import S3Server, free_ports

PASSWORD = "the-password-in-an-address"
UPSCALE = ["--method", "nearest", "--scale", "2"]
ADDRESSES = [f"ftp://user:{PASSWORD}@nowhere.invalid/x", f"https://nowhere.invalid/x.zip?X-Amz-Signature={PASSWORD}"]
SECRETS = {"AWS_SECRET_ACCESS_KEY": "the-secret-key", "AWS_SESSION_TOKEN": "the-session-token"}
CUSTOMERS_KEY = "the-key-that-encrypts-our-object"
REASONS = {
    "refused": "refused by the S3 server: SignatureDoesNotMatch",
    "unknown": "refused by the S3 server: InvalidAccessKeyId",
    "closed": "Could not connect",
    "nowhere": "Could not connect",
    "hung": "timeout",
}


@pytest.fixture
def failing(
    request: pytest.FixtureRequest, s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """An environment in which S3 fails in one way, soon, and options with a key in them; the reason to be told."""
    way = request.param
    options = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": CUSTOMERS_KEY}
    patience = {"connect_timeout": 1, "read_timeout": 1}
    monkeypatch.setitem(fsspec.config.conf, "s3", {"s3_additional_kwargs": options, "config_kwargs": patience})
    monkeypatch.setattr(room, "IMPATIENCE", 0.5)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    if way == "refused":
        monkeypatch.delenv("AWS_SESSION_TOKEN")
    with FaultyS3(s3_server) as proxy:
        proxy.inject(hang(), times=None if way == "hung" else 0)
        endpoints = {"closed": f"http://127.0.0.1:{free_ports()}", "nowhere": "http://nowhere.invalid"}
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoints.get(way, proxy.environment()["AWS_ENDPOINT_URL"]))
        yield REASONS[way]


@pytest.mark.integration
@pytest.mark.parametrize("debugging", [False, True], ids=["line", "traceback"])
@pytest.mark.parametrize("failing", REASONS, indirect=True)
def test_a_command_that_fails_on_s3_tells_no_secret(
    failing: str,
    s3: str,
    s3_server: S3Server,
    photographs: Path,
    debugging: bool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["dtls", "shard", str(photographs), f"{s3}/shards"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    if debugging:
        monkeypatch.setenv("DTLS_TRACEBACK", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises((SystemExit, OSError)) as end:
        main()
    said = "".join(capfd.readouterr())
    if debugging:
        said += "".join(traceback.format_exception(end.value))
        assert "Traceback" in said
    assert failing in said
    assert [secret for secret in (*SECRETS.values(), CUSTOMERS_KEY, s3_server.access_key) if secret in said] == []


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    "words",
    [
        ["upscale", "ADDRESS", "out", *UPSCALE],
        ["upscale", "in", "ADDRESS", *UPSCALE],
        ["upscale", "in", "out", "--scale", "2", "--method", "spandrel:ADDRESS"],
        ["upscale", "in", "out", *UPSCALE, "--key-list", "ADDRESS"],
        ["upscale", "in", "out", *UPSCALE, "--runner", "dask", "--scheduler", "ADDRESS"],
        ["train", "in", "out", "--start", "simplecache::ADDRESS"],
        ["report", "--hr", "in", "--sr", "a=ADDRESS", "--out", "out"],
        ["compare-reports", "ADDRESS", "--out", "out"],
        ["verify", "ADDRESS"],
        ["status", "ADDRESS"],
    ],
    ids=lambda words: "-".join(word for word in words if word.isalpha()),
)
def test_an_address_with_a_secret_is_refused_and_neither_told_nor_kept(
    words: list[str], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dtls", *(word.replace("ADDRESS", address) for word in words)])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    (line,) = "".join(capfd.readouterr()).splitlines()
    assert "…: credentials" in line or "…@nowhere.invalid/x: credentials" in line
    assert PASSWORD not in line
    assert list(tmp_path.iterdir()) == []


def test_a_secret_in_what_a_library_says_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    where = f"http://127.0.0.1:{free_ports()}/?token={PASSWORD}"
    monkeypatch.setattr(room, "IMPATIENCE", 0.1)
    for name, value in {"AWS_ENDPOINT_URL": where, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StorageError, match="Custom endpoint") as refusal:
        Location.of("s3://bucket/x").list()
    assert PASSWORD not in str(refusal.value)


def test_pydantic_does_not_repeat_a_secret_that_an_option_has() -> None:
    wrong = {"source": ADDRESSES[0], "target": "out", "scale": -1, "method": "nearest"}
    with pytest.raises(StorageError) as refusal:
        UpscaleOptions.model_validate(wrong)
    assert PASSWORD not in str(refusal.value)
