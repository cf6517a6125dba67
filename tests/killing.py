"""Runs that are killed: a flow in a process of its own, which dies at a step that was agreed, or at any moment.

A step is what changes a target: on a disk, before a file is opened for writing, renamed, linked or removed; on S3,
before a request that writes is sent, and after its answer. The process counts its own steps, so that the code under
test needs no hook, and it writes down which images of its source it reads. Where the fixture `warm` is asked for, it
is a fork of one that has imported everything: a kill costs no more than the run that it ends.
"""

import io
import json
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import count
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import s3fs
from fsspec.asyn import sync_wrapper

from storage.receipts.seals import SEALS
from storage.stores.location import Location
from tests.services import S3Server

PROCESSES = get_context("spawn")
LONGEST = 30.0

Flow = Callable[[str, str], object]
"""A flow from one address to another, in a function that another process can import."""
Setting = tuple[str, str, object]
"""What is set in that process before the flow runs: module, name, value."""
Content = bytes | list[dict[str, Any]]


@dataclass(frozen=True)
class Place:
    """An address, and what lies below it as seen past the code under test and its caches."""

    url: str
    server: S3Server | None

    def files(self) -> dict[str, Content]:
        """What each file holds, by key; of tables that tell how long things took, the rest; of seals, their keys."""
        return {key: _content(key, data) for key, data in self._bytes()}

    def _bytes(self) -> Iterator[tuple[str, bytes]]:
        if self.server is None:
            files = (path for path in Path(_root(self.url)).rglob("*") if not path.is_dir())
            yield from ((str(path).removeprefix(_root(self.url)), path.read_bytes()) for path in files)
            return
        client, names = _client(self.server), self._names()
        for page in client.get_paginator("list_objects_v2").paginate(**names):
            for key in (found["Key"] for found in page.get("Contents", ())):
                body = client.get_object(Bucket=names["Bucket"], Key=key)["Body"]
                yield key.removeprefix(names["Prefix"]), body.read()

    def unfinished(self) -> list[str]:
        """Uploads in parts that were begun, and neither completed nor given up."""
        if self.server is None:
            return []
        uploads = _client(self.server).list_multipart_uploads(**self._names())
        return [upload["Key"] for upload in uploads.get("Uploads", ())]

    def put(self, key: str, data: bytes) -> None:
        Location.of(self.url).write(key, data)

    def _names(self) -> dict[str, str]:
        bucket, _, prefix = _root(self.url).partition("/")
        return {"Bucket": bucket, "Prefix": prefix}


@cache
def _client(server: S3Server) -> Any:
    return server.client()


def _root(url: str) -> str:
    return url.removeprefix("s3://").rstrip("/") + "/"


def _content(key: str, data: bytes) -> Content:
    if key.endswith(SEALS):
        return " ".join(json.loads(data)["seals"]).encode()
    if not key.endswith(".parquet"):
        return data
    table = pq.read_table(io.BytesIO(data))
    times = [name for name in table.column_names if name.endswith("seconds")]
    return table.drop_columns(times).to_pylist() if times else data


@dataclass(frozen=True)
class Ended:
    """A run that is over: whether it was killed, its steps and the file of each, what it read, and its seconds."""

    killed: bool
    steps: list[str]
    places: list[str]
    read: frozenset[str]
    seconds: float


@dataclass(frozen=True)
class Runs:
    """Runs of a flow over one source; `folder` is for what they say and for their temporary files."""

    flow: Flow
    source: Place
    folder: Path
    settings: tuple[Setting, ...] = ()

    def run(self, target: Place, at_step: int = 0, after: float = LONGEST) -> Ended:
        """Run the flow to its end, or until it has come to a step (from 1), or for so many seconds."""
        log = self.folder / f"{uuid.uuid4().hex}.log"
        ready, begun = PROCESSES.Pipe(duplex=False)
        environment = {**os.environ, "TMPDIR": str(self.folder)}
        given = (self.flow, self.source.url, target.url, self.settings, log, environment, at_step, begun)
        process = PROCESSES.Process(target=_run, args=given)
        process.start()
        begun.close()
        ready.recv()
        started = time.monotonic()
        process.join(after)
        seconds = time.monotonic() - started
        process.kill()
        process.join()
        said = log.with_suffix(".said").read_text()
        if process.exitcode not in (0, -signal.SIGKILL) or seconds > LONGEST:
            raise RuntimeError(f"a run into {target.url} ended with {process.exitcode}:\n{said}")
        lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
        read = frozenset(where for what, where in lines if what == "read")
        steps = [(what, where) for what, where in lines if what != "read"]
        return Ended(process.exitcode != 0, [what for what, _ in steps], [where for _, where in steps], read, seconds)


def _run(
    flow: Flow,
    source: str,
    target: str,
    settings: tuple[Setting, ...],
    log: Path,
    environment: dict[str, str],
    at_step: int,
    begun: Connection,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # it asks the environment anew
    with log.with_suffix(".said").open("wb") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    for module, name, value in settings:
        setattr(import_module(module), name, value)
    _watch(_root(source), _root(target), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), at_step)
    begun.send(True)
    flow(source, target)


def _watch(source: str, target: str, log: int, at_step: int) -> None:
    """Write down, from now on, what this process reads of its source and does to its target; die at a step."""
    numbers = count(1)

    def read(where: str) -> None:
        os.write(log, f"read {where.removeprefix(source)}\n".encode())

    def step(what: str, where: str) -> None:
        os.write(log, f"{what} {where.removeprefix(target)}\n".encode())
        if next(numbers) == at_step:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, given: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename", "os.link", "os.remove"):
            return
        path = given[1] if event in ("os.rename", "os.link") else given[0]
        where = str(path) if isinstance(path, str | Path) else ""
        if where.startswith(target) and (event != "open" or given[2] & (os.O_WRONLY | os.O_RDWR)):
            step(event, where)
        elif where.startswith(source) and event == "open":
            read(where)

    async def call(self: Any, method: str, *given: dict[str, Any], **named: Any) -> Any:
        names = {name: value for some in (*given, named) for name, value in some.items()}
        where = f"{names.get('Bucket')}/{names.get('Key')}"
        writes = not method.startswith(("get_", "head_", "list_"))
        if method == "get_object" and where.startswith(source):
            read(where)
        if writes:
            step(method, where)
        answer = await call_s3(self, method, *given, **named)
        if writes:
            step("answered", where)
        return answer

    call_s3 = s3fs.S3FileSystem._call_s3
    s3fs.S3FileSystem._call_s3, s3fs.S3FileSystem.call_s3 = call, sync_wrapper(call)
    sys.addaudithook(audit)
