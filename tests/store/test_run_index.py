"""The index of run summaries: the same runs with it and without, whatever lies in its place."""

import json
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.storage import Folder
from pipeline.store import run_index
from pipeline.store.run_index import INDEX, INDEX_BYTES, SINGLE_READS, RunIndex
from pipeline.store.runs import RUNS, Runs, RunSummary, load_run, read_runs, save_run
from tests.parts.servers.s3 import S3Server
from tests.parts.servers.traffic import on_s3
from tests.store.stores import RECIPE
from tests.store.test_untrusted import local

__all__ = ["local"]

START = datetime(2026, 1, 1, tzinfo=UTC)
MANY = 990  # a page of S3's listing has a thousand
FOREIGN = {f"{RUNS}20250101T000000Z-{n:08x}.json": b'{"of": "others"}' for n in range(3)}


def run(night: int, **fields: object) -> RunSummary:
    started = START + timedelta(days=night)
    given = {
        "run_id": f"{started:%Y%m%dT%H%M%SZ}-{night:08x}",
        "started": started,
        "finished": started,
        "status": "complete",
        "recipe": RECIPE,
        "scope": {"kind": "prefix", "src": "s3://photos/", "include": None, "exclude": []},
        "spec": {"src": "s3://photos/", "dst": "s3://labels", "model": "m", "top_k": 5},
        "hardware": {"slots": {"CPU": 8.0}, "predictors": 8, "device": "cpu"},
        "counts": {"listed": 1000 + night, "done": 990, "labelled": 10 + night % 7},
        "seconds": {"check": 1.25, "all": 60.5 + night},
    }
    return RunSummary.model_validate(given | fields)


def documents(nights: int) -> dict[str, bytes]:
    runs = map(run, range(nights))
    return {f"{RUNS}{one.run_id}.json": one.model_dump_json(indent=1).encode() for one in runs}


def put_all(folder: Folder, given: dict[str, bytes]) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(folder.put, given, given.values()))


def a_night(folder: Folder) -> Runs:
    """What a run does: it reads the summaries, and keeps the index."""
    index = RunIndex.read(folder)
    found = read_runs(folder, index)
    index.save()
    return found


def test_runs_are_the_same_with_the_index_and_without(folder: Folder) -> None:
    folder.ensure()
    put_all(folder, documents(30) | FOREIGN)
    large = run(40, unreadable={f"s3://photos/{n}{'x' * 3000}": "denied" for n in range(30)})
    save_run(folder, large)
    expected = read_runs(folder)
    assert len(expected.found) == 31
    assert len(expected.unread) == 3
    assert a_night(folder) == expected, "the first, which finds no index"
    assert folder.stat(INDEX) is not None
    assert a_night(folder) == expected
    save_run(folder, run(3, dropped=True))
    save_run(folder, run(41))
    folder.delete([f"{RUNS}{run(5).run_id}.json"])
    after = read_runs(folder)
    assert after != expected
    assert a_night(folder) == after
    assert read_runs(folder, RunIndex.read(folder)) == after


def test_an_index_is_written_where_many_are_lacking_or_one_changed(local: Folder) -> None:
    put_all(local, documents(SINGLE_READS))
    a_night(local)
    assert local.stat(INDEX) is None, "so few are read one by one"
    put_all(local, documents(SINGLE_READS + 1))
    a_night(local)
    written = local.stat(INDEX)
    assert written is not None
    save_run(local, run(90))
    a_night(local)
    assert local.stat(INDEX) == written
    local.delete([f"{RUNS}{run(1).run_id}.json"])
    a_night(local)
    assert run(1).run_id.encode() not in unpacked(local), "what was deleted is packed no longer"


def unpacked(folder: Folder) -> bytes:
    return zlib.decompress(folder.read(INDEX), 31)


@pytest.mark.s3
def test_the_thousandth_night_reads_no_thousand_documents(s3: S3Server) -> None:
    folder = Folder(f"{s3.bucket()}/labels")
    given = documents(MANY)
    put_all(folder, given)
    with on_s3(s3) as count:
        first = count(lambda: a_night(folder))
        again = count(lambda: a_night(folder))
        save_run(folder, run(MANY))
        later = count(lambda: a_night(folder))
    assert first.requests >= MANY
    assert again.result == first.result
    assert again.requests == 2, "a page of the listing, and the index"
    assert later.requests == 3
    assert len(later.result.found) == MANY + 1
    listing = 600 * MANY  # bytes that a name takes in a page of XML, at most
    assert again.bytes < listing + 0.1 * sum(map(len, given.values()))


def test_other_versions_see_their_summaries_alone(folder: Folder) -> None:
    """They read whatever lies in the folder of the summaries."""
    folder.ensure()
    given = documents(20)
    put_all(folder, given)
    a_night(folder)
    assert {folder.relative(entry.uri) for entry in folder.list(RUNS)} == set(given)
    assert read_runs(folder).unread == []


def packed(*lines: object, head: object = None) -> bytes:
    texts = [json.dumps({"format": 1} if head is None else head), *map(json.dumps, lines)]
    return zlib.compress("\n".join(texts).encode(), wbits=31)


LINE = {"path": f"{RUNS}x.json", "size": 2, "etag": "e", "document": "{}"}
ODD: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "no gzip": lambda _: b'{"format": 1}',
    "cut": lambda whole: whole[: len(whole) // 2],
    "its checksum": lambda whole: whole[:-8] + bytes(4) + whole[-4:],
    "damaged": lambda whole: whole[:200] + bytes(20) + whole[220:],
    "of a later format": lambda _: packed(LINE, head={"format": 2}),
    "with more in its head": lambda _: packed(LINE, head={"format": 1, "more": 1}),
    "without a head": lambda _: packed(head=LINE),
    "another size": lambda _: packed(LINE | {"size": 3}),
    "a size that is none": lambda _: packed(LINE | {"size": -1}),
    "a size in a text": lambda _: packed(LINE | {"size": "2"}),
    "more fields": lambda _: packed(LINE | {"more": 1}),
    "half a letter": lambda _: packed(LINE | {"document": "\ud800"}),
    "deep": lambda _: zlib.compress(b'{"format": 1}\n' + b"[" * 10**6, wbits=31),
    "a deep head": lambda _: zlib.compress(b"[" * 10**6, wbits=31),
    "many lines": lambda _: zlib.compress(b'{"format": 1}' + b"\n" * 10**7, wbits=31),
    "a bomb": lambda _: zlib.compress(bytes(INDEX_BYTES + 1), wbits=31),
    "not ours": lambda _: packed(*[LINE | {"path": f"{RUNS}{n}.json"} for n in range(100)]),
    "leading out": lambda _: packed(LINE | {"path": "../../etc/passwd"}),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_index_that_is_none_is_written_anew(local: Folder, kind: str) -> None:
    put_all(local, documents(20))
    expected = a_night(local)
    whole = local.read(INDEX)
    local.put(INDEX, ODD[kind](whole))
    assert read_runs(local, RunIndex.read(local)) == expected
    assert a_night(local) == expected
    assert local.read(INDEX) == whole


def test_an_index_of_any_size_is_not_read(local: Folder) -> None:
    """A sparse file: reading it would take 5 GB of memory."""
    put_all(local, documents(20))
    expected = a_night(local)
    with (Path(local.uri.removeprefix("file://")) / INDEX).open("r+b") as file:
        file.truncate(5 * 2**30)
    assert a_night(local) == expected
    assert len(unpacked(local)) < 2**20


def test_a_link_in_its_place_is_replaced(local: Folder, tmp_path: Path) -> None:
    put_all(local, documents(20))
    (tmp_path / "victim").write_bytes(b"victim")
    (Path(local.uri.removeprefix("file://")) / INDEX).symlink_to(tmp_path / "victim")
    assert len(a_night(local).found) == 20
    assert (tmp_path / "victim").read_bytes() == b"victim"
    assert len(unpacked(local).splitlines()) == 21


def test_an_index_holds_the_newest_that_fit(local: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    put_all(local, documents(60))
    expected = read_runs(local)
    monkeypatch.setattr(run_index, "INDEX_BYTES", 30_000)
    assert a_night(local) == expected
    text = unpacked(local)
    assert len(text) <= 30_000
    assert run(59).run_id.encode() in text
    assert run(0).run_id.encode() not in text
    assert a_night(local) == expected


def test_two_who_write_at_once_lose_no_run(folder: Folder) -> None:
    folder.ensure()

    def nights(first: int) -> None:
        for night in range(first, 60, 3):
            save_run(folder, run(night))
            a_night(folder)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(nights, range(3)))
    found = read_runs(folder, RunIndex.read(folder))
    assert [one.run_id for one in found.found] == [run(night).run_id for night in range(60)]
    assert found.unread == []


def test_one_run_is_read_from_its_document(local: Folder) -> None:
    save_run(local, run(1))
    local.put(f"{RUNS}another.json", local.read(f"{RUNS}{run(1).run_id}.json"))
    local.put(f"{RUNS}broken.json", b"{")
    assert load_run(local, run(1).run_id) == run(1)
    for odd in ("another", "broken", "not-there", "../current", "", "a/../../x"):
        assert load_run(local, odd) is None
