"""Listings of any store: pages of entries, in key order if the store gives one."""

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from math import isfinite
from typing import Any

from pipeline.errors import MissingError, StoreError
from pipeline.storage.clients import web
from pipeline.storage.clients.buckets import connect, is_bucket, odd
from pipeline.storage.clients.web import Rules
from pipeline.storage.entry import UNKNOWN_SIZE, UNKNOWN_TIME, Entry, in_utc, moment
from pipeline.storage.faults import Broken, Nowhere, Refused, Unsupported, of_library
from pipeline.storage.listing import local as local_listing
from pipeline.storage.listing import web as web_listing
from pipeline.storage.listing.local import Visit
from pipeline.storage.listing.s3 import Page, list_page
from pipeline.storage.names.uris import public, scheme, split
from pipeline.storage.translate import attempt, border

PAGE = 1000


def list_pages(
    uri_prefix: str,
    *,
    after: str | None = None,
    until: str | None = None,
    delimiter: bool = False,
    rules: Rules = web.STRICT,
    visit: Visit | None = None,
) -> Iterator[list[Entry]]:
    """Pages of about 1,000 entries of every object whose uri begins with `uri_prefix`.

    `after` (exclusive) and `until` (inclusive) are full uris that limit the range of keys; they
    need not exist. `delimiter` leaves out objects in folders below. A key that ends in `/`
    is an entry like others. `visit` is for local folders, see `listing.local.Visit`. Raises
    MissingError, DeniedError, StoreError, and SpecError for a web address that the `rules` forbid.
    """
    kind = scheme(uri_prefix)
    with border(uri_prefix):
        if kind == "s3":
            pages = _s3(uri_prefix, after, delimiter)
        elif kind == "file":
            pages = _local(uri_prefix, after, until, delimiter, visit)
        elif is_bucket(uri_prefix):
            pages = _obstore(uri_prefix, after)
        elif kind in {"http", "https"}:
            pages = _web(uri_prefix, rules)
        else:
            pages = _fsspec(uri_prefix, rules)
        yield from _cut(pages, uri_prefix, after, until, delimiter)


def _cut(
    pages: Iterator[list[Entry]],
    prefix: str,
    after: str | None,
    until: str | None,
    delimiter: bool,
) -> Iterator[list[Entry]]:
    low, skip = after or "", len(prefix)
    ordered = in_key_order(prefix)
    for page in pages:
        kept = [
            entry
            for entry in page
            if entry.uri > low
            and (until is None or entry.uri <= until)
            and entry.uri.startswith(prefix)
            and not (delimiter and "/" in entry.uri[skip:])
        ]
        if kept:
            yield kept
        if ordered and until is not None and page and page[-1].uri > until:
            return


def in_key_order(uri: str) -> bool:
    """True if this store lists by key, and can start after a given key at no cost."""
    root = split(uri)[0]
    return scheme(root) in {"file", "gs"} or (
        scheme(root) == "s3" and not root.endswith("--x-s3")  # directory buckets have no order
    )


def _s3(prefix: str, after: str | None, delimiter: bool) -> Iterator[list[Entry]]:
    token: str | None = None
    while True:
        page = s3_page(prefix, after=after, delimiter=delimiter, token=token)
        yield page.entries
        token = page.token
        if token is None:
            return


def s3_page(
    prefix: str,
    *,
    after: str | None = None,
    delimiter: bool = False,
    token: str | None = None,
    size: int = PAGE,
) -> Page:
    """One request of a listing on s3, with retries."""
    root, key = split(prefix)
    params: dict[str, Any] = {"MaxKeys": size}
    if token is not None:
        params["ContinuationToken"] = token
    elif after is not None and split(after)[1]:
        params["StartAfter"] = split(after)[1]
    if delimiter:
        params["Delimiter"] = "/"
    return attempt(prefix, list_page, root.removeprefix("s3://"), key, **params)


def first_page(
    uri_prefix: str, *, after: str | None = None, size: int = PAGE
) -> tuple[list[Entry], bool]:
    """(entries, more?) of one request; `size` is a hint. Cheap enough for many calls."""
    if scheme(uri_prefix) == "s3":
        page = s3_page(uri_prefix, after=after, size=size)
        return page.entries, page.token is not None
    entries = next(list_pages(uri_prefix, after=after), [])
    return entries[:size], len(entries) >= min(size + 1, PAGE)


def _local(
    prefix: str, after: str | None, until: str | None, delimiter: bool, visit: Visit | None
) -> Iterator[list[Entry]]:
    paths = [text and text.removeprefix("file://") for text in (after, until)]
    entries = local_listing.walk(
        prefix.removeprefix("file://"), *paths, deep=not delimiter, visit=visit
    )
    while page := list(islice(entries, PAGE)):
        yield page


def _obstore(prefix: str, after: str | None) -> Iterator[list[Entry]]:
    import obstore

    root, key = split(prefix)
    store = connect(root)
    folder = key.rpartition("/")[0]
    if folder and odd(folder):
        raise StoreError(f"{public(prefix)}: such a name can be read only on s3://")
    offset = split(after)[1] if after else None
    stream = obstore.list(store, folder or None, offset=offset, chunk_size=PAGE)
    for page in stream:
        yield [
            Entry(
                f"{root}/{meta['path']}",
                meta["size"],
                web.unquoted(meta["e_tag"]),
                meta["last_modified"],
            )
            for meta in page
        ]


def filesystem(uri: str, rules: Rules) -> tuple[Any, str]:
    """fsspec's filesystem for any other protocol, and its path of `uri`.

    Raises Refused if it may connect to any address and the `rules` forbid that,
    Unsupported for a protocol that needs a package or does not exist, Nowhere for an address
    that is invalid in its protocol.
    """
    from fsspec import get_filesystem_class
    from fsspec.core import url_to_fs

    protocol = scheme(uri)
    try:
        get_filesystem_class(protocol)
    except ValueError:
        raise Unsupported(f"{protocol}://: unknown protocol; fsspec does not have it") from None
    except ImportError as error:
        raise Unsupported(f"{protocol}://: {str(error).splitlines()[0]}") from None
    if (protocol != "memory" or "::" in uri) and not rules.allow_private:
        raise Refused(f"where {protocol}:// connects to is not seen here; --allow-private reads it")
    try:
        with of_library():
            system, path = url_to_fs(uri)
    except Broken:
        raise Nowhere(f"not an address of {protocol}://") from None
    return system, path


def _web(prefix: str, rules: Rules) -> Iterator[list[Entry]]:
    entries = web_listing.walk(prefix.rpartition("/")[0] + "/", rules)
    while page := list(islice(entries, PAGE)):
        yield page


def _fsspec(prefix: str, rules: Rules) -> Iterator[list[Entry]]:
    folder = prefix.rpartition("/")[0] + "/"
    system, path = filesystem(folder, rules)
    try:
        found = system.find(path, detail=True)
    except FileNotFoundError:
        return
    skip = len(path.rstrip("/"))
    entries = (
        fsspec_entry(folder + name[skip:].lstrip("/"), info) for name, info in sorted(found.items())
    )
    while page := list(islice(entries, PAGE)):
        yield page


def fsspec_entry(uri: str, info: dict[str, Any]) -> Entry:
    """An entry from fsspec's `info`, whose fields differ between filesystems."""
    times = (
        info.get(field)
        for field in ("mtime", "modified", "LastModified", "last_modified", "created")
    )
    modified = next((time for time in times if time is not None), UNKNOWN_TIME)
    if isinstance(modified, int | float):
        modified = moment(int(modified * 1_000_000)) if isfinite(modified) else UNKNOWN_TIME
    modified = in_utc(modified) if isinstance(modified, datetime) else UNKNOWN_TIME
    size, etag = info.get("size"), info.get("ETag") or info.get("etag")
    return Entry(uri, UNKNOWN_SIZE if size is None else int(size), web.unquoted(etag), modified)


def check_readable(uri: str, rules: Rules = web.STRICT) -> None:
    """Raises what `list_pages` raises if the folder of `uri` cannot be listed."""
    path = uri.removeprefix("file://")
    if path != uri:
        folder = path.rpartition("/")[0] + "/"
        with border(f"file://{folder}"):
            if not local_listing.is_folder(folder):
                raise MissingError(f"{folder}: no such folder")
            local_listing.check_folder(folder)
        return
    next(list_pages(uri, rules=rules), None)
