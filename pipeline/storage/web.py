"""HTTP, plain: images named by http(s) urls, and requests that another module has signed."""

import os
import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.request import getproxies

import urllib3

from pipeline.errors import ErrorCode, ImageError
from pipeline.storage.translate import Answer

TIMEOUT = urllib3.Timeout(connect=5.0, read=10.0)
_CODE = re.compile(rb"<Code>(\w+)</Code>")


@dataclass(frozen=True, slots=True)
class Body:
    data: bytes
    etag: str | None


def pool() -> urllib3.PoolManager:
    """The process's connections; those of the environment's proxy where it names one."""
    proxies = getproxies()
    return _pool(proxies.get("https") or proxies.get("http"), os.environ.get("AWS_CA_BUNDLE"))


@lru_cache(maxsize=4)
def _pool(proxy: str | None, ca_bundle: str | None) -> urllib3.PoolManager:
    options: dict[str, Any] = {
        "num_pools": 64,
        "maxsize": 64,
        "timeout": TIMEOUT,
        "ca_certs": ca_bundle,
        # Retries are counted in one place, `translate.with_retries`.
        "retries": urllib3.Retry(total=5, connect=0, read=0, other=0, status=0, redirect=5),
        "headers": {"User-Agent": "nightlabel", "Accept-Encoding": "identity"},
    }
    return urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)


def get(url: str, *, etag: str | None = None, max_bytes: int | None = None) -> Body:
    """GET `url`, at most `max_bytes` of it.

    Raises Answer for any status but 200, ImageError(too_large | changed), urllib3's errors.
    """
    strong = etag is not None and not etag.startswith("W/")
    headers = {"If-Match": f'"{etag}"'} if strong else {}
    response = pool().request(
        "GET", url, headers={**pool().headers, **headers}, preload_content=False
    )
    try:
        if response.status != 200:
            raise answer(response)
        found = unquoted(response.headers.get("ETag"))
        if etag is not None and found is not None and found != etag:
            raise Answer(412)
        return Body(_read(response, max_bytes), found)
    finally:
        response.close()  # a body read to its end has given its connection back already


def _read(response: urllib3.BaseHTTPResponse, max_bytes: int | None) -> bytes:
    length = response.headers.get("Content-Length")
    if max_bytes is not None and length is not None and int(length) > max_bytes:
        raise too_large(int(length), max_bytes)
    data = response.read(None if max_bytes is None else max_bytes + 1)
    if max_bytes is not None and len(data) > max_bytes:
        raise too_large(len(data), max_bytes)
    return data


def too_large(size: int, max_bytes: int) -> ImageError:
    return ImageError(
        ErrorCode.TOO_LARGE, f"{size:,} bytes or more, over --max-bytes {max_bytes:,}"
    )


def answer(response: urllib3.BaseHTTPResponse) -> Answer:
    code = _CODE.search(response.read(4096) or b"")
    return Answer(response.status, code[1].decode() if code else None)


def head(url: str) -> tuple[int | None, str | None, datetime | None]:
    """(size, etag, modified) as a server tells them, each None where it does not."""
    response = pool().request("HEAD", url)
    if response.status != 200:
        raise Answer(response.status)
    length, date = response.headers.get("Content-Length"), response.headers.get("Last-Modified")
    return (
        int(length) if length else None,
        unquoted(response.headers.get("ETag")),
        parsedate_to_datetime(date) if date else None,
    )


def unquoted(etag: str | None) -> str | None:
    """`"abc"` as `abc`: stores and inventories differ in the quotes. Weak ones keep theirs."""
    return etag.strip('"') if etag is not None and not etag.startswith("W/") else etag
