"""Thousands of addresses that lead to private hosts, and nobody there is called."""

import json
import re
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from pipeline.errors import ErrorCode, ImageError, NightlabelError, TransientError
from pipeline.sources import open_source, wants_of
from pipeline.spec import make_spec
from pipeline.storage import (
    Canaries,
    Folder,
    Rules,
    canonical,
    check_readable,
    open_binary,
    read_steadily,
    stat,
    translate,
)
from pipeline.storage.clients import peers
from tests.parts.servers.http import POLL_SECONDS
from tests.sources.listed import refs
from tests.storage.clients.hostile_addresses import NAMED, PUBLIC, Ports, addresses

#: Of loopback too, but taken for public here: where the servers of these tests are.
PUBLIC_ADDRESS = "127.9.9.9"
PROXY_ADDRESS = "127.9.9.8"
COUNT = 6_000
STRICT = Rules(seconds=30.0)  # nothing waits for an answer, so only a busy machine needs any of it

_connected: list[str] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _connected is not None:
        _connected.append(str(arguments[1]))


sys.addaudithook(_watch)  # for good: it can't be taken away


class Calls:
    """Who was called: connections that Python began, by address, and those that came inside."""

    def __init__(self) -> None:
        self.came = 0
        self.begun: list[str] = []
        self.heard: list[bytes] = []

    def inside(self) -> list[str]:
        ours = (PUBLIC_ADDRESS, PROXY_ADDRESS)
        return [one for one in self.begun if not any(address in one for address in ours)]


class _Public(BaseHTTPRequestHandler):
    """Redirects to the query of `/to/x?…`, has one image, and nothing else."""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        self.send_response(302 if path == "/to/x" else 200 if path == "/ok.jpg" else 404)
        if path == "/to/x":
            target = unquote(query).encode().decode("latin-1").replace("\r", "").replace("\n", "")
            self.send_header("Location", target)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


class _PublicServer(ThreadingHTTPServer):
    request_queue_size = 256  # as many readers as come at once; five would drop the others


@contextmanager
def public_server() -> Iterator[int]:
    server = _PublicServer((PUBLIC_ADDRESS, 0), _Public)
    thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def listening(calls: Calls, hosts: tuple[str, ...], count: int) -> Iterator[list[int]]:
    """`count` ports of each host, where whoever comes is counted and told something."""
    with ExitStack() as stack:
        listeners = []
        for host in hosts:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with suppress(OSError):  # a machine without IPv6
                listeners += [
                    stack.enter_context(socket.create_server((host, 0), family=family))
                    for _ in range(count)
                ]
        threads = [threading.Thread(target=_answer, args=(one, calls)) for one in listeners]
        for thread in threads:
            thread.start()
        try:
            yield [one.getsockname()[1] for one in listeners]
        finally:
            for one in listeners:
                one.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def _answer(listener: socket.socket, calls: Calls) -> None:
    with suppress(OSError):  # it was shut down
        while True:
            peer, _ = listener.accept()
            calls.came += 1
            with suppress(OSError), peer:
                peer.settimeout(1.0)
                calls.heard.append(peer.recv(4096))
                peer.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret"
                )


def resolver(real: Callable[..., Any]) -> Callable[..., Any]:
    """One that knows the names of these tests, and asks no name server."""

    def resolve(host: str, port: int, *rest: int) -> Any:
        name = host.encode("idna").decode().lower().rstrip(".")  # as Python does
        embedded = re.search(r"(?<![0-9])((?:[0-9]{1,3}\.){4})nip\.test$", name)
        if name == PUBLIC:
            name = PUBLIC_ADDRESS
        elif name.endswith(("localhost", NAMED)):
            name = "127.0.0.1"
        elif embedded:
            name = embedded[1].rstrip(".")
        elif ":" not in name and not _is_address(name):
            raise socket.gaierror(socket.EAI_NONAME, "no such name here")
        return real(name, port, *rest)

    return resolve


def _is_address(name: str) -> bool:
    try:
        socket.inet_aton(name)
    except OSError:
        return False
    return True


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    global _connected
    real = peers.is_public
    monkeypatch.setattr(socket, "getaddrinfo", resolver(socket.getaddrinfo))
    monkeypatch.setattr(peers, "is_public", lambda a: a == PUBLIC_ADDRESS or real(a))
    monkeypatch.setattr(translate, "TRIES", 1)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of-a-test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    found = Calls()
    _connected = found.begun
    yield found
    _connected = None


@pytest.fixture
def ports(calls: Calls) -> Iterator[Ports]:
    with public_server() as public, listening(calls, ("127.0.0.1", "::1"), 3) as inside:
        yield Ports(inside, public)


def read(entries: list[str], folder: Path, rules: Rules) -> list[bytes | str]:
    """What came of each object of a list, by a run's own way but for Ray."""
    path = folder / "m.jsonl"
    path.write_text("\n".join(json.dumps({"uri": entry}) for entry in entries))
    found = open_source(make_spec(src=str(path), dst="/tmp/labels"))
    found.check()
    wants = wants_of(refs(found))
    canaries, said = Canaries(), []
    for at in range(0, len(wants), 2048):
        block = wants[at : at + 2048]
        reads = read_steadily(block, canaries, max_bytes=10_000, rules=rules, patience=0.0)
        outcomes = dict(reads)
        assert sorted(outcomes) == list(range(len(block))), "one outcome each"
        said += [outcomes[n] for n in range(len(block))]
    return [_told(one) for one in said]


def _told(outcome: bytes | ImageError | TransientError) -> bytes | str:
    return outcome if isinstance(outcome, bytes) else str(ErrorCode(outcome.code))


def test_nobody_inside_is_called_for_a_list(calls: Calls, ports: Ports, tmp_path: Path) -> None:
    hostile = list(addresses(26, COUNT, ports))
    first, *said = read([f"http://{PUBLIC}:{ports.public}/ok.jpg", *hostile], tmp_path, STRICT)
    assert first == b"ok"
    assert (calls.came, calls.inside()) == (0, [])
    codes = Counter(said)
    assert set(codes) <= {"denied", "missing", "unsupported", "transient"}
    assert len(said) > 0.9 * COUNT  # some name one object: they differ in passwords alone
    assert codes["denied"] > 0.3 * COUNT
    assert codes["transient"] < 0.2 * COUNT  # names that nobody knows


def test_the_same_addresses_do_call_with_the_flag(
    calls: Calls, ports: Ports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the test above would show nothing."""
    monkeypatch.setattr(peers, "CONNECT_SECONDS", 0.05)
    lists = [one for one in addresses(26, 1_500, ports) if one[:4].lower() == "http"]
    said = read(lists, tmp_path, Rules(allow_private=True, seconds=1.0))
    assert calls.came > 30
    assert calls.inside()
    assert said.count(b"secret") > 20


def test_nobody_inside_is_called_for_src_or_dst(calls: Calls, ports: Ports) -> None:
    """SRC and DST that are made of someone else's words: one error of ours each."""
    for uri in addresses(27, 500, ports):
        for call in (stat, check_readable, _first_byte, _as_dst, _as_src):
            with suppress(NightlabelError):
                call(canonical(uri))  # `//host/x` is a local name, where there may be nothing
    assert (calls.came, calls.inside()) == (0, [])


def _first_byte(uri: str) -> None:
    with open_binary(uri) as file:
        file.read(1)


def _as_dst(uri: str) -> None:
    Folder(uri).read("x")


def _as_src(uri: str) -> None:
    open_source(make_spec(src=uri, dst="/tmp/labels")).check()


def test_a_proxy_is_not_asked_for_what_is_inside(
    calls: Calls, ports: Ports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would resolve and connect, and nobody could look at where."""
    asked = Calls()
    with listening(asked, (PROXY_ADDRESS,), 1) as (proxy,):
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://{PROXY_ADDRESS}:{proxy}")
        monkeypatch.setenv("no_proxy", PUBLIC)
        hostile = [one for one in addresses(28, 2_500, ports) if "nip.test" not in one.lower()]
        said = read(hostile, tmp_path, STRICT)
        assert asked.heard == []
        assert (asked.came, calls.came, calls.inside()) == (0, 0, [])
        assert b"secret" not in said
        assert read(["http://images.test:81/a.jpg"], tmp_path, STRICT) == [b"secret"]
        assert asked.came == 1


#: Names that buckets may have, and that look like hosts.
LIKE_HOSTS = ("localhost", "2130706433", "0x7f000001", "bucket.s3.amazonaws.com", "127.1", NAMED)


def test_buckets_are_asked_of_the_environment_s_own_endpoint(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though that is private: it is the user's. What a bucket is called chooses no other."""
    endpoint = Calls()
    with listening(endpoint, (PUBLIC_ADDRESS,), 1) as (port,):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{PUBLIC_ADDRESS}:{port}")
        said = read([f"s3://{name}/x.jpg" for name in LIKE_HOSTS], tmp_path, STRICT)
        odd = read([f"s3://{name}//x.jpg" for name in LIKE_HOSTS], tmp_path, STRICT)
    assert said == odd == [b"secret"] * len(LIKE_HOSTS)
    assert endpoint.came == 2 * len(LIKE_HOSTS)
    assert (calls.came, calls.inside()) == (0, [])
