"""Listings: every object once, in key order, whatever its name."""

import os
import random
from pathlib import Path

import pytest

from pipeline.errors import DeniedError, MissingError, StoreError
from pipeline.storage import (
    check_readable,
    first_page,
    list_pages,
    open_binary,
    stat,
    stat_many,
    translate,
)
from pipeline.storage.clients import aws
from tests.parts.servers.s3 import S3Server
from tests.storage.servers import ETAG, HERE, web_server


def listed(prefix: str, **options) -> list[str]:
    return [entry.uri for page in list_pages(prefix, **options) for entry in page]


@pytest.fixture
def tree(tmp_path: Path) -> list[str]:
    names = ["a.jpg", "a/b.jpg", "a/b/c.jpg", "a-.jpg", "a0.jpg", "z/y/x.jpg", "ü 😀%.jpg", ".h/x"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return sorted(f"file://{tmp_path}/{name}" for name in names)


def test_local_files_come_in_key_order(tmp_path: Path, tree: list[str]) -> None:
    assert listed(f"file://{tmp_path}/") == tree
    assert listed(f"file://{tmp_path}/a") == [
        uri for uri in tree if "/a" in uri[7 + len(str(tmp_path)) :]
    ]
    assert listed(f"file://{tmp_path}/a/") == [uri for uri in tree if f"{tmp_path}/a/" in uri]
    assert listed(f"file://{tmp_path}/nope/") == []
    top = [uri for uri in tree if "/" not in uri.removeprefix(f"file://{tmp_path}/")]
    assert listed(f"file://{tmp_path}/", delimiter=True) == top


def test_every_range_of_local_files_is_exact(tmp_path: Path, tree: list[str]) -> None:
    bounds = [None, *tree, f"file://{tmp_path}/a/", f"file://{tmp_path}/a", f"file://{tmp_path}/~"]
    for after in bounds:
        for until in bounds:
            want = [
                u for u in tree if (after is None or u > after) and (until is None or u <= until)
            ]
            assert listed(f"file://{tmp_path}/", after=after, until=until) == want


def test_symlinks_are_followed_but_not_round_in_circles(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"x")
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    (tmp_path / "in" / "self").symlink_to(tmp_path / "in" / "self")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    names = {uri.removeprefix(f"file://{tmp_path}/") for uri in listed(f"file://{tmp_path}/")}
    assert names == {"in/a.jpg", "link/a.jpg"}


def test_a_local_name_that_is_no_text_is_listed(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg"))).write_bytes(b"x")
    assert listed(f"file://{tmp_path}/") == [f"file://{tmp_path}/\udcff.jpg"]


def test_local_facts(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    os.utime(tmp_path / "a", ns=(0, 1_700_000_000_123_456_789))
    [[entry]] = list_pages(f"file://{tmp_path}/")
    assert entry == stat(f"file://{tmp_path}/a")
    assert (entry.size, entry.etag, entry.modified.isoformat()) == (
        3,
        None,
        "2023-11-14T22:13:20.123456+00:00",
    )


def test_memory_through_fsspec() -> None:
    import fsspec

    system = fsspec.filesystem("memory")
    for name in ("/listing/b.jpg", "/listing/a/c.jpg", "/listingz/d.jpg"):
        system.pipe_file(name, b"xy")
    assert listed("memory://listing/") == ["memory://listing/a/c.jpg", "memory://listing/b.jpg"]
    assert listed("memory://listing/", after="memory://listing/a~") == ["memory://listing/b.jpg"]
    assert stat("memory://listing/b.jpg").size == 2


def test_check_readable(tmp_path: Path) -> None:
    check_readable(f"file://{tmp_path}/")
    with pytest.raises(MissingError, match="no such folder"):
        check_readable(f"file://{tmp_path}/nope/")
    with pytest.raises(StoreError, match="unknown protocol"):
        check_readable("nosuch://x/")


def test_http_facts() -> None:
    with web_server({"/a.jpg": b"abc"}) as url:
        entry = stat(f"{url}/ok/a.jpg", HERE)
        assert (entry.etag, entry.modified.year) == (ETAG, 2015)
        found = dict(stat_many([f"{url}/a.jpg", f"{url}/nope.jpg"], HERE))
        assert found[0].size == 3
        assert str(found[1].code) == "missing"
        with open_binary(f"{url}/a.jpg", HERE) as file:
            assert (file.seek(1), file.read()) == (1, b"bc")
        with pytest.raises(MissingError), open_binary(f"{url}/nope", HERE):
            pass


def test_amazon_tells_where_a_bucket_lives() -> None:
    with web_server() as url:
        assert aws.bucket_region("x", f"{url}/region") == "eu-central-1"
        assert aws.bucket_region("x", f"{url}/file") is None
    assert aws.bucket_region("x", "http://127.0.0.1:9") is None


def test_nothing_listens(monkeypatch) -> None:
    monkeypatch.setattr(translate, "TRIES", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(StoreError, match=r"s3://b: no answer .* check endpoint and network"):
        check_readable("s3://b/x/")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"<html><body>Please log in</body></html>", "not a listing"),
        (b"<Error><Code>InternalError</Code></Error>", "not a listing"),
        (b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", "where"),
        (b"<ListBucketResult><Contents><Key>a.jpg</Ke", "not XML"),
    ],
    ids=["gateway", "error", "no token", "cut"],
)
def test_what_is_no_whole_listing_is_not_taken_for_one(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, said: str
) -> None:
    """All of them came as a 200, and three passed for a listing without objects."""
    monkeypatch.setattr(translate, "TRIES", 1)
    with web_server({"/b": answer}) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        with pytest.raises(StoreError, match=said):
            listed("s3://b/")


def test_an_endpoint_that_is_no_url(monkeypatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL is not a url"):
        check_readable("s3://b/x/")


@pytest.mark.s3
def test_s3_keys_come_as_they_are(s3: S3Server) -> None:
    bucket = s3.bucket()
    names = ["a b.jpg", "ü+%41.jpg", "x/#?&=.jpg", "x/😀.jpg", "new\nline.jpg", "a&amp;<b>.jpg"]
    s3.put_many((f"{bucket}/{name}", name.encode()) for name in names)
    assert sorted(listed(f"{bucket}/")) == sorted(f"{bucket}/{name}" for name in names)
    assert sorted(listed(f"{bucket}/x/")) == sorted([f"{bucket}/x/#?&=.jpg", f"{bucket}/x/😀.jpg"])
    assert sorted(listed(f"{bucket}/a")) == [f"{bucket}/a b.jpg", f"{bucket}/a&amp;<b>.jpg"]
    assert len(listed(f"{bucket}/", delimiter=True)) == 4
    for page in list_pages(f"{bucket}/"):
        for entry in page:
            assert entry == stat(entry.uri)


@pytest.mark.s3
def test_s3_pages_and_ranges(s3: S3Server) -> None:
    bucket = s3.bucket()
    uris = [f"{bucket}/in/{n:05d}.jpg" for n in range(2100)]
    s3.put_many((uri, b"x") for uri in uris)
    s3.put(f"{bucket}/in.jpg", b"x")
    assert [len(page) for page in list_pages(f"{bucket}/in/")] == [1000, 1000, 100]
    assert listed(f"{bucket}/in/") == uris
    rng = random.Random(0)
    for _ in range(10):
        low, high = sorted(rng.sample(range(2100), 2))
        assert (
            listed(f"{bucket}/in/", after=uris[low], until=uris[high]) == uris[low + 1 : high + 1]
        )
    assert listed(f"{bucket}/in/", after=uris[-1]) == []
    assert [e.uri for e in first_page(f"{bucket}/in/", after=uris[7], size=2)[0]] == uris[8:10]


@pytest.mark.s3
def test_s3_says_what_is_wrong(s3: S3Server, monkeypatch) -> None:
    check_readable(f"{s3.bucket()}/nothing/")
    with pytest.raises(MissingError, match="s3://no-such-bucket-at-all: no such bucket"):
        check_readable("s3://no-such-bucket-at-all/x/")
    bucket = s3.bucket()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(DeniedError, match="SignatureDoesNotMatch; check AWS_ACCESS_KEY_ID"):
        check_readable(f"{bucket}/x/")


@pytest.mark.s3
def test_s3_objects_are_files_to_seek_in(s3: S3Server) -> None:
    uri = f"{s3.bucket()}/big.bin"
    data = random.Random(0).randbytes(9_000_000)
    s3.put(uri, data)
    with open_binary(uri) as file:
        assert file.read(10) == data[:10]
        assert file.seek(-5, os.SEEK_END) == len(data) - 5
        assert file.read() == data[-5:]
        file.seek(100)
        assert file.read() == data[100:]
    with open_binary(uri) as file:
        s3.put(uri, b"another")
        with pytest.raises(StoreError, match="wrote it first"):
            file.read()
