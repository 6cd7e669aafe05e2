"""A ledger made in tasks, in shards, answers as one made here; listings add up either way."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray

from pipeline import schema
from pipeline.scan import ledgers as module
from pipeline.scan.full_scan import survey
from pipeline.scan.ledgers import FileReader, ledger_shards, local_ledger
from pipeline.sources import Page, open_source
from pipeline.spec import make_spec
from pipeline.storage import Folder
from pipeline.store.delta.actions import LiveFile
from pipeline.store.ledger import Ledger, subtract
from pipeline.store.parts import write_part
from tests.store.stores import RECIPE, rows
from tests.store.test_ledger import refs

FILES, ROWS = 7, 300


@pytest.fixture
def reader(tmp_path: Path) -> FileReader:
    spec = make_spec(src="s3://photos/", dst=str(tmp_path))
    return FileReader(Folder(str(tmp_path)), open_source(spec), frozenset({"run"}))


@pytest.fixture
def files(reader: FileReader) -> list[LiveFile]:
    made = []
    for number in range(FILES):
        table = rows(range(number * ROWS, (number + 1) * ROWS), version=number)
        part = write_part(reader.folder, f"_parts/run/{number}.parquet", RECIPE, table)
        made.append(LiveFile(part.path, RECIPE, part.num_rows, part.size_bytes))
    return made


def test_shards_made_in_tasks_answer_as_one_ledger(
    two_slots: None, reader: FileReader, files: list[LiveFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD_ROWS", 500)
    shards: list[Ledger] = ray.get(ledger_shards(reader, files))
    assert len(shards) == 5
    whole = local_ledger(reader, files)
    assert sum(map(len, shards)) == len(whole) == FILES * ROWS
    page = refs(list(range(100, FILES * ROWS + 50)), version=3)
    here = subtract([whole], page, retry_errors=False)
    there = subtract(shards, page, retry_errors=False)
    assert here.refs == there.refs
    assert here.counts == there.counts
    assert here.counts["new"] == 50
    assert here.counts["done"] == 2 * ROWS - 100  # versions 0, where unknown, and 3


def test_shards_arrive_without_a_copy(
    two_slots: None, reader: FileReader, files: list[LiveFile]
) -> None:
    [shard] = ray.get(ledger_shards(reader, files))
    assert not shard.high.flags.writeable  # mapped from the object store


def test_one_shard_and_no_files(two_slots: None, reader: FileReader) -> None:
    assert ledger_shards(reader, []) == []


def test_rows_of_other_runs_are_in_scope_by_their_uri(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    write_part(folder, "_parts/run/0.parquet", RECIPE, rows(["a/1.jpg", "b/1.jpg", "a/notes.txt"]))
    source = open_source(make_spec(src="s3://photos/a/", dst=str(tmp_path)))
    other = FileReader(folder, source, frozenset({"another run"}))
    assert other.entries(0, "_parts/run/0.parquet").count_in_scope() == 1
    same = FileReader(folder, source, frozenset({"run"}))
    assert same.entries(0, "_parts/run/0.parquet").count_in_scope() == 3


class Three:
    """A source of three shards with a hundred objects each."""

    scope: dict[str, object] = {}  # noqa: RUF012

    def check(self, dst: str | None = None) -> None: ...

    def shards(self) -> Iterator[int]:
        yield from range(3)

    def refs(self, shard: int) -> Iterator[Page]:
        for start in (0, 50):
            first = shard * 100 + start
            yield Page(refs(list(range(first, first + 50))), excluded=1)

    def contains(self, uri: str) -> bool:
        return uri.startswith("s3://photos/")


def _even(todo: pa.Table) -> dict[str, int]:
    return {"even": sum(int(uri.rpartition("/")[2]) % 2 == 0 for uri in todo["uri"].to_pylist())}


def test_a_survey_adds_up_in_tasks_and_here(two_slots: None) -> None:
    table = rows(range(150))
    ledger = Ledger.merged([Ledger.of_file(table, 0, np.full(150, True))])
    found = survey(Three(), [ledger], _even, retry_errors=False, keep_seen=True)
    assert found.counts["listed"] == 300
    assert found.counts["done"] == found.counts["matched"] == 150
    assert (found.counts["excluded"], found.counts["even"]) == (6, 75)
    assert found.unseen([ledger]) == {}


def test_what_was_not_listed_is_named(two_slots: None) -> None:
    table = rows(range(295, 305))
    ledger = Ledger.merged([Ledger.of_file(table, 4, np.full(10, True))])
    found = survey(Three(), [ledger], _even, retry_errors=False, keep_seen=True)
    gone = found.unseen([ledger])
    assert set(gone) == {4}
    assert set(gone[4]) == {schema.object_id(f"s3://photos/{n}") for n in range(300, 305)}
