"""End of a run: delete gone rows on request, merge parts, remove left-overs; also `compact`."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from pipeline.errors import ConflictError, GateError, MissingError
from pipeline.storage import Folder, canonical
from pipeline.store.delta.actions import LiveFile
from pipeline.store.delta.table import Table
from pipeline.store.lease import Lease
from pipeline.store.parts import Part, copy_part, merge_parts, rewrite_without
from pipeline.store.runs import new_run_id
from pipeline.store.upkeep import (
    large_rows,
    orphans,
    part_path,
    parts_of,
    plan_compact,
    plan_merge,
    strays,
)

#: `--delete` refuses to remove more than this share of the scope's rows at once.
DELETE_SHARE = 0.10


class Runner(Protocol):
    """Calls a function with each tuple of arguments, in any place and order."""

    def __call__(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]
    ) -> Iterator[Any]: ...


def inline(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
    """Call one after the other in this process."""
    return (function(*call) for call in calls)


def merge(folder: Folder, table: Table, run_id: str, run: Runner) -> int:
    """Merge all parts into large files at rest; returns how many parts there were.

    See `store.upkeep` for the order and its reasons.
    """
    files = table.live()
    parts = parts_of(files)
    recipes = {file.recipe for file in files}
    # Listed before the fence: files that a later run has written since must not be deleted.
    left_over = strays(folder, files, recipes)
    if parts or left_over:
        table.commit()
        folder.delete(left_over)
        groups = plan_merge(files, run_id, large_rows(table.schema))
        calls = [(folder, group.files, group.new_path, group.recipe) for group in groups]
        merged: list[Part] = list(run(merge_parts, calls))
        if merged:
            _commit_merged(folder, table, merged, parts)
    folder.delete(orphans(folder, table))
    return len(parts)


def _commit_merged(
    folder: Folder, table: Table, merged: Sequence[Part], parts: Sequence[LiveFile]
) -> None:
    try:
        table.commit(added=merged, removed=parts)
    except ConflictError:
        # Another run took over meanwhile and merged the same rows; plain readers see both.
        folder.delete([part.path for part in merged])
        raise


def compact(folder: Folder, table: Table, run_id: str, run: Runner) -> tuple[int, int]:
    """Merge small files at rest too; returns (files before, files after).

    They first become parts again, so that plain readers never see a row twice.
    """
    files = table.live()
    small = plan_compact(files, large_rows(table.schema))
    if small:
        numbered = enumerate(small)
        calls = [
            (
                folder,
                file,
                part_path(run_id, file.recipe, f"compact-{number:06}"),
                file.recipe,
            )
            for number, file in numbered
        ]
        table.commit(added=list(run(copy_part, calls)), removed=small)
    merge(folder, table, run_id, run)
    return len(files), len(table.live())


def delete_gone(
    folder: Folder,
    table: Table,
    files: Sequence[LiveFile | Part | None],
    gone: dict[int, list[bytes]],
    in_scope: int,
    run_id: str,
    run: Runner,
) -> int:
    """Remove the rows of objects that are no longer listed, in one commit; returns how many.

    `files` maps the ordinals in `gone` to files. Raises GateError if more than 10%
    of the scope would be removed: a wrong SRC is more likely than an archive that shrank so much.
    """
    total = sum(map(len, gone.values()))
    if not total:
        return 0
    if total > max(1, DELETE_SHARE * in_scope):
        raise GateError(
            f"--delete would remove {total:,} of {in_scope:,} rows, over {DELETE_SHARE:.0%}: "
            "is SRC complete? If it is, delete in smaller steps or start a new store"
        )
    shrinking = {n: file for n in gone if (file := files[n]) is not None}
    calls = [
        (folder, file, part_path(run_id, file.recipe, f"delete-{n}"), file.recipe, gone[n])
        for n, file in shrinking.items()
    ]
    rewritten: list[Part | None] = list(run(rewrite_without, calls))
    table.commit(
        added=[part for part in rewritten if part is not None], removed=[*shrinking.values()]
    )
    return total


def compact_store(dst: str, *, take_over: bool = False) -> tuple[int, int]:
    """Merge small files under the lease; returns (files before, files after).

    Raises MissingError if there is no store, BusyError while a run is writing.
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
