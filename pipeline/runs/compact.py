"""Compacting a store outside a run."""

from datetime import UTC, datetime

from pipeline.errors import MissingError
from pipeline.runs.finalize import compact, inline
from pipeline.storage import Folder, canonical
from pipeline.store.delta.table import Table
from pipeline.store.lease import Lease
from pipeline.store.runs import new_run_id


def compact_store(dst: str, *, take_over: bool = False) -> tuple[int, int]:
    """Merge small files under the lease; returns (files before, files after).

    Raises MissingError where there is no store, BusyError while a run is writing.
    """
    folder = Folder(canonical(dst))
    if Table.open(folder) is None:
        raise MissingError(f"{dst}: no label store here")
    run_id = new_run_id(datetime.now(UTC))
    with Lease(folder, run_id, take_over=take_over):
        table = Table.open(folder)
        if table is None:
            raise MissingError(f"{dst}: the label store vanished")
        return compact(folder, table, run_id, inline)
