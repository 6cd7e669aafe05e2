"""What went wrong, whichever library says so: a foreign exception becomes a kind and a detail.

The foreign text itself never crosses: it may hold signed urls, key ids and whole XML bodies.
"""

import errno
import re
import sys
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Any, Final


class Kind(Enum):
    MISSING = auto()
    NO_BUCKET = auto()
    DENIED = auto()  # this object is not for us
    ARCHIVED = auto()  # it lies in a cold storage class
    CREDENTIALS = auto()  # nothing is: wrong or absent credentials
    EXPIRED = auto()  # what opens it has expired: a signed address, a session's token
    CHANGED = auto()
    EXISTS = auto()
    REFUSED = auto()  # by us: where it leads is not public
    SLOW = auto()  # it answers, and outlasts its time
    FULL = auto()
    READ_ONLY = auto()
    TRANSIENT = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    detail: str


class Answer(Exception):  # noqa: N818 - what a server said, not yet judged
    """An HTTP answer that is no success; raised and translated within this package.

    `expired`: its text says that a signature or token has expired.
    """

    def __init__(self, status: int, code: str | None = None, *, expired: bool = False) -> None:
        super().__init__(f"{status} {code or ''}".strip())
        self.status, self.code, self.expired = status, code, expired

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Answer, expired=self.expired), (self.status, self.code)

    @classmethod
    def of(cls, status: int, text: str) -> "Answer":
        """From the text of an answer, which in stores is XML with a code."""
        code = _CODE.search(text)
        if code is None:
            return cls(status)
        return cls(status, code[1], expired=status in _REFUSALS and says_expired(text))


def says_expired(text: str) -> bool:
    """Whether a store's words mean that a signature or a token has expired.

    Many stores answer an address that has expired as one that was never allowed, with the code
    AccessDenied or AuthenticationFailed, and tell the difference in words alone.
    """
    return _EXPIRED_WORDS.search(text) is not None


class Damaged(Exception):  # noqa: N818 - it is judged here too
    """A body that is not what the store said it would be; worth another read."""


class Refused(Exception):  # noqa: N818 - and here
    """What an address says, or where it leads, is not for us to read; the mend in its text."""


class Slow(Exception):  # noqa: N818 - and here
    """An answer that outlasts the time of one object."""


_SAID_BY_US: Final[dict[type[BaseException], Kind]] = {
    Damaged: Kind.TRANSIENT,
    Refused: Kind.REFUSED,
    Slow: Kind.SLOW,
}

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
#: S3 and most stores that speak it; Azure, which says it of a shared access signature; Google.
_EXPIRED_WORDS: Final = re.compile(
    r"\brequest has expired\b|\bsignature not valid in the specified time frame\b"
    r"|\b(?:signature|token)(?: has)? expired\b",
    re.IGNORECASE,
)
_REFUSALS: Final = frozenset({400, 401, 403})
_TRANSIENT_CODES = frozenset({"RequestTimeout", "SlowDown", "Throttling", "OperationAborted"})
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_ARROWS = re.compile(r"\s*\x1b\[[0-9;]*m↳\x1b\[0m\s*")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_FULL_CODES = frozenset({"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"})
#: OSErrors that say what they are without a number.
_NAMED = (
    FileNotFoundError,
    NotADirectoryError,
    PermissionError,
    FileExistsError,
    TimeoutError,
    ConnectionError,
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_WORDS = (
    (re.compile(r"timed? ?out", re.IGNORECASE), "timed out"),
    (
        re.compile(r"dns|lookup|getaddrinfo|name (resolution|or service)", re.IGNORECASE),
        "no such host",
    ),
    (re.compile(r"refused", re.IGNORECASE), "connection refused"),
    (re.compile(r"certificate|tls|ssl", re.IGNORECASE), "no TLS connection"),
)


def foreign() -> tuple[type[BaseException], ...]:
    """The exception types that storage libraries raise, of those that are loaded."""
    found: list[type[BaseException]] = [Answer, Damaged, Refused, Slow, OSError, ImportError]
    for module, names in {
        "obstore.exceptions": ("BaseError",),
        "botocore.exceptions": ("BotoCoreError", "ClientError"),
        "urllib3.exceptions": ("HTTPError",),
        "aiohttp": ("ClientError",),
    }.items():
        if module in sys.modules:
            found += [getattr(sys.modules[module], name) for name in names]
    return tuple(found)


def judge(error: BaseException) -> Fault:
    """What a foreign exception means; Kind.OTHER where nothing is known of it."""
    module = type(error).__module__.partition(".")[0]
    if isinstance(error, Answer):
        return _answered(error)
    if kind := _SAID_BY_US.get(type(error)):
        return Fault(kind, str(error))
    if module in {"obstore", "_internal"}:  # the latter is deltalake
        return _rust(error)
    if module == "botocore":
        return _botocore(error)
    if module == "urllib3":
        return _urllib3(error)
    if module == "aiohttp":
        status = getattr(error, "status", None)
        return _answered(Answer(status)) if status else Fault(Kind.TRANSIENT, _words(error))
    if isinstance(error, OSError):
        return _os(error)
    if isinstance(error, ImportError):
        return Fault(Kind.OTHER, f"needs the Python package {error.name or 'of this protocol'}")
    return Fault(Kind.OTHER, f"not understood ({type(error).__name__})")


def _answered(answer: Answer) -> Fault:
    status, code = answer.status, answer.code
    detail = f"{status} {code}" if code else str(status)
    kind = Kind.OTHER
    if code == "NoSuchBucket":
        kind = Kind.NO_BUCKET
    elif code == "InvalidObjectState":
        kind = Kind.ARCHIVED
    elif code in _EXPIRED_CODES or answer.expired:
        return Fault(
            Kind.EXPIRED,
            f"the store answered {detail}: what opens it, address or token, has expired",
        )
    elif code in CREDENTIAL_CODES:
        kind = Kind.CREDENTIALS
    elif status == 507 or code in _FULL_CODES:
        kind = Kind.FULL
    elif status in {408, 425, 429} or status >= 500 or code in _TRANSIENT_CODES:
        kind = Kind.TRANSIENT
    elif status in {404, 410}:
        kind = Kind.MISSING
    elif status in {401, 403}:
        kind = Kind.DENIED
    elif status == 412:
        kind = Kind.CHANGED
    return Fault(kind, f"the store answered {detail}")


def _rust(error: BaseException) -> Fault:
    """What obstore and deltalake raise: both hand on the words of Rust's object_store."""
    text = plain(error)
    name = type(error).__name__
    if name == "AlreadyExistsError":
        return Fault(Kind.EXISTS, "already there")
    if name == "UnauthenticatedError":
        return Fault(Kind.CREDENTIALS, "no valid credentials")
    if status := _STATUS.search(text):
        return _answered(Answer.of(int(status[1]), text))
    if found := _OS_ERROR.search(text):
        return _os(OSError(int(found[1]), text))
    by_name = {
        "PreconditionError": Kind.CHANGED,
        "NotFoundError": Kind.MISSING,
        "PermissionDeniedError": Kind.DENIED,
    }
    if name in by_name:
        return Fault(by_name[name], "the store refused")
    if "HTTP error" in text or "reqwest" in text:
        return Fault(Kind.TRANSIENT, _words(error))
    return Fault(Kind.OTHER, f"not understood ({name})")


def _urllib3(error: BaseException) -> Fault:
    if type(error).__name__ in {"LocationParseError", "LocationValueError", "URLSchemeUnknown"}:
        return Fault(Kind.MISSING, "no web address")
    return Fault(Kind.TRANSIENT, _words(error))


def _botocore(error: BaseException) -> Fault:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        said = response.get("Error", {})
        code = said.get("Code")
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
        expired = status in _REFUSALS and says_expired(said.get("Message") or "")
        return _answered(Answer(status, None if code and code.isdigit() else code, expired=expired))
    name = type(error).__name__
    if "Credential" in name or "Token" in name or "Profile" in name or "SSO" in name:
        return Fault(Kind.CREDENTIALS, f"no valid credentials ({name})")
    if name.endswith(
        ("ConnectionError", "TimeoutError", "HTTPClientError", "ConnectionClosedError")
    ):
        return Fault(Kind.TRANSIENT, _words(error))
    return Fault(Kind.OTHER, f"not understood ({name})")


def _os(error: OSError) -> Fault:
    if error.errno is None and not isinstance(error, _NAMED):
        return _rust(error)
    if isinstance(error, FileNotFoundError):
        # obstore raises the builtin one too, and only its text tells a bucket from a key.
        code = _CODE.search(str(error))
        return _answered(Answer(404, code[1])) if code else Fault(Kind.MISSING, "not there")
    if isinstance(error, NotADirectoryError):
        return Fault(Kind.MISSING, "not there")
    if isinstance(error, PermissionError):
        return Fault(Kind.DENIED, "permission denied")
    if isinstance(error, FileExistsError):
        return Fault(Kind.EXISTS, "already there")
    if isinstance(error, TimeoutError):
        return Fault(Kind.TRANSIENT, "timed out")
    if error.errno in _FULL:
        return Fault(Kind.FULL, "no space left")
    if error.errno == errno.EROFS:
        return Fault(Kind.READ_ONLY, "read-only file system")
    if isinstance(error, ConnectionError) or error.errno in {errno.EIO, errno.ESTALE, errno.EAGAIN}:
        return Fault(Kind.TRANSIENT, _words(error))
    return Fault(Kind.OTHER, errno.errorcode.get(error.errno or 0, type(error).__name__))


def plain(error: BaseException) -> str:
    """The text in one line; deltalake draws it as a coloured tree."""
    return " ".join(_ARROWS.sub(": ", str(error)).split())


def _words(error: BaseException) -> str:
    text = str(error).replace("retry_timeout", "")
    return next((said for pattern, said in _WORDS if pattern.search(text)), "connection lost")
