"""A cluster that is not there, and what is there instead, is told within seconds."""

import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pipeline.engine import address, gcs
from pipeline.engine.address import check_address, check_answers
from pipeline.engine.gcs import check_cluster
from pipeline.errors import ClusterError, SpecError

SETTINGS = b"\0\0\0\x04\0\0\0\0\0"


@pytest.fixture(autouse=True)
def _no_cluster_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(address, "STEP_SECONDS", 0.5)


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that does `serve` with each who connects."""
    links: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                links.append(server.accept()[0])
                serve(links[-1])
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
    for link in links:
        link.close()


@contextmanager
def web_server() -> Iterator[str]:
    kind = http.server.BaseHTTPRequestHandler
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_a_closed_port() -> None:
    with pytest.raises(ClusterError, match=r"no Ray cluster answers at .*connection refused"):
        check_cluster(closed_port())


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(ClusterError, match=r"the name no-such-host\.invalid does not resolve"):
        check_cluster("no-such-host.invalid:6379")


def test_one_that_never_answers() -> None:
    began = time.monotonic()
    with listening(lambda _: None) as silent, pytest.raises(ClusterError, match="no answer"):
        check_cluster(silent)
    assert time.monotonic() - began < 5


def test_a_name_that_is_never_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(address, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait())
    try:
        with pytest.raises(ClusterError, match="no answer"):
            check_answers("head:6379")
    finally:
        over.set()


def test_all_that_is_waited_for_is_less_than_a_minute() -> None:
    ray_connects = 10.0
    assert address.PROBE_SECONDS + ray_connects + gcs.ASK_SECONDS < 60


def test_one_that_hangs_up() -> None:
    with (
        listening(lambda link: link.close()) as rude,
        pytest.raises(ClusterError, match=r"closed|reset"),
    ):
        check_cluster(rude)


def test_a_web_server() -> None:
    with web_server() as web, pytest.raises(SpecError, match="a web server answers there"):
        check_cluster(web)


def test_a_web_server_that_answers_in_its_own_version() -> None:
    with (
        listening(lambda link: link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as web,
        pytest.raises(SpecError, match="use `nightlabel submit`"),
    ):
        check_cluster(web)


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.2p1\r\n", b"\0\0\0\x01\0\0\0\0\0"])
def test_a_server_of_another_kind(greeting: bytes) -> None:
    with (
        listening(lambda link: link.sendall(greeting)) as other,
        pytest.raises(SpecError, match="the server there is not a Ray cluster"),
    ):
        check_cluster(other)


def test_one_that_greets_and_then_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcs, "ASK_SECONDS", 0.5)
    with listening(lambda link: link.sendall(SETTINGS)) as stuck:
        assert check_answers(stuck) == stuck
        with pytest.raises(ClusterError, match="no Ray cluster answers at"):
            check_cluster(stuck)


def test_without_the_names_that_ray_keeps_to_itself_a_greeting_must_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gcs, "find", lambda _: None)
    with listening(lambda link: link.sendall(SETTINGS)) as greets:
        check_cluster(greets)
    with pytest.raises(ClusterError):
        check_cluster(closed_port())
    check_cluster("auto")


def test_a_secured_port_is_only_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with listening(lambda _: None) as silent:
        assert check_answers(silent) == silent


@pytest.mark.parametrize(
    ("asked", "environment", "field"),
    [
        ("http://head:8265", None, "address"),
        (None, "http://head:8265", "RAY_ADDRESS"),
        ("auto", "ray://head:10001", "RAY_ADDRESS"),
        ("head", "head:6379", "address"),
        ("head:0", None, "address"),
        (":6379", None, "address"),
        ("head:six", None, "address"),
        ("[::1]", None, "address"),
    ],
)
def test_what_is_no_address_is_named_by_where_it_stands(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, environment: str | None, field: str
) -> None:
    if environment is not None:
        monkeypatch.setenv("RAY_ADDRESS", environment)
    with pytest.raises(SpecError) as caught:
        check_address(asked)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("asked", "environment"),
    [
        (None, None),
        (None, "local"),
        ("local", "http://head:8265"),
        ("auto", None),
        ("auto", "local"),
        ("head:6379", "http://head:8265"),
        ("[::1]:6379", None),
    ],
)
def test_what_may_be_an_address_passes(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, environment: str | None
) -> None:
    if environment is not None:
        monkeypatch.setenv("RAY_ADDRESS", environment)
    check_address(asked)


def test_a_secret_in_an_address_is_not_shown() -> None:
    with pytest.raises(SpecError) as caught:
        check_address("http://me:c4n4ry@head:8265/?token=c4n4ry")
    assert "c4n4ry" not in str(caught.value)
