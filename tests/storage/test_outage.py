"""A row says what befell its object; what befell the store ends the run instead."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import DeniedError, ImageError, MissingError, StoreError, TransientError
from pipeline.storage import Canaries, Want, read_steadily, translate
from tests.parts.servers.faults import FaultProxy, faulty
from tests.parts.servers.s3 import S3Server
from tests.storage.servers import HERE

pytestmark = pytest.mark.s3

COUNT = 40


@pytest.fixture
def proxy(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with faulty(s3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Single reads give up after a second instead of twelve."""
    monkeypatch.setattr(translate, "RETRY_SECONDS", 1.0)


@pytest.fixture
def wants(s3: S3Server) -> list[Want]:
    return _put(s3, s3.bucket())


def _put(s3: S3Server, root: str) -> list[Want]:
    return [Want(uri, s3.put(uri, b"bytes")) for uri in (f"{root}/p/{n:03}" for n in range(COUNT))]


def read(wants: list[Want], canaries: Canaries | None = None, patience: float = 60) -> list[str]:
    """What each came to, in order. One at a time, so that `skip` means what it says."""
    got: dict[int, str] = {}
    reads = read_steadily(
        wants, canaries or Canaries(), max_bytes=1000, rules=HERE, in_flight=1, patience=patience
    )
    for index, outcome in reads:
        assert index not in got
        failed = isinstance(outcome, ImageError | TransientError)
        got[index] = str(outcome.code) if failed else outcome.decode()  # type: ignore[union-attr]
    assert sorted(got) == list(range(len(wants)))
    return [got[index] for index in range(len(wants))]


def test_the_good_path_asks_for_nothing_twice(proxy: FaultProxy, wants: list[Want]) -> None:
    assert read(wants) == ["bytes"] * COUNT
    assert proxy.requests == COUNT


@pytest.mark.parametrize(
    ("status", "code", "row"),
    [
        (403, "AccessDenied", "denied"),
        (404, "NoSuchKey", "missing"),
        (404, "NoSuchBucket", "missing"),
    ],
)
def test_what_fails_alone_is_a_row(
    proxy: FaultProxy, wants: list[Want], status: int, code: str, row: str
) -> None:
    proxy.rule(path="/p/00[0-7]", status=status, code=code)
    assert read(wants) == [row] * 8 + ["bytes"] * (COUNT - 8)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "AccessDenied", DeniedError),
        (400, "ExpiredToken", DeniedError),
        (403, "InvalidAccessKeyId", DeniedError),
        (404, "NoSuchBucket", MissingError),
        (404, "NoSuchKey", MissingError),
    ],
)
def test_what_fails_from_a_moment_on_ends_the_run(
    proxy: FaultProxy, wants: list[Want], status: int, code: str, error: type[StoreError]
) -> None:
    proxy.rule(skip=10, status=status, code=code)
    given: list[object] = []
    with pytest.raises(error):
        given.extend(
            outcome for _, outcome in read_steadily(wants, Canaries(), max_bytes=1000, in_flight=1)
        )
    assert given == [b"bytes"] * 10


def test_a_store_that_is_away_is_waited_for(
    proxy: FaultProxy, wants: list[Want], impatient: None
) -> None:
    rule = proxy.rule(skip=10, status=503)
    back = threading.Timer(4.0, lambda: proxy.rules.remove(rule))
    back.start()
    try:
        assert read(wants[:13]) == ["bytes"] * 13
    finally:
        back.join()


def test_a_store_that_stays_away_ends_the_run(
    proxy: FaultProxy, wants: list[Want], impatient: None
) -> None:
    proxy.rule(skip=10, reset=True)
    with pytest.raises(StoreError, match="no answer for 2 s"):
        read(wants[:12], patience=2)


def test_one_object_that_never_answers_is_transient(
    proxy: FaultProxy, wants: list[Want], impatient: None
) -> None:
    proxy.rule(path="/p/005", status=500, code="InternalError")
    outcomes = read(wants)
    assert outcomes.pop(5) == "transient"
    assert outcomes == ["bytes"] * (COUNT - 1)


def test_without_a_canary_a_refused_block_is_refused(proxy: FaultProxy, wants: list[Want]) -> None:
    proxy.rule(status=403, code="AccessDenied")
    with pytest.raises(DeniedError, match="what these credentials may do"):
        read(wants)


def test_another_workers_canary_is_asked_for(proxy: FaultProxy, wants: list[Want]) -> None:
    proxy.rule(path="/p/0[0-2]", status=403, code="AccessDenied")
    told: dict[str, Want] = {}
    assert read(wants[30:], Canaries(tell=told.__setitem__)) == ["bytes"] * 10
    assert list(told) == [wants[0].uri.partition("/p/")[0]]
    assert read(wants[:30], Canaries(ask=lambda: told)) == ["denied"] * 30


def test_dead_names_are_rows(proxy: FaultProxy, wants: list[Want]) -> None:
    gone = [Want(f"{want.uri}-gone") for want in wants]
    assert read(gone) == ["missing"] * COUNT


def test_archived_objects_are_rows(proxy: FaultProxy, wants: list[Want]) -> None:
    proxy.rule(status=403, code="InvalidObjectState")
    assert read(wants) == ["denied"] * COUNT


def test_a_bucket_that_is_not_there_is_rows_beside_one_that_is(
    proxy: FaultProxy, wants: list[Want]
) -> None:
    elsewhere = [Want(f"s3://no-such-bucket-of-ours/{n}") for n in range(5)]
    assert read([*elsewhere, *wants]) == ["missing"] * 5 + ["bytes"] * COUNT


def test_dead_web_servers_are_rows(tmp_path: Path, impatient: None) -> None:
    (tmp_path / "good").write_bytes(b"bytes")
    dead = [Want(f"http://127.0.0.1:9/{n}") for n in range(3)]
    local = Want((tmp_path / "good").as_uri())
    assert read([local, *dead]) == ["bytes"] + ["transient"] * 3


def test_a_folder_that_vanishes_ends_the_run(tmp_path: Path) -> None:
    for n in range(5):
        (tmp_path / str(n)).write_bytes(b"bytes")
    wants = [Want((tmp_path / str(n)).as_uri()) for n in range(5)]
    reads = read_steadily(wants, Canaries(), max_bytes=1000, in_flight=1)
    assert next(reads)[1] == b"bytes"
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(MissingError, match="are gone"):
        assert {outcome for _, outcome in reads} <= {b"bytes"}
