"""What went wrong, whichever library says so: a foreign exception becomes a kind and a detail.

The foreign text itself never crosses: it may hold signed urls, key ids and whole XML bodies.
"""

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from pipeline.errors import NightlabelError


class Kind(Enum):
    MISSING = auto()
    NO_BUCKET = auto()
    DENIED = auto()  # this object is not for us
    ARCHIVED = auto()  # it lies in a cold storage class
    CREDENTIALS = auto()  # nothing is: wrong, expired or absent credentials
    CHANGED = auto()
    EXISTS = auto()
    REFUSED = auto()  # by us: where it leads is not public
    REJECTED = auto()  # the server will not answer this request, now or later
    NO_FILE = auto()  # a folder, a socket, a device
    UNSUPPORTED = auto()  # nothing here speaks its protocol
    SLOW = auto()  # it answers, and outlasts its time
    FULL = auto()
    READ_ONLY = auto()
    TRANSIENT = auto()
    BROKEN = auto()  # the client library is, and says nothing of the store
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    detail: str


class Answer(Exception):  # noqa: N818 - what a server said, not yet judged
    """An HTTP answer that is no success; raised and translated within this package.

    `retry_after` is what the server asks to be left alone for, in seconds.
    """

    def __init__(
        self, status: int, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{status} {code or ''}".strip())
        self.status, self.code, self.retry_after = status, code, retry_after

    def __reduce__(self) -> tuple[type, tuple[int, str | None, float | None]]:
        return type(self), (self.status, self.code, self.retry_after)


class Damaged(Exception):  # noqa: N818 - it is judged here too
    """A body that is not what the store said it would be; worth another read."""


class Refused(Exception):  # noqa: N818 - and here
    """What an address says, or where it leads, is not for us to read; the mend in its text."""


class Slow(Exception):  # noqa: N818 - and here
    """An answer that outlasts the time of one object."""


class Nowhere(Exception):  # noqa: N818 - and here
    """An address that its own protocol does not take."""


class Unsupported(Exception):  # noqa: N818 - and here
    """An address that nothing on this machine can read; the mend in its text."""


class Broken(Exception):  # noqa: N818 - and here
    """A library failed in a way that it does not document."""


_SAID_BY_US: Final[dict[type[BaseException], Kind]] = {
    Damaged: Kind.TRANSIENT,
    Refused: Kind.REFUSED,
    Slow: Kind.SLOW,
    Nowhere: Kind.MISSING,
    Unsupported: Kind.UNSUPPORTED,
    Broken: Kind.BROKEN,
}

CREDENTIAL_CODES: Final = frozenset(
    {
        "AuthFailure",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_TRANSIENT_CODES = frozenset(
    {"BadDigest", "OperationAborted", "RequestTimeout", "SlowDown", "Throttling"}
)
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
_OF_ERRNO: Final[dict[int, tuple[Kind, str]]] = {
    errno.ENOSPC: (Kind.FULL, "no space left"),
    errno.EDQUOT: (Kind.FULL, "no space left"),
    errno.EFBIG: (Kind.FULL, "no space left"),
    errno.EROFS: (Kind.READ_ONLY, "read-only file system"),
    errno.ENAMETOOLONG: (Kind.MISSING, "its name is too long for a file"),
    errno.ELOOP: (Kind.MISSING, "its links lead nowhere"),
    errno.EINVAL: (Kind.MISSING, "its name is none that this file system takes"),
    errno.EILSEQ: (Kind.MISSING, "its name is none that this file system takes"),
    errno.EISDIR: (Kind.NO_FILE, "no regular file"),
    errno.ENXIO: (Kind.NO_FILE, "no regular file"),
    errno.ENODEV: (Kind.NO_FILE, "no regular file"),
    errno.EOVERFLOW: (Kind.UNSUPPORTED, "too large for this system"),
    errno.EOPNOTSUPP: (Kind.UNSUPPORTED, "its file system does not let it be read"),
    errno.ENOKEY: (Kind.DENIED, "encrypted, and its key is not here"),
    errno.EKEYEXPIRED: (Kind.DENIED, "encrypted, and its key is not here"),
    errno.EKEYREVOKED: (Kind.DENIED, "encrypted, and its key is not here"),
}
_PASSING: Final = frozenset({errno.EIO, errno.ESTALE, errno.EAGAIN})
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
    found: list[type[BaseException]] = [Answer, *_SAID_BY_US, OSError, ImportError]
    for module, names in {
        "obstore.exceptions": ("BaseError",),
        "botocore.exceptions": ("BotoCoreError", "ClientError"),
        "urllib3.exceptions": ("HTTPError",),
        "aiohttp": ("ClientError",),
    }.items():
        if module in sys.modules:
            found += [getattr(sys.modules[module], name) for name in names]
    return tuple(found)


@contextmanager
def no_panic() -> Iterator[None]:
    """A panic of Rust's is no Exception in Python, and would end a run: here it is Unsupported."""
    try:
        yield
    except BaseException as error:
        # Each library makes a class of its own for it, and exports none.
        if type(error).__name__ != "PanicException":
            raise
        raise Unsupported("its client library gave up on it") from None


@contextmanager
def of_library() -> Iterator[None]:
    """Whatever a library of any make raises within, of which nothing is known, is Broken.

    Only for calls of foreign code: a bug of our own must show.
    """
    try:
        with no_panic():
            yield
    except (NightlabelError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, foreign()):
            raise
        raise Broken(f"its client library failed ({type(error).__name__})") from None


def judge(error: BaseException) -> Fault:
    """What a foreign exception means; Kind.OTHER where nothing is known of it."""
    module = type(error).__module__.partition(".")[0]
    if isinstance(error, Answer):
        return _answered(error.status, error.code)
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
        return _answered(status) if status else Fault(Kind.TRANSIENT, _words(error))
    if isinstance(error, OSError):
        return _os(error)
    if isinstance(error, ImportError):
        package = error.name or "of this protocol"
        return Fault(Kind.UNSUPPORTED, f"needs the Python package {package}")
    return Fault(Kind.OTHER, f"not understood ({type(error).__name__})")


def _answered(status: int, code: str | None = None) -> Fault:
    detail = f"{status} {code}" if code else str(status)
    kind = Kind.OTHER
    if code == "NoSuchBucket":
        kind = Kind.NO_BUCKET
    elif code == "InvalidObjectState":
        kind = Kind.ARCHIVED
    elif code in CREDENTIAL_CODES:
        kind = Kind.CREDENTIALS
    elif status == 507 or code in _FULL_CODES:
        kind = Kind.FULL
    elif status in {408, 425, 429} or status >= 500 or code in _TRANSIENT_CODES:
        kind = Kind.TRANSIENT
    elif status in {404, 410}:
        kind = Kind.MISSING
    elif status in {401, 402, 403, 407, 451}:
        kind = Kind.DENIED
    elif status == 412:
        kind = Kind.CHANGED
    elif 400 <= status < 500:
        kind = Kind.REJECTED
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
        code = _CODE.search(text)
        return _answered(int(status[1]), code and code[1])
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
        code = response.get("Error", {}).get("Code")
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
        return _answered(status, None if code and code.isdigit() else code)
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
        return _answered(404, code and code[1]) if code else Fault(Kind.MISSING, "not there")
    if isinstance(error, NotADirectoryError):
        return Fault(Kind.MISSING, "not there")
    if isinstance(error, PermissionError):
        return Fault(Kind.DENIED, "permission denied")
    if isinstance(error, FileExistsError):
        return Fault(Kind.EXISTS, "already there")
    if isinstance(error, TimeoutError):
        return Fault(Kind.TRANSIENT, "timed out")
    if error.errno in _OF_ERRNO:
        return Fault(*_OF_ERRNO[error.errno])
    if isinstance(error, ConnectionError) or error.errno in _PASSING:
        return Fault(Kind.TRANSIENT, _words(error))
    return Fault(Kind.OTHER, errno.errorcode.get(error.errno or 0, type(error).__name__))


def plain(error: BaseException) -> str:
    """The text in one line; deltalake draws it as a coloured tree."""
    return " ".join(_ARROWS.sub(": ", str(error)).split())


def _words(error: BaseException) -> str:
    text = str(error).replace("retry_timeout", "")
    return next((said for pattern, said in _WORDS if pattern.search(text)), "connection lost")
