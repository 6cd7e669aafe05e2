"""The files of a label store's table, and the Delta actions that add and remove them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline import schema
from pipeline.store.parts import Part

if TYPE_CHECKING:
    from deltalake.transaction import AddAction, RemoveAction


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A file that the current version of the table names."""

    path: str
    recipe: str
    num_rows: int
    size_bytes: int


def add(part: Part, now: int) -> "AddAction":
    """The action that adds a part's rows; `now` in milliseconds since the epoch."""
    from deltalake.transaction import AddAction

    return AddAction(
        path=part.path,
        size=part.size_bytes,
        partition_values={schema.PARTITION: part.recipe},
        modification_time=now,
        data_change=True,
        stats=part.stats,
    )


def remove(file: LiveFile | Part, now: int) -> "RemoveAction":
    """The action that removes a file's rows; `now` in milliseconds since the epoch."""
    from deltalake.transaction import RemoveAction

    return RemoveAction(
        path=file.path,
        data_change=True,
        deletion_timestamp=now,
        size=file.size_bytes,
        partition_values={schema.PARTITION: file.recipe},
    )
