"""The border: what object stores raise, in this project's words.

Every foreign exception becomes a `Fault` (a kind and a short detail) and, from that, either
a `StoreError` (a folder, a listing, a commit) or a row's error (one image). The foreign text
itself never crosses: it may hold signed urls, key ids and whole XML bodies.
"""

import errno
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Final, ParamSpec, TypeVar

from pipeline.errors import (
    ConflictError,
    DeniedError,
    ErrorCode,
    ImageError,
    MissingError,
    NightlabelError,
    SpecError,
    StoreError,
    TransientError,
)
from pipeline.storage.uris import public, scheme, split

P = ParamSpec("P")
T = TypeVar("T")


class Kind(Enum):
    MISSING = auto()
    NO_BUCKET = auto()
    DENIED = auto()  # this object is not for us
    ARCHIVED = auto()  # it lies in a cold storage class
    CREDENTIALS = auto()  # nothing is: wrong, expired or absent credentials
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
    """An HTTP answer that is no success; raised and translated within this package."""

    def __init__(self, status: int, code: str | None = None) -> None:
        super().__init__(f"{status} {code or ''}".strip())
        self.status, self.code = status, code

    def __reduce__(self) -> tuple[type, tuple[int, str | None]]:
        return type(self), (self.status, self.code)


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

#: How delta-rs says that a table is there no more.
_LOG_GONE: Final = re.compile(r"not found: \S*_delta_log/")

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
        return Fault(Kind.OTHER, f"needs the Python package {error.name or 'of this protocol'}")
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
    elif status in {401, 403}:
        kind = Kind.DENIED
    elif status == 412:
        kind = Kind.CHANGED
    return Fault(kind, f"the store answered {detail}")


def _rust(error: BaseException) -> Fault:
    """What obstore and deltalake raise: both hand on the words of Rust's object_store."""
    text = _plain(error)
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
    if error.errno in _FULL:
        return Fault(Kind.FULL, "no space left")
    if error.errno == errno.EROFS:
        return Fault(Kind.READ_ONLY, "read-only file system")
    if isinstance(error, ConnectionError) or error.errno in {errno.EIO, errno.ESTALE, errno.EAGAIN}:
        return Fault(Kind.TRANSIENT, _words(error))
    return Fault(Kind.OTHER, errno.errorcode.get(error.errno or 0, type(error).__name__))


def _plain(error: BaseException) -> str:
    """The text in one line; deltalake draws it as a coloured tree."""
    return " ".join(_ARROWS.sub(": ", str(error)).split())


def _words(error: BaseException) -> str:
    text = str(error).replace("retry_timeout", "")
    return next((said for pattern, said in _WORDS if pattern.search(text)), "connection lost")


def store_error(error: BaseException, uri: str) -> NightlabelError:
    """A foreign exception about a folder or document, with the mend in one line."""
    return fault_error(judge(error), uri)


def delta_error(error: BaseException, uri: str) -> NightlabelError:
    """The same of what deltalake raises; in its own words where the fault is the table's."""
    fault = judge(error)
    if fault.kind is Kind.OTHER and not isinstance(error, OSError):
        if _LOG_GONE.search(str(error)):
            return MissingError(
                f"{public(uri)}: its log is gone; was the folder or bucket removed?"
            )
        return StoreError(f"{public(uri)}: {_plain(error)}")
    return fault_error(fault, uri)


def fault_error(fault: Fault, uri: str) -> NightlabelError:
    """A fault about a folder or document, with the mend in one line: a StoreError.

    What we refuse to read is a SpecError instead: it was asked for.
    """
    where, root = public(uri), public(split(uri)[0])
    match fault.kind:
        case Kind.MISSING:
            return MissingError(f"{where}: no such file or folder")
        case Kind.NO_BUCKET:
            return MissingError(f"{root}: no such bucket; check its name, or create it")
        case Kind.DENIED | Kind.ARCHIVED:
            return DeniedError(f"{where}: {fault.detail}; {_access_mend(uri)}")
        case Kind.CREDENTIALS:
            return DeniedError(f"{root}: {fault.detail}; {_credentials_mend(uri)}")
        case Kind.CHANGED | Kind.EXISTS:
            return ConflictError(f"{where}: someone else wrote it first ({fault.detail})")
        case Kind.REFUSED:
            return SpecError("src", where, fault.detail)
        case Kind.FULL:
            return StoreError(f"{where}: {fault.detail}; make room there and run again")
        case Kind.READ_ONLY:
            return DeniedError(f"{where}: {fault.detail}; give a folder that can be written to")
        case Kind.TRANSIENT:
            return StoreError(f"{root}: no answer ({fault.detail}); check endpoint and network")
        case _:
            return StoreError(f"{where}: {fault.detail}")


def _access_mend(uri: str) -> str:
    local = scheme(uri) == "file"
    return "check its permissions" if local else "check what these credentials may do"


def _credentials_mend(uri: str) -> str:
    names = {
        "s3": "check AWS_ACCESS_KEY_ID, AWS_PROFILE or the instance's role",
        "gs": "check GOOGLE_APPLICATION_CREDENTIALS",
    }
    return names.get(scheme(uri), "check the credentials of this store")


def row_error(error: BaseException) -> ImageError | TransientError:
    """A foreign exception about one image, as its row will say it (the row names its uri)."""
    return fault_row(judge(error))


def fault_row(fault: Fault) -> ImageError | TransientError:
    """A fault about one image, as its row will say it.

    Refused credentials are transient here: they are the night's fault, not the image's.
    """
    match fault.kind:
        case Kind.MISSING | Kind.NO_BUCKET:
            return ImageError(ErrorCode.MISSING, fault.detail)
        case Kind.DENIED | Kind.REFUSED:
            return ImageError(ErrorCode.DENIED, fault.detail)
        case Kind.ARCHIVED:
            return ImageError(ErrorCode.DENIED, "archived by its storage class; restore it first")
        case Kind.CHANGED:
            return ImageError(ErrorCode.CHANGED, "replaced since it was listed")
        case _:
            return TransientError(fault.detail)


@contextmanager
def border(uri: str) -> Iterator[None]:
    """Foreign exceptions raised within become StoreErrors about `uri`."""
    try:
        yield
    except NightlabelError:
        raise
    except foreign() as error:
        raise store_error(error, uri) from None


TRIES: Final = 5
RETRY_SECONDS: Final = 12.0


def with_retries(call: Callable[[], T]) -> T:
    """`call()`, again after a transient fault: 5 tries, waits of 0.4 s × 3ⁿ with jitter.

    No new try starts later than 12 s after the first, so with a read timeout of 10 s a dead
    store costs at most about 20 s. Raises the last foreign exception as it came.
    """
    start = time.monotonic()
    for count in range(TRIES):
        try:
            return call()
        except foreign() as error:
            wait = 0.4 * 3**count * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            late = time.monotonic() + wait - start > RETRY_SECONDS
            if judge(error).kind is not Kind.TRANSIENT or late or count == TRIES - 1:
                raise
        time.sleep(wait)
    raise AssertionError("unreachable")


def attempt(uri: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`call(*args, **kwargs)` with retries; what is left of its errors become StoreErrors."""
    with border(uri):
        return with_retries(partial(call, *args, **kwargs))
