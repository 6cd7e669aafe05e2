"""A hub of one repository on loopback; it knows the requests that huggingface_hub makes."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.parts.servers.http import serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/vit-tiny"


class MiniHub:
    """`asked` holds (method, path) of each request, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, str]] = []
        self.url = ""

    @property
    def downloaded(self) -> set[str]:
        marker = f"/resolve/{COMMIT}/"
        return {
            path.partition(marker)[2] for how, path in self.asked if how == "GET" and marker in path
        }


@contextmanager
def serve(folder: Path) -> Iterator[MiniHub]:
    """Serve the files of `folder` as REPO at COMMIT, which `main` names."""
    hub = MiniHub(folder)

    class Handler(_Handler):
        pass

    Handler.hub = hub
    with serving(Handler) as hub.url:
        yield hub


class _Handler(BaseHTTPRequestHandler):
    hub: MiniHub

    def do_GET(self) -> None:
        path = self._note()
        names = sorted(
            p.relative_to(self.hub.folder).as_posix() for p in self.hub.folder.rglob("*.*")
        )
        if path in {
            f"/api/models/{REPO}{end}" for end in ("", "/revision/main", f"/revision/{COMMIT}")
        }:
            self._json({"id": REPO, "sha": COMMIT, "siblings": [{"rfilename": n} for n in names]})
        elif path == f"/api/models/{REPO}/tree/{COMMIT}":
            self._json([self._entry(name) for name in names])
        elif path.startswith(f"/api/models/{REPO}/revision/"):
            self._error("RevisionNotFound")
        else:
            self._file(path, body=True)

    def do_HEAD(self) -> None:
        self._file(self._note(), body=False)

    def _note(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path))
        return path

    def _entry(self, name: str) -> dict[str, object]:
        data = (self.hub.folder / name).read_bytes()
        return {
            "type": "file",
            "path": name,
            "size": len(data),
            "oid": hashlib.sha1(data).hexdigest(),
        }

    def _file(self, path: str, body: bool) -> None:
        start, _, name = path.partition(f"/resolve/{COMMIT}/")
        if start != f"/{REPO}" or not (self.hub.folder / name).is_file():
            self._error("RepoNotFound")
            return
        data = (self.hub.folder / name).read_bytes()
        self._answer(
            200,
            data,
            body,
            {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT},
        )

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), True, {"Content-Type": "application/json"})

    def _error(self, code: str) -> None:
        self._answer(404, b"{}", True, {"X-Error-Code": code})

    def _answer(self, status: int, data: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """The test's output is no place for an access log."""
