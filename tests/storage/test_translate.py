"""The border: nothing foreign passes it, and nothing secret does."""

import builtins
import errno
import inspect
import os
import pickle
import sys
from types import ModuleType

import aiohttp
import botocore.exceptions
import obstore.exceptions
import pytest
import urllib3.exceptions
from deltalake.exceptions import DeltaError

from pipeline.errors import (
    ConflictError,
    DeniedError,
    ErrorCode,
    ImageError,
    MissingError,
    StoreError,
    TransientError,
)
from pipeline.storage import translate
from pipeline.storage.faults import Answer, Broken, Kind, Unsupported, foreign, judge, of_library
from pipeline.storage.translate import border, delta_error, row_error, store_error

#: What each of obstore's exceptions means; one that is not here fails the test below.
OBSTORE = {
    "AlreadyExistsError": Kind.EXISTS,
    "BaseError": Kind.OTHER,
    "GenericError": Kind.OTHER,
    "InvalidPathError": Kind.OTHER,
    "JoinError": Kind.OTHER,
    "NotFoundError": Kind.MISSING,
    "NotModifiedError": Kind.OTHER,
    "NotSupportedError": Kind.OTHER,
    "PermissionDeniedError": Kind.DENIED,
    "PreconditionError": Kind.CHANGED,
    "UnauthenticatedError": Kind.CREDENTIALS,
    "UnknownConfigurationKeyError": Kind.OTHER,
}


def exceptions_of(module: object, base: type[BaseException]) -> list[type[BaseException]]:
    found = [one for _, one in inspect.getmembers(module, inspect.isclass)]
    return [one for one in found if issubclass(one, base)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_exception_of_obstore_is_mapped() -> None:
    found = exceptions_of(obstore.exceptions, Exception)
    assert {one.__name__: judge(one("text")).kind for one in found} == OBSTORE


@pytest.mark.parametrize(
    ("module", "base"),
    [
        (obstore.exceptions, Exception),
        (botocore.exceptions, Exception),
        (urllib3.exceptions, urllib3.exceptions.HTTPError),
        (aiohttp, aiohttp.ClientError),
        (builtins, OSError),
        (builtins, ImportError),
    ],
)
def test_every_foreign_exception_is_caught_at_the_border(module, base) -> None:
    kinds = exceptions_of(module, base)
    assert kinds
    # botocore has a few that are no children of its two bases; none comes from a request.
    loose = {"MissingServiceIdError", "UndefinedModelAttributeError"}
    kinds = [kind for kind in kinds if not issubclass(kind, Warning)]
    missed = [kind for kind in kinds if not issubclass(kind, foreign())]
    assert {kind.__name__ for kind in missed} <= loose


ANSWERS = [
    (403, "AccessDenied", DeniedError, ErrorCode.DENIED),
    (403, "InvalidObjectState", DeniedError, ErrorCode.DENIED),
    (403, "InvalidAccessKeyId", DeniedError, ErrorCode.TRANSIENT),
    (400, "ExpiredToken", DeniedError, ErrorCode.TRANSIENT),
    (400, "ExpiredTokenException", DeniedError, ErrorCode.TRANSIENT),
    (400, "TokenRefreshRequired", DeniedError, ErrorCode.TRANSIENT),
    (403, "RequestExpired", DeniedError, ErrorCode.TRANSIENT),
    (403, "ExpiredRequest", DeniedError, ErrorCode.TRANSIENT),
    (404, "NoSuchKey", MissingError, ErrorCode.MISSING),
    (404, "NoSuchBucket", MissingError, ErrorCode.MISSING),
    (410, None, MissingError, ErrorCode.MISSING),
    (412, "PreconditionFailed", ConflictError, ErrorCode.CHANGED),
    (503, "SlowDown", StoreError, ErrorCode.TRANSIENT),
    (500, None, StoreError, ErrorCode.TRANSIENT),
    (429, None, StoreError, ErrorCode.TRANSIENT),
    (507, "InsufficientStorage", StoreError, ErrorCode.TRANSIENT),
    (403, "QuotaExceeded", StoreError, ErrorCode.TRANSIENT),
    (400, "BadDigest", StoreError, ErrorCode.TRANSIENT),
]


def raised_by(library: str, status: int, code: str | None) -> BaseException:
    body = f"<Error><Code>{code}</Code><AWSAccessKeyId>AKIASECRET</AWSAccessKeyId></Error>"
    if library == "http":
        return Answer(status, code)
    if library == "botocore":
        response = {
            "Error": {"Code": code or str(status), "Message": "AKIASECRET"},
            "ResponseMetadata": {"HTTPStatusCode": status},
        }
        return botocore.exceptions.ClientError(response, "GetObject")
    if library == "deltalake":
        return OSError(
            "Generic S3 error\n     \x1b[31m↳\x1b[0m Error performing PUT http://h/b/AKIASECRET in "
            "3s, after 6 retries, max_retries\n      \x1b[31m↳\x1b[0m 6, retry_timeout\n      "
            "\x1b[31m↳\x1b[0m 30s  - Server returned non-2xx status code\n      "
            f"\x1b[31m↳\x1b[0m {status} X\n     \x1b[31m↳\x1b[0m {body if code else ''}\n"
        )
    text = f"Server returned non-2xx status code: {status} X: {body if code else ''}"
    return obstore.exceptions.GenericError(text)


@pytest.mark.parametrize("library", ["http", "obstore", "botocore", "deltalake"])
@pytest.mark.parametrize(("status", "code", "store", "row"), ANSWERS)
def test_one_answer_means_the_same_in_every_library(library, status, code, store, row) -> None:
    error = raised_by(library, status, code)
    found = store_error(error, "s3://bucket/key?x")
    assert type(found) is store
    assert "\n" not in str(found)
    assert "AKIASECRET" not in str(found)
    line = row_error(error)
    assert line.code is row
    assert isinstance(line, ImageError | TransientError)
    assert "AKIASECRET" not in line.message


def test_messages_say_how_to_fix_it() -> None:
    assert "no such bucket; check its name" in str(
        store_error(Answer(404, "NoSuchBucket"), "s3://b/k")
    )
    assert "AWS_PROFILE" in str(store_error(Answer(403, "SignatureDoesNotMatch"), "s3://b/k"))
    signed = "https://h/a?X-Amz-Signature=secret"
    assert "secret" not in str(store_error(Answer(403), signed))
    needs = ImportError("no gcsfs", name="gcsfs")
    assert "gcsfs" in str(store_error(needs, "gcs2://b/k"))


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "no space left; make room there"),
        (errno.EDQUOT, "no space left; make room there"),
        (errno.EROFS, "read-only file system; give a folder that can be written to"),
        (errno.EACCES, "permission denied; check its permissions"),
    ],
)
def test_a_local_disk_means_the_same_in_every_library(number: int, fix: str) -> None:
    told = f"{os.strerror(number)} (os error {number})"
    for error in (
        OSError(number, os.strerror(number)),
        obstore.exceptions.GenericError(f"Generic LocalFileSystem error: {told}"),
        OSError(f"Generic LocalFileSystem error\n   \x1b[31m↳\x1b[0m {told}\n"),
    ):
        assert str(store_error(error, "file:///labels")) == f"/labels: {fix}" + (
            " and run again" if "room" in fix else ""
        )


def test_a_lost_connection_is_not_called_a_timeout() -> None:
    """Rust's object_store tells of its own `retry_timeout` in every error."""
    text = "after 6 retries, max_retries: 6, retry_timeout: 30s - HTTP error: connection closed"
    assert judge(obstore.exceptions.GenericError(text)).detail == "connection lost"


def test_what_delta_says_of_its_own_table_is_kept_in_one_line() -> None:
    error = DeltaError("Invalid table\n   \x1b[31m↳\x1b[0m unsupported feature\n")
    assert str(delta_error(error, "s3://b/k")) == (
        "s3://b/k: its Delta log: Invalid table: unsupported feature"
    )


def test_the_foreign_text_does_not_cross_as_a_cause() -> None:
    with pytest.raises(StoreError) as caught, border("s3://b/k"):
        raise obstore.exceptions.GenericError("AKIASECRET")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def panic() -> None:
    """A real one: object_store cannot sign an address of that length."""
    from obstore.store import S3Store

    keys = {"access_key_id": "of-a-test", "secret_access_key": "of-a-test"}
    at = S3Store("b", endpoint="http://127.0.0.1:9", client_options={"allow_http": True}, **keys)
    obstore.get(at, "x" * 70_000)


def test_a_panic_of_a_library_is_an_error_like_others() -> None:
    with pytest.raises(BaseException, match="TooLong") as raw:
        panic()
    assert not isinstance(raw.value, Exception)  # or it would need no care
    with (
        pytest.raises(StoreError, match="s3://b/k: its client library gave up on it"),
        border("s3://b/k"),
    ):
        panic()
    with pytest.raises(Unsupported):
        translate.with_retries(panic)
    assert row_error(Unsupported("x")).code is ErrorCode.UNSUPPORTED


@pytest.mark.parametrize("ends", [KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError])
def test_what_ends_a_process_is_let_through(ends: type[BaseException]) -> None:
    for within in (of_library, lambda: border("s3://b/k")):
        with pytest.raises(ends), within():
            raise ends


class UndocumentedError(Exception):
    """What a file system of fsspec's may bring along."""


@pytest.mark.parametrize(
    "error", [UndocumentedError, ValueError, KeyError, TypeError, RuntimeError]
)
def test_whatever_a_library_raises_is_closed(error: type[Exception]) -> None:
    with (
        pytest.raises(Broken, match=rf"its client library failed \({error.__name__}\)$"),
        of_library(),
    ):
        raise error("AKIASECRET")
    with pytest.raises(Answer), of_library():
        raise Answer(404)
    assert row_error(Broken("x")).code is ErrorCode.TRANSIENT


LOCAL = {
    errno.ENAMETOOLONG: ErrorCode.MISSING,
    errno.ELOOP: ErrorCode.MISSING,
    errno.ENOTDIR: ErrorCode.MISSING,
    errno.ENOENT: ErrorCode.MISSING,
    errno.EINVAL: ErrorCode.MISSING,
    errno.EISDIR: ErrorCode.NOT_AN_IMAGE,
    errno.ENXIO: ErrorCode.NOT_AN_IMAGE,
    errno.EACCES: ErrorCode.DENIED,
    errno.EPERM: ErrorCode.DENIED,
    errno.ENOKEY: ErrorCode.DENIED,
    errno.EOVERFLOW: ErrorCode.UNSUPPORTED,
    errno.EIO: ErrorCode.TRANSIENT,
    errno.ESTALE: ErrorCode.TRANSIENT,
    errno.EMFILE: ErrorCode.TRANSIENT,
    errno.ENOMEM: ErrorCode.TRANSIENT,
}


@pytest.mark.parametrize("number", LOCAL, ids=errno.errorcode.get)
def test_faults_of_a_disk_stay_or_pass(number: int) -> None:
    told = f"{os.strerror(number)} (os error {number})"
    for error in (OSError(number, "x"), obstore.exceptions.GenericError(f"Generic error: {told}")):
        assert row_error(error).code is LOCAL[number]


def test_our_own_bugs_are_not_swallowed() -> None:
    with pytest.raises(ValueError, match="ours"), border("s3://b/k"):
        raise ValueError("ours")


def test_retries_are_for_what_passes() -> None:
    calls = iter([Answer(503), Answer(503), None])

    def call() -> str:
        error = next(calls)
        if error:
            raise error
        return "done"

    assert translate.with_retries(call) == "done"
    counted: list[int] = []

    def never() -> None:
        counted.append(1)
        raise Answer(403)

    with pytest.raises(Answer):
        translate.with_retries(never)
    assert len(counted) == 1


@pytest.mark.parametrize("module", ["aiohttp", "obstore.exceptions", "botocore.exceptions"])
def test_a_library_that_another_thread_is_importing(module, monkeypatch) -> None:
    """A list may name a protocol whose package is loaded only then, while others are read."""
    monkeypatch.setitem(sys.modules, module, ModuleType(module))
    assert Answer in foreign()
    monkeypatch.delitem(sys.modules, module)
    assert OSError in foreign()


def test_errors_pickle() -> None:
    answer = pickle.loads(pickle.dumps(Answer(503, "SlowDown")))
    assert (answer.status, answer.code, answer.expired) == (503, "SlowDown", False)
    assert pickle.loads(pickle.dumps(Answer(403, "AccessDenied", expired=True))).expired
