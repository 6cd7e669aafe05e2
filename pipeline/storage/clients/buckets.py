"""obstore's stores: one for each bucket and process, for s3, gs and az."""

import re
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pipeline.storage.clients import aws
from pipeline.storage.faults import Refused
from pipeline.storage.locks import Locks
from pipeline.storage.names import bucket_names
from pipeline.storage.names.uris import BUCKETS, scheme, split

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_locks = Locks()

# Empty, `.` and `..` segments and control characters: object_store normalises or refuses them.
_ODD_KEY = re.compile(r"(^|/)\.{0,2}(/|$)|[\x00-\x1f\x7f]")

_CLIENT: dict[str, Any] = {"connect_timeout": "5s", "read_timeout": "10s", "timeout": "15m"}
#: Bulk reads do their own retries; documents and listings use obstore's.
_NO_RETRY: dict[str, Any] = {"max_retries": 0}
#: Some 30 s. With the default, all random pauses may be short, and retries over after two.
_RETRY: dict[str, Any] = {
    "max_retries": 20,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {
        "init_backoff": timedelta(seconds=0.5),
        "max_backoff": timedelta(seconds=5),
        "base": 3,
    },
}


def is_bucket(uri: str) -> bool:
    return scheme(uri) in BUCKETS


def odd(key: str) -> bool:
    """True if obstore would read another object than `key`, or none."""
    return _ODD_KEY.search(key) is not None


def connect(root: str, *, retry: bool = True) -> "ObjectStore":
    """The store of `s3://bucket`, `gs://bucket`, `az://container` or `file://`.

    Raises what obstore and botocore raise, and Refused for an invalid bucket name.
    """
    if is_bucket(root) and (problem := bucket_names.problem_of(root)):
        raise Refused(problem)
    # One lock for each bucket: a slow server may be asked for its region.
    with _locks.of(root):
        return _connect(root, retry, aws.environment("AWS_", "GOOGLE_", "AZURE_", "HOME"))


@lru_cache(maxsize=64)
def _connect(root: str, retry: bool, _environment: tuple[tuple[str, str], ...]) -> "ObjectStore":
    from obstore.store import LocalStore, S3Store, from_url

    if root == "file://":
        return LocalStore()
    options: dict[str, Any] = {
        "retry_config": _RETRY if retry else _NO_RETRY,
        "client_options": _CLIENT,
    }
    if scheme(root) != "s3":
        return from_url(root, **options)
    bucket = split(root)[0].removeprefix("s3://")
    return S3Store(bucket, **options | _s3_options(bucket))


def _s3_options(bucket: str) -> dict[str, Any]:
    access = aws.access(bucket)
    options: dict[str, Any] = {"region": access.region}
    if access.endpoint is None:
        options["virtual_hosted_style_request"] = bucket_names.may_be_host(bucket)
    else:
        options["aws_endpoint_url_s3"] = access.endpoint
        options["virtual_hosted_style_request"] = False
        options["client_options"] = _CLIENT | {"allow_http": access.endpoint.startswith("http:")}
    if access.credentials is None:
        return options | {"skip_signature": True}
    return options | {"credential_provider": aws.credential_provider(access.credentials)}
