"""Zip files as people's tools write them, as enemies do, and a web server that knows ranges."""

import hashlib
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Final

from tests.parts.servers.http import serving

_LOCAL: Final = struct.Struct("<IHHHHHIIIHH")
_CENTRAL: Final = struct.Struct("<IHHHHHHIIIHHHHHII")
_END: Final = struct.Struct("<IHHHHIIH")


def zip_of(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """As Python's zipfile writes it."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return sink.getvalue()


class Forged:
    """A zip file written field by field, whose directory may say what it likes."""

    def __init__(self) -> None:
        self.body = bytearray()
        self._entries: list[bytes] = []

    def add(self, name: bytes, data: bytes, *, method: int = 8, **said: int) -> int:
        """One member; returns where its header begins. `said` overrides what the directory says:
        crc, packed, size, offset, flags, method, disk."""
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(data) + packer.flush() if method == 8 else data
        offset = len(self.body)
        crc = zlib.crc32(data)
        lengths = (len(packed), len(data))
        self.body += (
            _LOCAL.pack(0x04034B50, 20, 0, method, 0, 0, crc, *lengths, len(name), 0)
            + name
            + packed
        )
        facts = {"crc": crc, "packed": len(packed), "size": len(data), "offset": offset}
        self.entry(name, **facts | {"method": method} | said)
        return offset

    def entry(
        self,
        name: bytes,
        *,
        crc: int = 0,
        packed: int = 0,
        size: int = 0,
        offset: int = 0,
        flags: int = 0,
        method: int = 8,
        disk: int = 0,
        extra: bytes = b"",
    ) -> None:
        """A line of the directory alone."""
        lengths = (len(name), len(extra), 0)
        first = (0x02014B50, 20, 20, flags, method, 0, 0, crc, packed, size)
        line = _CENTRAL.pack(*first, *lengths, disk, 0, 0, offset)
        self._entries.append(line + name + extra)

    def whole(self, **said: int) -> bytes:
        """The file; `said` overrides what its end says: disk, count, size, offset."""
        directory = b"".join(self._entries)
        count = said.get("count", len(self._entries))
        size, offset = said.get("size", len(directory)), said.get("offset", len(self.body))
        disk = said.get("disk", 0)
        end = _END.pack(0x06054B50, disk, disk, count, count, size, offset, 0)
        return bytes(self.body) + directory + end


class Ranges(BaseHTTPRequestHandler):
    """Files with ranges: `/signed/…` wants its query to begin with `sig=`, `/plain/…` knows no
    ranges. `asked` has (path, first byte, last byte) of each answer."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]
    asked: list[tuple[str, int, int]]

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        data = self.files.get(path.rpartition("/")[2])
        if data is None:
            return self._answer(404, b"")
        if path.startswith("/signed/") and not query.startswith("sig="):
            return self._answer(403, b"")
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        if self.headers.get("If-Match") not in (None, etag):
            return self._answer(412, b"")
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if found is None or path.startswith("/plain/"):
            return self._answer(200, data, ETag=etag)
        return self._part(path, data, found, etag)

    def _part(self, path: str, data: bytes, found: re.Match[str], etag: str) -> None:
        if found[1]:
            first, last = int(found[1]), min(int(found[2] or len(data)), len(data) - 1)
        else:
            first, last = max(0, len(data) - int(found[2])), len(data) - 1
        if first > last:
            return self._answer(416, b"")
        self.asked.append((path, first, last))
        told = {"ETag": etag, "Content-Range": f"bytes {first}-{last}/{len(data)}"}
        return self._answer(206, data[first : last + 1], **told)

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def range_server(files: dict[str, bytes]) -> Iterator[tuple[str, list[tuple[str, int, int]]]]:
    """Yields the url without a slash, and what was asked for so far."""
    asked: list[tuple[str, int, int]] = []
    with serving(type("Served", (Ranges,), {"files": files, "asked": asked})) as url:
        yield url, asked
