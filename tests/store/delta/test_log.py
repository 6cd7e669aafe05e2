"""A Delta log whose beginning is removed, whole or half-way, and the table that goes on."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.errors import StoreError
from pipeline.storage import Folder
from pipeline.store.delta.log import (
    Traces,
    files_with_traces,
    log_files,
    oldest_version,
    remove_up_to_the_last,
)
from pipeline.store.delta.table import Table
from pipeline.store.parts import write_part
from tests.store.stores import RECIPE, new_table, rows


def grow(folder: Folder, table: Table, *names: str) -> list[datetime]:
    """A commit a name; returns a moment after each."""
    moments = []
    for name in names:
        path = f"_parts/run/recipe={RECIPE}/{name}.parquet"
        table.commit(added=[write_part(folder, path, RECIPE, rows([name]))])
        time.sleep(0.01)  # commits are told apart by milliseconds
        moments.append(datetime.now(UTC))
        time.sleep(0.01)
    return moments


@pytest.fixture
def table(folder: Folder) -> Table:
    folder.ensure()
    return new_table(folder)


@pytest.mark.parametrize("removed", range(6))
def test_a_log_cut_anywhere_can_be_asked_for_every_moment(tmp_path: Path, removed: int) -> None:
    """A version whose beginning is gone names nothing, and the rest what it named.

    On local disk: S3 tells the times of commits in seconds.
    """
    folder = Folder(str(tmp_path / "labels"))
    folder.ensure()
    table = new_table(folder)
    moments = grow(folder, table, *"abcde")
    table.checkpoint()
    folder.delete([file.path for file in log_files(folder)[:removed]])
    found = [len(table.paths_at(folder, moment)) for moment in moments]
    assert found == ([0, 0, 0, 0, 5] if removed else [1, 2, 3, 4, 5])
    grow(folder, table, "f")
    opened = Table.open(folder)
    assert opened is not None
    assert len(opened.live()) == 6


def test_the_log_is_cut_at_the_first_checkpoint_without_a_trace(
    folder: Folder, table: Table
) -> None:
    grow(folder, table, "a", "b")
    file = next(file for file in table.live() if file.path.endswith("/a.parquet"))
    table.commit(removed=[file])
    table.checkpoint()
    clean = table.version
    grow(folder, table, "c")
    table.checkpoint()
    traced = files_with_traces(folder, Traces.of({file.path}, set(), ["s3://photos/a"]))
    assert [one.version for one in traced] == [1]
    assert remove_up_to_the_last(folder, traced) == clean
    assert oldest_version(folder) == clean


def test_a_log_without_a_later_checkpoint_is_not_cut(folder: Folder, table: Table) -> None:
    grow(folder, table, "a")
    traced = files_with_traces(folder, Traces.of(set(), set(), ["s3://photos/a"]))
    with pytest.raises(StoreError, match="no checkpoint after 1"):
        remove_up_to_the_last(folder, traced)
    assert oldest_version(folder) == 0
