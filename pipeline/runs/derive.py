"""Derives a recipe's rows from another recipe's rows, such as one that keeps fewer labels an image.

Nothing is read and nothing predicted: the task says from which recipes, and how. One commit adds
all rows; a run that dies before it leaves none.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from pipeline.graph.job import Job
from pipeline.scan.ledgers import FileReader
from pipeline.store.delta.actions import LiveFile
from pipeline.store.delta.table import Table
from pipeline.store.ledger import Ids, Ledger
from pipeline.store.parts import Part, read_part, write_part
from pipeline.store.recipes import load_recipes
from pipeline.store.runs import RunSummary, load_runs, save_run
from pipeline.store.upkeep import part_path


def derive(job: Job, table: Table, run: RunSummary) -> int:
    """Give the job's recipe the rows that it can derive from another's; returns how many.

    Only with --new-recipe, and only rows in the run's scope. This includes stale rows: the run
    replaces them. `run` is saved before the commit, since the rows name it.
    """
    if not job.spec.new_recipe:
        return 0
    files = table.live()
    used = {file.recipe for file in files}
    known = load_recipes(job.folder, only=sorted(used))
    larger = job.task.derives_from(job.recipe, known)
    parts = list(_derived(job, larger, files)) if larger else []
    if parts:
        save_run(job.folder, run)
        table.commit(added=parts)
    return sum(part.num_rows for part in parts)


def rewritten(rows: pa.Table, run_id: str, recipe_id: str) -> pa.Table:
    """Rows as a run of another recipe writes them; `labelled_at` stays the model's."""
    for name, value in (("run_id", run_id), ("recipe_id", recipe_id)):
        at = rows.schema.get_field_index(name)
        column = pa.repeat(pa.scalar(value, pa.string()), rows.num_rows)
        rows = rows.set_column(at, rows.schema.field(at), column)
    return rows


def _derived(job: Job, larger: list[str], files: Sequence[LiveFile]) -> Iterator[Part]:
    """For each recipe in turn, parts of rows that neither the job's recipe nor an
    earlier one has."""
    reader = FileReader.for_scope(job.folder, job.source, load_runs(job.folder))
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
                derived = job.task.derived(rows, job.recipe)
                new = rewritten(derived, job.run_id, job.recipe.id)
                yield write_part(job.folder, path, job.recipe.id, new)


def _missing(reader: FileReader, file: LiveFile, have: Ledger) -> pa.Table:
    """The rows of a file that are in scope and not in `have`."""
    rows = read_part(reader.folder, file)
    known = have.find(Ids.of(rows["object_id"])).known
    return rows.filter(pa.array(reader.in_scope_of(file, rows["run_id"]) & ~known))


def _ids(rows: pa.Table) -> Ledger:
    nothing = np.zeros(rows.num_rows, np.int64)
    return Ledger.of(Ids.of(rows["object_id"]), nothing, nothing.astype(np.int32))
