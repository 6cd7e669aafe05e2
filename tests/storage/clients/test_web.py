"""Servers that lie, dawdle or never end: one outcome each, in time, within memory."""

import gzip
import ssl
import time
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from pipeline.errors import SpecError, StoreError
from pipeline.storage import Rules, Want, objects, open_binary, read_many, stat_many
from tests.storage.clients.hostile_web import saying, speaking, trickling
from tests.storage.clients.test_peers import outcome
from tests.storage.servers import HERE, web_server

SOON = Rules(allow_private=True, seconds=1.0)
HEAD = b"HTTP/1.1 200 OK\r\n"

DAWDLERS = {
    "body": trickling(HEAD + b"Content-Length: 1000\r\n\r\n", b"x"),
    "endless body": trickling(HEAD + b"\r\n", b"x" * 1000),
    "chunks": trickling(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "size of a chunk": trickling(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "headers": trickling(HEAD, b"A: b\r\n"),
    "status": trickling(b"", b"H"),
    "continue": trickling(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "redirects": trickling(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n", b"A: b\r\n"),
    "refusal": trickling(b"HTTP/1.1 403 No\r\nContent-Length: 900\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("kind", DAWDLERS)
def test_one_object_takes_no_longer_than_it_may(kind: str) -> None:
    with speaking(DAWDLERS[kind]) as port:
        began = time.monotonic()
        said = outcome(f"http://127.0.0.1:{port}/a.jpg", SOON)
        assert time.monotonic() - began < 8
    assert said == "transient: took longer than 1 s to be read"


def test_over_tls_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def wrap(peer):
        return context.wrap_socket(peer, server_side=True)

    fine = HEAD + b"Content-Length: 4\r\nConnection: close\r\n\r\njpeg"
    with speaking(saying(fine), wrap) as port:
        assert outcome(f"https://127.0.0.1:{port}/a.jpg", SOON) == b"jpeg"
        monkeypatch.delenv("AWS_CA_BUNDLE")
        monkeypatch.setattr("pipeline.storage.translate.TRIES", 1)
        assert "no TLS connection" in str(outcome(f"https://127.0.0.1:{port}/a.jpg", HERE))
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    with speaking(DAWDLERS["body"], wrap) as port:
        said = outcome(f"https://127.0.0.1:{port}/a.jpg", SOON)
    assert said == "transient: took longer than 1 s to be read"


def self_signed(folder: Path) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + built.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (HEAD + b"Content-Length: many\r\nConnection: close\r\n\r\njpeg", b"jpeg"),
        (HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\nConnection: close\r\n\r\njpeg", b"jpeg"),
        (HEAD + b"Content-Length: 99999999999999\r\n\r\njpeg", "too_large"),
        (HEAD + b"Content-Length: 10\r\nConnection: close\r\n\r\njpeg", "transient"),
        (HEAD + b"ETag: \x01\xff\r\nContent-Length: 4\r\n\r\njpeg", b"jpeg"),
        (b"\x00\xff\r\n\r\n", "transient"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n", "denied"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://a..b/\r\n\r\n", "missing"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://h:99999/\r\n\r\n", "missing"),
        (b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", "transient"),
    ],
)
def test_a_lying_answer_is_one_outcome(answer: bytes, said: bytes | str, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.storage.translate.TRIES", 1)
    with speaking(saying(answer)) as port:
        found = outcome(f"http://127.0.0.1:{port}/a.jpg", SOON)
    if isinstance(said, bytes):
        assert found == said
    else:
        assert isinstance(found, str)
        assert found.partition(":")[0] == said


def test_a_small_body_that_unpacks_to_a_large_one_is_too_large() -> None:
    bomb = gzip.compress(bytes(2**26))
    answer = b"Content-Encoding: gzip\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    with speaking(saying(HEAD + answer % len(bomb) + bomb)) as port:
        assert str(outcome(f"http://127.0.0.1:{port}/a.jpg", HERE)).startswith("too_large")


@pytest.mark.parametrize(
    "facts",
    [
        b"Content-Length: x\r\nLast-Modified: never\r\n",
        b"Content-Length: " + b"9" * 40 + b"\r\nLast-Modified: Wed, 99 Foo 2015 07:28:00 GMT\r\n",
        b"Content-Length: 99999999999999999999\r\nLast-Modified: 0\r\n",
    ],
)
def test_facts_that_are_none_are_left_out(facts: bytes) -> None:
    with speaking(saying(HEAD + facts + b"Connection: close\r\n\r\n")) as port:
        [(_, entry)] = stat_many([f"http://127.0.0.1:{port}/a.jpg"], SOON)
    assert (entry.size, entry.modified.year) == (-1, 1970)


def test_a_time_without_a_zone_is_utc() -> None:
    time_said = b"Last-Modified: Wed, 21 Oct 2015 07:28:00 -0000\r\nConnection: close\r\n\r\n"
    with speaking(saying(HEAD + time_said)) as port:
        [(_, entry)] = stat_many([f"http://127.0.0.1:{port}/a.jpg"], SOON)
    assert entry.modified == datetime(2015, 10, 21, 7, 28, tzinfo=UTC)


def test_an_etag_that_is_no_header_is_not_sent() -> None:
    with web_server({"/a.jpg": b"a"}) as url:
        wants = [Want(f"{url}/a.jpg", etag) for etag in ("x\r\nY: z", "ü", "\x00")]
        found = [one for _, one in read_many(wants, max_bytes=10, rules=HERE)]
    assert [str(one.code) for one in found] == ["changed"] * 3


def test_a_manifest_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "DOWNLOAD_BYTES", 10_000_000)
    monkeypatch.setattr(objects, "DOWNLOAD_SECONDS", 2.0)
    floods = trickling(HEAD + b"\r\n", b"x" * 1_000_000, every=0.001)
    with (
        speaking(floods) as port,
        pytest.raises(SpecError, match=r"^src=.*too much to copy from the web; put it"),
        open_binary(f"http://127.0.0.1:{port}/m.txt", HERE),
    ):
        pass
    with (
        speaking(trickling(HEAD + b"\r\n", b"x")) as port,
        pytest.raises(StoreError, match="took longer than 2 s"),
        open_binary(f"http://127.0.0.1:{port}/m.txt", HERE),
    ):
        pass
