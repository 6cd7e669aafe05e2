"""Who may be connected to: by the address that the connection really has."""

import socket

import pytest

from pipeline.errors import ImageError, SpecError
from pipeline.storage import STRICT, Rules, Want, open_binary, read_many, stat, stat_many, translate
from pipeline.storage.clients import peers
from pipeline.storage.clients.special_addresses import is_public
from tests.storage.servers import HERE, web_server

PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "192.0.2.1",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2002:7f00:1::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "64:ff9b::a9fe:a9fe",
    "2001:db8::1",
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


def outcome(uri: str, rules: Rules = STRICT) -> bytes | str:
    """The bytes, or the code and the message of the row."""
    [(_, found)] = read_many([Want(uri)], max_bytes=100_000, rules=rules)
    return f"{found.code}: {found.message}" if not isinstance(found, bytes) else found


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1", "[::1]", "[::ffff:127.0.0.1]"],
)
def test_whatever_the_spelling_nothing_private_is_asked(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody_calls:
        port = nobody_calls.getsockname()[1]
        said = outcome(f"http://{host}:{port}/secret.jpg")
        assert isinstance(said, str)
        assert said.startswith("denied: ")
        assert said.endswith("is no public address; --allow-private reads it all the same")
        nobody_calls.setblocking(False)
        with pytest.raises(BlockingIOError):
            nobody_calls.accept()


def test_a_name_is_resolved_once_and_that_address_is_connected_to(monkeypatch) -> None:
    """The second answer of a rebinding name server is never asked for."""
    with web_server({"/secret.jpg": b"secret"}) as url:
        port = int(url.rpartition(":")[2])
        asked: list[str] = []
        real = socket.getaddrinfo

        def rebinding(host: str, *rest: object) -> object:
            asked.append(host)
            return real("0.0.0.1" if len(asked) == 1 else "127.0.0.1", *rest)

        monkeypatch.setattr(translate, "TRIES", 1)
        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        # An address where nobody is stands for a public one.
        monkeypatch.setattr(peers, "is_public", lambda address: address == "0.0.0.1")
        said = outcome(f"http://rebind.example:{port}/secret.jpg", Rules(seconds=1))
    assert str(said).startswith("transient")
    assert asked == ["rebind.example"]


def test_of_many_addresses_the_public_ones_count(monkeypatch) -> None:
    with web_server({"/a.jpg": b"bytes"}) as url:
        here = ("127.0.0.1", int(url.rpartition(":")[2]))
        both = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
            for address in (("10.0.0.1", 1), here)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: both)
        monkeypatch.setattr(peers, "is_public", lambda a: a == "127.0.0.1")
        assert outcome("http://many.example/a.jpg") == b"bytes"


def test_a_redirect_is_held_to_the_same(monkeypatch) -> None:
    with web_server({"/ok.jpg": b"x"}) as url:
        monkeypatch.setattr(peers, "is_public", lambda a: a == "127.0.0.1")
        assert outcome(f"{url}/to/x?http%3A//169.254.169.254/latest") == (
            "denied: 169.254.169.254 is no public address; --allow-private reads it all the same"
        )
        assert outcome(f"{url}/to/x?/ok.jpg") == b"x"


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://h/x", "data:,x", "gopher://h/"])
def test_redirects_lead_to_the_web_alone(target: str) -> None:
    with web_server() as url:
        said = outcome(f"{url}/to/x?{target}", HERE)
    assert said == "denied: redirects to an address outside the web, which is not followed"


def test_redirects_are_counted() -> None:
    with web_server({"/end.jpg": b"end"}) as url:
        chain = "/end.jpg"
        for _ in range(5):
            chain = f"/to/x?{chain}"
        assert outcome(f"{url}{chain}", HERE) == b"end"
        assert outcome(f"{url}/to/x?{chain}", HERE) == "denied: redirects more than 5 times"
        assert outcome(f"{url}/loop/x", HERE) == "denied: redirects more than 5 times"


def test_src_itself_is_refused_in_one_line() -> None:
    for call in (stat, lambda uri: open_binary(uri).__enter__()):
        with pytest.raises(
            SpecError, match=r"^src='http://127.0.0.1:9/m.csv': 127.0.0.1 is no public"
        ):
            call("http://127.0.0.1:9/m.csv?sig=secret")
    [(_, found)] = stat_many(["http://127.0.0.1:9/a.jpg"])
    assert isinstance(found, ImageError)


def test_connections_of_the_trusting_are_not_lent(monkeypatch) -> None:
    """A connection that was opened with --allow-private is not used again without it."""
    with web_server({"/a.jpg": b"a"}) as url:
        assert outcome(f"{url}/a.jpg", HERE) == b"a"
        assert str(outcome(f"{url}/a.jpg")).startswith("denied")


def test_a_proxy_connects_for_us_and_private_literals_are_refused_before(monkeypatch) -> None:
    with web_server({"http://photos.example/a.jpg": b"by proxy"}) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert outcome("http://photos.example/a.jpg") == b"by proxy"
        assert str(outcome("http://169.254.169.254/a.jpg")).startswith("denied: 169.254.169.254")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert str(outcome(f"{proxy}/a.jpg")).startswith("denied: 127.0.0.1")


@pytest.mark.parametrize(
    "uri",
    [
        "http://",
        "http:///x.jpg",
        "http://[::1/x.jpg",
        "http://h:99999/x.jpg",
        "http://h:port/x.jpg",
        f"http://{'a' * 70}.example/x.jpg",
        "http://a..b/x.jpg",
        "http://\x00/x.jpg",
        "https://exa mple/x.jpg",
    ],
)
def test_what_is_no_address_is_a_row_at_once(uri: str) -> None:
    assert str(outcome(uri)).startswith("missing")


def test_protocols_that_connect_unseen_need_the_flag() -> None:
    assert outcome("ftp://127.0.0.1/a.jpg") == (
        "denied: where ftp:// connects to is not seen here; --allow-private reads it"
    )
    with pytest.raises(SpecError, match="--allow-private"):
        stat("ftp://127.0.0.1/list.csv")
