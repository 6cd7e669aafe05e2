"""Which table columns make a label store, and which columns can be added to it."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

import pyarrow as pa

from pipeline import schema
from pipeline.errors import StoreError

#: The table property with the kind of result; a table without it was made before there were other
#: kinds, and holds labels.
KIND: Final = "nightlabel.kind"
LABELS: Final = "labels"

_PARTITION: Final = pa.field(schema.PARTITION, pa.string(), nullable=False)


def fields_for(columns: Iterable[pa.Field]) -> pa.Schema:
    """The fields of a table for a task with these columns, the partition first."""
    return pa.schema([_PARTITION, *schema.rows_of(columns)])


def is_store(found: pa.Schema) -> bool:
    """Whether a table with these fields is a store: all common fields, and nullable results."""
    due = {field.name: _plain(field.type) for field in (_PARTITION, *schema.COMMON)}
    kinds = {field.name: _plain(field.type) for field in found}
    results = [field for field in found if field.name not in due]
    return due.items() <= kinds.items() and all(field.nullable for field in results)


def lacking(known: pa.Schema, columns: Sequence[pa.Field], where: str) -> list[pa.Field]:
    """Those of a task's `columns` that the store at `where` lacks.

    Raises StoreError for one that it has with another type, ValueError for one that no task may
    add.
    """
    missing = [column for column in columns if column.name not in known.names]
    for column in columns:
        if column not in missing and _plain(known.field(column.name).type) != _plain(column.type):
            raise StoreError(
                f"{where} has a column {column.name} of type {known.field(column.name).type}, "
                f"not {column.type}: give another folder"
            )
    schema.rows_of(missing)
    return missing


def _plain(kind: pa.DataType) -> str:
    """A type by its content, whichever of Arrow's layouts it has."""
    return re.sub(r"large_|_view|not null| ", "", re.sub(r"<\w+: ", "<", str(kind)))
