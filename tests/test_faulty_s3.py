"""The proxy is not to be noticed without a fault, and each fault is what it says."""

import io
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, ConnectionClosedError, ResponseStreamingError
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum

from tests import faulty_s3
from tests.faulty_s3 import FaultyS3
from tests.services import S3Server, wait_until

pytestmark = pytest.mark.integration

BODY = os.urandom(10_000)
VARYING = ("date", "x-amz-request-id", "connection")


@pytest.fixture(scope="module")
def direct(s3_server: S3Server) -> Any:
    """Give a client that goes past the proxy."""
    return s3_server.client()


@pytest.fixture(scope="module")
def running(s3_server: S3Server) -> Iterator[tuple[FaultyS3, Any]]:
    """Give a proxy and a client that goes through it."""
    with FaultyS3(s3_server) as proxy:
        yield proxy, proxy.client()


@pytest.fixture
def proxy(running: tuple[FaultyS3, Any]) -> Iterator[FaultyS3]:
    """Give a proxy without faults that nobody has asked for anything yet."""
    proxy, _ = running
    proxy.requests.clear()
    yield proxy
    proxy.clear()


@pytest.fixture
def client(running: tuple[FaultyS3, Any], proxy: FaultyS3) -> Any:
    """Give a client that goes through the proxy of this test."""
    return running[1]


@pytest.fixture
def prefix() -> str:
    """Give a beginning for the keys of one test."""
    return uuid.uuid4().hex


@pytest.fixture
def key(direct: Any, prefix: str) -> str:
    """Put `BODY` past the proxy."""
    direct.put_object(Bucket="data", Key=f"{prefix}/body", Body=BODY)
    return f"{prefix}/body"


def asking(client: Any, key: str) -> socket.socket:
    """Ask for an object as a program that knows nothing but sockets."""
    url = urlsplit(client.generate_presigned_url("get_object", {"Bucket": "data", "Key": key}))
    connection = socket.create_connection((url.hostname, url.port), timeout=10)
    connection.sendall(f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode())
    return connection


def received(connection: socket.socket, data: bytes = b"") -> tuple[str, bytes, bool]:
    """Read to the end, after what is read already: head, body, and whether the connection was reset."""
    was_reset = False
    with connection:
        try:
            while piece := connection.recv(65_536):
                data += piece
        except ConnectionResetError:
            was_reset = True
    head, _, body = data.partition(b"\r\n\r\n")
    return head.decode(), body, was_reset


def refused(call: Any, **arguments: Any) -> tuple[int, str]:
    """Make a call that an S3 error answers; its status and code."""
    with pytest.raises(ClientError) as raised:
        call(Bucket="data", **arguments)
    answer = raised.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def test_answers_through_the_proxy_are_the_servers(direct: Any, client: Any, prefix: str) -> None:
    key = f"{prefix}/ö and + or %/&=?#"
    client.put_object(Bucket="data", Key=key, Body=BODY, Metadata={"colour": "blue"}, ContentType="image/png")
    calls: list[tuple[str, dict[str, Any]]] = [
        ("get_object", {"Key": key}),
        ("get_object", {"Key": key, "Range": "bytes=100-199"}),
        ("head_object", {"Key": key}),
        ("list_objects_v2", {"Prefix": f"{prefix}/ö and", "MaxKeys": 1}),
    ]
    for call, arguments in calls:
        expected, passed = (getattr(one, call)(Bucket="data", **arguments) for one in (direct, client))
        for answer in (expected, passed):
            headers = answer.pop("ResponseMetadata")["HTTPHeaders"]
            answer["headers"] = {name: value for name, value in headers.items() if name not in VARYING}
            if "Body" in answer:
                answer["Body"] = answer["Body"].read()
        assert passed == expected, call
    assert passed["KeyCount"] == 1
    assert client.get_object(Bucket="data", Key=key)["Body"].read() == BODY
    client.delete_object(Bucket="data", Key=key)
    assert refused(direct.head_object, Key=key) == (404, "404")
    assert refused(client.get_object, Key=key) == (404, "NoSuchKey")


def test_conditional_puts_and_gets_pass(client: Any, prefix: str) -> None:
    name = f"{prefix}/lease"
    tag = client.put_object(Bucket="data", Key=name, Body=BODY, IfNoneMatch="*")["ETag"]
    assert client.get_object(Bucket="data", Key=name, IfMatch=tag)["Body"].read() == BODY
    assert refused(client.get_object, Key=name, IfMatch='"other"') == (412, "PreconditionFailed")
    assert refused(client.put_object, Key=name, Body=BODY, IfNoneMatch="*") == (412, "PreconditionFailed")


def test_multipart_uploads_pass(direct: Any, client: Any, prefix: str) -> None:
    content, name = os.urandom(6 << 20), f"{prefix}/large"
    target = {"Bucket": "data", "Key": f"{prefix}/large"}
    upload = client.create_multipart_upload(**target)["UploadId"]
    parts = [
        {"PartNumber": n, "ETag": client.upload_part(**target, UploadId=upload, PartNumber=n, Body=body)["ETag"]}
        for n, body in ((1, content[: 5 << 20]), (2, content[5 << 20 :]))
    ]
    client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": parts})
    assert direct.get_object(Bucket="data", Key=name)["Body"].read() == content


def test_a_client_that_waits_for_100_continue_gets_it_first(client: Any, prefix: str) -> None:
    url = urlsplit(client.generate_presigned_url("put_object", {"Bucket": "data", "Key": f"{prefix}/put"}))
    with socket.create_connection((url.hostname, url.port), timeout=10) as connection:
        head = [f"PUT {url.path}?{url.query} HTTP/1.1", f"Host: {url.netloc}", "Expect: 100-continue"]
        connection.sendall("\r\n".join([*head, f"Content-Length: {len(BODY)}", "", ""]).encode())
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert received(connection)[0].startswith("HTTP/1.1 200 OK")
    assert client.get_object(Bucket="data", Key=f"{prefix}/put")["Body"].read() == BODY


def test_bodies_in_chunks_pass(client: Any, proxy: FaultyS3, prefix: str) -> None:
    """As AWS's own tools send them over https: aws-chunked, with a checksum at the end, in chunks of HTTP."""
    environment = proxy.environment()
    keys = Credentials(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
    checksum = {"checksum_cls": Crc32Checksum, "checksum_name": "x-amz-checksum-crc32"}
    headers = {
        "Content-Encoding": "aws-chunked",
        "Transfer-Encoding": "chunked",
        "X-Amz-Trailer": "x-amz-checksum-crc32",
        "X-Amz-Decoded-Content-Length": str(len(BODY)),
    }
    request = AWSRequest("PUT", f"{environment['AWS_ENDPOINT_URL']}/data/{prefix}/chunks", headers)
    request.context["checksum"] = {"request_algorithm": {"in": "trailer"}}
    S3SigV4Auth(keys, "s3", "us-east-1").add_auth(request)
    url = urlsplit(request.url)
    body = iter(AwsChunkedWrapper(io.BytesIO(BODY), chunk_size=4096, **checksum))
    with closing(HTTPConnection(url.netloc, timeout=10)) as connection:
        connection.request("PUT", url.path, body, dict(request.headers), encode_chunked=True)
        assert connection.getresponse().status == 200
    assert client.get_object(Bucket="data", Key=f"{prefix}/chunks")["Body"].read() == BODY


def test_requests_are_written_down_without_their_secret(client: Any, proxy: FaultyS3, key: str) -> None:
    proxy.inject(faulty_s3.status(503, "SlowDown"), when="HEAD")
    client.get_object(Bucket="data", Key=key, Range="bytes=0-9")
    refused(client.head_object, Key=key)
    client.list_objects_v2(Bucket="data", Prefix="ö &")
    got, looked, listed = proxy.requests
    assert (got.method, got.path, got.key, got.fault, got.server_status) == ("GET", f"/data/{key}", key, "", 206)
    assert got.headers["range"] == "bytes=0-9"
    assert "Authorization" not in got.headers
    assert got.headers["Host"] == proxy.environment()["AWS_ENDPOINT_URL"].removeprefix("http://")
    assert (looked.method, looked.fault, looked.server_status) == ("HEAD", "status 503 SlowDown", None)
    assert (listed.key, listed.query["prefix"], listed.query["list-type"]) == ("", "ö &", "2")


def test_a_fault_takes_the_requests_it_is_for_and_no_others(client: Any, proxy: FaultyS3, key: str) -> None:
    folder = key.removesuffix("body")
    proxy.inject(faulty_s3.status(503, "SlowDown"), when=f"GET {folder}*", times=2, after=1)
    client.head_object(Bucket="data", Key=key)
    client.list_objects_v2(Bucket="data")
    client.get_object(Bucket="data", Key=key)
    assert refused(client.get_object, Key=key) == (503, "SlowDown")
    assert refused(client.get_object, Key=f"{folder}other") == (503, "SlowDown")
    client.get_object(Bucket="data", Key=key)
    assert [request.fault for request in proxy.requests] == ["", "", "", *["status 503 SlowDown"] * 2, ""]


def test_of_two_faults_the_first_takes_a_request_until_it_is_spent(client: Any, proxy: FaultyS3, key: str) -> None:
    proxy.inject(faulty_s3.status(503, "SlowDown"), times=1)
    proxy.inject(faulty_s3.status(500, "InternalError"), when="GET", times=1)
    assert refused(client.get_object, Key=key) == (503, "SlowDown")
    assert refused(client.get_object, Key=key) == (500, "InternalError")
    assert client.get_object(Bucket="data", Key=key)["Body"].read() == BODY


def test_cleared_faults_are_gone(client: Any, proxy: FaultyS3, key: str) -> None:
    proxy.inject(faulty_s3.reset())
    proxy.clear()
    assert client.get_object(Bucket="data", Key=key)["Body"].read() == BODY


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (400, "ExpiredToken"), (403, "AccessDenied")]
)
def test_an_error_keeps_the_request_from_the_server(
    direct: Any, client: Any, proxy: FaultyS3, prefix: str, status: int, code: str
) -> None:
    proxy.inject(faulty_s3.status(status, code))
    assert refused(client.put_object, Key=f"{prefix}/put", Body=BODY) == (status, code)
    assert refused(client.head_object, Key=f"{prefix}/put") == (status, str(status))
    assert refused(direct.head_object, Key=f"{prefix}/put") == (404, "404")


def test_an_error_after_the_work_leaves_the_work_done(direct: Any, client: Any, proxy: FaultyS3, prefix: str) -> None:
    proxy.inject(faulty_s3.status_after(500, "InternalError"), when="PUT")
    assert refused(client.put_object, Key=f"{prefix}/put", Body=BODY) == (500, "InternalError")
    assert direct.get_object(Bucket="data", Key=f"{prefix}/put")["Body"].read() == BODY
    assert proxy.requests[0].server_status == 200


def test_a_reset_comes_before_any_answer(direct: Any, client: Any, proxy: FaultyS3, key: str) -> None:
    proxy.inject(faulty_s3.reset())
    assert received(asking(client, key)) == ("", b"", True)
    with pytest.raises(ConnectionClosedError):
        client.delete_object(Bucket="data", Key=key)
    assert direct.head_object(Bucket="data", Key=key)["ContentLength"] == len(BODY)


def test_a_reset_within_comes_after_so_many_bytes(client: Any, proxy: FaultyS3, key: str) -> None:
    proxy.inject(faulty_s3.reset_within(3_000))
    head, body, was_reset = received(asking(client, key))
    assert "Content-Length: 10000" in head
    assert (body, was_reset) == (BODY[:3_000], True)


def test_a_request_that_hangs_gets_nothing_until_the_fault_is_cleared(client: Any, proxy: FaultyS3, key: str) -> None:
    proxy.inject(faulty_s3.hang())
    connection = asking(client, key)
    assert wait_until(lambda: [request.fault for request in proxy.requests] == ["hang"], 10)
    connection.settimeout(0.2)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    proxy.clear()
    connection.settimeout(10)
    assert received(connection) == ("", b"", False)
    assert proxy.requests[0].server_status is None


def test_the_end_of_the_proxy_ends_what_hangs_or_trickles(s3_server: S3Server, key: str) -> None:
    with FaultyS3(s3_server) as proxy:
        client = proxy.client()
        proxy.inject(faulty_s3.hang(), times=1)
        proxy.inject(faulty_s3.slow(1))
        hanging = asking(client, key)
        assert wait_until(lambda: len(proxy.requests) == 1, 10)
        trickling = asking(client, key)
        assert wait_until(lambda: len(proxy.requests) == 2, 10)
    assert received(hanging) == ("", b"", False)
    assert received(trickling)[1] == BODY
    with pytest.raises(ConnectionRefusedError):
        asking(client, key)


def test_a_truncated_answer_tells_its_whole_length(client: Any, proxy: FaultyS3, key: str) -> None:
    proxy.inject(faulty_s3.truncate(4_000))
    head, body, was_reset = received(asking(client, key))
    assert "Content-Length: 10000" in head
    assert (body, was_reset) == (BODY[:4_000], False)
    with pytest.raises(ResponseStreamingError):
        client.get_object(Bucket="data", Key=key)["Body"].read()


def test_a_silently_truncated_answer_tells_the_length_it_has(client: Any, proxy: FaultyS3, key: str) -> None:
    proxy.inject(faulty_s3.truncate_silently(4_000))
    head, body, was_reset = received(asking(client, key))
    assert "Content-Length: 4000" in head
    assert (body, was_reset) == (BODY[:4_000], False)
    assert client.head_object(Bucket="data", Key=key)["ContentLength"] == len(BODY)


def test_a_corrupt_answer_differs_in_one_byte(client: Any, proxy: FaultyS3, key: str) -> None:
    proxy.inject(faulty_s3.corrupt())
    body = received(asking(client, key))[1]
    assert len(body) == len(BODY)
    assert [i for i in range(len(BODY)) if body[i] != BODY[i]] == [5_000]


def test_a_slow_answer_trickles(client: Any, proxy: FaultyS3, key: str) -> None:
    proxy.inject(faulty_s3.slow(20_000))
    start = time.monotonic()
    connection = asking(client, key)
    first = connection.recv(65_536)
    _, body, was_reset = received(connection, first)
    assert time.monotonic() - start > 0.45
    assert len(first) < 5_000
    assert (body, was_reset) == (BODY, False)


def test_one_part_of_an_upload_can_fail(client: Any, proxy: FaultyS3, prefix: str) -> None:
    target = {"Bucket": "data", "Key": f"{prefix}/large"}
    proxy.inject(faulty_s3.status(500, "InternalError"), when=lambda request: request.query.get("partNumber") == "2")
    upload = client.create_multipart_upload(**target)["UploadId"]
    arguments = {"Key": target["Key"], "UploadId": upload, "Body": BODY}
    assert refused(client.upload_part, PartNumber=2, **arguments) == (500, "InternalError")
    for number in (1, 12):
        client.upload_part(Bucket="data", PartNumber=number, **arguments)
    client.abort_multipart_upload(**target, UploadId=upload)


def test_without_its_server_a_connection_ends(tmp_path: Path) -> None:
    with FaultyS3(S3Server(tmp_path)) as proxy:
        assert received(asking(proxy.client(), "any")) == ("", b"", False)
    assert proxy.requests[0].server_status is None
