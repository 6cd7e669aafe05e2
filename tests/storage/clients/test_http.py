"""What servers do to HTTP that is odd and lawful, and what they do that is neither."""

import gzip
import random
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from pipeline.storage import Rules, Want, read_many, stat, stat_many, translate
from pipeline.storage.clients import peers
from pipeline.storage.faults import Answer
from tests.storage.clients.hostile_web import Script, saying, speaking
from tests.storage.clients.test_peers import outcome
from tests.storage.servers import BODY, HERE, web_server

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 40


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


# ── where it leads ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("location", "asked"),
    [
        ("/läbel/ü 1.jpg".encode(), "/l%C3%A4bel/%C3%BC%201.jpg"),
        ("/模型.jpg?q=é".encode(), "/%E6%A8%A1%E5%9E%8B.jpg?q=%C3%A9"),
        ("/l\xe4bel.jpg".encode("latin-1"), "/l%E4bel.jpg"),
        (b"/already%20done.jpg", "/already%20done.jpg"),
        (b"relative.jpg", "/in/relative.jpg"),
        (b"", None),
    ],
)
def test_a_location_of_raw_letters_is_followed(location: bytes, asked: str | None) -> None:
    """As UTF-8 where it is, else byte for byte, like browsers."""
    seen: list[str] = []

    def script(peer, ended) -> None:
        peer.sendall(answer(JPEG))

    def listening(peer, ended) -> None:
        peer.sendall(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\n")
        peer.sendall(b"Location: " + location + b"\r\n\r\n")

    with recording([listening, script], seen) as port:
        found = outcome(f"http://127.0.0.1:{port}/in/a.jpg", HERE)
    if asked is None:
        assert str(found).startswith("transient: the store answered 302")
    else:
        assert found == JPEG
        assert seen[1] == asked


def recording(scripts: list[Script], seen: list[str]):
    """One script a connection, in turn; `seen` gets the path that each was asked for."""
    turns = iter(scripts)

    def script(peer, ended) -> None:
        next(turns)(peer, ended)

    def wrap(peer):
        start = peer.recv(65536, 2)  # MSG_PEEK
        seen.append(start.split(b" ")[1].decode())
        return peer

    return speaking(script, wrap)


def test_a_raw_location_is_held_to_the_same_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    for location in ("http://169.254.169.254/läbel", "file:///ü", "http://[::1/ü"):
        start = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        with speaking(saying(start)) as port:
            monkeypatch.setattr(peers, "is_public", lambda a: a == "127.0.0.1")
            assert str(outcome(f"http://127.0.0.1:{port}/a.jpg")).startswith("denied: ")


# ── how it is packed ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "deflate", "identity", "", "br"])
def test_a_plain_body_that_is_called_packed(encoding: str) -> None:
    with speaking(saying(answer(JPEG, f"Content-Encoding: {encoding}"))) as port:
        assert outcome(f"http://127.0.0.1:{port}/a.jpg", HERE) == JPEG


@pytest.mark.parametrize("start", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_plain_picture_of_any_format(start: bytes, encoding: str) -> None:
    body = start + bytes(range(256)) * 5
    with speaking(saying(answer(body, f"Content-Encoding: {encoding}"))) as port:
        assert outcome(f"http://127.0.0.1:{port}/a.jpg", HERE) == body


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("X-GZIP", gzip.compress),
        ("gzip", lambda data: gzip.compress(data[:99]) + gzip.compress(data[99:])),
        ("gzip", lambda data: gzip.compress(data) + bytes(512)),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
    ],
)
def test_a_packed_body_is_unpacked(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(JPEG)
    with speaking(saying(answer(packed, f"Content-Encoding: {encoding}"))) as port:
        uri = f"http://127.0.0.1:{port}/a.jpg"
        sizes = [None, len(JPEG), len(packed), 7]
        found = [one for _, one in sorted(_read([Want(uri, None, size) for size in sizes]))]
        [(_, entry)] = stat_many([uri], HERE)
    assert found[:3] == [JPEG] * 3
    assert str(found[3].code) == "changed"
    assert entry.size == -1  # what HEAD tells is the size of another form


def test_a_packed_body_that_comes_byte_by_byte() -> None:
    packed = gzip.compress(JPEG)

    def script(peer, ended) -> None:
        head, _, body = answer(packed, "Content-Encoding: gzip").partition(b"\r\n\r\n")
        peer.sendall(head + b"\r\n\r\n")
        for at in range(40):
            peer.sendall(body[at : at + 1])
            time.sleep(0.002)
        peer.sendall(body[40:])

    with speaking(script) as port:
        assert outcome(f"http://127.0.0.1:{port}/a.jpg", HERE) == JPEG


def test_nothing_packed_is_empty_and_a_damaged_body_is_tried_again(monkeypatch) -> None:
    monkeypatch.setattr(translate, "TRIES", 1)
    with speaking(saying(answer(gzip.compress(b""), "Content-Encoding: gzip"))) as port:
        assert str(outcome(f"http://127.0.0.1:{port}/a.jpg", HERE)).startswith("empty")
    body = gzip.compress(random.Random(1).randbytes(60_000))
    damaged = body[:6000] + bytes(100) + body[6100:]
    with speaking(saying(answer(damaged, "Content-Encoding: gzip"))) as port:
        assert str(outcome(f"http://127.0.0.1:{port}/a.jpg", Rules(True))).startswith("transient")


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, raw_deflate])
def test_a_bomb_is_too_large_whatever_its_packing(pack) -> None:
    encoding = "gzip" if pack is gzip.compress else "deflate"
    bomb = pack(bytes(2**26))
    with speaking(saying(answer(bomb, f"Content-Encoding: {encoding}"))) as port:
        assert str(outcome(f"http://127.0.0.1:{port}/a.jpg", HERE)).startswith("too_large")


# ── what it answers ─────────────────────────────────────────────────────────────────────────


def test_a_body_that_a_proxy_has_changed_is_a_body() -> None:
    with speaking(saying(answer(JPEG, status="203 Non-Authoritative Information"))) as port:
        uri = f"http://127.0.0.1:{port}/a.jpg"
        assert outcome(uri, HERE) == JPEG
        assert stat(uri, HERE).size == len(JPEG)


TRANSIENT = {408, 425, 429}
MISSING = {404, 410}


@pytest.mark.parametrize("status", [*range(400, 452), 499])
def test_what_a_client_did_wrong_stays_wrong(status: int, monkeypatch) -> None:
    """Only those that say `later` are tried again; the others are asked for once."""
    monkeypatch.setattr(translate, "TRIES", 1 if status in TRANSIENT else 5)
    asked = []

    def refuse(peer, ended) -> None:
        asked.append(status)
        peer.sendall(answer(b"<Error><Code>Because</Code></Error>", status=f"{status} Because"))

    with speaking(refuse) as port:
        said = str(outcome(f"http://127.0.0.1:{port}/a.jpg", HERE)).partition(":")[0]
    if status in TRANSIENT:
        assert said == "transient"
    elif status == 412:
        assert said == "changed"
    else:
        assert said == ("missing" if status in MISSING else "denied")
    assert len(asked) == 1


def test_one_odd_server_ends_no_night(web: str) -> None:
    """Alone in a block, with nothing read well before: a row."""
    from pipeline.storage import Canaries, read_steadily

    for status in ("400", "403", "405", "451", "304", "204"):
        wants = [Want(f"{web}/status/{status}")]
        [(_, found)] = read_steadily(wants, Canaries(), max_bytes=99, rules=HERE, patience=0.1)
        assert not isinstance(found, bytes)


# ── when to come back ───────────────────────────────────────────────────────────────────────


def busy(retry_after: Callable[[], str], times: int = 1) -> tuple[Script, list[float]]:
    """A server that is busy so many times; when it was asked."""
    asked: list[float] = []

    def script(peer, ended) -> None:
        asked.append(time.monotonic())
        if len(asked) <= times:
            header = f"Retry-After: {retry_after()}"
            peer.sendall(answer(b"", header, status="429 Too Many Requests"))
        else:
            peer.sendall(answer(JPEG))

    return script, asked


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("retry_after", "least"),
    [
        (lambda: "2", 2.0),
        (lambda: " 1 ", 1.0),
        (lambda: in_seconds(2.9), 1.9),
        (lambda: in_seconds(-3600), 0.1),
        (lambda: "soon", 0.1),
        (lambda: "-5", 0.1),
        (lambda: "", 0.1),
    ],
)
def test_a_server_is_left_alone_as_long_as_it_asks(retry_after, least: float) -> None:
    script, asked = busy(retry_after)
    with speaking(script) as port:
        assert outcome(f"http://127.0.0.1:{port}/a.jpg", HERE) == JPEG
    assert least <= asked[1] - asked[0] < least + 10


@pytest.mark.parametrize("retry_after", ["3600", "999999999", "99999999999999999999"])
def test_no_longer_than_an_image_may_take(retry_after: str, monkeypatch) -> None:
    monkeypatch.setattr(translate, "TRIES", 2)
    script, asked = busy(lambda: retry_after, times=5)
    with speaking(script) as port:
        began = time.monotonic()
        said = outcome(f"http://127.0.0.1:{port}/a.jpg", Rules(allow_private=True, seconds=20))
    assert str(said).startswith("transient: the store answered 429")
    assert time.monotonic() - began < 10
    assert len(asked) == (1 if len(retry_after) < 10 else 2)  # more digits are no number of ours


def test_a_patient_server_may_take_more_than_the_usual_patience(monkeypatch) -> None:
    """`Retry-After` reaches beyond the 12 s that retries get on their own, up to --max-seconds."""
    monkeypatch.setattr(translate, "RETRY_SECONDS", 0.5)
    script, _ = busy(lambda: "1")
    with speaking(script) as port:
        rules = Rules(allow_private=True, seconds=5)
        assert outcome(f"http://127.0.0.1:{port}/a.jpg", rules) == JPEG
    calls: list[float] = []

    def call() -> None:
        calls.append(time.monotonic())
        raise Answer(503, retry_after=0.2)

    with pytest.raises(Answer):
        translate.with_retries(call, at_most=0.5)
    assert len(calls) == 2


# ── how long it may think ───────────────────────────────────────────────────────────────────


def thinking(seconds: float) -> Script:
    def script(peer, ended) -> None:
        if not ended.wait(seconds):
            peer.sendall(answer(JPEG))

    return script


def test_a_slow_server_has_all_of_max_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "SEND_SECONDS", 0.2)
    with speaking(thinking(1.2)) as port:
        uri = f"http://127.0.0.1:{port}/a.jpg"
        assert outcome(uri, Rules(allow_private=True, seconds=10)) == JPEG
        said = outcome(uri, Rules(allow_private=True, seconds=0.6))
    assert said == "transient: took longer than 0.6 s to be read"


def test_our_own_endpoints_are_given_up_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a listing has minutes in all, and seconds until something comes."""
    monkeypatch.setattr(translate, "TRIES", 1)
    with speaking(thinking(5)) as port:
        began = time.monotonic()
        rules = Rules(allow_private=True, seconds=900, silence=0.5)
        said = outcome(f"http://127.0.0.1:{port}/a.jpg", rules)
    assert said == "transient: timed out"
    assert time.monotonic() - began < 4.5


def test_odd_users_and_passwords_are_sent() -> None:
    with web_server() as url:
        for user in ("jörg:pä", "€:%E2%82%AC", "a%00b:c", ":", "x" * 3000):
            uri = url.replace("//", f"//{user}@") + "/asked/Authorization"
            assert str(outcome(uri, HERE)).startswith("b'Basic ")
    assert len(BODY) == 10240


def _read(wants: list[Want]):
    return read_many(wants, max_bytes=100_000, rules=HERE)
