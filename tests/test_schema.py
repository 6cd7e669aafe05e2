"""The four tables and the identity of an object, which must never change unnoticed."""

from pathlib import Path

import deltalake
import pyarrow as pa
import pytest

from pipeline.schema import (
    OBJECT_ID_BYTES,
    PARTITION,
    PARTS,
    PIXELS,
    REFS,
    in_flight,
    object_id,
    rows_of,
    version,
)
from pipeline.tasks import REGISTRY, task_named

LABELS = task_named("classify").rows
LABELLED = in_flight(LABELS)
TABLES = {"REFS": REFS, "PIXELS": PIXELS, "PARTS": PARTS}
TABLES |= {f"rows of {name}": task_named(name).rows for name in REGISTRY}
TABLES |= {f"{name} in flight": in_flight(task_named(name).rows) for name in REGISTRY}


def leaves(kind: pa.DataType) -> list[pa.DataType]:
    """The types a type is made of, itself if it is made of none."""
    parts = [kind.field(index).type for index in range(kind.num_fields)]
    return [leaf for part in parts for leaf in leaves(part)] or [kind]


@pytest.mark.parametrize("name", TABLES)
def test_types_are_ones_that_delta_has(name: str) -> None:
    allowed = {
        *(pa.string(), pa.binary(), pa.large_binary()),
        *(pa.int32(), pa.int64(), pa.float32(), pa.timestamp("us", tz="UTC")),
    }
    for field in TABLES[name]:
        assert set(leaves(field.type)) <= allowed, field


def test_labels_survive_a_delta_table(tmp_path: Path) -> None:
    schema = LABELS.append(pa.field(PARTITION, pa.string()))
    deltalake.write_deltalake(tmp_path, schema.empty_table(), partition_by=[PARTITION])
    stored = pa.schema(deltalake.DeltaTable(tmp_path).schema().to_arrow())
    assert stored.names == schema.names
    assert [field.nullable for field in stored] == [field.nullable for field in schema]


@pytest.mark.parametrize(
    "column", [pa.field("uri", pa.string()), pa.field("sky", pa.string(), nullable=False)]
)
def test_a_task_takes_no_common_name_and_lets_errors_be_null(column: pa.Field) -> None:
    with pytest.raises(ValueError, match="must be nullable and new"):
        rows_of([column])


def test_a_ref_stays_whole_on_its_way() -> None:
    for table in (PIXELS, LABELLED):
        kept = [field for field in REFS if field.name not in {"address", "place", "data"}]
        assert [table.field(field.name) for field in kept] == kept


def test_an_address_goes_no_further_than_the_read() -> None:
    assert "address" in REFS.names
    assert "address" not in {*PIXELS.names, *LABELS.names, *LABELLED.names}
    assert "replaces" not in LABELS.names
    assert PARTITION not in LABELS.names


@pytest.mark.parametrize("table", [PIXELS, LABELS])
def test_an_error_is_a_row_in_the_same_schema(table: pa.Schema) -> None:
    assert table.field("error_code").nullable
    assert all(table.field(name).nullable for name in ("width", "height", "format"))


def test_identities_are_frozen() -> None:
    """Another value here would label every stored object again."""
    assert object_id("s3://b/k.jpg").hex() == "3ad2e6f6087cfeffab04bd04"
    assert object_id("s3://b/k.tar", "a.jpg").hex() == "8ca034f1000575a40ea0ccf4"
    assert version("abc", 1, 2) == 8454296588888818833
    assert version(None, 1, 2) == -7645289443766424659
    assert version(None, 1, None) == -7177022593034785605
    assert version(None, None, None) == 0


def test_an_object_id_tells_objects_apart() -> None:
    ids = [
        object_id("a"),
        object_id("a", ""),
        object_id("a", "b"),
        object_id("ab"),
        object_id("é"),
        object_id("e\u0301"),
        object_id("\udcff"),  # a file name that is no UTF-8
    ]
    assert len(set(ids)) == len(ids)
    assert {len(one) for one in ids} == {OBJECT_ID_BYTES}


def test_a_version_follows_the_etag_alone_where_there_is_one() -> None:
    assert version("x", 1, 2) == version("x", 9, None)
    assert version("x", 1, 2) != version("y", 1, 2)
    assert version(None, 1, 2) != version(None, 1, 3)
    assert version(None, 1, 2) != version("1:2", None, None)
    assert all(-(2**63) <= version(str(n), None, None) < 2**63 for n in range(1000))
