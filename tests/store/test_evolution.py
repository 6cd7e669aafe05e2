"""A store holds one kind of result; columns come to it, and its old files stay as they are."""

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from pipeline import schema
from pipeline.errors import ConflictError, StoreError
from pipeline.runs.finalize import compact, inline, merge
from pipeline.storage import Folder
from pipeline.store.delta.table import Table
from pipeline.store.fields import KIND
from pipeline.store.parts import Part, read_part, rewrite_without, write_part
from pipeline.store.reader import LabelStore
from tests.store.stores import LABELS, RECIPE, new_table, rows

SKY = pa.field("sky", pa.float32())
WORDS = pa.field("words", pa.list_(pa.field("element", pa.string())))


@pytest.fixture
def local(tmp_path: Path) -> Folder:
    made = Folder(str(tmp_path / "labels"))
    made.ensure()
    return made


def skies(names: list[int], *columns: pa.Field) -> pa.Table:
    """Rows as a task with more columns writes them."""
    found = rows(names)
    for column in columns:
        value: Any = [["blue"]] if column == WORDS else [0.5]
        found = found.append_column(column, pa.array(value * len(names), column.type))
    return found


def part(folder: Folder, name: str, table: pa.Table) -> Part:
    return write_part(folder, f"_parts/run/recipe={RECIPE}/{name}.parquet", RECIPE, table)


def test_a_table_says_its_kind_and_one_that_does_not_holds_labels(local: Folder) -> None:
    Table.create(local, [SKY], "measures")
    assert [LabelStore(local.uri).kind, LabelStore(local.uri).schema] == [
        "measures",
        schema.rows_of([SKY]),
    ]
    with pytest.raises(StoreError, match="holds measures, which have no labels"):
        LabelStore(local.uri).label_counts()


def test_a_table_of_before_there_were_kinds_holds_labels(local: Folder) -> None:
    fields = pa.schema([pa.field("recipe", pa.string(), nullable=False), *LABELS])
    DeltaTable.create(local.delta_url, schema=fields, partition_by=["recipe"])
    opened = Table.open(local)
    assert opened is not None
    assert (opened.kind, opened.schema) == ("labels", LABELS)
    assert KIND not in DeltaTable(local.delta_url).metadata().configuration


def test_columns_come_in_one_commit_and_old_files_hold_null(folder: Folder) -> None:
    folder.ensure()
    table = new_table(folder)
    old = part(folder, "old", rows([1, 2]))
    table.commit(added=[old])
    before = folder.read(old.path)
    version = table.version
    table.add_columns([*LABELS, SKY, WORDS])
    table.add_columns([SKY])
    assert table.version == version + 1
    table.commit(added=[part(folder, "new", skies([3], SKY, WORDS))])
    assert folder.read(old.path) == before

    store = LabelStore(folder.uri)
    assert store.schema.names == [*LABELS.names, "sky", "words"]
    found = store.to_table(["uri", "label", "sky", "words"], recipe=RECIPE).sort_by("uri")
    assert found["sky"].to_pylist() == [None, None, 0.5]
    assert found["words"].to_pylist() == [None, None, ["blue"]]
    assert store.to_table(recipe=RECIPE).schema == store.schema
    assert sorted(store.to_table(["sky"], RECIPE)["sky"].to_pylist(), key=str) == [0.5, None, None]
    delta = DeltaTable(folder.delta_url, storage_options=folder.delta_options)
    assert sorted(delta.to_pyarrow_table()["sky"].to_pylist(), key=str) == [0.5, None, None]


def test_what_rewrites_files_keeps_the_columns(local: Folder) -> None:
    table = new_table(local)
    table.commit(added=[part(local, "old", rows([1, 2]))])
    table.add_columns([SKY])
    table.commit(added=[part(local, "new", skies([3, 4], SKY))])
    assert merge(local, table, "n1", inline) == 2
    (file,) = table.live()
    assert read_part(local, file.path, ["uri", "sky"])["sky"].to_pylist() == [None, None, 0.5, 0.5]
    left = rewrite_without(
        local, file.path, "_parts/n2/a.parquet", RECIPE, [schema.object_id("s3://photos/1")]
    )
    assert left is not None
    table.commit(added=[left], removed=[file])
    compact(local, table, "n2", inline)
    assert LabelStore(local.uri).to_table(["sky"], RECIPE)["sky"].to_pylist() == [None, 0.5, 0.5]
    plain = pl.scan_parquet(f"{local.delta_url}/recipe=*/*.parquet").select("uri", "sky").collect()
    assert plain.sort("uri")["sky"].to_list() == [None, 0.5, 0.5]


def test_another_type_and_another_writer_are_refused(local: Folder) -> None:
    table, other = new_table(local), Table.open(local)
    assert other is not None
    with pytest.raises(StoreError, match="column label of type string, not float"):
        table.add_columns([pa.field("label", pa.float32())])
    for wrong in (pa.field("sky", pa.float32(), nullable=False), pa.field("recipe", pa.string())):
        with pytest.raises(ValueError, match="must be nullable and new"):
            table.add_columns([wrong])
    table.add_columns([SKY])
    with pytest.raises(ConflictError):
        other.add_columns([WORDS])
    with pytest.raises(ConflictError):  # and from then on
        other.commit()


@pytest.mark.parametrize(
    "fields",
    [
        [field for field in LABELS if field.name != "version"],
        [f if f.name != "object_id" else pa.field("object_id", pa.string()) for f in LABELS],
        [*LABELS, pa.field("sky", pa.float32(), nullable=False)],
    ],
    ids=["one lacks", "another type", "what a row must have"],
)
def test_a_table_of_another_form_is_no_store(local: Folder, fields: list[pa.Field]) -> None:
    partition = pa.field("recipe", pa.string(), nullable=False)
    DeltaTable.create(local.delta_url, schema=pa.schema([partition, *fields]))
    with pytest.raises(StoreError, match="not a label store of schema version 1"):
        Table.open(local)
