"""A web server of files in memory that tells as much, or as little, of them as a test wants."""

import gzip
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

PIECE = 4096


@dataclass
class Site:
    """What a server has, by paths without a first slash, and how it behaves.

    etag: `strong`, `weak` or empty. length: whether Content-Length is told; else answers are chunked. refuses: the
    status that HEAD gets. lacks: bytes that each answer with a file breaks off before. written: by path, the time of
    Last-Modified. status: by path, what is answered instead of the file. elsewhere: by path, where it is redirected.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    etag: str = ""
    length: bool = True
    ranges: bool = True
    packs: bool = False
    refuses: int = 0
    lacks: int = 0
    written: dict[str, float] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    elsewhere: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve a site, with its `address` set, while the body runs."""

    class Handler(_Handler):
        pass

    Handler.site = site
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        site.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield site
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        if self.site.refuses:
            self._send(self.site.refuses, {}, b"")
        else:
            self.do_GET()

    def do_GET(self) -> None:
        site, path = self.site, urlsplit(self.path).path.lstrip("/")
        site.requests.append((self.command, path))
        if path in site.elsewhere:
            self._send(302, {"Location": f"/{site.elsewhere[path]}"}, b"")
        elif path in site.status:
            self._send(site.status[path], {}, b"")
        elif path in site.files:
            self._send_file(path, site.files[path])
        elif page := self._page(path):
            self._send(200, {"Content-Type": "text/html"}, page)
        else:
            self._send(404, {}, b"")

    def _page(self, path: str) -> bytes:
        """Links to what is in a folder, and to the page itself in another order."""
        folder = f"{path.rstrip('/')}/" if path else ""
        inside = (
            name.removeprefix(folder) for name in (*self.site.files, *self.site.status) if name.startswith(folder)
        )
        names = sorted({name if "/" not in name else f"{name.partition('/')[0]}/" for name in inside})
        links = "".join(f'<a href="{name}">{name}</a>\n' for name in names)
        return f'<a href="?C=N;O=D">Name</a> <a href="../">up</a>\n{links}'.encode() if names else b""

    def _send_file(self, path: str, data: bytes) -> None:
        site = self.site
        headers = {"Content-Type": "application/octet-stream"}
        if site.etag:
            tag = f'"{hashlib.sha256(data).hexdigest()[:8]}"'
            headers["ETag"] = tag if site.etag == "strong" else 'W/"same"'
        if path in site.written:
            headers["Last-Modified"] = formatdate(site.written[path], usegmt=True)
        if site.packs:
            data = gzip.compress(data, mtime=0)
            headers["Content-Encoding"] = "gzip"
        wanted = self.headers.get("Range")
        if not (wanted and site.ranges):
            self._send(200, headers, data)
            return
        first, last = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
        if first >= len(data):
            self._send(416, {**headers, "Content-Range": f"bytes */{len(data)}"}, b"")
            return
        part = data[first : last + 1]
        headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
        self._send(206, headers, part)

    def _send(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        has_length = self.site.length or status >= 300
        if has_length:
            self.send_header("Content-Length", str(len(data)))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.command == "HEAD" or status == 304:
            return
        if lacks := self.site.lacks if status < 300 else 0:
            self.close_connection = True
        sent = data[: len(data) - lacks]
        try:
            if has_length:
                self.wfile.write(sent)
                return
            for start in range(0, len(sent), PIECE):
                piece = sent[start : start + PIECE]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if not lacks:
                self.wfile.write(b"0\r\n\r\n")
        except ConnectionError:  # who asked wanted no more than the head
            self.close_connection = True
