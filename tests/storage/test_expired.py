"""An address or a token that has expired is no fate of its image: the next night tries again.

The texts are those that the stores send.
"""

from urllib.parse import quote

import botocore.exceptions
import obstore.exceptions
import pytest

from pipeline.errors import DeniedError, ErrorCode, ImageError, StoreError, TransientError
from pipeline.storage import Canaries, Want, open_binary, read_many, read_steadily
from pipeline.storage.faults import Kind, judge
from tests.parts.servers.faults import faulty
from tests.parts.servers.s3 import S3Server
from tests.storage.servers import HERE, web_server

XML = '<?xml version="1.0" encoding="UTF-8"?>\n'

EXPIRED = {
    "S3, presigned": (
        403,
        f"{XML}<Error><Code>AccessDenied</Code><Message>Request has expired</Message>"
        "<X-Amz-Expires>60</X-Amz-Expires><Expires>2026-01-01T00:01:00Z</Expires>"
        "<ServerTime>2026-01-02T00:00:00Z</ServerTime><RequestId>R</RequestId></Error>",
    ),
    "S3, token of a session": (
        400,
        f"{XML}<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message>"
        "<Token-0>SECRET</Token-0></Error>",
    ),
    "S3, token to renew": (
        400,
        f"{XML}<Error><Code>TokenRefreshRequired</Code><Message>The provided token must be "
        "refreshed.</Message></Error>",
    ),
    "OSS": (
        403,
        f"{XML}<Error><Code>AccessDenied</Code><Message>Request has expired.</Message></Error>",
    ),
    "Google": (
        400,
        "<?xml version='1.0' encoding='UTF-8'?><Error><Code>ExpiredToken</Code><Message>Invalid "
        "argument.</Message><Details>The provided token has expired. Request signature expired "
        "at: 2026-01-01T00:00:00+00:00</Details></Error>",
    ),
    "Azure": (
        403,
        f"\ufeff{XML}<Error><Code>AuthenticationFailed</Code><Message>Server failed to "
        "authenticate the request. Make sure the value of Authorization header is formed correctly "
        "including the signature.\nRequestId:R\nTime:2026-01-02T00:00:00Z</Message>"
        "<AuthenticationErrorDetail>Signature not valid in the specified time frame: Start [Thu, "
        "01 Jan 2026 00:00:00 GMT] - Expiry [Thu, 01 Jan 2026 01:00:00 GMT] - Current [Fri, 02 "
        "Jan 2026 00:00:00 GMT]</AuthenticationErrorDetail></Error>",
    ),
}

REFUSED = {
    "S3": (403, f"{XML}<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"),
    "Azure, wrong signature": (
        403,
        f"{XML}<Error><Code>AuthenticationFailed</Code><Message>Server failed to authenticate."
        "</Message><AuthenticationErrorDetail>Signature did not match.</AuthenticationErrorDetail>"
        "</Error>",
    ),
    "a page": (403, "<html>Your request has expired, and was never allowed</html>"),
    "nothing": (401, ""),
}


def read(url: str) -> ImageError | TransientError:
    [(_, found)] = read_many([Want(url)], max_bytes=1000, rules=HERE)
    assert not isinstance(found, bytes)
    return found


@pytest.mark.parametrize("store", EXPIRED)
def test_an_address_that_has_expired_is_tried_again(store: str) -> None:
    status, text = EXPIRED[store]
    with web_server() as url:
        found = read(f"{url}/says/{status}?{quote(text)}")
    assert found.code is ErrorCode.TRANSIENT
    assert "has expired; make the list again" in found.message
    assert "SECRET" not in found.message


@pytest.mark.parametrize("store", REFUSED)
def test_what_is_refused_stays_denied(store: str) -> None:
    status, text = REFUSED[store]
    with web_server() as url:
        assert read(f"{url}/says/{status}?{quote(text)}").code is ErrorCode.DENIED


def test_addresses_that_expired_are_rows_beside_others() -> None:
    status, text = EXPIRED["S3, presigned"]
    with web_server({"/a.jpg": b"bytes"}) as url:
        expired = [Want(f"{url}/says/{status}?{quote(text)}&{n}") for n in range(5)]
        wants = [Want(f"{url}/a.jpg"), *expired]
        found = dict(read_steadily(wants, Canaries(), max_bytes=1000, rules=HERE))
        alone = dict(read_steadily(expired, Canaries(), max_bytes=1000, rules=HERE))
    assert found.pop(0) == b"bytes"
    for outcome in [*found.values(), *alone.values()]:
        assert isinstance(outcome, TransientError)


def test_a_list_whose_address_expired_says_so() -> None:
    status, text = EXPIRED["S3, presigned"]
    with (
        web_server() as url,
        pytest.raises(DeniedError, match=r"has expired; check the address; a signed one"),
        open_binary(f"{url}/says/{status}?{quote(text)}", HERE),
    ):
        pass


@pytest.mark.parametrize("store", EXPIRED)
def test_every_library_says_it_alike(store: str) -> None:
    status, text = EXPIRED[store]
    code = text.partition("<Code>")[2].partition("<")[0]
    said = {"Error": {"Code": code, "Message": text}}
    for error in (
        obstore.exceptions.GenericError(f"non-2xx status code: {status} X: {text}"),
        obstore.exceptions.PermissionDeniedError(f"status code: {status} X: {text}"),
        OSError(f"Generic S3 error: status code: {status} X: {text}"),
        botocore.exceptions.ClientError(
            said | {"ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject"
        ),
    ):
        assert judge(error).kind is Kind.EXPIRED


@pytest.mark.s3
@pytest.mark.parametrize("code", ["RequestExpired", "TokenRefreshRequired", "ExpiredToken"])
def test_credentials_of_a_bucket_that_expire_on_the_way_end_the_run(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    root = s3.bucket()
    wants = [Want(uri, s3.put(uri, b"bytes")) for uri in (f"{root}/{n}" for n in range(8))]
    with faulty(s3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        proxy.rule(skip=3, status=403, code=code)
        given: list[object] = []
        with pytest.raises(StoreError, match="has expired; check AWS_ACCESS_KEY_ID"):
            given.extend(
                got for _, got in read_steadily(wants, Canaries(), max_bytes=100, in_flight=1)
            )
    assert given == [b"bytes"] * 3
