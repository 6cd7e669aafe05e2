"""Maps a server's answer, an HTTP status and a store's code, to a kind of fault."""

import re
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Any, Final

CREDENTIAL_CODES: Final = frozenset(
    {
        "AuthFailure",
        "AuthorizationHeaderMalformed",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
_EXPIRED_CODES: Final = frozenset(
    {
        "ExpiredRequest",
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "TokenRefreshRequired",
    }
)
#: In order: S3 and compatible stores; Azure, for a shared access signature; Google.
_EXPIRED_WORDS: Final = re.compile(
    r"\brequest has expired\b|\bsignature not valid in the specified time frame\b"
    r"|\b(?:signature|token)(?: has)? expired\b",
    re.IGNORECASE,
)
REFUSALS: Final = frozenset({400, 401, 403})
_TRANSIENT_CODES = frozenset(
    {"BadDigest", "OperationAborted", "RequestTimeout", "SlowDown", "Throttling"}
)
XML_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_FULL_CODES = frozenset({"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"})


class Kind(Enum):
    MISSING = auto()
    NO_BUCKET = auto()
    DENIED = auto()  # access to this object is refused
    ARCHIVED = auto()  # it is in a cold storage class
    CREDENTIALS = auto()  # access to everything is refused: wrong or absent credentials
    EXPIRED = auto()  # an access right has expired: a signed address, a session's token
    CHANGED = auto()
    EXISTS = auto()
    REFUSED = auto()  # refused by us: the address is not public
    REJECTED = auto()  # the server will not answer this request, now or later
    NO_FILE = auto()  # a folder, a socket, a device
    UNSUPPORTED = auto()  # no client here supports its protocol
    SLOW = auto()  # it answers, but exceeds the time limit
    FULL = auto()
    READ_ONLY = auto()
    TRANSIENT = auto()
    BROKEN = auto()  # the client library failed; says nothing about the store
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    detail: str


class Answer(Exception):  # noqa: N818 - what a server said, not yet judged
    """An HTTP answer that is not a success; raised and translated within this package.

    `expired`: its text says that a signature or token has expired. `retry_after` is how many
    seconds the server asks us to wait.
    """

    def __init__(
        self,
        status: int,
        code: str | None = None,
        *,
        expired: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{status} {code or ''}".strip())
        self.status, self.code = status, code
        self.expired, self.retry_after = expired, retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        made = partial(Answer, expired=self.expired, retry_after=self.retry_after)
        return made, (self.status, self.code)

    @classmethod
    def of(cls, status: int, text: str, retry_after: float | None = None) -> "Answer":
        """From the text of an answer, which in stores is XML with a code."""
        found = XML_CODE.search(text)
        expired = found is not None and status in REFUSALS and says_expired(text)
        code = found[1] if found else None
        return cls(status, code, expired=expired, retry_after=retry_after)


def says_expired(text: str) -> bool:
    """Whether a store's text means that a signature or a token has expired.

    Many stores answer an expired address like one that was never allowed, with the code
    AccessDenied or AuthenticationFailed, and only the text shows the difference.
    """
    return _EXPIRED_WORDS.search(text) is not None


#: Meaning of an HTTP status or a store's code, if it is unique; the code has priority.
_OF_CODE: Final = {
    "NoSuchBucket": Kind.NO_BUCKET,
    "InvalidObjectState": Kind.ARCHIVED,
    **dict.fromkeys(CREDENTIAL_CODES, Kind.CREDENTIALS),
    **dict.fromkeys(_FULL_CODES, Kind.FULL),
    **dict.fromkeys(_TRANSIENT_CODES, Kind.TRANSIENT),
}
_OF_STATUS: Final = {
    507: Kind.FULL,
    **dict.fromkeys((408, 425, 429), Kind.TRANSIENT),
    **dict.fromkeys((404, 410), Kind.MISSING),
    **dict.fromkeys((401, 402, 403, 407, 451), Kind.DENIED),
    412: Kind.CHANGED,
}


def judge_answer(answer: Answer) -> Fault:
    """The kind of fault that an HTTP answer means."""
    status, code = answer.status, answer.code
    detail = f"the store answered {status} {code}" if code else f"the store answered {status}"
    if code in _EXPIRED_CODES or answer.expired:
        return Fault(Kind.EXPIRED, f"{detail}: what opens it, address or token, has expired")
    kind = _OF_CODE.get(code or "") or _OF_STATUS.get(status)
    if kind is None:
        kind = Kind.TRANSIENT if status >= 500 else Kind.REJECTED if status >= 400 else Kind.OTHER
    return Fault(kind, detail)
