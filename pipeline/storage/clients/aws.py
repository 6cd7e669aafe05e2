"""S3 as the AWS tools see it: credentials, endpoint and region as botocore resolves them.

botocore (installed with s3fs) also signs requests that obstore cannot make: listings from a key
with a delimiter and a page size, and keys that obstore would normalise (`a//b`, `/a`, `a/./b`).
"""

import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from urllib3.exceptions import HTTPError

from pipeline.errors import StoreError
from pipeline.storage.clients import web
from pipeline.storage.faults import Refused, Slow
from pipeline.storage.locks import Locks
from pipeline.storage.names import bucket_names

#: botocore's sessions are not thread-safe. The lock is never held during the request for a bucket's
#: region.
_session_lock = threading.Lock()
_locks = Locks()
_AMAZON: Final = re.compile(r"\.amazonaws\.com(\.cn)?/?$")
#: For a request that any of Amazon's servers answers at once.
_QUICK: Final = replace(web.OURS, seconds=30.0)


@dataclass(frozen=True, slots=True)
class Access:
    """How this process reaches one bucket."""

    endpoint: str | None  # None for Amazon's own, which every client finds by itself
    region: str
    credentials: Any = field(repr=False)  # botocore's, or None for anonymous access
    client: Any = field(repr=False)


def environment(*prefixes: str) -> tuple[tuple[str, str], ...]:
    """The variables that decide how a store is reached; if one changes, a new
    connection is made."""
    return tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith(prefixes)))


def access(bucket: str) -> Access:
    """Raises botocore's exceptions, StoreError for an endpoint that is not a url, and Refused for
    an invalid bucket name."""
    if problem := bucket_names.problem_of(f"s3://{bucket}"):
        raise Refused(problem)
    with _locks.of(bucket):
        return _access(bucket, environment("AWS_", "HOME"))


@lru_cache(maxsize=64)
def _access(bucket: str, _environment: tuple[tuple[str, str], ...]) -> Access:
    with _session_lock:
        session, credentials = _session(_environment)
        region = os.environ.get("AWS_REGION") or session.get_config_variable("region")
        client = _client(session, region or "us-east-1", credentials is None)
    endpoint = client.meta.endpoint_url
    if _AMAZON.search(endpoint):
        actual = bucket_region(bucket, "https://s3.amazonaws.com") or client.meta.region_name
        if actual != client.meta.region_name:
            with _session_lock:
                client = _client(session, actual, credentials is None)
        # obstore and delta-rs read these variables too, but not as botocore does. If the variables
        # name Amazon itself or must be ignored, the other libraries get the endpoint explicitly.
        named = environment("AWS_ENDPOINT_URL")
        return Access(client.meta.endpoint_url if named else None, actual, credentials, client)
    return Access(endpoint, client.meta.region_name, credentials, client)


@lru_cache(maxsize=8)
def _session(_environment: tuple[tuple[str, str], ...]) -> tuple[Any, Any]:
    from botocore.session import Session

    session = Session()
    return session, session.get_credentials()


def _client(session: Any, region: str, anonymous: bool) -> Any:
    from botocore import UNSIGNED
    from botocore.config import Config

    try:
        client = session.create_client("s3", region_name=region)
        own = _AMAZON.search(client.meta.endpoint_url)
        config = Config(
            signature_version=UNSIGNED if anonymous else "s3v4",
            s3={"addressing_style": "auto" if own else "path"},
        )
        return session.create_client("s3", region_name=region, config=config)
    except ValueError:
        raise StoreError("AWS_ENDPOINT_URL is not a url; write http(s)://host:port") from None


def bucket_region(bucket: str, endpoint: str) -> str | None:
    """The region of a bucket, which Amazon tells everyone, even with a 301 or a 403.

    None if nothing answers: behind a private endpoint the configured region is used.
    """
    try:
        return web.headers(f"{endpoint}/{bucket}", _QUICK).get("x-amz-bucket-region")
    except (HTTPError, Slow):
        return None


def credential_provider(credentials: Any) -> Callable[[], dict[str, Any]]:
    """The credentials callback for obstore; botocore renews those that expire."""
    from botocore.credentials import RefreshableCredentials

    renewed = isinstance(credentials, RefreshableCredentials)

    def provide() -> dict[str, Any]:
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + timedelta(minutes=5) if renewed else None,
        }

    return provide


def signed_url(bucket: str, operation: str, **params: Any) -> str:
    """A url, valid for 15 minutes, that performs one S3 operation on `bucket`."""
    client = access(bucket).client
    url: str = client.generate_presigned_url(
        operation, Params={"Bucket": bucket, **params}, ExpiresIn=900
    )
    # An HTTP client would resolve `/./` and `/../`; in a key they are ordinary characters.
    path, mark, query = url.partition("?")
    escaped = re.sub(r"(?<=/)\.{1,2}(?=/|$)", lambda dots: dots[0].replace(".", "%2E"), path)
    return escaped + mark + query


def get_object(bucket: str, key: str, etag: str | None, max_bytes: int) -> web.Body:
    """One object whose key obstore does not accept."""
    url = signed_url(bucket, "get_object", Key=key)
    return web.get(url, web.OURS, etag=etag, max_bytes=max_bytes)
