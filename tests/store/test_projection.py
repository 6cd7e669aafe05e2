"""What is read of a store whose rows hold vectors, in bytes and requests, on disk and on S3."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import MissingError, StoreError
from pipeline.runs.verify import _draw
from pipeline.scan.ledgers import FileReader, local_ledger
from pipeline.storage import Folder
from pipeline.storage.file_ranges import NEAR_IN_BUCKETS, joined
from pipeline.store.choice import Choice, choose
from pipeline.store.delta.table import Table
from pipeline.store.failed import failed_rows
from pipeline.store.ledger import Ids
from pipeline.store.parts import Part, read_part, write_part
from pipeline.store.reader import LabelStore
from pipeline.store.upkeep import part_path
from pipeline.tasks.classify import Classify
from tests.parts.servers.s3 import S3Server
from tests.parts.servers.traffic import Counter, on_disk, on_s3, ranges_alone
from tests.store.stores import RECIPE, rows

WIDTH = 768
VECTOR = pa.field("embedding", pa.list_(pa.field("element", pa.float32())))
PARTS, ROWS = 2, 1500
LEDGER = ("object_id", "version", "error_code", "run_id")


def vectors(names: range) -> pa.Table:
    found = rows(names).append_column(
        VECTOR,
        pa.ListArray.from_arrays(
            np.arange(0, (len(names) + 1) * WIDTH, WIDTH, dtype="i4"),
            np.random.default_rng(names.start).random(len(names) * WIDTH, "f4"),
        ).cast(VECTOR.type),
    )
    order = [name for name in found.column_names if name != VECTOR.name]
    after = order.index("top_k") + 1
    return found.select([*order[:after], VECTOR.name, *order[after:]])


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of parts with vectors, and one old part without."""
    top = tmp_path_factory.mktemp("vectors") / "labels"
    folder = Folder(str(top))
    folder.ensure()
    table = Table.create(folder, [*Classify.columns, VECTOR], Classify.kind)
    old = write_part(folder, part_path("r0", RECIPE, 0), RECIPE, rows(range(-10, 0)))
    parts = [
        write_part(
            folder, part_path("r1", RECIPE, n), RECIPE, vectors(range(n * ROWS, n * ROWS + ROWS))
        )
        for n in range(PARTS)
    ]
    table.commit(added=[old, *parts])
    choose(folder, RECIPE, Choice.read(folder))
    return top


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.s3)])
def counting(request: pytest.FixtureRequest, stored: Path) -> Iterator[tuple[Folder, Counter]]:
    """The store, and what counts the bytes that a call reads."""
    if request.param == "file":
        yield Folder(str(stored)), on_disk
        return
    server: S3Server = request.getfixturevalue("s3")
    uri = f"{server.bucket()}/some/labels"
    server.put_folder(stored, uri)
    with on_s3(server) as counter:
        yield Folder(uri), counter


def ledger_of(folder: Folder, store: LabelStore) -> Any:
    reader = FileReader(folder, None, frozenset({"run"}))  # type: ignore[arg-type]
    return local_ledger(reader, store.live())


def test_reads_of_a_store_with_vectors_leave_the_vectors_out(
    counting: tuple[Folder, Counter],
) -> None:
    folder, count = counting
    store = LabelStore(folder.uri)
    whole = sum(file.size_bytes for file in store.live())
    assert whole > PARTS * ROWS * WIDTH * 3, "of random numbers, which do not pack"
    reads: dict[str, Callable[[], Any]] = {
        "ledger": lambda: len(ledger_of(folder, store)),
        "counts": store.label_counts,
        "some columns": lambda: store.to_table(["uri", "label"]).num_rows,
        "errors": lambda: failed_rows(store, None, (), 3),
        "all": lambda: store.to_table().num_rows,
    }
    found = {name: count(read) for name, read in reads.items()}
    total = PARTS * ROWS + 10
    assert [one.result for one in found.values()] == [total, [("cat", total)], total, [], total]
    for name, one in found.items():
        if name == "all":
            assert whole <= one.bytes < 1.01 * whole
        else:
            assert one.bytes < 0.05 * whole, name
            # The end of a file, and what lies before and behind the vectors; the old one whole.
            if count is not on_disk:
                assert one.requests <= 3 * PARTS + 1, name


def test_a_sample_is_drawn_without_the_vectors(counting: tuple[Folder, Counter]) -> None:
    folder, count = counting
    store = LabelStore(folder.uri)
    found = count(lambda: _draw(store, Classify(), store.live(), 16, 1))
    assert found.result.num_rows == 16
    assert found.bytes < 0.05 * sum(file.size_bytes for file in store.live())


def test_what_is_read_in_part_is_what_is_there(counting: tuple[Folder, Counter]) -> None:
    folder, _ = counting
    store = LabelStore(folder.uri)
    for file in store.live():
        everything = read_part(folder, file, store.schema, whole=True)
        for names in (["uri"], [*LEDGER], ["embedding", "object_id"], store.schema.names):
            wanted = pa.schema(map(store.schema.field, names))
            assert read_part(folder, file, wanted) == everything.select(names)
    assert store.to_table(["embedding"])["embedding"].null_count == 10, "an older part has none"


@pytest.mark.s3
def test_an_ordinary_ledger_takes_one_request_a_part_or_two(s3: S3Server) -> None:
    folder = Folder(f"{s3.bucket()}/labels")
    table = Table.create(folder, Classify.columns, Classify.kind)
    small = [ordinary(folder, number, 1000) for number in range(3)]
    large = ordinary(folder, 3, 20_000)
    assert large.size_bytes > NEAR_IN_BUCKETS
    table.commit(added=[*small, large])
    choose(folder, RECIPE, Choice.read(folder))
    with on_s3(s3) as count:
        store = LabelStore(folder.uri)
        found = count(lambda: ledger_of(folder, store))
    assert len(found.result) == 23_000
    assert found.requests == 3 + 2
    assert found.bytes < sum(part.size_bytes for part in (*small, large))


def ordinary(folder: Folder, number: int, count: int) -> Part:
    """A part of rows of which nothing packs away: ids, etags, times and scores are as they are."""
    draw = random.Random(number)
    found = rows(["x"] * count)
    ids = [draw.randbytes(12) for _ in range(count)]
    given = {
        "uri": [f"s3://photos/{one.hex()}" for one in ids],
        "etag": [draw.randbytes(16).hex() for _ in ids],
        "object_id": ids,
        "version": [draw.getrandbits(62) for _ in ids],
        "score": [draw.random() for _ in ids],
    }
    for name, values in given.items():
        at = found.schema.get_field_index(name)
        field = found.schema.field(at)
        found = found.set_column(at, field, pa.array(values, field.type))
    return write_part(folder, part_path("r1", RECIPE, number), RECIPE, found)


@pytest.mark.s3
@pytest.mark.parametrize("told", [-100_000, -1, 1, 3_000_000])
def test_an_object_of_another_size_is_refused(s3: S3Server, told: int) -> None:
    folder = Folder(f"{s3.bucket()}/labels")
    part = ordinary(folder, 1, 20_000)
    said = Part(part.path, RECIPE, part.num_rows, 0, part.size_bytes + told, "{}")
    with pytest.raises(StoreError, match=rf"has {part.size_bytes:,} bytes, the table's log says"):
        read_part(folder, said, ["uri"])
    assert read_part(folder, part.path, ["uri"]).num_rows == 20_000, "without the log"


def test_mutants_are_read_in_part_as_they_are_as_a_whole(tmp_path: Path) -> None:
    """Nothing that was not fetched is believed, and nothing that was is taken unseen."""
    folder = Folder(str(tmp_path))
    write_part(folder, "whole.parquet", RECIPE, vectors(range(20)))
    whole = (tmp_path / "whole.parquet").read_bytes()
    footer = pq.read_metadata(tmp_path / "whole.parquet").serialized_size
    draw = random.Random(5)
    refused = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            first = len(data) - footer - 8 if draw.random() < 0.7 else 0
            data[draw.randrange(first, len(data))] = draw.randrange(256)
        (tmp_path / "mutant.parquet").write_bytes(data)
        for names in ([*LEDGER], ["uri", "label"]):
            expected = outcome(lambda names=names: read_part(folder, "mutant.parquet", names))
            with ranges_alone():
                found = outcome(lambda names=names: read_part(folder, "mutant.parquet", names))
            assert found == expected
            refused += isinstance(found, str)
    assert 100 < refused < 700


def outcome(call: Callable[[], pa.Table]) -> pa.Table | str:
    try:
        return call()
    except StoreError as error:
        return str(error)


def test_ids_are_as_they_were(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    write_part(folder, "a.parquet", RECIPE, vectors(range(100)))
    with ranges_alone():
        found = Ids.of(read_part(folder, "a.parquet", ["object_id"])["object_id"])
    assert found.to_bytes() == rows(range(100))["object_id"].to_pylist()


@pytest.mark.parametrize(
    ("ranges", "near", "expected"),
    [
        ([], 10, []),
        ([(0, 5), (14, 20)], 10, [(0, 20)]),
        ([(15, 20), (0, 5)], 10, [(0, 5), (15, 20)]),
        ([(0, 100), (10, 20), (100, 101)], 1, [(0, 101)]),
        ([(0, 5), (5, 6)], 0, [(0, 5), (5, 6)]),
    ],
)
def test_ranges_near_to_each_other_are_one(
    ranges: list[tuple[int, int]], near: int, expected: list[tuple[int, int]]
) -> None:
    assert joined(ranges, near) == expected


@pytest.mark.parametrize("path", ["link.parquet", "folder/a.parquet"])
def test_a_link_is_read_by_no_range(tmp_path: Path, path: str) -> None:
    write_part(Folder(str(tmp_path / "other")), "a.parquet", RECIPE, vectors(range(100)))
    folder = Folder(str(tmp_path / "labels"))
    folder.ensure()
    (tmp_path / "labels/link.parquet").symlink_to(tmp_path / "other/a.parquet")
    (tmp_path / "labels/folder").symlink_to(tmp_path / "other")
    with pytest.raises(StoreError, match="is a symbolic link"):
        read_part(folder, path, ["uri"])


def test_a_part_that_is_not_there_is_missing(counting: tuple[Folder, Counter]) -> None:
    folder, _ = counting
    with pytest.raises(MissingError, match=r"not-there\.parquet"):
        read_part(folder, "not-there.parquet", ["uri"])
