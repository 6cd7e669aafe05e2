"""Read requests (`Want`) for an object as it was listed, or a part of it; and failed reads."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from pipeline.errors import ImageError, TransientError
from pipeline.storage.entry import UNKNOWN_TIME, moment
from pipeline.storage.faults import Answer, Fault, Kind

Outcome = bytes | ImageError | TransientError


@dataclass(frozen=True, slots=True)
class Piece:
    """A member of an archive: bytes [offset, offset + length) of `whole`, before unpacking.

    `unpack` makes the member of them; it must be picklable, and raises ImageError.
    """

    whole: "Want"
    offset: int
    length: int
    unpack: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Want:
    """An object as it was listed: `size` in bytes, `modified_us` in µs since the epoch.

    Given fields are checked: bytes that differ from the listing are `changed`. `address` is where
    it is read, if not at its uri; it may hold a secret. A member of an archive has its `piece`,
    whose `whole` is checked instead. With `data` or `refused` nothing is read.
    """

    uri: str
    etag: str | None = None
    size: int | None = None
    modified_us: int | None = None
    address: str | None = field(default=None, repr=False)
    piece: Piece | None = None
    data: bytes | None = field(default=None, repr=False)
    refused: ImageError | None = None

    @property
    def where(self) -> str:
        return self.address or self.uri


#: Faults that say nothing about the store.
ITS_OWN: Final = frozenset({Kind.REFUSED, Kind.SLOW, Kind.NO_FILE, Kind.UNSUPPORTED, Kind.BROKEN})


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there are no bytes: as the row says it, and the store's fault, if there is one."""

    error: ImageError | TransientError
    fault: Fault | None = None


def same_file(want: Want, status: os.stat_result) -> None:
    """Raises Answer(412) for a local file that is not as it was listed."""
    listed, modified_us = want.modified_us, status.st_mtime_ns // 1000
    if want.size not in (None, status.st_size):
        raise Answer(412)
    if listed is not None and _differ(listed, modified_us) and listed != _as_listed(modified_us):
        raise Answer(412)


def _differ(listed_us: int, modified_us: int) -> bool:
    """A manifest may give the time in whole seconds or milliseconds."""
    unit = next(unit for unit in (1_000_000, 1_000, 1) if listed_us % unit == 0)
    return listed_us != modified_us // unit * unit


def _as_listed(modified_us: int) -> int:
    """A time beyond the calendar as a listing shows it."""
    return (moment(modified_us) - UNKNOWN_TIME) // timedelta(microseconds=1)


def same_etag(want: Want, etag: str | None) -> None:
    """Raises Answer(412) if both are known and differ."""
    if None not in (want.etag, etag) and want.etag != etag:
        raise Answer(412)
