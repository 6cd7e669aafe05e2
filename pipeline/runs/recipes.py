"""Recipes of a store: list them, choose the one that readers see, drop one."""

from collections.abc import Iterable
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from pipeline.errors import BusyError, MissingError, SpecError
from pipeline.runs.promotion import rows_of
from pipeline.runs.scopes import widest
from pipeline.storage import Folder, canonical
from pipeline.store.choice import (
    TRIES,
    Choice,
    begin_drop,
    choose,
    clear_dead_drop,
    end_drop,
    load_current,
)
from pipeline.store.delta.table import Table
from pipeline.store.lease import Lease
from pipeline.store.names import is_data
from pipeline.store.recipes import delete_recipe, load_recipes, recipe_names
from pipeline.store.run_index import RunIndex
from pipeline.store.runs import RunSummary, load_runs, new_run_id, save_run
from pipeline.store.upkeep import at_rest, orphans, parts_of
from pipeline.tasks import Recipe, known_recipes


class Listed(BaseModel):
    """One recipe of a store. `share` is of the objects listed, 0 to 1; null if not known."""

    model_config = ConfigDict(frozen=True)

    recipe: str
    current: bool
    rows: int
    share: float | None
    model: str | None
    revision: str | None
    last_run: datetime | None
    differences: list[str] = Field(description="from the current recipe, one line a field")


class Used(BaseModel):
    """The result of a choice: `recipe` is what readers see now, `before` what they saw."""

    model_config = ConfigDict(frozen=True)

    recipe: str
    before: str | None
    rows: int


class Dropped(BaseModel):
    """A recipe that was removed. A later run deletes its parts, once no reader can hold them."""

    model_config = ConfigDict(frozen=True)

    recipe: str
    rows: int
    files: int
    parts_left: int


def list_recipes(dst: str) -> list[Listed]:
    """All recipes of a store, the current one first, then by their last run, newest first."""
    folder, table = _open(dst)
    current = load_current(folder)
    documents, runs = load_recipes(folder), load_runs(folder, RunIndex.read(folder))
    listed = _listed(runs)
    known = known_recipes(documents)
    found = [
        _row(name, current, rows_of(table, name), listed, known, runs)
        for name in _names(table, documents)
    ]
    found.sort(key=lambda row: row.last_run.timestamp() if row.last_run else 0.0, reverse=True)
    return sorted(found, key=lambda row: not row.current)


def use_recipe(dst: str, given: str) -> Used:
    """Let readers see the recipe whose id begins with `given`, by one atomic write.

    Takes no lease: it may be called while a run writes. Raises SpecError for a recipe that is
    unknown or has no rows, BusyError for one that is being removed.
    """
    for _ in range(TRIES):
        folder = Folder(canonical(dst))
        seen = Choice.read(folder)  # before the rows are checked: see `store.choice`
        folder, table = _open(dst)
        recipe = _resolve(given, _names(table, recipe_names(folder)))
        rows = rows_of(table, recipe)
        if not rows and seen.dropping != recipe:
            raise SpecError(
                "recipe", recipe, "has no rows; nightlabel recipes DST lists those that do"
            )
        if choose(folder, recipe, seen):
            return Used(recipe=recipe, before=seen.recipe, rows=rows)
    raise BusyError(f"{dst}: others keep choosing recipes; try again later")


def drop_recipe(dst: str, given: str, *, take_over: bool = False) -> Dropped:
    """Remove one recipe's rows, files and document; after a kill at any moment, call it again.

    Raises SpecError for one that is unknown or that readers see, BusyError while a run writes.
    """
    folder, table = _open(dst)
    _refuse_current(folder, _resolve(given, _names(table, recipe_names(folder))))
    run_id = new_run_id(datetime.now(UTC))
    with Lease(folder, run_id, take_over=take_over):
        folder, table = _open(dst)  # before the mark: a commit of a later run then stops this one
        recipe = _resolve(given, _names(table, recipe_names(folder)))
        clear_dead_drop(folder, table)
        begin_drop(folder, recipe)
        _mark_runs(folder, recipe)
        dropped = _remove(folder, table, recipe)
        end_drop(folder, recipe)
        delete_recipe(folder, recipe)  # last: while it exists, the drop can be called again
        return dropped


def _remove(folder: Folder, table: Table, recipe: str) -> Dropped:
    # Listed before the commit, which fences older writers: files found now have no live writer.
    lying = [path for path in at_rest(folder, [recipe]) if is_data(path)]
    files = [file for file in table.live() if file.recipe == recipe]
    table.commit(removed=files)
    folder.delete(lying)
    folder.delete(orphans(folder, table))
    parts = [file for file in parts_of(files) if folder.stat(file.path) is not None]
    return Dropped(
        recipe=recipe,
        rows=sum(file.num_rows for file in files),
        files=len(files),
        parts_left=len(parts),
    )


def _mark_runs(folder: Folder, recipe: str) -> None:
    """Mark the recipe's runs as no longer whole, before the rows go, so that no reader
    trusts them."""
    for run in list(load_runs(folder)):
        if run.recipe == recipe and not run.dropped:
            save_run(folder, run.model_copy(update={"dropped": True}))


def _refuse_current(folder: Folder, recipe: str) -> None:
    """Refuse at once, without waiting for the lease."""
    if load_current(folder) == recipe:
        raise SpecError(
            "recipe", recipe, "is what readers see; choose another first: nightlabel use DST RECIPE"
        )


def _open(dst: str) -> tuple[Folder, Table]:
    folder = Folder(canonical(dst))
    table = Table.open(folder)
    if table is None:
        raise MissingError(f"{dst}: no label store; `nightlabel label SRC {dst}` makes one")
    return folder, table


def _names(table: Table, documents: Iterable[str]) -> list[str]:
    return sorted({*documents, *(file.recipe for file in table.live())})


def _resolve(given: str, names: list[str]) -> str:
    """The one of `names` that equals `given` or begins with it. Raises SpecError, which
    lists all."""
    found = [name for name in names if name == given] or [n for n in names if n.startswith(given)]
    if given and len(found) == 1:
        return found[0]
    problem = (
        f"is the beginning of {', '.join(found)}"
        if given and found
        else "is not a recipe of this store"
    )
    raise SpecError("recipe", given, f"{problem}; there are {', '.join(names) or 'none'}")


def _listed(runs: list[RunSummary]) -> int:
    """How many objects the archive has, by the newest whole listing of each scope."""
    newest = {str(run.scope): run for run in runs if run.listing_complete and run.finished}
    kept = widest(run.scope for run in newest.values())
    return sum(run.counts.listed for run in newest.values() if run.scope in kept)


def _row(
    name: str,
    current: str | None,
    rows: int,
    listed: int,
    known: dict[str, Recipe],
    runs: list[RunSummary],
) -> Listed:
    recipe, ours = known.get(name), known.get(current or "")
    started = [run.started for run in runs if run.recipe == name]
    return Listed(
        recipe=name,
        current=name == current,
        rows=rows,
        share=min(1.0, round(rows / listed, 4)) if listed else None,
        model=recipe.made_by if recipe else None,
        revision=recipe.revision if recipe else None,
        last_run=max(started, default=None),
        differences=ours.differences(recipe) if ours and recipe and name != current else [],
    )
