"""Classifies foreign exceptions of any library: each becomes a kind and a detail.

The foreign text itself is never passed on: it may hold signed urls, key ids and whole XML bodies.
"""

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pipeline.errors import NightlabelError
from pipeline.storage.answers import (
    REFUSALS,
    XML_CODE,
    judge_answer,
    says_expired,
)
from pipeline.storage.answers import Answer as Answer
from pipeline.storage.answers import Fault as Fault
from pipeline.storage.answers import Kind as Kind


class Damaged(Exception):  # noqa: N818 - it is judged here too
    """A body that differs from what the store announced; worth another read."""


class Refused(Exception):  # noqa: N818 - and here
    """An address that we must not read, by its text or its target; the text says how to fix it."""


class Slow(Exception):  # noqa: N818 - and here
    """An answer that exceeds the time limit for one object."""


class Nowhere(Exception):  # noqa: N818 - and here
    """An address that is invalid in its own protocol."""


class Unsupported(Exception):  # noqa: N818 - and here
    """An address that nothing on this machine can read; the text says how to fix it."""


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

_STATUS = re.compile(r"status code: (\d{3})")
_ARROWS = re.compile(r"\s*\x1b\[[0-9;]*m↳\x1b\[0m\s*")
#: What delta-rs appends for its developers.
_TRACE: Final = re.compile(r" \d+: <unknown>| [A-Z]\w+ \{ ")
_WORDS_LENGTH: Final = 300
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
#: OSErrors that are clear without a number.
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
    errno.EINVAL: (Kind.MISSING, "its name is not valid on this file system"),
    errno.EILSEQ: (Kind.MISSING, "its name is not valid on this file system"),
    errno.EISDIR: (Kind.NO_FILE, "no regular file"),
    errno.ENXIO: (Kind.NO_FILE, "no regular file"),
    errno.ENODEV: (Kind.NO_FILE, "no regular file"),
    errno.EOVERFLOW: (Kind.UNSUPPORTED, "too large for this system"),
    errno.EOPNOTSUPP: (Kind.UNSUPPORTED, "its file system does not allow reading it"),
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
    """The exception types of the storage libraries that are loaded."""
    found: list[type[BaseException]] = [Answer, *_SAID_BY_US, OSError, ImportError]
    for module, names in {
        "obstore.exceptions": ("BaseError",),
        "botocore.exceptions": ("BotoCoreError", "ClientError"),
        "urllib3.exceptions": ("HTTPError",),
        "aiohttp": ("ClientError",),
    }.items():
        # A library that another thread is importing is incomplete, and has raised nothing yet.
        loaded = sys.modules.get(module)
        found += [getattr(loaded, name) for name in names if hasattr(loaded, name)]
    return tuple(found)


@contextmanager
def no_panic() -> Iterator[None]:
    """A Rust panic is not an Exception in Python, and would end a run: here it becomes
    Unsupported."""
    try:
        yield
    except BaseException as error:
        # Each library makes its own class for it, and exports none.
        if type(error).__name__ != "PanicException":
            raise
        raise Unsupported("its client library gave up on it") from None


@contextmanager
def of_library() -> Iterator[None]:
    """Within the block, an unknown exception of any library becomes Broken.

    Only for calls of foreign code: our own bugs must stay visible.
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
    """The meaning of a foreign exception; Kind.OTHER if it is unknown."""
    module = type(error).__module__.partition(".")[0]
    if isinstance(error, Answer):
        return judge_answer(error)
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
        return judge_answer(Answer(status)) if status else Fault(Kind.TRANSIENT, _words(error))
    if isinstance(error, OSError):
        return _os(error)
    if isinstance(error, ImportError):
        package = error.name or "of this protocol"
        return Fault(Kind.UNSUPPORTED, f"needs the Python package {package}")
    return Fault(Kind.OTHER, f"not understood ({type(error).__name__})")


def _rust(error: BaseException) -> Fault:
    """Exceptions of obstore and deltalake: both pass on the messages of Rust's object_store."""
    text = plain(error)
    name = type(error).__name__
    if name == "AlreadyExistsError":
        return Fault(Kind.EXISTS, "already there")
    if name == "UnauthenticatedError":
        return Fault(Kind.CREDENTIALS, "no valid credentials")
    if status := _STATUS.search(text):
        return judge_answer(Answer.of(int(status[1]), text))
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
        expired = status in REFUSALS and says_expired(said.get("Message") or "")
        return judge_answer(
            Answer(status, None if code and code.isdigit() else code, expired=expired)
        )
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
        # obstore raises the builtin one too, and only its text distinguishes a bucket from a key.
        code = XML_CODE.search(str(error))
        return judge_answer(Answer(404, code[1])) if code else Fault(Kind.MISSING, "not there")
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
    """The text in one line; deltalake formats it as a coloured tree."""
    return " ".join(_ARROWS.sub(": ", str(error)).split())


def without_trace(error: BaseException) -> str:
    """The same for delta-rs, without its stack and its structs: some words at most."""
    return _TRACE.split(plain(error))[0][:_WORDS_LENGTH]


def _words(error: BaseException) -> str:
    text = str(error).replace("retry_timeout", "")
    return next((said for pattern, said in _WORDS if pattern.search(text)), "connection lost")
