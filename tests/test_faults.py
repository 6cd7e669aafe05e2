"""The fault proxy lets bytes pass as they came, and each fault does what it says."""

import time
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
import urllib3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.parts.servers.faults import FaultProxy, faulty
from tests.parts.servers.s3 import S3Server, split

pytestmark = pytest.mark.s3

BODY = bytes(range(256)) * 1000


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultProxy]:
    with faulty(s3) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Any:
    config = Config(
        s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, read_timeout=20
    )
    return botocore.session.Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=proxy.endpoint,
        aws_access_key_id=proxy.env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=proxy.env["AWS_SECRET_ACCESS_KEY"],
        config=config,
    )


@pytest.fixture
def where(s3: S3Server) -> dict[str, str]:
    uri = f"{s3.bucket()}/a/b c"
    s3.put(uri, BODY)
    bucket, key = split(uri)
    return {"Bucket": bucket, "Key": key}


def test_without_a_rule_all_passes(proxy: FaultProxy, client: Any, where: dict[str, str]) -> None:
    client.put_object(**where, Body=BODY * 3)
    assert client.get_object(**where)["Body"].read() == BODY * 3
    assert client.head_object(**where)["ContentLength"] == 3 * len(BODY)
    listed = client.list_objects_v2(Bucket=where["Bucket"], Prefix="a/")
    assert [entry["Key"] for entry in listed["Contents"]] == [where["Key"]]
    client.delete_object(**where)
    with pytest.raises(ClientError, match="NoSuchKey"):
        client.get_object(**where)
    assert proxy.fired == []
    assert proxy.requests == 6


def test_a_status_comes_so_often_and_after_so_many(
    proxy: FaultProxy, client: Any, where: dict[str, str]
) -> None:
    proxy.rule(method="GET", path="/a/", status=503, times=2, skip=1)
    assert client.get_object(**where)["Body"].read() == BODY
    for _ in range(2):
        with pytest.raises(ClientError, match="SlowDown"):
            client.get_object(**where)
    assert client.get_object(**where)["Body"].read() == BODY
    assert len(proxy.fired) == 2


def test_a_connection_ends_before_or_after_the_server_acts(
    proxy: FaultProxy, client: Any, where: dict[str, str], s3: S3Server
) -> None:
    uri = f"s3://{where['Bucket']}/{where['Key']}"
    reset = proxy.rule(method="PUT", reset=True)
    with pytest.raises(BotoCoreError):
        client.put_object(**where, Body=b"first")
    assert s3.get(uri) == BODY
    proxy.rules.remove(reset)
    proxy.rule(method="PUT", lose_answer=True)
    with pytest.raises(BotoCoreError):
        client.put_object(**where, Body=b"second")
    assert s3.get(uri) == b"second"


def test_bodies_are_cut_flipped_and_slow(
    proxy: FaultProxy, client: Any, where: dict[str, str]
) -> None:
    proxy.rule(method="GET", cut_after=1000, times=1)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        _raw(client.get_object(**where))
    proxy.rule(method="GET", flip=3, times=1)
    damaged = _raw(client.get_object(**where))  # botocore itself would hold it to a checksum
    assert len(damaged) == len(BODY)
    assert sum(a != b for a, b in zip(damaged, BODY, strict=True)) == 3
    proxy.rule(method="GET", bytes_per_second=len(BODY) * 2, times=1)
    began = time.monotonic()
    assert client.get_object(**where)["Body"].read() == BODY
    assert time.monotonic() - began > 0.4


def _raw(answer: Any) -> bytes:
    body: bytes = answer["Body"]._raw_stream.read()
    return body


def test_callbacks_see_the_moment(
    proxy: FaultProxy, client: Any, where: dict[str, str], s3: S3Server
) -> None:
    uri = f"s3://{where['Bucket']}/{where['Key']}"
    seen: list[tuple[str, bytes]] = []
    proxy.rule(
        method="PUT",
        before=lambda name: seen.append((name.split(" ")[0], s3.get(uri))),
        after=lambda name: seen.append((name.split("?")[0].rpartition("/")[2], s3.get(uri))),
    )
    client.put_object(**where, Body=b"new")
    assert seen == [("PUT", BODY), ("b%20c", b"new")]
