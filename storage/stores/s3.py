"""Objects on S3, through s3fs's connection: reads that are of one version and checked, listings page by page.

s3fs's own `cat_file` and `get_file` ask for the size first, and put ranges together without looking whether the
object is still the same; a body that ends early is the whole file to them. Here every read says which version it
wants (If-Match), and is checked against its length and, where the store tells one, its MD5.
"""

import hashlib
import mimetypes
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from botocore.exceptions import ClientError
from fsspec.asyn import sync

from storage.parallel import ordered_map
from storage.stores.entry import Entry, is_still
from storage.stores.errors import (
    IMPATIENCE,
    PATIENCE,
    ChangedError,
    DamagedError,
    failures,
    may_pass,
    refused,
    retried,
)
from storage.stores.fence import ask_before_changing
from storage.stores.local import renamed

Out = TypeVar("Out")

CONFIG = {
    "connect_timeout": 10,
    "read_timeout": 30,
    "max_pool_connections": 64,
    "retries": {"total_max_attempts": 1},
}
"""Of botocore, which tries once: `retried` does the rest."""
PART = 16 * 2**20
"""Bytes of one part of an upload; what is below two of them goes up in one piece."""
MAX_PARTS = 10_000
PIECE = 4 * 2**20
"""Bytes of a file that are fetched at once; some nine such pieces are under way."""
PARTS_AT_ONCE = 4
MD5 = re.compile(r"[0-9a-f]{32}")
TAKEN = ("PreconditionFailed", "ConditionalRequestConflict", "412")
"""What servers answer to a conditional put where something is, or is being put by another."""
GONE = ("NoSuchKey", "404")
PAGES = 4
"""Of a listing, that are looked at for some keys; the others are asked for one by one."""
CHANGES = ("put_object", "complete_multipart_upload", "delete_object")


def connect(address: str) -> tuple["S3", str]:
    """The connection for an address, with the user's fsspec options, and the path in it."""
    given = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
    fs = fsspec.filesystem("s3", config_kwargs={**CONFIG, **given})
    fs.retries = 1
    return S3(fs), address.partition("://")[2]  # not by fsspec, to which `::` and `//` in a key mean something else


class S3:
    """What a `Location` does on S3; paths are `bucket/key`."""

    def __init__(self, fs: Any) -> None:
        self.fs = fs

    def __eq__(self, other: object) -> bool:
        return isinstance(other, S3) and bool(self.fs == other.fs)

    def __hash__(self) -> int:
        return hash(self.fs)

    def list(self, root: str) -> list[Entry]:
        prefix = _split(root)[1].rstrip("/") + "/"
        start = len(prefix) if prefix != "/" else 0
        return [
            Entry(found["Key"][start:], int(found["Size"]), found["ETag"].strip('"'))
            for found in self._found(root)
            if not found["Key"].endswith("/")
        ]

    def versions(self, root: str, keys: Sequence[str]) -> dict[str, Entry]:
        """Those of the keys that are there, as a listing says: by few requests where the keys are neighbours."""
        wanted = set(keys)
        bucket, prefix = _split(f"{root}/")
        found: dict[str, Entry] = {}
        after = prefix + min(wanted)[:-1]  # before it, as what is named is not listed
        for entry in islice(self._found(root, after), PAGES * 1000) if len(wanted) > 1 else ():
            key = entry["Key"].removeprefix(prefix)
            if key in wanted:
                found[key] = Entry(key, int(entry["Size"]), entry["ETag"].strip('"'))
            if len(found) == len(wanted):
                break
        for key in wanted - found.keys():
            with suppress(FileNotFoundError):
                found[key] = self.info(f"{bucket}/{prefix}{key}", key)
        return found

    def _found(self, root: str, after: str = "") -> Iterator[dict[str, Any]]:
        """What the pages of a listing hold, from the first key behind `after` on."""
        bucket, key = _split(root)
        more: dict[str, Any] = {"Prefix": f"{key}/"} if key else {}
        if after:
            more["StartAfter"] = after
        while True:
            page = self._retried(lambda: self._page(Bucket=bucket, **more))
            yield from page.get("Contents", ())
            if not page.get("IsTruncated"):
                return
            more["ContinuationToken"] = page["NextContinuationToken"]

    def _page(self, **request: Any) -> dict[str, Any]:
        """One page of a listing; DamagedError for an answer that is none, which would pass for an empty one."""
        page: dict[str, Any] = self.fs.call_s3("list_objects_v2", **request)
        if "Name" not in page or (page.get("IsTruncated") and not page.get("NextContinuationToken")):
            raise DamagedError("an answer that is no listing came")
        return page

    def read(self, path: str) -> bytes:
        return self._retried(lambda: self._get(path))

    def fetch(self, path: str, entry: Entry, start: int, length: int | None) -> bytes:
        wanted = entry.size - start if length is None else length
        part = {"Range": f"bytes={start}-{start + wanted - 1}"} if 0 < wanted != entry.size else {}

        def get() -> bytes:
            data = self._get(path, entry.etag, **part) if wanted or not entry.size else b""
            if len(data) != wanted:
                raise DamagedError(f"{len(data):,} bytes came, and {wanted:,} were listed")
            return data

        try:
            return self._retried(get)
        except (OSError, ClientError) as error:
            code = (refused(error) or {}).get("Code")
            if code in GONE:
                raise ChangedError("gone since it was listed") from error
            if code in TAKEN or code == "InvalidRange":
                raise ChangedError("changed since it was listed") from error
            if isinstance(error, FileNotFoundError):
                raise OSError("the bucket is gone") from error
            raise

    def _get(self, path: str, etag: str = "", **more: Any) -> bytes:
        """One answer of the server, whole and as its sums say; ChangedError where the object has another ETag."""
        bucket, key = _split(path)
        if etag:
            more["IfMatch"] = f'"{etag}"'

        async def get() -> tuple[bytes, dict[str, Any]]:
            answer = await self.fs._call_s3("get_object", Bucket=bucket, Key=key, **more)
            async with answer["Body"] as body:
                return await body.read(), answer

        data, answer = sync(self.fs.loop, get)
        if len(data) != answer["ContentLength"]:
            raise DamagedError(f"{len(data):,} of {answer['ContentLength']:,} bytes came")
        if etag and answer["ETag"].strip('"') != etag:  # some servers do not know If-Match
            raise ChangedError("changed since it was listed")
        md5 = _md5(answer, bucket) if "Range" not in more else None
        if md5 is not None and hashlib.md5(data, usedforsecurity=False).hexdigest() != md5:
            raise DamagedError("other bytes came than the server's ETag says")
        return bytes(data)

    def write(self, path: str, data: bytes) -> None:
        bucket, key = _split(path)
        self._call("put_object", Bucket=bucket, Key=key, Body=data)

    def create(self, path: str, data: bytes) -> bool:
        """Put `data` at `path` unless something is there: exact on servers that know conditional puts."""
        bucket, key = _split(path)
        try:
            self._call("put_object", Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
        except OSError as error:
            code = (refused(error) or {}).get("Code")
            if isinstance(error, FileExistsError) or code in TAKEN:
                return False
            if code != "NotImplemented":
                raise
            if self.kind(path) == "file":
                return False
            self.write(path, data)
        return True

    def replace(self, path: str, entry: Entry, data: bytes) -> bool:
        """Put `data` at `path` if what is there is as it was listed: exact on servers that know conditional puts."""
        return self._if_still("put_object", path, entry, lambda: self.write(path, data), Body=data)

    def remove(self, path: str, entry: Entry) -> bool:
        """Remove what is at `path` if it is as it was listed: exact on servers that know conditional deletes."""
        if not is_still(self.info, path, entry):  # some servers do not know If-Match here, and delete all the same
            return False
        return self._if_still("delete_object", path, entry, lambda: self.delete(path))

    def _if_still(self, method: str, path: str, entry: Entry, do: Callable[[], None], **given: Any) -> bool:
        """Call a method that is conditional; where the server does not know that, look, and then `do`."""
        bucket, key = _split(path)
        try:
            self._call(method, Bucket=bucket, Key=key, IfMatch=f'"{entry.etag}"', **given)
        except OSError as error:
            code = (refused(error) or {}).get("Code")
            if code in (*TAKEN, *GONE):
                return False
            if code != "NotImplemented":
                raise
            if not is_still(self.info, path, entry):
                return False
            do()
        return True

    def age(self, path: str) -> float | None:
        """Seconds since an object was written, by the server's own clock."""
        bucket, key = _split(path)
        head = self._call("head_object", Bucket=bucket, Key=key)
        now = head["ResponseMetadata"]["HTTPHeaders"].get("date")
        return (parsedate_to_datetime(now) - head["LastModified"]).total_seconds() if now else None

    def upload(self, path: str, file: Path) -> None:
        bucket, key = _split(path)
        to = {"Bucket": bucket, "Key": key}
        if file.stat().st_size < 2 * PART:
            self._call("put_object", **to, **_typed(file), Body=file.read_bytes())
        else:
            self._retried(lambda: self._upload_parts(to, file))

    def _upload_parts(self, to: dict[str, str], file: Path) -> None:
        """Put a file as parts; DamagedError where the upload was given up by another, or its last answer was lost."""
        upload = {**to, "UploadId": self._call("create_multipart_upload", **to, **_typed(file))["UploadId"]}
        size = file.stat().st_size
        length = max(PART, -(-size // MAX_PARTS))

        def put(number: int) -> dict[str, Any]:
            with file.open("rb") as data:
                data.seek((number - 1) * length)
                body = data.read(length)
            return {
                "PartNumber": number,
                "ETag": self._call("upload_part", **upload, PartNumber=number, Body=body)["ETag"],
            }

        try:
            parts = list(ordered_map(put, range(1, -(-size // length) + 1), PARTS_AT_ONCE))
            self._call("complete_multipart_upload", **upload, MultipartUpload={"Parts": parts})
        except BaseException as error:
            with suppress(*failures()):
                self._call("abort_multipart_upload", **upload)
            if (refused(error) or {}).get("Code") == "NoSuchUpload":
                raise DamagedError("the upload in parts is gone") from None
            raise

    def download(self, path: str, file: Path) -> None:
        entry = self.info(path, path)
        starts = range(0, max(entry.size, 1), PIECE)
        with renamed(file) as temporary, temporary.open("wb") as out:
            for piece in ordered_map(
                lambda start: self.fetch(path, entry, start, min(PIECE, entry.size - start)), starts, PARTS_AT_ONCE
            ):
                out.write(piece)

    def delete(self, path: str) -> None:
        bucket, key = _split(path)
        self._call("delete_object", Bucket=bucket, Key=key)

    def kind(self, path: str) -> str:
        bucket, key = _split(path)
        with suppress(FileNotFoundError):
            if self.is_file(path):
                return "file"
            more = {"Prefix": f"{key}/"} if key else {}
            if self._call("list_objects_v2", Bucket=bucket, MaxKeys=1, **more).get("KeyCount") or not key:
                return "folder"
        return "nothing"

    def is_file(self, path: str) -> bool:
        bucket, key = _split(path)
        if not key:
            return False
        try:
            self._call("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return False
        except OSError:
            self._call("list_objects_v2", Bucket=bucket, Prefix=key, MaxKeys=1)  # it says why, where HEAD cannot
            raise
        return True

    def info(self, path: str, key: str) -> Entry:
        bucket, name = _split(path)
        try:
            head = self._call("head_object", Bucket=bucket, Key=name)
        except PermissionError:
            self._get(path, Range="bytes=0-0")  # which says why, and the refusal of a HEAD does not
            raise
        return Entry(key, int(head["ContentLength"]), head["ETag"].strip('"'))

    def abort_uploads(self, root: str, but_below: Sequence[str]) -> None:
        """Give up the unfinished uploads to `root` and below: they cost money and are seen by nobody.

        Where that is not for us to do, they stay. Those below a folder of `but_below` are another's.
        """
        bucket, key = _split(root)
        prefix = f"{key}/" if key else ""
        spared = tuple(f"{prefix}{folder}/" for folder in but_below)
        more: dict[str, Any] = {"Prefix": key}
        try:
            while True:
                page = self._call("list_multipart_uploads", Bucket=bucket, **more)
                for upload in page.get("Uploads", ()):
                    is_here = upload["Key"] == key or upload["Key"].startswith(prefix)
                    if is_here and not upload["Key"].startswith(spared):
                        ask_before_changing(self, f"{bucket}/{upload['Key']}")
                        with suppress(FileNotFoundError):
                            request = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
                            self._call("abort_multipart_upload", Bucket=bucket, **request)
                if not page.get("IsTruncated"):
                    return
                more |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
        except OSError as error:
            if (refused(error) or {}).get("Code") not in ("NotImplemented", "AccessDenied", "MethodNotAllowed"):
                raise

    def _call(self, method: str, **request: Any) -> dict[str, Any]:
        def call() -> dict[str, Any]:
            if method in CHANGES:
                ask_before_changing(self, f"{request['Bucket']}/{request['Key']}")
            answer: dict[str, Any] = self.fs.call_s3(method, **request)
            return answer

        return self._retried(call)

    def _retried(self, do: Callable[[], Out]) -> Out:
        """`do`, with patience for a server that answered the last time."""
        try:
            out = retried(do, PATIENCE if getattr(self.fs, "answered", False) else IMPATIENCE)
        except failures() as error:
            self.fs.answered = not may_pass(error)
            raise
        self.fs.answered = True
        return out


def _split(path: str) -> tuple[str, str]:
    bucket, _, key = path.partition("/")
    return bucket, key


def _typed(file: Path) -> dict[str, str]:
    """What browsers want to know of a file."""
    kind, _ = mimetypes.guess_type(file.name)
    return {"ContentType": kind} if kind else {}


def _md5(answer: dict[str, Any], bucket: str) -> str | None:
    """The MD5 of an object, where its ETag is one: not of several parts, of KMS or customers' keys, or on Express."""
    etag = answer.get("ETag", "").strip('"')
    encrypted = answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer
    return etag if MD5.fullmatch(etag) and not encrypted and not bucket.endswith("--x-s3") else None
