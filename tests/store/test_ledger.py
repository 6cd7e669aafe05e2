"""The ledger against a dictionary, which is slow and surely right."""

import random

import numpy as np
import pyarrow as pa
import pytest

from pipeline import schema
from pipeline.errors import NOT_PUBLIC, ErrorCode, StoreError, error_codes
from pipeline.storage.clients.peers import refused
from pipeline.store.ledger import Ids, Ledger, shard_of, subtract
from pipeline.store.runs import Counts
from pipeline.store.states import CODES, LABELLED, PRIVATE, UNKNOWN
from tests.store.stores import rows


def entries(table: pa.Table, file: int = 0, *, in_scope: bool = True) -> Ledger:
    return Ledger.of_file(table, file, np.full(table.num_rows, in_scope))


def refs(names: list[str | int], version: int = 1) -> pa.Table:
    uris = [f"s3://photos/{name}" for name in names]
    return pa.Table.from_pylist(
        [
            {"uri": uri, "object_id": schema.object_id(uri), "version": version, "size": 10}
            for uri in uris
        ],
        schema=schema.REFS,
    )


def uris(table: pa.Table) -> list[str]:
    return [uri.rpartition("/")[2] for uri in table["uri"].to_pylist()]


def test_an_entry_takes_24_bytes() -> None:
    ledger = Ledger.merged([entries(rows(range(1000)))])
    assert ledger.high.itemsize + ledger.rest.itemsize == 24


def test_finds_what_is_there_and_nothing_else() -> None:
    draw = random.Random(5)
    there = draw.sample(range(100_000), 20_000)
    files = {n: draw.randrange(50) for n in there}
    pieces = [
        entries(rows([n for n in there if files[n] == file], version=file + 1), file)
        for file in range(50)
    ]
    ledger = Ledger.merged(pieces)
    asked = draw.sample(range(100_000), 5_000)
    found = ledger.find(Ids.of(refs(asked)["object_id"]))
    assert found.known.tolist() == [n in files for n in asked]
    expected = [files.get(n, 0) for n in asked]
    assert found.file.tolist() == expected
    assert found.version[found.known].tolist() == [files[n] + 1 for n in asked if n in files]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 1000, 4097])
@pytest.mark.parametrize("most", [1, 4, 2**20, 2**64])
def test_entries_are_sorted_by_their_ids_and_doubled_ones_stay_as_they_came(
    size: int, most: int
) -> None:
    draw = np.random.default_rng(size)
    high = draw.integers(0, most, size, np.uint64) + np.uint64(2**64 - most)
    low = draw.integers(0, 3, size, np.uint32)
    came = np.arange(size)
    pieces = [
        Ledger.of(Ids(high[part], low[part]), came[part], np.zeros(len(part), np.int32))
        for part in np.array_split(came, 3)
    ]
    ledger = Ledger.merged(pieces)
    order = sorted(range(size), key=lambda n: (int(high[n]), int(low[n]), n))
    assert ledger.rest["version"].tolist() == order
    assert ledger.high.tolist() == high[order].tolist()
    assert ledger.low.tolist() == low[order].tolist()


def test_ids_that_share_64_bits_are_told_apart() -> None:
    high = np.full(5, 7, np.uint64)
    low = np.arange(5, dtype=np.uint32)
    ledger = Ledger.of(Ids(high, low), np.arange(5), np.zeros(5, np.int32))
    asked = Ids(np.full(7, 7, np.uint64), np.arange(7, dtype=np.uint32))
    assert ledger.find(asked).at.tolist() == [0, 1, 2, 3, 4, -1, -1]


def test_sliced_and_chunked_ids_are_read_rightly() -> None:
    column = refs(list(range(10)))["object_id"]
    sliced = pa.chunked_array([*column.slice(2, 3).chunks, *column.slice(7, 2).chunks])
    assert Ids.of(sliced).to_bytes() == sliced.to_pylist()


def test_ids_of_another_length_are_refused() -> None:
    with pytest.raises(StoreError, match="12 bytes"):
        Ids.of(pa.chunked_array([[b"short"]]))


def test_shards_hold_every_entry_once_and_answer_alike() -> None:
    whole = entries(rows(range(5000)))
    shards = [Ledger.merged([piece]) for piece in whole.split(7)]
    assert sum(map(len, shards)) == 5000
    assert [set(shard_of(s.high, 7).tolist()) for s in shards] == [{n} for n in range(7)]
    page = refs(list(range(4000, 6000)))
    one = subtract([Ledger.merged([whole])], page, retry_errors=False)
    many = subtract(shards, page, retry_errors=False)
    assert many.refs == one.refs
    assert many.counts == one.counts
    assert uris(many.refs) == [str(n) for n in range(5000, 6000)]


def test_the_empty_ledger_knows_nothing() -> None:
    for ledgers in ([], [Ledger.empty()], [Ledger.merged([])]):
        todo = subtract(ledgers, refs([1, 2]), retry_errors=False)
        assert todo.refs.num_rows == 2
        assert todo.refs["replaces"].null_count == 2


@pytest.mark.parametrize(
    ("error", "version", "retry_errors", "expected"),
    [
        (None, 1, False, "done"),
        (None, 2, False, "changed"),
        (None, 0, False, "done"),
        ("truncated", 1, False, "failed_before"),
        ("truncated", 1, True, "retried"),
        ("truncated", 1, ["truncated"], "retried"),
        ("truncated", 1, ["denied", "empty"], "failed_before"),
        ("of a newer version", 1, False, "failed_before"),
        ("of a newer version", 1, ["denied"], "failed_before"),
        ("of a newer version", 1, True, "retried"),
        ("transient", 1, ["denied"], "retried"),
        ("truncated", 2, False, "changed"),
        ("transient", 1, False, "retried"),
        ("changed", 1, False, "retried"),
    ],
)
def test_what_is_done_and_what_is_not(
    error: str | None, version: int, retry_errors: bool | list[str], expected: str
) -> None:
    ledger = Ledger.merged([entries(rows(["a"], error=error), file=3)])
    wanted = retry_errors if isinstance(retry_errors, bool) else error_codes(retry_errors)
    todo = subtract([ledger], refs(["a"], version), retry_errors=wanted)
    names = ("new", "changed", "retried", "done", "failed_before")
    assert {n: todo.counts[n] for n in names} == {n: int(n == expected) for n in names}
    again = expected in ("changed", "retried")
    assert todo.refs["replaces"].to_pylist() == ([3] if again else [])
    assert todo.counts["bytes"] == (10 if again else 0)


def test_states() -> None:
    place = Ledger.of_file(
        pa.concat_tables([rows([1]), rows([2], error="empty"), rows([3], error="transient")]),
        0,
        np.array([True, True, False]),
    )
    found = Ledger.merged([place]).find(Ids.of(refs([1, 2, 3])["object_id"]))
    assert found.state.tolist() == [LABELLED, CODES[ErrorCode.EMPTY], CODES[ErrorCode.TRANSIENT]]
    assert found.in_scope.tolist() == [True, True, False]


def test_every_code_is_held_beside_the_file_and_the_scope() -> None:
    tables = [rows([code], error=code) for code in [*ErrorCode, "of a newer version"]]
    places = Ledger.of_file(pa.concat_tables(tables), 2**25 - 1, np.arange(len(tables)) % 2 == 0)
    assert len(places) * (places.high.itemsize + places.rest.itemsize) == 24 * len(tables)
    found = Ledger.merged([places]).find(Ids.of(pa.concat_tables(tables)["object_id"]))
    assert found.state.tolist() == [*CODES.values(), UNKNOWN]
    assert set(found.file.tolist()) == {2**25 - 1}
    assert found.in_scope.tolist() == [n % 2 == 0 for n in range(len(tables))]
    assert max(CODES.values()) < PRIVATE


def test_errors_that_stay_are_counted_by_code() -> None:
    made = {"denied": 3, "truncated": 2, "of a newer version": 1, "transient": 4}
    names = {code: [f"{code}{n}" for n in range(count)] for code, count in made.items()}
    tables = [rows(names[code], error=code) for code in made]
    ledger = Ledger.merged([entries(pa.concat_tables([rows(["good"]), *tables]))])
    page = refs(["good", "new", *(name for listed in names.values() for name in listed)])
    counts = subtract([ledger], page, retry_errors=error_codes(["truncated"])).counts
    assert (counts["done"], counts["retried"], counts["failed_before"]) == (1, 6, 4)
    told = Counts.of(counts)
    assert told.failed_before_by_code == {"denied": 3, "unknown": 1}
    assert Counts.model_validate_json(told.model_dump_json()) == told


def test_rows_denied_since_not_public_are_told_apart_where_messages_are_read() -> None:
    table = rows(["denied", "private", "missing", "good"], error="denied")
    codes = pa.array(["denied", "denied", "missing", None])
    messages = pa.array(["the store answered 403", str(refused("10.0.0.1")), NOT_PUBLIC, None])
    for name, column in {"error_code": codes, "error_message": messages}.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    page = refs(["denied", "private", "missing", "good"])
    told = subtract([Ledger.merged([entries(table)])], page, retry_errors=False)
    assert uris(told.refs) == ["private"]
    assert told.counts["failed_before"] == 2
    unread = subtract(
        [Ledger.merged([entries(table.drop_columns("error_message"))])], page, retry_errors=False
    )
    assert uris(unread.refs) == []
    assert Counts.of(unread.counts).failed_before_by_code == {"denied": 2, "missing": 1}


def test_doubled_rows_are_counted() -> None:
    pieces = [entries(rows([1, 2, 3]), 0), entries(rows([3, 2, 3]), 1)]
    assert Ledger.merged(pieces).doubled() == 3


def test_unseen_names_what_was_not_listed_by_file() -> None:
    ledger = Ledger.merged(
        [
            entries(rows([1, 2, 3]), 0),
            entries(rows([4, 5]), 1),
            entries(rows([6]), 2, in_scope=False),
        ]
    )
    todo = subtract([ledger], refs([1, 3, 5]), retry_errors=False)
    seen = np.zeros(len(ledger), dtype=bool)
    for _, at in todo.found:
        seen[at] = True
    ids = dict(zip(refs([2, 4])["object_id"].to_pylist(), [2, 4], strict=True))
    unseen = ledger.unseen(seen)
    assert {file: [ids[i] for i in gone] for file, gone in unseen.items()} == {0: [2], 1: [4]}
    assert todo.counts["matched"] == 3
    assert ledger.count_in_scope() == 5
