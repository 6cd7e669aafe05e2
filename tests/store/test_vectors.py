"""Vectors in Parquet: one encoding whichever way a file is written, few bytes, read by anybody."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import schema
from pipeline.storage import Folder
from pipeline.store.delta.actions import LiveFile
from pipeline.store.delta.table import Table
from pipeline.store.parts import (
    ROW_GROUP_ROWS,
    VECTOR_GROUP_BYTES,
    Part,
    copy_part,
    layout_of,
    merge_parts,
    read_part,
    rewrite_without,
    write_part,
)
from pipeline.store.upkeep import LARGE_ROWS, large_rows, plan_compact, plan_merge
from pipeline.tasks import vectors
from pipeline.tasks.classify import Classify
from pipeline.tasks.embed import Embed
from tests.store.stores import NOW, RECIPE, new_table

DIM = 384
ROWS = Embed().rows
LEAF = "embedding.list.element"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "vectors"))


def found(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (count, DIM)).astype(np.float32)


def rows(count: int, dtype: vectors.Dtype = "float16", first: int = 0, errors: int = 0) -> pa.Table:
    """`count` rows with a vector each, and `errors` more without."""
    uris = [f"s3://photos/{first + n:06}" for n in range(count + errors)]
    place = pa.array([*range(count), *[None] * errors], pa.int32())
    columns = {
        "uri": uris,
        "object_id": [schema.object_id(uri) for uri in uris],
        "version": [1] * len(uris),
        "embedding": vectors.vector_array(found(count, first), dtype).take(place),
        "error_code": [None] * count + ["truncated"] * errors,
        "run_id": ["run"] * len(uris),
        "recipe_id": [RECIPE] * len(uris),
        "labelled_at": [NOW] * len(uris),
    }
    return pa.table([columns.get(f.name, pa.nulls(len(uris), f.type)) for f in ROWS], schema=ROWS)


def logged(part: Part) -> LiveFile:
    return LiveFile(part.path, part.recipe, part.num_rows, part.size_bytes)


def _written(folder: Folder) -> Part:
    return write_part(folder, "recipe=r00000001/a.parquet", RECIPE, rows(30, errors=2))


def _copied(folder: Folder) -> Part:
    return copy_part(folder, logged(_written(folder)), "recipe=r00000001/b.parquet", RECIPE)


def _rewritten(folder: Folder) -> Part:
    gone = [schema.object_id("s3://photos/000003")]
    path = "recipe=r00000001/b.parquet"
    part = rewrite_without(folder, logged(_written(folder)), path, RECIPE, gone)
    assert part is not None
    return part


def _merged(folder: Folder) -> Part:
    other = write_part(folder, "recipe=r00000001/b.parquet", RECIPE, rows(30, first=100))
    files = [logged(other), logged(_written(folder))]
    return merge_parts(folder, files, "recipe=r00000001/c.parquet", RECIPE)


@pytest.mark.parametrize("write", [_written, _copied, _rewritten, _merged])
def test_every_way_a_file_is_written_splits_the_bytes_of_vectors(
    folder: Folder, write: Callable[[Folder], Part]
) -> None:
    part = write(folder)
    path = Path(folder.uri) / part.path
    footer = pq.read_metadata(path)
    group = footer.row_group(0)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    vector = columns.pop(LEAF)
    assert "BYTE_STREAM_SPLIT" in vector.encodings
    assert not {"PLAIN_DICTIONARY", "RLE_DICTIONARY"} & {*vector.encodings}
    assert vector.compression == "ZSTD"
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert "RLE_DICTIONARY" in columns["run_id"].encodings
    assert not any("BYTE_STREAM_SPLIT" in column.encodings for column in columns.values())
    back = read_part(folder, logged(part))
    assert back.schema.field("embedding").type == vectors.COLUMN.type
    expected = {schema.object_id(f"s3://photos/{n:06}"): one for n, one in enumerate(found(30))}
    for name, vector in zip(
        back["object_id"].to_pylist(), back["embedding"].to_pylist(), strict=True
    ):
        if name in expected and vector is not None:
            np.testing.assert_array_equal(vector, expected[name].astype(np.float16))


def test_labels_are_written_as_they_were() -> None:
    from tests.store.stores import rows as labels

    assert layout_of(labels([1, 2])) == {"row_group_size": ROW_GROUP_ROWS}


def test_half_floats_take_half_the_bytes_and_a_group_little_memory(folder: Folder) -> None:
    sizes = {
        dtype: write_part(folder, f"{dtype}.parquet", RECIPE, rows(2000, dtype)).size_bytes
        for dtype in ("float16", "float32")
    }
    assert sizes["float16"] < 0.55 * sizes["float32"]
    assert sizes["float16"] < 2000 * DIM * 2
    wide = rows(100)
    assert layout_of(wide)["row_group_size"] == pytest.approx(
        VECTOR_GROUP_BYTES / DIM / 4, rel=0.02
    )


def test_vectors_of_images_that_are_all_the_same_are_read(folder: Folder) -> None:
    """zstd makes next to nothing of them, as of what is to fill a reader's memory."""
    count, dim = 12_000, 768
    same = vectors.vector_array(np.ones((count, dim), np.float32), "float16")
    found = rows(count, first=0)
    found = found.set_column(ROWS.get_field_index("embedding"), vectors.COLUMN, same)
    part = write_part(folder, f"recipe={RECIPE}/a.parquet", RECIPE, found)
    assert part.size_bytes < count * 60
    assert read_part(folder, logged(part), ["embedding"]).num_rows == count


def test_files_of_vectors_hold_fewer_rows() -> None:
    parts = [LiveFile(f"_parts/r/{n}.parquet", RECIPE, 40_000, 2**20) for n in range(4)]
    assert large_rows(ROWS) == 65_536
    assert large_rows(Classify().rows) == LARGE_ROWS
    assert len(plan_merge(parts, "run", large_rows(ROWS))) == 4
    assert len(plan_merge(parts, "run")) == 1
    rest = [LiveFile(f"recipe={RECIPE}/{n}.parquet", RECIPE, 40_000, 2**20) for n in range(4)]
    assert plan_compact(rest, large_rows(ROWS)) == []
    assert plan_compact(rest) == rest


def test_a_store_of_vectors_is_read_by_anybody(folder: Folder) -> None:
    table = Table.create(folder, Embed.columns, Embed.kind)
    part = write_part(folder, f"recipe={RECIPE}/a.parquet", RECIPE, rows(30, errors=2))
    table.commit(added=[part])
    truth = found(30).astype(np.float16).astype(np.float32)
    uri = folder.uri

    read = read_part(folder, logged(part), ["embedding"])["embedding"].drop_null()
    np.testing.assert_array_equal(
        read.combine_chunks().flatten().to_numpy().reshape(-1, DIM), truth
    )

    frame = pl.read_delta(uri).filter(pl.col("error_code").is_null()).sort("uri")
    array = frame["embedding"].list.to_array(DIM).to_numpy()
    np.testing.assert_array_equal(array, truth)

    files = f"read_parquet('{uri}/recipe=*/*.parquet')"
    query = f"""
        with v as (select uri, embedding::float[{DIM}] as e from {files} where error_code is null)
        select b.uri from v a, v b where a.uri like '%000007'
        order by array_cosine_similarity(a.e, b.e) desc limit 1
    """
    assert duckdb.sql(query).fetchall() == [("s3://photos/000007",)]


def test_a_store_of_labels_gains_the_column_and_keeps_its_files(folder: Folder) -> None:
    from pipeline.tasks.classify_embed import ClassifyEmbed
    from tests.store.stores import rows as labels

    table = new_table(folder)
    old = write_part(folder, f"recipe={RECIPE}/old.parquet", RECIPE, labels([1, 2]))
    table.commit(added=[old])
    table.add_columns(ClassifyEmbed.columns)
    assert table.schema.names[-1] == "embedding"
    assert pl.read_delta(folder.uri)["embedding"].null_count() == 2
    table.add_columns(ClassifyEmbed.columns)
    assert table.version == 2
