"""A proxy before the tests' S3 server that breaks, on demand, what passes through it.

    with FaultyS3(s3_server) as proxy:
        proxy.inject(status(503, "SlowDown"), when="GET photographs/*", times=2)

Requests pass whole and unchanged, Host included, which signatures cover; only `Expect: 100-continue` is answered
here. Answers are read whole and sent with their length, never in chunks. Each request has its own connection, which
ends without an answer where the server is gone.
"""

import math
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from copy import copy
from dataclasses import dataclass
from email.message import Message
from fnmatch import fnmatchcase
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler
from itertools import chain, repeat
from socketserver import ThreadingTCPServer
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.services import S3Server

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
PATIENCE = 60.0  # seconds until a server or client that says nothing is given up
PIECES_PER_SECOND = 20


@dataclass
class Request:
    """What a client asked for, without its Authorization; the key of a listing is empty."""

    method: str
    path: str
    key: str
    query: dict[str, str]
    headers: Message
    fault: str = ""  # the name of the one that took it
    server_status: int | None = None  # None where the server did not answer, or never heard of it


Matcher = Callable[[Request], bool]
Answer = tuple[int, str, Message, bytes]  # status, reason, headers, body


@dataclass(frozen=True)
class Fault:
    """What becomes of a request, and the name of that in the records."""

    name: str
    reaches_server: bool = True
    error: tuple[int, str] | None = None  # sent instead of the server's answer
    change: Callable[[bytes], bytes] | None = None  # of the answer's body
    size: int | None = None  # how much of the body is sent
    rate: float = math.inf  # bytes of the body per second
    hangs: bool = False
    resets: bool = False


def status(code: int, name: str) -> Fault:
    """The client gets an S3 error; the server never hears of the request."""
    return Fault(f"status {code} {name}", reaches_server=False, error=(code, name))


def status_after(code: int, name: str) -> Fault:
    """The server does its work, but the client gets an S3 error."""
    return Fault(f"status after {code} {name}", error=(code, name))


def reset() -> Fault:
    """The connection is reset; the server never hears of the request."""
    return Fault("reset", reaches_server=False, resets=True)


def reset_within(size: int) -> Fault:
    """The connection is reset after so many bytes of the answer's body."""
    return Fault(f"reset within {size}", size=size, resets=True)


def hang() -> Fault:
    """No answer comes, and the server never hears of the request; once cleared, the connection ends."""
    return Fault("hang", reaches_server=False, hangs=True)


def truncate(size: int) -> Fault:
    """The client is told the whole length, but the connection ends after so many bytes of the answer's body."""
    return Fault(f"truncate {size}", size=size)


def truncate_silently(size: int) -> Fault:
    """The answer's body is cut to so many bytes, and the client is told that length: a store that lies."""
    return Fault(f"truncate silently {size}", change=lambda body: body[:size])


def corrupt() -> Fault:
    """The byte in the middle of the answer's body is flipped."""
    return Fault("corrupt", change=lambda b: b[: (i := len(b) // 2)] + bytes([b[i] ^ 0xFF]) + b[i + 1 :])


def slow(bytes_per_second: int) -> Fault:
    """The answer's body trickles; once cleared, its rest comes at once."""
    return Fault(f"slow {bytes_per_second}", rate=bytes_per_second)


class FaultyS3(ThreadingTCPServer):
    """The proxy, which serves while its block runs; `requests` holds all that came."""

    request_queue_size = 128

    def __init__(self, server: S3Server) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        seen = copy(server)
        seen.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.environment, self.client = seen.environment, seen.client  # the server's own, but through here
        self.server_port = server.port
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        self._faults: list[tuple[Fault, Matcher, Iterator[bool]]] = []
        self._cleared = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,)).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.clear()
        self.server_close()

    def inject(self, fault: Fault, when: str | Matcher = "*", times: int | None = None, after: int = 0) -> None:
        """Let the first `after` requests that fit `when` pass, and the fault take the next `times`, or all.

        `when` is a predicate, or a method and a pattern of keys: `GET *.tar`, `PUT`, `* shards/*`. The empty key of
        listings fits `*`, but not `?*`. A request that several faults are for goes to the one injected first.
        """
        turns = chain(repeat(False, after), repeat(True) if times is None else repeat(True, times))
        with self._lock:
            self._faults.append((fault, _matcher(when) if isinstance(when, str) else when, turns))

    def clear(self) -> None:
        """End all faults, and let go of the requests that hang or trickle."""
        with self._lock:
            self._faults.clear()
            self._cleared.set()
            self._cleared = threading.Event()

    def record(self, request: Request) -> tuple[Fault, threading.Event]:
        """Write a request down, and tell the fault that takes it and what is set once that is cleared."""
        with self._lock:
            takers = (fault for fault, fits, turns in self._faults if fits(request) and next(turns, False))
            fault = next(takers, Fault(""))
            request.fault = fault.name
            self.requests.append(request)
            return fault, self._cleared


def _matcher(words: str) -> Matcher:
    method, _, pattern = words.partition(" ")
    return lambda request: method in ("*", request.method) and fnmatchcase(request.key, pattern or "*")


class Exchange(BaseHTTPRequestHandler):
    """A client's connection: one request, and what becomes of it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = PATIENCE
    server: FaultyS3

    def handle(self) -> None:
        with suppress(OSError, HTTPException):  # where the client or the server leaves, the connection ends
            super().handle()

    def exchange(self) -> None:
        self.close_connection = True
        body = self.read_body()
        url, headers = urlsplit(self.path), copy(self.headers)
        path, query = unquote(url.path), dict(parse_qsl(url.query, keep_blank_values=True))
        del headers["Authorization"]
        request = Request(self.command, path, path[1:].partition("/")[2], query, headers)
        fault, cleared = self.server.record(request)
        if fault.hangs:
            cleared.wait()
        answer = self.ask_server(request, body) if fault.reaches_server else None
        answer = _refusal(*fault.error) if fault.error else answer
        if answer:
            self.send(answer, fault, cleared)
        if fault.resets:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            os.close(self.connection.detach())  # before the proxy ends the connection politely

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = exchange  # noqa: N815

    def read_body(self) -> bytes:
        """Read the body as it comes, chunks with their frames; ConnectionError where the client leaves within."""
        size = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(size)
        chunk = -1 if "Transfer-Encoding" in self.headers else 0
        while chunk and (line := self.rfile.readline()):
            chunk = int(line, 16)
            body += line + self.rfile.read(chunk + 2)
        if len(body) < size or chunk:
            raise ConnectionError("the client left")
        return body

    def ask_server(self, request: Request, body: bytes) -> Answer:
        with closing(HTTPConnection("127.0.0.1", self.server.server_port, timeout=PATIENCE)) as connection:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != "expect":
                    connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            content = response.read()
        request.server_status = response.status
        if response.chunked:
            del response.headers["Transfer-Encoding"]
            response.headers["Content-Length"] = str(len(content))
        return response.status, response.reason, response.headers, content

    def send(self, answer: Answer, fault: Fault, cleared: threading.Event) -> None:
        code, reason, headers, body = answer
        if fault.change and body:
            body = fault.change(body)
            headers.replace_header("Content-Length", str(len(body)))
        headers["Connection"] = "close"
        self.send_response_only(code, reason)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        body = b"" if self.command == "HEAD" else body[: fault.size]
        piece = max(1, int(min(len(body), fault.rate / PIECES_PER_SECOND)))
        for start in range(0, len(body), piece):
            cleared.wait(piece / fault.rate)
            self.wfile.write(body[start : start + piece])


def _refusal(code: int, name: str) -> Answer:
    error = f"<Error><Code>{name}</Code><Message>Injected.</Message><RequestId>faulty</RequestId></Error>"
    body, headers = f'<?xml version="1.0" encoding="UTF-8"?>\n{error}'.encode(), Message()
    headers["Content-Type"], headers["Content-Length"] = "application/xml", str(len(body))
    return code, name, headers, body
