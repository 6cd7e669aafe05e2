"""Parts of objects: what servers answer to range requests, rightly and wrongly."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from pipeline.errors import MissingError, SpecError
from pipeline.storage import Piece, Unread, Want, open_ranged, read_many
from pipeline.storage.ranges import read_range
from tests.parts.servers.http import serving
from tests.storage.servers import HERE

BODY = bytes(range(256)) * 40
#: What a server says of bytes 100 to 199, and what it sends.
WRONG = {
    "other": (206, {"Content-Range": "bytes 101-200/10240"}, BODY[101:201]),
    "more": (206, {"Content-Range": "bytes 100-299/10240"}, BODY[100:300]),
    "backwards": (206, {"Content-Range": "bytes 199-100/10240"}, BODY[100:200]),
    "beyond": (206, {"Content-Range": "bytes 100-199/150"}, BODY[100:200]),
    "longer": (206, {"Content-Range": "bytes 100-199/10240"}, BODY[100:300]),
    "short": (206, {"Content-Range": "bytes 100-199/10240"}, BODY[100:150]),
}
NO_RANGES = {
    "no-range": (206, {}, BODY[100:200]),
    "no-total": (206, {"Content-Range": "bytes 100-199/*"}, BODY[100:200]),
    "words": (206, {"Content-Range": "bytes ²-³/9"}, BODY[100:200]),
    "packed": (
        206,
        {"Content-Range": "bytes 100-199/10240", "Content-Encoding": "gzip"},
        BODY[100:200],
    ),
    "endless": (206, {"Content-Range": "bytes 100-199/9999999999999999999"}, BODY[100:200]),
    "whole": (200, {}, BODY),
    "large": (200, {"Accept-Ranges": "bytes"}, BODY),
}
OTHER = {
    "etag": (206, {"Content-Range": "bytes 100-199/10240", "ETag": '"2"'}, BODY[100:200]),
    "size": (206, {"Content-Range": "bytes 100-199/10241"}, BODY[100:200]),
    "changed": (412, {}, b""),
    "small": (200, {"Accept-Ranges": "bytes"}, b"x" * 50),
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        if name == "moved":
            self.answer(302, {"Location": "/good"}, b"")
        elif name == "good":
            assert self.headers["Range"] == "bytes=100-199"
            self.answer(206, {"Content-Range": "bytes 100-199/10240"}, BODY[100:200])
        else:
            self.answer(*(WRONG | NO_RANGES | OTHER)[name])

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value.encode().decode("latin-1"))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Handler) as found:
        yield found


def part(where: str, etag: str | None = None) -> bytes | str:
    """Bytes 100 to 199 as a reader of members gets them: they, or the error's code."""
    whole = Want(where, etag, len(BODY))
    want = Want(where, size=100, piece=Piece(whole, 100, 100, bytes))
    [(_, found)] = read_many([want], max_bytes=1000, rules=HERE)
    return found if isinstance(found, bytes) else str(found.code)


def test_a_range_is_what_was_asked_for(url: str, tmp_path: Path) -> None:
    local = tmp_path / "object"
    local.write_bytes(BODY)
    for where in (f"{url}/good", f"{url}/moved", local.as_uri()):
        assert part(where) == BODY[100:200]


@pytest.mark.parametrize("name", NO_RANGES)
def test_a_server_without_ranges_is_unsupported(url: str, name: str) -> None:
    assert part(f"{url}/{name}") == "unsupported"


@pytest.mark.parametrize("name", OTHER)
def test_another_object_is_changed(url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.storage.translate.TRIES", 1)
    expected = "transient" if name == "small" else "changed"
    assert part(f"{url}/{name}", "1") == expected


def test_a_wrong_range_is_asked_for_again_and_then_transient(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.storage.translate.TRIES", 1)
    assert [part(f"{url}/{name}") for name in WRONG] == ["transient"] * len(WRONG)


def test_an_object_that_is_not_there_is_told_as_a_whole(tmp_path: Path) -> None:
    none = (tmp_path / "none.zip").as_uri()
    with pytest.raises(Unread) as told:
        open_ranged(none, none, HERE, tail=10)
    assert (told.value.of_its_own, told.value.is_gone, told.value.refused) == (True, True, False)
    assert isinstance(told.value.whole, MissingError)
    folder = tmp_path.as_uri()
    with pytest.raises(Unread) as told:
        open_ranged(folder, folder, HERE, tail=10)
    assert isinstance(told.value.whole, SpecError)


def test_a_file_is_held_to_what_was_listed(tmp_path: Path) -> None:
    local = tmp_path / "object"
    local.write_bytes(BODY)
    ranged = open_ranged(local.as_uri(), local.as_uri(), HERE, tail=50)
    assert ranged.read(len(BODY) - 50, len(BODY)) == BODY[-50:]
    assert ranged.read(0, 300) == read_range(ranged.want, 0, 300, HERE) == BODY[:300]
    with pytest.raises(ValueError, match="of 10240 bytes"):
        ranged.read(0, len(BODY) + 1)
    local.write_bytes(BODY + b"more")
    with pytest.raises(Unread, match="412"):
        ranged.read(0, 300)
    assert ranged.read(len(BODY) - 50, len(BODY)) == BODY[-50:]
