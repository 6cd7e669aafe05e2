"""Entry: what a listing says of one object."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final

#: For protocols that give no time (an HTML index of a web server).
UNKNOWN_TIME = datetime.fromtimestamp(0, UTC)
UNKNOWN_SIZE = -1

_DAY: Final = timedelta(days=1)
_MICROSECOND: Final = timedelta(microseconds=1)
#: In µs since the epoch: a day inside Python's limits, so that every time zone can show it.
_FIRST: Final = (datetime.min.replace(tzinfo=UTC) + _DAY - UNKNOWN_TIME) // _MICROSECOND
_LAST: Final = (datetime.max.replace(tzinfo=UTC) - _DAY - UNKNOWN_TIME) // _MICROSECOND


@dataclass(frozen=True, slots=True)
class Entry:
    """One object: `size` in bytes, `etag` without its quotes, `modified` in UTC.

    UNKNOWN_SIZE and UNKNOWN_TIME replace values that a protocol does not give.
    """

    uri: str
    size: int
    etag: str | None
    modified: datetime


def moment(microseconds: int) -> datetime:
    """µs since the epoch as a datetime: exact within the years 1 to 9999.

    Other times become a moment of the first or the last day of those years, chosen by a digest of
    the real time. So a file keeps its version from run to run, and gets another when its time
    changes.
    """
    if not _FIRST <= microseconds <= _LAST:
        digest = blake2b(b"%d" % microseconds, digest_size=8).digest()
        offset = int.from_bytes(digest, "little") % (_DAY // _MICROSECOND)
        microseconds = _FIRST + offset if microseconds < _FIRST else _LAST - offset
    return UNKNOWN_TIME + timedelta(microseconds=microseconds)


def microseconds(time: datetime) -> int:
    """µs since the epoch, exactly."""
    return (time - UNKNOWN_TIME) // _MICROSECOND


def in_utc(time: datetime) -> datetime:
    """`time` in UTC; a naive time counts as UTC; UNKNOWN_TIME for a time beyond the calendar."""
    try:
        return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    except OverflowError:
        return UNKNOWN_TIME
