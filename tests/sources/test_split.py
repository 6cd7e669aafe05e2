"""Ranges of keys are disjoint and complete, whatever the keys and however a store lists."""

import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from pipeline.sources import split
from pipeline.sources.split import key_ranges
from pipeline.storage import Want, list_pages, read_many
from tests.parts.servers.s3 import S3Server

pytestmark = pytest.mark.s3

#: How archives name things, and how they should not.
STYLES = (
    lambda rng: f"{rng.randrange(100_000):06d}",
    lambda rng: f"{rng.getrandbits(32):08x}",
    lambda rng: f"img-2024-{rng.randint(1, 12):02d}.{rng.randint(1, 30):02d}",
    lambda rng: rng.choice(["a", "a-b", "a.b", "a b", "ab", "a!", "a0", "a-", "a~"]),
    lambda rng: "".join(rng.choice("é😀z~a-.中") for _ in range(rng.randint(1, 5))),
    lambda rng: "".join(rng.choice("ab-./ 0") for _ in range(rng.randint(1, 4))),
)


def keys_of(rng: random.Random, count: int) -> set[str]:
    styles = rng.sample(STYLES, rng.randint(1, 3))
    parts = ([rng.choice(styles)(rng) for _ in range(rng.randint(1, 3))] for _ in range(count))
    return {"p/" + "/".join(names) for names in parts} | {"p.jpg", "p-/x", "q/y"}


def tame(key: str) -> bool:
    """What SeaweedFS keeps as it is: no empty parts, no dot parts."""
    return all(part not in {"", ".", ".."} for part in key.split("/"))


def ranges_hold_everything(bucket: str) -> list[int]:
    """How many keys each range holds."""
    prefix = f"{bucket}/p/"
    plain = [entry.uri for page in list_pages(prefix) for entry in page]
    ranges = [
        [entry.uri for page in list_pages(prefix, after=after, until=until) for entry in page]
        for after, until in key_ranges(prefix)
    ]
    assert sorted(chain.from_iterable(ranges)) == sorted(plain)
    assert len(plain) == len(set(plain))
    return list(map(len, ranges))


@pytest.mark.parametrize("seed", range(12))
def test_a_store_that_lists_folder_by_folder(s3: S3Server, monkeypatch, seed: int) -> None:
    monkeypatch.setattr(split, "PAGE", 6)
    rng = random.Random(seed)
    bucket = s3.bucket()
    s3.put_many((f"{bucket}/{key}", b"") for key in filter(tame, keys_of(rng, 120)))
    ranges_hold_everything(bucket)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """A second S3: in order of keys, and heedless of what a key looks like."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up and process.poll() is None:
        try:
            urlopen(url).close()
        except URLError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("no moto server")


@pytest.fixture
def second(moto: str, monkeypatch) -> S3Server:
    server = S3Server(int(moto.rpartition(":")[2]), "key", "secret")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.mark.parametrize("seed", range(6))
def test_a_store_in_key_order(second: S3Server, monkeypatch, seed: int) -> None:
    monkeypatch.setattr(split, "PAGE", 6)
    bucket = second.bucket()
    second.put_many((f"{bucket}/{key}", b"") for key in keys_of(random.Random(seed), 120))
    ranges_hold_everything(bucket)


def test_keys_that_other_clients_tidy_are_listed_and_read(second: S3Server) -> None:
    bucket = second.bucket()
    keys = ["/lead.jpg", "a//b.jpg", "a/./b.jpg", "a/../b.jpg", "a/b.jpg", "a/dir/", "..", "a\x7f"]
    etags = {key: second.put(f"{bucket}/{key}", key.encode()) for key in keys}
    found = [entry for page in list_pages(f"{bucket}/") for entry in page]
    assert [entry.uri for entry in found] == sorted(f"{bucket}/{key}" for key in keys)
    assert {entry.etag for entry in found} == set(etags.values())
    wants = [Want(f"{bucket}/{key}", etag) for key, etag in etags.items()]
    read = dict(read_many(wants, max_bytes=1000))
    assert [read[n] for n in range(len(keys))] == [key.encode() for key in keys]


def test_many_keys_are_about_64_even_ranges(s3: S3Server, monkeypatch) -> None:
    monkeypatch.setattr(split, "PAGE", 10)
    bucket = s3.bucket()
    s3.put_many((f"{bucket}/p/img_{n:05d}.jpg", b"") for n in range(2000))
    sizes = ranges_hold_everything(bucket)
    assert 40 <= len(sizes) <= 65
    assert sizes[0] == 10
    assert max(sizes) <= 200


def test_requests_are_bounded(s3: S3Server, monkeypatch) -> None:
    monkeypatch.setattr(split, "PAGE", 5)
    monkeypatch.setattr(split, "PROBES", 40)
    asked = []
    ask = split.first_page
    monkeypatch.setattr(split, "first_page", lambda *a, **k: asked.append(a) or ask(*a, **k))
    bucket = s3.bucket()
    s3.put_many((f"{bucket}/p/{n * 7919 % 10007:x}", b"") for n in range(400))
    ranges_hold_everything(bucket)
    assert len(asked) <= 40 + 1 + split.LOOK_AHEAD
