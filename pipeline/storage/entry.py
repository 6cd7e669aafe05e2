"""What a listing says of one object."""

from dataclasses import dataclass
from datetime import UTC, datetime

#: For protocols that tell no time (an HTML index of a web server).
UNKNOWN_TIME = datetime.fromtimestamp(0, UTC)
UNKNOWN_SIZE = -1


@dataclass(frozen=True, slots=True)
class Entry:
    """One object: `size` in bytes, `etag` without its quotes, `modified` in UTC.

    UNKNOWN_SIZE and UNKNOWN_TIME stand for what a protocol does not tell.
    """

    uri: str
    size: int
    etag: str | None
    modified: datetime
