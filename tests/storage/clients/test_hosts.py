"""Hosts that are known to lead inside before anyone resolves them."""

import pytest

from pipeline.errors import SpecError
from pipeline.storage import Rules, stat
from pipeline.storage.clients.hosts import named_inside, plain_address
from tests.storage.clients.test_peers import outcome
from tests.storage.servers import web_server

ADDRESSES = {
    "127.0.0.1": "127.0.0.1",
    "127.0.0.1.": "127.0.0.1",
    "127.0.0.%31": "127.0.0.1",
    "\uff11\uff12\uff17.0.0.1": "127.0.0.1",
    "127\u30020\uff0e0\uff611": "127.0.0.1",
    "\u2460\u2461\u2466.0.0.1": "127.0.0.1",
    "[::1]": "::1",
    "[::1%25lo]": "::1%lo",
    "::ffff:7f00:1": "::ffff:7f00:1",
    "8.8.8.8": "8.8.8.8",
}
#: Addresses to some resolver, in a way that is odd.
ODD = (
    *("2130706433", "0x7f000001", "017700000001", "0x7f.1", "127.1", "127.0.1", "0177.0.0.1"),
    *("127.0.0.01", "0X7F.0.0.1", "127.0.0.1..0", "256.256.256.256", "1.2.3.4.5", "4294967297"),
    *("0", "0x", "00", "example.1", "2130706433.", "127.0.0.0x1", "%32130706433"),
)
LOOPBACK = ("localhost", "LOCALHOST", "localhost.", "a.localhost", "%6cocalhost", "\uff4cocalhost")
#: What only a proxy's own network could know, and what is no plain name.
INSIDE = (
    *("intranet", "metadata", "metadata.google.internal", "printer.local", "nas.home.arpa"),
    *("localhost.localdomain", "a%2fb.example", "127.0.0.1%00.example", "a b.example", "a\\b.c"),
)
PUBLIC = (
    "example.com",
    "images.example.com.",
    "xn--bcher-kva.example",
    "a_b.example",
    "127.0.0.1.nip.io",
)


@pytest.mark.parametrize("host", ADDRESSES)
def test_addresses(host: str) -> None:
    assert plain_address(host) == ADDRESSES[host]


@pytest.mark.parametrize("host", [*ODD, *LOOPBACK])
def test_known_to_everybody(host: str) -> None:
    assert plain_address(host) is None
    assert named_inside(host, by_proxy=False)
    assert named_inside(host, by_proxy=True)


@pytest.mark.parametrize("host", INSIDE)
def test_known_to_a_proxy(host: str) -> None:
    assert not named_inside(host, by_proxy=False)  # resolved here, and looked at
    assert named_inside(host, by_proxy=True)


@pytest.mark.parametrize("host", [*PUBLIC, ""])
def test_names_of_the_internet(host: str) -> None:
    assert plain_address(host) is None
    assert not named_inside(host, by_proxy=True)


def test_a_proxy_hears_nothing_of_them(monkeypatch) -> None:
    hosts = ("2130706433", "0x7f.1", "127.1", "localhost.", "a.localhost", "intranet")
    with web_server({f"http://{host}/a.jpg": b"by proxy" for host in hosts}) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("https_proxy", proxy)
        monkeypatch.setenv("no_proxy", "")
        refused = "is no public address; --allow-private reads it all the same"
        for host in hosts:
            for address in (f"http://{host}/a.jpg", f"https://{host}/a.jpg"):
                assert str(outcome(address)) == f"denied: {host} {refused}"
                with pytest.raises(SpecError, match=refused):
                    stat(address)
            assert outcome(f"http://{host}/a.jpg", Rules(allow_private=True)) == b"by proxy"


def test_a_proxy_is_told_no_user_and_no_fragment(monkeypatch) -> None:
    """It might read `a@b@c` otherwise than we do; the user goes in a header."""
    with web_server({"http://images.example/a.jpg": b"by proxy"}) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("no_proxy", "")
        assert outcome("http://127.0.0.1@me:pw@images.example/a.jpg#@127.0.0.1/") == b"by proxy"
        said = outcome("http://me:pw@images.example/asked/Authorization")
        assert said == b"Basic bWU6cHc="


@pytest.mark.parametrize("inner", ["http://127.0.0.1:9/x", "file:///etc/passwd", "ftp://h/x"])
def test_a_chain_of_fsspec_needs_the_flag_whatever_it_begins_with(inner: str) -> None:
    for chain in (f"memory://x::{inner}", f"zip://x::{inner}"):
        said = str(outcome(chain))
        assert said.startswith("denied: where ")
        assert said.endswith("--allow-private reads it")
    assert str(outcome("memory://nothing/there")).startswith("missing")
