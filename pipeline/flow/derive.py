"""A recipe that keeps fewer labels an image: its rows are cut from those of one that keeps more.

The best k labels are the first k of more (equal scores are ordered by index), so nothing is read
and nothing predicted. One commit adds all rows; a run that dies before it leaves none.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.flow.job import Job
from pipeline.flow.ledgers import FileReader
from pipeline.models.recipe import Recipe, known_recipes
from pipeline.store.ledger import Ids, Ledger
from pipeline.store.parts import Part, read_part, write_part
from pipeline.store.recipes import load_recipes
from pipeline.store.runs import RunSummary, load_runs, save_run
from pipeline.store.table import LiveFile, Table
from pipeline.store.upkeep import part_path


def derive(job: Job, table: Table, run: RunSummary) -> int:
    """Give the job's recipe the rows that a recipe of larger top_k alone has; returns how many.

    Only with --new-recipe, only rows in the run's scope. Stale ones too: the run replaces them.
    `run` is saved before the commit, since the rows name it.
    """
    if not job.spec.new_recipe:
        return 0
    files = table.live()
    used = {file.recipe for file in files}
    known = load_recipes(job.folder, only=sorted(used))
    larger = larger_recipes(job.recipe, known)
    parts = list(_derived(job, larger, files)) if larger else []
    if parts:
        save_run(job.folder, run)
        table.commit(added=parts)
    return sum(part.num_rows for part in parts)


def larger_recipes(recipe: Recipe, documents: dict[str, str]) -> list[str]:
    """The ids of recipes that differ in nothing but a larger top_k, the smallest of them first.

    A document of another version's recipe is none of them.
    """
    found = [
        (other.top_k, name)
        for name, other in known_recipes(documents).items()
        if other.top_k > recipe.top_k
        and other.id == name
        and other.model_copy(update={"top_k": recipe.top_k}).id == recipe.id
    ]
    return [name for _, name in sorted(found)]


def cut(rows: pa.Table, top_k: int, run_id: str, recipe_id: str) -> pa.Table:
    """LABELS rows as a run of a smaller `top_k` writes them; `labelled_at` is the model's."""
    columns = {
        "top_k": pc.list_slice(rows["top_k"], 0, top_k, return_fixed_size_list=False),
        "run_id": pa.repeat(pa.scalar(run_id, pa.string()), rows.num_rows),
        "recipe_id": pa.repeat(pa.scalar(recipe_id, pa.string()), rows.num_rows),
    }
    return pa.table(
        [columns.get(name, rows[name]) for name in rows.column_names], rows.column_names
    )


def _derived(job: Job, larger: list[str], files: Sequence[LiveFile]) -> Iterator[Part]:
    """Parts of what each larger recipe has and neither the job's nor one before it does."""
    scope = job.source.scope
    runs = frozenset(run.run_id for run in load_runs(job.folder) if run.scope == scope)
    reader = FileReader(job.folder, job.source, runs)
    own = (file for file in files if file.recipe == job.recipe.id)
    had = [_ids(read_part(job.folder, file, ["object_id"])) for file in own]
    number = 0
    for recipe in larger:
        have = Ledger.merged(had)
        for file in files:
            if file.recipe != recipe:
                continue
            rows = _missing(reader, file, have)
            if rows.num_rows:
                had.append(_ids(rows))
                path = part_path(job.run_id, job.recipe.id, f"derived-{number:06}")
                number += 1
                new = cut(rows, job.recipe.top_k, job.run_id, job.recipe.id)
                yield write_part(job.folder, path, job.recipe.id, new)


def _missing(reader: FileReader, file: LiveFile, have: Ledger) -> pa.Table:
    """The rows of a file that are in scope and not in `have`."""
    rows = read_part(reader.folder, file)
    known = have.find(Ids.of(rows["object_id"])).known
    return rows.filter(pa.array(reader.in_scope_of(file, rows["run_id"]) & ~known))


def _ids(rows: pa.Table) -> Ledger:
    nothing = np.zeros(rows.num_rows, np.int64)
    return Ledger.of(Ids.of(rows["object_id"]), nothing, nothing.astype(np.int32))
