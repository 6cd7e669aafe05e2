"""A real web server with real faults, for the readers to meet."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote

from pipeline.storage import Rules
from tests.parts.servers.http import serving

#: What reads the servers of tests, which are on loopback.
HERE = Rules(allow_private=True)

BODY = bytes(range(256)) * 40
EXPIRED = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
ETAG = hashlib.md5(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """`/<kind>/<name>` behaves as its kind says; `seen` counts requests by path."""

    protocol_version = "HTTP/1.1"
    seen: Counter[str]
    files: dict[str, bytes]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.seen[path] += 1
        kind = path.split("/")[-2] if path.count("/") > 1 else ""
        getattr(self, f"on_{kind.replace('-', '_')}", self.on_file)(path)

    do_HEAD = do_GET  # noqa: N815

    def do_PUT(self) -> None:
        """Takes everything, heedless of conditions."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, b"", ETag='"1"')

    def do_POST(self) -> None:
        """An S3 bulk delete."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, b"<DeleteResult><Deleted><Key>x</Key></Deleted></DeleteResult>")

    def on_file(self, path: str) -> None:
        data = self.files.get(path)
        if data is None:
            self.answer(404, b"no")
        else:
            self.answer(200, data, ETag=f'"{hashlib.md5(data).hexdigest()}"')

    def on_ok(self, path: str) -> None:
        given = self.headers.get("If-Match")
        if given not in (None, f'"{ETAG}"'):
            self.answer(412, b"")
        else:
            self.answer(200, BODY, ETag=f'"{ETAG}"')

    def on_status(self, path: str) -> None:
        code = b"<Error><Code>" + path.rpartition("-")[2].encode() + b"</Code></Error>"
        self.answer(int(path.rpartition("/")[2].partition("-")[0]), code if "-" in path else b"")

    def on_twice_503(self, path: str) -> None:
        if self.seen[path] <= 2:
            self.answer(503, b"<Error><Code>SlowDown</Code></Error>")
        else:
            self.on_ok(path)

    def on_cut_once(self, path: str) -> None:
        if self.seen[path] == 1:
            self.cut()
        else:
            self.on_ok(path)

    def on_cut_always(self, path: str) -> None:
        self.cut()

    def on_flipped_once(self, path: str) -> None:
        body = bytes([BODY[0] ^ 255]) + BODY[1:] if self.seen[path] == 1 else BODY
        self.answer(200, body, ETag=f'"{ETAG}"')

    def on_flipped_always(self, path: str) -> None:
        body = self.seen[path].to_bytes(8, "big") + BODY[8:]
        self.answer(200, body, ETag=f'"{ETAG}"')

    def on_no_md5(self, path: str) -> None:
        self.answer(200, BODY, ETag=f'"{"0" * 32}"')

    def on_seen(self, path: str) -> None:
        self.answer(200, json.dumps(self.seen).encode())

    def on_region(self, path: str) -> None:
        self.answer(301, b"", **{"x-amz-bucket-region": "eu-central-1"})

    def on_weak(self, path: str) -> None:
        self.answer(200, BODY, ETag='W/"7"')

    def on_redirect(self, path: str) -> None:
        self.answer(302, b"", Location="/ok/target.jpg")

    def on_to(self, path: str) -> None:
        """Redirects to its query."""
        self.answer(302, b"", Location=unquote(self.path.partition("?")[2]))

    def on_loop(self, path: str) -> None:
        self.answer(302, b"", Location=path)

    def on_signed(self, path: str) -> None:
        """Files for those whose query ends in the right signature; one may have expired."""
        if self.path.endswith("sig=right"):
            self.on_file(path)
        elif self.path.endswith("sig=expired"):
            self.answer(403, EXPIRED)
        else:
            self.answer(403, b"")

    def on_says(self, path: str) -> None:
        """Answers with the status in its name and the text in its query."""
        text = unquote(self.path.partition("?")[2]).encode()
        self.answer(int(path.rpartition("/")[2]), text)

    def on_asked(self, path: str) -> None:
        """What the request's header of that name was."""
        self.answer(200, self.headers.get(path.rpartition("/")[2], "none").encode())

    def on_hidden(self, path: str) -> None:
        self.answer(403, b"")

    def on_maze(self, path: str) -> None:
        """A folder with a folder in it, at any depth."""
        self.answer(200, b'<a href="maze/">on</a>')

    def on_empty(self, path: str) -> None:
        self.answer(200, b"")

    def on_endless(self, path: str) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for _ in range(64):
            self.wfile.write(BODY)

    def cut(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.send_header("ETag", f'"{ETAG}"')
        self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        self.end_headers()
        self.wfile.write(BODY[:100])
        self.close_connection = True

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def web_server(files: dict[str, bytes] | None = None) -> Iterator[str]:
    """Serve `files` by path, and the faults; yields the url without a slash."""
    with serving(type("Files", (Handler,), {"seen": Counter(), "files": files or {}})) as url:
        yield url
