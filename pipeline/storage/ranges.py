"""Range reads of one version of an object: an archive's directory and its members."""

import errno
import os
import stat as modes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import ImageError, NightlabelError, SpecError, TransientError
from pipeline.storage.clients import aws, web
from pipeline.storage.clients.buckets import connect, is_bucket, odd
from pipeline.storage.clients.web import Rules
from pipeline.storage.clients.web_ranges import get_range, get_tail
from pipeline.storage.entry import UNKNOWN_SIZE, UNKNOWN_TIME, Entry, microseconds
from pipeline.storage.faults import (
    Answer,
    Damaged,
    Fault,
    Kind,
    Nowhere,
    Unsupported,
    foreign,
    judge,
    of_library,
)
from pipeline.storage.file_ranges import pread
from pipeline.storage.listing.pages import filesystem, fsspec_entry
from pipeline.storage.local import long_paths
from pipeline.storage.names.addresses import impossible
from pipeline.storage.names.uris import public, scheme, split
from pipeline.storage.objects import stat_once
from pipeline.storage.translate import fault_error, fault_row, with_retries
from pipeline.storage.wants import ITS_OWN, Want, same_etag, same_file

if TYPE_CHECKING:
    from obstore.store import ObjectStore

Connect = Callable[[str], "ObjectStore"]
_WEB: Final = frozenset({"http", "https"})
#: Azure's store does not support requests for the end of an object.
_KNOW_TAILS: Final = frozenset({"s3", "gs"})
#: What a store answers to a request for the end of an empty object.
_NO_SUCH_RANGE: Final = "the store answered 416"


def _connect(root: str) -> "ObjectStore":
    return connect(root, retry=False)


class Unread(Exception):  # noqa: N818 - not yet a row's error or the run's
    """An archive, or its directory, that cannot be read: becomes a row's error or the run's."""

    def __init__(self, fault: Fault, uri: str) -> None:
        super().__init__(fault.detail)
        self.fault, self._uri = fault, uri

    @property
    def of_its_own(self) -> bool:
        """Whether the fault concerns only this archive, not the store that holds it."""
        own = ITS_OWN | {Kind.MISSING, Kind.CHANGED}
        return scheme(self._uri) in _WEB or self.fault.kind in own

    @property
    def is_gone(self) -> bool:
        """Whether there is no such archive."""
        return self.fault.kind is Kind.MISSING

    @property
    def refused(self) -> bool:
        """Whether the store refused only this archive."""
        return self.fault.kind in {Kind.DENIED, Kind.ARCHIVED, Kind.REJECTED}

    @property
    def row(self) -> ImageError | TransientError:
        """The error for the archive's own row."""
        return fault_row(self.fault)

    @property
    def whole(self) -> NightlabelError:
        """The error for a run whose SRC is this archive."""
        if self.fault.kind in ITS_OWN:
            return SpecError("src", public(self._uri), self.fault.detail)
        return fault_error(self.fault, self._uri)


@contextmanager
def _unread(uri: str) -> Iterator[None]:
    try:
        yield
    except foreign() as error:
        raise Unread(judge(error), uri) from None


class Ranged:
    """One version of an object, read in ranges. `want` says which version."""

    def __init__(self, want: Want, size: int, tail: bytes, rules: Rules) -> None:
        self.want, self.size, self._tail, self._rules = want, size, tail, rules

    def read(self, start: int, end: int) -> bytes:
        """Bytes [start, end), which must be inside the object. Raises Unread."""
        if not 0 <= start <= end <= self.size:
            raise ValueError(f"{start} to {end} of {self.size} bytes")
        known = self.size - len(self._tail)
        if start >= known:
            return self._tail[start - known : end - known]
        read = partial(read_range, self.want, start, end, self._rules)
        with _unread(self.want.where):
            return with_retries(read, at_most=self._rules.seconds)


def open_ranged(uri: str, address: str, rules: Rules, *, tail: int) -> Ranged:
    """The object at `address`, whose recorded uri is `uri`, with its last `tail` bytes read.

    Raises Unread.
    """
    with _unread(address):
        return with_retries(lambda: _open(uri, address, rules, tail), at_most=rules.seconds)


def _open(uri: str, address: str, rules: Rules, tail: int) -> Ranged:
    if problem := impossible(address):
        raise Nowhere(problem)
    try:
        if scheme(address) in _WEB:
            return _open_web(uri, address, rules, tail)
        if scheme(address) in _KNOW_TAILS and not odd(split(address)[1]):
            return _open_bucket(uri, address, rules, tail)
    except foreign() as error:
        if judge(error).detail.startswith(_NO_SUCH_RANGE):
            return Ranged(Want(uri, size=0, address=address), 0, b"", rules)
        raise
    entry = stat_once(address, rules)
    if entry.size == UNKNOWN_SIZE:
        raise Unsupported("its size is not known, so its members can't be found")
    want = Want(uri, entry.etag, entry.size, _microseconds(entry.modified), address)
    start = max(0, entry.size - tail)
    data = read_range(want, start, entry.size, rules) if entry.size else b""
    return Ranged(want, entry.size, data, rules)


def _open_web(uri: str, address: str, rules: Rules, tail: int) -> Ranged:
    part = get_tail(address, rules, tail)
    want = Want(uri, part.etag, part.total, _microseconds(part.modified), address)
    return Ranged(want, part.total, part.data, rules)


def _open_bucket(uri: str, address: str, rules: Rules, tail: int) -> Ranged:
    # Not HEAD first: its answer has no text, so it can't tell a missing bucket from a missing key.
    import obstore

    root, key = split(address)
    options: Any = {"range": {"suffix": tail}}
    with of_library():
        found = obstore.get(_connect(root), key, options=options)
        meta, data = found.meta, found.bytes().to_bytes()
    size, modified_us = meta["size"], _microseconds(meta["last_modified"])
    want = Want(uri, web.unquoted(meta["e_tag"]), size, modified_us, address)
    if len(data) != min(tail, size):
        raise Damaged("the body is shorter than its range")
    return Ranged(want, size, data, rules)


def _microseconds(time: datetime | None) -> int | None:
    return None if time is None or time is UNKNOWN_TIME else microseconds(time)


def read_range(want: Want, start: int, end: int, rules: Rules, store: Connect = _connect) -> bytes:
    """Bytes [start, end) of an object, which must be as it was listed.

    Raises Answer(412) if it has been replaced, and what storage libraries raise.
    """
    kind = scheme(want.where)
    if kind == "file":
        data = _local(want, start, end)
    elif kind in _WEB:
        data = _of_web(want, start, end, rules)
    else:
        data = _of_store(want, start, end, rules, store)
    if len(data) != end - start:
        raise Damaged("the body is shorter than its range")
    return data


def _of_web(want: Want, start: int, end: int, rules: Rules) -> bytes:
    part = get_range(want.where, rules, start, end, want.etag)
    if want.size not in (None, part.total):
        raise Answer(412)
    listed, now = want.modified_us, _microseconds(part.modified)
    if want.etag is None and None not in (listed, now) and listed != now:
        raise Answer(412)
    return part.data


def _local(want: Want, start: int, end: int) -> bytes:
    path = want.where.removeprefix("file://")
    handle = long_paths.open_file(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(handle)
        if not modes.S_ISREG(status.st_mode):
            raise OSError(errno.ENODEV, "no regular file")
        same_file(want, status)
        data = pread(handle, start, end)
        same_file(want, os.fstat(handle))
    finally:
        os.close(handle)
    return data


def _of_store(want: Want, start: int, end: int, rules: Rules, store: Connect) -> bytes:
    if not is_bucket(want.where):
        return _fsspec(want, start, end, rules)
    root, key = split(want.where)
    if odd(key):
        if scheme(root) != "s3":
            raise Nowhere("such a name can be read only on s3://")
        url = aws.signed_url(root.removeprefix("s3://"), "get_object", Key=key)
        return get_range(url, web.OURS, start, end, want.etag).data
    return _bucket(want, store(root), key, (start, end))


def _bucket(want: Want, store: "ObjectStore", key: str, asked: tuple[int, int]) -> bytes:
    import obstore

    options: Any = {"range": asked}
    if want.etag:
        options["if_match"] = f'"{want.etag}"'
    with of_library():
        found = obstore.get(store, key, options=options)
        meta = found.meta
    same_etag(want, web.unquoted(meta["e_tag"]))  # some stores ignore If-Match
    if want.size not in (None, meta["size"]):
        raise Answer(412)
    with of_library():
        return found.bytes().to_bytes()


def _fsspec(want: Want, start: int, end: int, rules: Rules) -> bytes:
    system, path = filesystem(want.where, rules)
    with of_library():
        entry: Entry = fsspec_entry(want.uri, system.info(path))
    same_etag(want, entry.etag)
    if want.size not in (None, entry.size):
        raise Answer(412)
    with of_library():
        return bytes(system.cat_file(path, start=start, end=end))
