"""What a listing says of one object."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final

#: For protocols that tell no time (an HTML index of a web server).
UNKNOWN_TIME = datetime.fromtimestamp(0, UTC)
UNKNOWN_SIZE = -1

_DAY: Final = timedelta(days=1)
_MICROSECOND: Final = timedelta(microseconds=1)
#: In µs since the epoch: a day short of what Python holds, so that every zone can still show it.
_FIRST: Final = (datetime.min.replace(tzinfo=UTC) + _DAY - UNKNOWN_TIME) // _MICROSECOND
_LAST: Final = (datetime.max.replace(tzinfo=UTC) - _DAY - UNKNOWN_TIME) // _MICROSECOND


@dataclass(frozen=True, slots=True)
class Entry:
    """One object: `size` in bytes, `etag` without its quotes, `modified` in UTC.

    UNKNOWN_SIZE and UNKNOWN_TIME stand for what a protocol does not tell.
    """

    uri: str
    size: int
    etag: str | None
    modified: datetime


def moment(microseconds: int) -> datetime:
    """µs since the epoch as a datetime: exact within the years 1 to 9999.

    Others become a moment of the first or the last day of those years. Which one is a digest of
    the real time: a file keeps its version from night to night, and gets another when its time
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
    """`time` in UTC, a naive one taken for UTC; UNKNOWN_TIME for one beyond the calendar."""
    try:
        return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    except OverflowError:
        return UNKNOWN_TIME
