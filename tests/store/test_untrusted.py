"""What is read back from a store may have been written by anybody."""

import json
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import StoreError
from pipeline.runs.finalize import compact, compact_store, inline, merge
from pipeline.storage import Folder
from pipeline.store.choice import CURRENT, load_current
from pipeline.store.delta.table import Table
from pipeline.store.lease import PATH, Holder
from pipeline.store.parts import read_part, write_part
from pipeline.store.reader import LabelStore
from pipeline.store.recipes import RECIPES, load_recipes
from pipeline.store.runs import RUNS, load_runs, read_runs
from tests.parts.models.pickles import forged
from tests.parts.servers.traffic import ranges_alone
from tests.store.stores import RECIPE, new_table, rows

LEADING_OUT = [
    "../victim.parquet",
    "../../victim.parquet",
    "_parts/../../victim.parquet",
    "recipe=r1/../../victim.parquet",
    "./a.parquet",
    "_parts//a.parquet",
    "_parts/%2e%2e/%2E./victim.parquet",
    "file:///tmp/victim.parquet",
    "s3://bucket/victim.parquet",
    "..",
    "",
]


@pytest.fixture
def local(tmp_path: Path) -> Folder:
    made = Folder(str(tmp_path / "labels"))
    made.ensure()
    return made


@pytest.mark.parametrize("path", [*LEADING_OUT, "/etc/passwd", "/victim.parquet"])
def test_a_folder_refuses_paths_that_leave_it(local: Folder, path: str) -> None:
    calls: list[Any] = [
        lambda: local.read(path),
        lambda: local.ranges(path),
        lambda: local.stat(path),
        lambda: local.put(path, b"x"),
        lambda: local.create(path, b"x"),
        lambda: local.replace(path, b"x", "etag"),
        lambda: local.delete([path]),
        lambda: local.copy(path, "a"),
        lambda: local.copy("a", path),
    ]
    for call in calls:
        with pytest.raises(StoreError, match="is not a path within it"):
            call()


def test_a_listing_stays_within(local: Folder) -> None:
    with pytest.raises(StoreError, match="is not a path within it"):
        list(local.list("../"))


def victim_of(local: Folder, escaped: bool) -> tuple[Path, str]:
    """A file beside the store, in a part's form, and a path to it from within."""
    victim = Path(local.uri.removeprefix("file://")).parent / "victim.parquet"
    write_part(Folder(str(victim.parent)), victim.name, RECIPE, rows([1]))
    return victim, "_parts/%2e%2e/%2e%2e/victim.parquet" if escaped else "../victim.parquet"


def add(local: Folder, **fields: Any) -> None:
    """A commit by someone who writes into the log by hand."""
    action = {
        "path": "_parts/run/x.parquet",
        "partitionValues": {"recipe": RECIPE},
        "size": 100,
        "modificationTime": 0,
        "dataChange": True,
        "stats": json.dumps({"numRecords": 1}),
    }
    number = max(int(entry.uri[-25:-5]) for entry in local.list("_delta_log/0")) + 1
    line = json.dumps({"add": action | fields})
    local.put(f"_delta_log/{number:020}.json", line.encode())


@pytest.mark.parametrize("escaped", [False, True])
def test_a_log_that_names_a_file_elsewhere_reads_and_deletes_nothing(
    local: Folder, escaped: bool
) -> None:
    table = new_table(local)
    table.commit(added=[write_part(local, "_parts/run/a.parquet", RECIPE, rows([2]))])
    victim, path = victim_of(local, escaped)
    add(local, path=path)
    before = victim.read_bytes()
    opened = Table.open(local)
    assert opened is not None
    store = LabelStore(local.uri)
    calls: list[Any] = [
        lambda: merge(local, opened, "run", inline),
        lambda: compact(local, opened, "run", inline),
        lambda: compact_store(local.uri),
        lambda: store.to_table(recipe=RECIPE),
        lambda: store.files(RECIPE),
    ]
    for call in calls:
        with pytest.raises(StoreError, match=r"victim\.parquet' is not a path within it"):
            call()
    assert victim.read_bytes() == before


@pytest.mark.parametrize(
    "fields",
    [
        {"partitionValues": {"recipe": "../.."}},
        {"partitionValues": {"recipe": "a/b"}},
        {"partitionValues": {"recipe": None}},
        {"partitionValues": {"recipe": "x\x1b[2J"}},
        {"stats": None},
        {"stats": json.dumps({"numRecords": -1})},
        {"size": -1},
    ],
)
def test_a_log_that_no_run_wrote_is_refused(local: Folder, fields: dict[str, Any]) -> None:
    new_table(local)
    add(local, **fields)
    with pytest.raises(StoreError, match=r"another program has written|non-nullable") as caught:
        Table.open(local).live()  # type: ignore[union-attr]
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"name": ["x"]}),
        pa.table({"uri": [[1]], "object_id": [b"x"]}),
        None,
    ],
)
def test_a_file_of_other_columns_is_one_clear_error(local: Folder, table: pa.Table | None) -> None:
    path = Path(local.uri.removeprefix("file://")) / "a.parquet"
    if table is None:
        path.write_bytes(b"PAR1 no parquet PAR1")
    else:
        pq.write_table(table, path)
    for columns in (None, ["uri", "object_id"]):
        with pytest.raises(StoreError, match="is not a file of a label store") as caught:
            read_part(local, "a.parquet", columns)
        assert "\n" not in str(caught.value)
    with ranges_alone(), pytest.raises(StoreError, match="is not a file of a label store"):
        read_part(local, "a.parquet", ["uri", "object_id"])


def test_a_part_that_brings_code_runs_none(local: Folder, tmp_path: Path) -> None:
    """Ray registers a type with Arrow that unpickles whatever a file holds."""
    forged(Path(local.uri.removeprefix("file://")) / "a.parquet", "uri", tmp_path / "code-was-run")
    for reading in (nullcontext(), ranges_alone()):
        with reading, suppress(StoreError):
            read_part(local, "a.parquet", ["uri"]).to_pylist()
    assert not (tmp_path / "code-was-run").exists()


BAD_DOCUMENTS = [
    b"",
    b"[]",
    b"\xff\xfe",
    b'{"recipe": 1}',
    b'{"recipe": "r1", "more": "x"}',
    b"[" * 50_000,
    b'{"recipe": "\x1b[2J',
]


@pytest.mark.parametrize("data", BAD_DOCUMENTS)
def test_documents_of_others_are_one_clear_error(local: Folder, data: bytes) -> None:
    local.put(CURRENT, data)
    local.put(f"{RUNS}x.json", data)
    local.put(PATH, data)
    with pytest.raises(StoreError, match=r"is not a \w+ of ours: ") as caught:
        load_current(local)
    told = [str(caught.value), *read_runs(local).unread]
    assert len(told) == 2
    assert all(line.isprintable() and len(line) < 600 for line in told)
    assert load_runs(local) == []
    assert Holder.parse(data) is None


def test_a_lease_has_its_fields_and_no_others() -> None:
    mine = {
        "run_id": "r", "host": "h", "boot_id": "b", "pid": 1, "started": 2, "token": "t",
    }  # fmt: skip
    assert Holder.parse(json.dumps(mine).encode()) == Holder(**mine)
    for change in ({"pid": "1"}, {"pid": 1.5}, {"more": 1}, {"host": None}):
        assert Holder.parse(json.dumps(mine | change).encode()) is None


def test_a_document_of_any_size_is_not_read(local: Folder) -> None:
    """A sparse file: reading it would take 5 GB of memory."""
    new_table(local)
    for path in (CURRENT, f"{RUNS}x.json", f"{RECIPES}x.json", PATH):
        local.put(path, b"{}")
        with (Path(local.uri.removeprefix("file://")) / path).open("r+b") as file:
            file.truncate(5 * 2**30)
    for call in (lambda: load_current(local), lambda: compact_store(local.uri)):
        with pytest.raises(StoreError, match=r"has 5,368,709,120 bytes, over the "):
            call()
    assert load_runs(local) == []
    assert load_recipes(local) == {}
