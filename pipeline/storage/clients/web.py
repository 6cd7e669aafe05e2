"""HTTP client: images at http(s) urls, and requests that another module has signed.

Anyone may have written an address in a manifest, so it is read under `Rules`: the peer must be
public, redirects may only lead to http(s), and there is a time limit for the whole. If the
environment names a proxy, the proxy resolves and connects, and must itself restrict where to.
Then only urls that are private by their text are refused here (see hosts.py).
"""

import os
import re
import string
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote, urljoin
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import LocationValueError

from pipeline.errors import ErrorCode, ImageError
from pipeline.storage.clients import encodings, peers
from pipeline.storage.entry import UNKNOWN_TIME, in_utc
from pipeline.storage.faults import Answer, Refused

REDIRECTS: Final = 5
#: For connecting and sending; each read has its own timeout (see peers.py).
_TIMEOUT: Final = urllib3.Timeout(connect=peers.CONNECT_SECONDS, read=peers.SEND_SECONDS)
_HEADERS: Final = {"User-Agent": "nightlabel", "Accept-Encoding": "identity"}
_LARGEST: Final = 2**63 - 1
#: Success with the whole object; 203 means that a proxy has changed something on the way.
WHOLE: Final = frozenset({200, 203})


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules for a web address: it must be public, and be read within `seconds` in total.

    `silence` is the longest time without data, in seconds; the default is `seconds`.
    """

    allow_private: bool = False
    seconds: float = 60.0
    silence: float | None = None

    @property
    def longest_silence(self) -> float:
        return self.seconds if self.silence is None else self.silence


STRICT: Final = Rules()
#: For addresses from this machine's own settings, such as AWS_ENDPOINT_URL.
OURS: Final = Rules(allow_private=True, seconds=900.0, silence=10.0)


@dataclass(frozen=True, slots=True)
class Body:
    """`data` is decompressed if the server compressed it; the server sent `stored` bytes."""

    data: bytes
    etag: str | None
    stored: int


def get(
    url: str, rules: Rules = STRICT, *, etag: str | None = None, max_bytes: int | None = None
) -> Body:
    """GET `url`, at most `max_bytes` of it.

    Raises Answer for any status but 200 and 203, Refused, Slow, ImageError(too_large), and
    urllib3's errors.
    """
    with answered("GET", url, rules, if_match(etag)) as response:
        if response.status not in WHOLE:
            raise answer(response)
        found = unquoted(response.headers.get("ETag"))
        if etag is not None and found is not None and found != etag:
            raise Answer(412)
        data, stored = read(response, max_bytes)
        return Body(data, found, stored)


def stream(url: str, rules: Rules = STRICT) -> Iterator[bytes]:
    """The body of `url` in pieces, all within the rules' time limit. Raises what `get` raises."""
    with answered("GET", url, rules) as response:
        if response.status not in WHOLE:
            raise answer(response)
        yield from encodings.plain(response)


def head(url: str, rules: Rules = STRICT) -> tuple[int | None, str | None, datetime | None]:
    """(size, etag, modified) as the server gives them, each None if it does not."""
    with answered("HEAD", url, rules) as response:
        if response.status not in WHOLE:
            raise answer(response)
        found = response.headers
        packed = found.get("Content-Encoding", "identity").lower() != "identity"
        length = "" if packed else found.get("Content-Length", "")
        size = int(length) if re.fullmatch(r"[0-9]{1,19}", length) else None
        return (
            size if size is not None and size <= _LARGEST else None,
            unquoted(found.get("ETag")),
            modified(response),
        )


def headers(url: str, rules: Rules = OURS) -> Mapping[str, str]:
    """The headers that one of our own endpoints returns for a HEAD, whatever its status."""
    with answered("HEAD", url, rules, redirects=0) as response:
        return response.headers


def post(url: str, body: bytes, extra: Mapping[str, str], rules: Rules) -> None:
    """POST `body` once. Raises Answer if the status is not 2xx, also for redirects, and what `get`
    raises."""
    with answered("POST", url, rules, extra, redirects=0, body=body) as response:
        if not 200 <= response.status < 300:
            raise Answer(response.status)


@contextmanager
def answered(
    method: str,
    url: str,
    rules: Rules,
    extra: Mapping[str, str] | None = None,
    *,
    redirects: int = REDIRECTS,
    body: bytes | None = None,
) -> Iterator[urllib3.BaseHTTPResponse]:
    """The answer after all redirects, to be read within the block."""
    with peers.request(
        allow_private=rules.allow_private, seconds=rules.seconds, silence=rules.longest_silence
    ):
        for left in range(redirects, -1, -1):
            response = _send(method, url, rules, _HEADERS | dict(extra or {}), body)
            try:
                target = response.get_redirect_location() if redirects else None
                if not target:
                    if method == "HEAD":
                        response.read()  # nothing, which gives the connection back
                    yield response
                    return
            finally:
                response.close()  # a body read to its end has given its connection back already
            url = _followed(url, target) if left else url
    raise Refused(f"redirects more than {redirects} times")


def _followed(url: str, target: str) -> str:
    try:
        url = urljoin(url, _as_sent(target))
    except ValueError:
        raise Refused("redirects to an invalid address") from None
    if not url.lower().startswith(("http://", "https://")):
        raise Refused("redirects to an address outside the web, which is not followed")
    return url


def _as_sent(target: str) -> str:
    """A header as its server meant it: Python reads headers as Latin-1, and servers send UTF-8.

    Bytes that are not UTF-8 are percent-encoded, as browsers do.
    """
    raw = target.encode("latin-1", "replace")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return quote(raw, safe=string.printable)


def _send(
    method: str, url: str, rules: Rules, extra: Mapping[str, str], body: bytes | None
) -> urllib3.BaseHTTPResponse:
    asked = urllib3.util.parse_url(url)
    if not asked.host:
        raise LocationValueError("no host")  # a proxy would get an empty request
    proxy = _proxy(asked.scheme or "", asked.host)
    if asked.auth:
        extra = {**extra, "Authorization": _basic(unquote(asked.auth))}
    options: dict[str, Any] = {
        "headers": extra,
        "body": body,
        "preload_content": False,
        "redirect": False,
    }
    if not rules.allow_private:
        peers.refuse_inside(asked.host, by_proxy=proxy is not None)
    pool = _pool(proxy, os.environ.get("AWS_CA_BUNDLE"), rules.allow_private)
    if proxy is None:
        return pool.request(method, url, **options)
    with peers.proxied():
        # As we parsed it, since a proxy may parse `http://a@b@c/` in another way.
        return pool.request(method, asked._replace(auth=None, fragment=None).url, **options)


def _basic(user_and_password: str) -> str:
    try:
        raw = user_and_password.encode("latin-1")
    except UnicodeEncodeError:
        raw = user_and_password.encode()
    return f"Basic {b64encode(raw).decode()}"


def _proxy(scheme: str, host: str) -> str | None:
    proxies = getproxies()
    if proxy_bypass(host):
        return None
    return proxies.get(scheme) or proxies.get("all")


@lru_cache(maxsize=8)
def _pool(
    proxy: str | None,
    ca_bundle: str | None,
    allow_private: bool,  # noqa: ARG001 - a connection that one may use the other may not
) -> urllib3.PoolManager:
    options: dict[str, Any] = {
        "num_pools": 64,
        "maxsize": 64,
        "timeout": _TIMEOUT,
        "ssl_context": peers.tls_context(ca_bundle),
        # All retries are in one place, `translate.with_retries`.
        "retries": False,
    }
    pool = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
    pool.pool_classes_by_scheme = peers.POOLS
    return pool


def read(response: urllib3.BaseHTTPResponse, max_bytes: int | None) -> tuple[bytes, int]:
    """(the decompressed body, how many bytes were received)"""
    length = response.length_remaining
    if max_bytes is not None and length is not None and length > max_bytes:
        raise too_large(length, max_bytes)
    data = bytearray()
    for chunk in encodings.plain(response):
        data += chunk
        if max_bytes is not None and len(data) > max_bytes:
            raise too_large(len(data), max_bytes)
    return bytes(data), response.tell()


def too_large(size: int, max_bytes: int) -> ImageError:
    return ImageError(
        ErrorCode.TOO_LARGE, f"{size:,} bytes or more, over --max-bytes {max_bytes:,}"
    )


def answer(response: urllib3.BaseHTTPResponse) -> Answer:
    text = response.read(4096, decode_content=False) or b""
    wait = _seconds(response.headers.get("Retry-After", ""))
    return Answer.of(response.status, text.decode("utf-8", "replace"), wait)


def _seconds(retry_after: str) -> float | None:
    """Seconds left to wait, from a number of seconds or a date; None if it is neither."""
    text = retry_after.strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    moment = _time(text)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds()) if moment else None


def if_match(etag: str | None) -> dict[str, str]:
    """The header that requests only this version; empty for an etag that is weak or not valid in a
    header."""
    strong = etag is not None and etag.isascii() and etag.isprintable() and etag[:2] != "W/"
    return {"If-Match": f'"{etag}"'} if strong else {}


def modified(response: urllib3.BaseHTTPResponse) -> datetime | None:
    """The time of the object's last change, by its server."""
    return _time(response.headers.get("Last-Modified"))


def _time(text: str | None) -> datetime | None:
    try:
        found = in_utc(parsedate_to_datetime(text)) if text else UNKNOWN_TIME
    except (ValueError, OverflowError):
        return None
    return None if found is UNKNOWN_TIME else found


def unquoted(etag: str | None) -> str | None:
    """`"abc"` as `abc`: stores and inventories differ in the quotes. Weak etags keep theirs."""
    return etag.strip('"') if etag is not None and not etag.startswith("W/") else etag
