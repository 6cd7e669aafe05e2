"""Small files of a store that would become large in memory, and files of which the log lies."""

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline import schema
from pipeline.errors import StoreError
from pipeline.runs.finalize import compact_store, inline, merge
from pipeline.scan.ledgers import FileReader, local_ledger
from pipeline.storage import Folder
from pipeline.store.choice import CURRENT
from pipeline.store.erase import Objects, Search
from pipeline.store.failed import failed_rows
from pipeline.store.parts import read_part, rewrite_without, write_part
from pipeline.store.reader import LabelStore
from pipeline.tasks.classifier import TOP_K
from tests.parts.processes.memory import status_bytes
from tests.parts.servers.traffic import ranges_alone
from tests.parts.stores.parquet_bombs import BOMBS, MIB, written
from tests.store.stores import LABELS, RECIPE, new_table, rows
from tests.store.test_untrusted import add, local

__all__ = ["local"]

PATH = f"_parts/run/recipe={RECIPE}/bomb.parquet"


@pytest.fixture(params=["whole", "by ranges"])
def small_files(request: pytest.FixtureRequest) -> Iterator[None]:
    """How small files are read of which some columns are asked for."""
    with ranges_alone() if request.param == "by ranges" else nullcontext():
        yield


def peak(call: Callable[[], Any]) -> int:
    """Bytes that `call` took at its highest; it must raise StoreError."""
    Path("/proc/self/clear_refs").write_text("5")
    before = status_bytes("VmRSS")
    with pytest.raises(StoreError, match=r"is not a file of a label store: |rows in [\d,]+ bytes"):
        call()
    return status_bytes("VmHWM") - before


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_before_it_is_unpacked(local: Folder, kind: str) -> None:
    data = BOMBS[kind]()
    assert len(data) < MIB
    local.put(PATH, data)
    names = ["object_id", "version", "run_id"]
    calls = [lambda: read_part(local, PATH), lambda: read_part(local, PATH, ["uri"])]
    if kind not in ("lists", "rows"):
        calls.append(lambda: rewrite_without(local, PATH, "b.parquet", RECIPE, [b"x" * 12]))
    if kind == "lists":
        calls = [lambda: read_part(local, PATH, ["top_k"])]
    if kind == "rows":
        calls = [lambda: read_part(local, PATH, names)]
    for call in calls:
        assert peak(call) < 64 * MIB
    search = Search()
    search.look(local, Objects.of(["s3://photos/1"], [schema.object_id("s3://photos/1")]))
    if kind != "lists":  # its ids are read well
        assert search.unread == [PATH]


@pytest.mark.usefixtures("small_files")
def test_every_reader_of_a_live_bomb_ends_in_one_line(local: Folder) -> None:
    table = new_table(local)
    data = BOMBS["dictionary"]()
    local.put(PATH, data)
    add(local, path=PATH, size=len(data), stats=json.dumps({"numRecords": 300}))
    local.put(CURRENT, json.dumps({"recipe": RECIPE}).encode())
    table.refresh()
    store = LabelStore(local.uri)
    (file,) = store.live()
    reader = FileReader(local, None, frozenset({"run"}))  # type: ignore[arg-type]
    assert len(local_ledger(reader, [file])) == 300, "of short columns alone, a file is a file"
    calls: list[Callable[[], Any]] = [
        store.to_table,
        lambda: merge(local, table, "run", inline),
        lambda: failed_rows(store, None, (), 3),
    ]
    for call in calls:
        assert peak(call) < 64 * MIB


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize(("size", "num_rows"), [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)])
def test_a_file_that_the_log_tells_otherwise_of_is_refused(
    local: Folder, size: int, num_rows: int
) -> None:
    new_table(local)
    part = write_part(local, PATH, RECIPE, rows(range(3)))
    told = {"numRecords": 3 + num_rows}
    add(local, path=PATH, size=part.size_bytes + size, stats=json.dumps(told))
    local.put(CURRENT, json.dumps({"recipe": RECIPE}).encode())
    store = LabelStore(local.uri)
    calls = [store.to_table, store.label_counts, lambda: compact_store(local.uri)]
    if not size and not num_rows:
        assert store.to_table().num_rows == 3
        return
    for call in calls:
        with pytest.raises(StoreError, match=r"bomb\.parquet (has|is not a file)"):
            call()


def test_a_log_of_more_rows_than_bytes_is_refused(local: Folder) -> None:
    table = new_table(local)
    for number in (2**62, 10**9):
        add(local, path=PATH, size=5000, stats=json.dumps({"numRecords": number}))
        table.refresh()
        with pytest.raises(StoreError, match=r"of [\d,]+ rows in 5,000 bytes"):
            table.live()


@pytest.mark.usefixtures("small_files")
def test_ids_of_other_lengths_are_no_ids(local: Folder) -> None:
    ids = pa.array([b"x" * 24, b"", b"y" * 12], pa.binary())
    table = rows(range(3)).set_column(5, LABELS.field("object_id"), ids)
    local.put(PATH, written(table))
    reader = FileReader(local, None, frozenset({"run"}))  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="not 12 bytes long"):
        reader.entries(0, PATH)


@pytest.mark.parametrize("year", [-(2**62), 2**62])
def test_a_time_beyond_the_calendar_is_refused(local: Folder, year: int) -> None:
    times = pa.array([year], pa.timestamp("us", "UTC"))
    table = rows([1]).set_column(19, LABELS.field("labelled_at"), times)
    local.put(PATH, written(table))
    with pytest.raises(StoreError, match="beyond the calendar"):
        read_part(local, PATH)


@pytest.mark.usefixtures("small_files")
def test_text_that_is_none_is_refused(local: Folder) -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], "i4")), pa.py_buffer(b"\xff\xfe")]
    )
    table = rows([1]).set_column(0, LABELS.field("uri"), broken)
    local.put(PATH, written(table))
    with pytest.raises(StoreError, match="UTF8"):
        read_part(local, PATH, ["uri"])


def test_long_and_many_true_rows_are_read(local: Folder) -> None:
    """What is large and ours: long addresses that are alike, many labels a row."""
    table = rows([f"{n:05}" + "x" * 3000 for n in range(2000)])
    top = pa.array([[{"label": f"class {n}", "score": 0.5} for n in range(500)]] * 2000, TOP_K)
    place = table.schema.get_field_index("top_k")
    table = table.set_column(place, LABELS.field("top_k"), top)
    part = write_part(local, PATH, RECIPE, table)
    assert read_part(local, part) == table
