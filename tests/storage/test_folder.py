"""Folder on local disk and on a real S3 server: one contract."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from pipeline.errors import DeniedError, MissingError, SpecError, StoreError
from pipeline.storage import Folder, scheme
from tests.parts.servers.s3 import S3Server
from tests.storage.servers import web_server


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def folder(request, tmp_path: Path) -> Folder:
    if request.param == "local":
        made = Folder(f"{tmp_path}/la bels ü+=1")
    else:
        made = Folder(request.getfixturevalue("s3").bucket() + "/la bels ü+=1/")
    made.ensure()
    return made


def test_documents(folder: Folder) -> None:
    with pytest.raises(MissingError, match=r"a/b\.json: no such file"):
        folder.read("a/b.json")
    assert folder.stat("a/b.json") is None
    folder.put("a/b.json", b"one")
    folder.put("a/b.json", b"three")
    assert folder.read("a/b.json") == b"three"
    entry = folder.stat("a/b.json")
    assert entry is not None
    assert (entry.uri, entry.size) == (f"{folder.uri}/a/b.json", 5)
    assert abs(entry.modified - datetime.now(UTC)) < timedelta(minutes=1)
    folder.copy("a/b.json", "c/d.json")
    assert folder.read("c/d.json") == b"three"
    with pytest.raises(MissingError):
        folder.copy("nope", "e")


def test_create_has_one_winner(folder: Folder) -> None:
    # The S3 server of the tests locks a name for a second each time, and answers are waited for
    # for ten: the last of twelve would come too late.
    many = 12 if scheme(folder.uri) == "file" else 8
    gate = threading.Barrier(many)

    def create(n: int) -> bool:
        gate.wait()
        return folder.create("lease.json", b"%d" % n)

    with ThreadPoolExecutor(many) as threads:
        won = list(threads.map(create, range(many)))
    assert won.count(True) == 1
    assert folder.read("lease.json") == b"%d" % won.index(True)


def test_lists_by_the_beginning_of_a_path(folder: Folder) -> None:
    names = {"r=1/a.parquet", "r=1/sub/b c.parquet", "r=10/c.parquet", "top"}
    for name in names:
        folder.put(name, b"x")
    assert {folder.relative(entry.uri) for entry in folder.list()} == names
    assert {folder.relative(entry.uri) for entry in folder.list("r=1/")} == {
        "r=1/a.parquet",
        "r=1/sub/b c.parquet",
    }
    assert {folder.relative(entry.uri) for entry in folder.list("r=1")} == names - {"top"}
    assert list(folder.list("nothing/here")) == []
    [top] = folder.list("top")
    assert top == folder.stat("top")


def test_delete(folder: Folder) -> None:
    for name in ("a/b/1", "a/b/2", "a/3"):
        folder.put(name, b"x")
    folder.delete(["never", "a/b/1", "a/b/2", "x/y/z"])
    folder.delete(iter(["a/b/1"]))
    folder.delete([])
    assert [folder.relative(entry.uri) for entry in folder.list()] == ["a/3"]


def test_deleting_removes_empty_local_folders_but_not_itself(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "dst"))
    folder.put("a/b/c/1", b"x")
    folder.put("a/2", b"x")
    folder.delete(["a/b/c/1"])
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["2", "a", "dst"]
    folder.delete(["a/2"])
    assert list(tmp_path.iterdir()) == [tmp_path / "dst"]


def test_conditional_put_is_probed(folder: Folder) -> None:
    folder.probe_conditional_put()
    assert list(folder.list()) == []


def test_a_store_that_ignores_conditions_is_refused(monkeypatch) -> None:
    with web_server() as url:
        _s3_at(monkeypatch, url)
        folder = Folder("s3://bucket/labels")
        with pytest.raises(StoreError, match="this store ignores conditional PUT"):
            folder.probe_conditional_put()


def test_a_large_document(folder: Folder) -> None:
    data = bytes(range(256)) * 50_000
    folder.put("large", data)
    assert folder.read("large") == data


def test_pickles_and_shows_its_uri(folder: Folder) -> None:
    folder.put("a", b"x")
    again = pickle.loads(pickle.dumps(folder))
    assert again.read("a") == b"x"
    assert repr(again) == f"Folder({folder.uri.removeprefix('file://')!r})"


def test_delta_reads_and_writes_it(folder: Folder) -> None:
    assert "AWS_SECRET_ACCESS_KEY" not in folder.delta_options
    _write_delta(folder)


def _write_delta(folder: Folder) -> None:
    options = folder.delta_options
    write_deltalake(folder.delta_url, pa.table({"a": [1, 2]}), storage_options=options)
    write_deltalake(folder.delta_url, pa.table({"a": [3]}), mode="append", storage_options=options)
    table = DeltaTable(folder.delta_url, storage_options=options)
    assert sorted(table.to_pyarrow_table()["a"].to_pylist()) == [1, 2, 3]
    assert folder.stat("_delta_log/00000000000000000001.json") is not None


def test_a_percent_sign_is_refused_for_delta(tmp_path: Path) -> None:
    folder = Folder(f"{tmp_path}/100%41")
    folder.put("a", b"x")
    with pytest.raises(SpecError, match=r"dst=.*percent"):
        _ = folder.delta_url


def test_a_put_replaces_in_one_step(folder: Folder) -> None:
    """A reader beside a writer sees one whole document or the other."""
    sizes = (10, 200_000)
    folder.put("doc", b"a" * sizes[0])
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for size in sizes:
                folder.put("doc", b"a" * size)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert {len(folder.read("doc")) for _ in range(100)} <= set(sizes)
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("uri", ["https://h/x", "memory://x", "s3://b/a//b", "s3://b/../c"])
def test_what_cannot_hold_labels_is_refused(uri: str) -> None:
    with pytest.raises(SpecError, match="dst="):
        Folder(uri)


def test_ensure_says_why_a_local_folder_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="file"):
        Folder(str(tmp_path / "file" / "below")).ensure()


@pytest.mark.s3
def test_a_missing_bucket_is_named(s3: S3Server) -> None:
    folder = Folder("s3://no-such-bucket-at-all/labels")
    for call in (folder.ensure, lambda: folder.read("x")):
        with pytest.raises(MissingError, match="s3://no-such-bucket-at-all: no such bucket"):
            call()


@pytest.mark.s3
def test_wrong_credentials_are_named(s3: S3Server, monkeypatch) -> None:
    folder = Folder(s3.bucket())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for call in (folder.ensure, lambda: folder.put("x", b"")):
        with pytest.raises(DeniedError, match="SignatureDoesNotMatch; check AWS_ACCESS_KEY_ID"):
            call()


@pytest.mark.s3
def test_delta_finds_the_credentials_of_a_profile(s3: S3Server, monkeypatch, tmp_path) -> None:
    bucket = s3.bucket()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    credentials = tmp_path / "credentials"
    credentials.write_text(
        f"[nightly]\naws_access_key_id = {s3.env['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {s3.env['AWS_SECRET_ACCESS_KEY']}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_PROFILE", "nightly")
    _write_delta(Folder(f"{bucket}/labels"))


def _s3_at(monkeypatch, url: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("no folder")
    folder = Folder(str(tmp_path / "labels"))
    for write in (folder.ensure, lambda: folder.create("a/b", b"1"), lambda: folder.put("a", b"1")):
        with pytest.raises(StoreError, match=r"labels is a file: give a folder") as told:
            write()
        assert type(told.value) is StoreError
