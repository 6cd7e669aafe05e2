"""Translates the exceptions of object stores into this project's errors.

Every foreign exception becomes a `Fault` (see faults.py) and, from that, either a `StoreError`
(a folder, a listing, a commit) or a row's error (one image).
"""

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from pipeline.storage.faults import Fault, Kind, foreign, judge, no_panic, without_trace
from pipeline.storage.names.uris import public, scheme, split

P = ParamSpec("P")
T = TypeVar("T")

#: delta-rs's message for a table that no longer exists.
_LOG_GONE: Final = re.compile(r"not found: \S*_delta_log/")


def store_error(error: BaseException, uri: str) -> NightlabelError:
    """A foreign exception about a folder or document, with the fix in one line."""
    return fault_error(judge(error), uri)


def delta_error(error: BaseException, uri: str) -> NightlabelError:
    """The same for deltalake's exceptions; in its own words if the table is at fault."""
    fault = judge(error)
    if fault.kind is Kind.OTHER and not isinstance(error, OSError):
        if _LOG_GONE.search(str(error)):
            return MissingError(
                f"{public(uri)}: its log is gone; was the folder or bucket removed?"
            )
        return StoreError(f"{public(uri)}: its Delta log: {without_trace(error)}")
    return fault_error(fault, uri)


def fault_error(fault: Fault, uri: str) -> NightlabelError:
    """A fault about a folder or document, with the fix in one line: a StoreError.

    If we refuse to read an address it is a SpecError instead: the user asked for it.
    """
    where, root = public(uri), public(split(uri)[0])
    match fault.kind:
        case Kind.MISSING:
            return MissingError(f"{where}: no such file or folder")
        case Kind.NO_BUCKET:
            return MissingError(f"{root}: no such bucket; check its name, or create it")
        case Kind.DENIED | Kind.ARCHIVED:
            return DeniedError(f"{where}: {fault.detail}; {_how_to_get_access(uri)}")
        case Kind.CREDENTIALS | Kind.EXPIRED:
            return DeniedError(f"{root}: {fault.detail}; {_how_to_get_credentials(uri)}")
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


def _how_to_get_access(uri: str) -> str:
    local = scheme(uri) == "file"
    return "check its permissions" if local else "check what these credentials may do"


def _how_to_get_credentials(uri: str) -> str:
    names = {
        "s3": "check AWS_ACCESS_KEY_ID, AWS_PROFILE or the instance's role",
        "gs": "check GOOGLE_APPLICATION_CREDENTIALS",
        "http": "check the address; a signed one may need a new signature",
        "https": "check the address; a signed one may need a new signature",
    }
    return names.get(scheme(uri), "check the credentials of this store")


def row_error(error: BaseException) -> ImageError | TransientError:
    """A foreign exception about one image, as its row will say it (the row names its uri)."""
    return fault_row(judge(error))


def fault_row(fault: Fault) -> ImageError | TransientError:
    """A fault about one image, as its row will say it.

    Refused or expired credentials are transient here: they are the run's fault, not the image's.
    """
    match fault.kind:
        case Kind.MISSING | Kind.NO_BUCKET:
            return ImageError(ErrorCode.MISSING, fault.detail)
        case Kind.DENIED | Kind.REFUSED:
            return ImageError(ErrorCode.DENIED, fault.detail)
        case Kind.ARCHIVED:
            return ImageError(ErrorCode.DENIED, "archived by its storage class; restore it first")
        case Kind.REJECTED:
            return ImageError(ErrorCode.DENIED, fault.detail)
        case Kind.NO_FILE:
            return ImageError(ErrorCode.NOT_AN_IMAGE, fault.detail)
        case Kind.UNSUPPORTED:
            return ImageError(ErrorCode.UNSUPPORTED, fault.detail)
        case Kind.CHANGED:
            return ImageError(ErrorCode.CHANGED, "replaced since it was listed")
        case Kind.EXPIRED:
            return TransientError(f"{fault.detail}; make the list again, or renew the token")
        case _:
            return TransientError(fault.detail)


@contextmanager
def border(uri: str) -> Iterator[None]:
    """Foreign exceptions and panics raised within the block become StoreErrors about `uri`."""
    try:
        with no_panic():
            yield
    except NightlabelError:
        raise
    except foreign() as error:
        raise store_error(error, uri) from None


TRIES: Final = 5
RETRY_SECONDS: Final = 12.0


def with_retries(call: Callable[[], T], *, at_most: float = RETRY_SECONDS) -> T:
    """`call()`, again after a transient fault: 5 tries, waits of 0.4 s × 3ⁿ with jitter.

    No new try starts later than 12 s after the first, so with a read timeout of 10 s a dead
    store costs at most about 20 s. If a server says when to retry (`Retry-After`), it is asked
    no sooner, and no later than `at_most` seconds after the first try. Raises the last
    foreign exception unchanged.
    """
    start = time.monotonic()
    for count in range(TRIES):
        try:
            with no_panic():
                return call()
        except foreign() as error:
            wait = 0.4 * 3**count * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            asked = getattr(error, "retry_after", None)
            wait, limit = (wait, RETRY_SECONDS) if asked is None else (max(wait, asked), at_most)
            late = time.monotonic() + wait - start > limit
            if judge(error).kind is not Kind.TRANSIENT or late or count == TRIES - 1:
                raise
        time.sleep(wait)
    raise AssertionError("unreachable")


def attempt(uri: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`call(*args, **kwargs)` with retries; remaining errors become StoreErrors."""
    with border(uri):
        return with_retries(partial(call, *args, **kwargs))
