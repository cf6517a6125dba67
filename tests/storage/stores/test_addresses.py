"""An address with a secret in it is known by whatever spelling, and shown without it; others stay as they are."""

import pytest

from storage.stores.addresses import cleaned, without_secrets

SECRET = "hunter2"

WITH_SECRETS = [
    "s3://KEY:hunter2@bucket/x",
    "s3://:hunter2@bucket",
    "FTP://user:hunter2@h",
    "ftp://hunter2@h/x",
    "ftp://user:a@hunter2@h/x",
    "ftp://user:hun/hunter2@h/x",
    "ftp://user:p@ss/hunter2@h/x",
    "http:///user:hunter2@h/x",
    "http://user:hunter2＠h/x",
    "ftp://user:#hunter2@h",
    "ftp://user:?hunter2@h",
    "ftp://us er:hunter2@h/x",
    "ftp://user%3Ahunter2%40h/",
    "ftp:\\\\user:hunter2@h",
    "http://[user:hunter2@bad/x",
    "//user:hunter2@h/x",
    "hdfs:user:hunter2@host/x",
    "hdfs:/user:hunter2@host/x",
    "user:hunter2@host:/x",
    "simplecache::ftp://user:hunter2@h/x",
    "zip://a.zip::simplecache::https://user:hunter2@h/a.zip",
    "spandrel:https://user:hunter2@h/x.pth",
    "https://h/x?X-Amz-Credential=hunter2%2Fs3&X-Amz-Expires=60&X-Amz-Signature=hunter2",
    "https://h/x?AWSAccessKeyId=hunter2&Signature=hunter2&Expires=1",
    "https://h/x?X-Goog-Signature=hunter2",
    "https://h/x?Expires=1&Signature=hunter2&Key-Pair-Id=hunter2&Policy=hunter2",
    "az://container/x?sv=1&sp=r&sig=hunter2%3D",
    "account.blob.core.windows.net/x?sp=r&sig=hunter2",
    "https://h/x?%73ig=hunter2",
    "https://h/x?a=1&amp;api_key=hunter2",
    "https://h/x;token=hunter2",
    "https://h/x?code=hunter2",
    "https://h/x?hdnts=hunter2",
    "https://h/x?bearer=hunter2",
    "https://h/x#access_token=hunter2",
    "zip://x.png::https://h/a.zip?token=hunter2",
]
WITHOUT = [
    "s3://bucket/a:b@c/x",
    "s3://bucket/a@b/k=v",
    "https://host:8080/@me/x",
    "https://h/x?id=5&version=2",
    "http://[::1]:80/a@b",
    "hf://datasets/owner/name@main/x",
    "zip://a.png::s3://b/c.zip",
    "tcp://host:8786",
    "/data/user:p@h/x?token=1",
    "file:///data/user:p@h/x",
    "https://h/x?country_code=us",
    "./user:p@h",
    "a/b@2x.png",
    "C:x",
    "a#b=c",
    "runs/run=2020",
    "{key}_x2",
]


@pytest.mark.parametrize("address", WITH_SECRETS)
def test_a_secret_is_found_and_not_shown(address: str) -> None:
    shown = without_secrets(address)
    assert shown != address
    assert SECRET not in shown
    assert "…" in shown


@pytest.mark.parametrize("address", WITHOUT)
def test_what_has_none_stays_as_it_is(address: str) -> None:
    assert without_secrets(address) == address


def test_what_libraries_say_is_shown_without_secrets() -> None:
    said = (
        'Cannot connect to "https://u:hunter2@h:80/a?X-Amz-Signature=hunter2&v=1", '
        "<a href='ftp://u:hunter2@h'>; s3://bucket/a@b is whole"
    )
    assert cleaned(said) == (
        "Cannot connect to \"https://…@h:80/a?X-Amz-Signature=…&v=1\", <a href='ftp://…@h'>; s3://bucket/a@b is whole"
    )
    assert cleaned(cleaned(said)) == cleaned(said)
