"""Reads parts of an object at a web address with HTTP range requests (RFC 9110, section 14)."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import urllib3

from pipeline.errors import ImageError
from pipeline.storage.clients import web
from pipeline.storage.clients.web import Rules
from pipeline.storage.faults import Answer, Damaged, Unsupported

NO_RANGES: Final = (
    "its web server does not support range requests; copy the archive to a disk or a bucket"
)
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
_PARTIAL: Final = 206
#: 1 PiB. A larger size, as a server may claim, would overflow columns.
LARGEST: Final = 2**50


@dataclass(frozen=True, slots=True)
class Part:
    """`data` begins at byte `start` of an object of `total` bytes."""

    data: bytes
    start: int
    total: int
    etag: str | None
    modified: datetime | None


def get_range(url: str, rules: Rules, start: int, end: int, etag: str | None = None) -> Part:
    """Bytes [start, end) of `url`. Raises what `web.get` raises, Unsupported if the server does not
    support ranges, and Damaged if it sends another range."""
    part = _get(url, rules, f"bytes={start}-{end - 1}", end - start, etag)
    if part.start != start or len(part.data) > end - start:
        raise Damaged("the server sent another range than requested")
    return part


def get_tail(url: str, rules: Rules, count: int) -> Part:
    """The last `count` bytes of `url`, or all of it if it has fewer."""
    return _get(url, rules, f"bytes=-{count}", count, None)


def _get(url: str, rules: Rules, asked: str, at_most: int, etag: str | None) -> Part:
    headers = {"Range": asked} | web.if_match(etag)
    with web.answered("GET", url, rules, headers) as response:
        found = web.unquoted(response.headers.get("ETag"))
        if etag is not None and found is not None and found != etag:
            raise Answer(412)
        start, end, total = _bounds(response, at_most)
        if total > LARGEST:
            raise Unsupported(f"{total:,} bytes, which is not a possible size")
        try:
            data, _ = web.read(response, end - start)
        except ImageError:
            raise Damaged("the body is longer than its range") from None
        if len(data) != end - start:
            raise Damaged("the body is shorter than its range")
        return Part(data, start, total, found, web.modified(response))


def _bounds(response: urllib3.BaseHTTPResponse, at_most: int) -> tuple[int, int, int]:
    """(start, end, size of the whole) of an answer."""
    if response.status == _PARTIAL:
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Unsupported(NO_RANGES)
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if found is None:
            raise Unsupported(NO_RANGES)
        first, last, total = map(int, found.groups())
        if not first <= last < total or last - first >= at_most:
            raise Damaged("the server sent another range than requested")
        return first, last + 1, total
    if response.status not in web.WHOLE:
        raise web.answer(response)
    # A server that supports ranges may still send a small object as a whole.
    length = response.headers.get("Content-Length", "")
    knows = response.headers.get("Accept-Ranges", "").lower() == "bytes"
    if not knows or not re.fullmatch(r"[0-9]{1,19}", length) or int(length) > at_most:
        raise Unsupported(NO_RANGES)
    return 0, int(length), int(length)
