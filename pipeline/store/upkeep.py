"""Upkeep at the end of a run: merges parts into large files at rest, and removes unreferenced
files.

Plain Parquet readers see `recipe=*/*.parquet`, all of it and at every moment, so no row
may be there twice. Hence the order:

1. List the files under `recipe=`, then make a commit. It fences every older
   writer, so no writer can still add a listed file that no version names. Files that
   a younger writer wrote since were not listed, and are not touched.
2. Delete those files: ones whose rows were replaced or moved into parts, and files of a
   merge that died before its commit.
3. Write the merged files under `recipe=`.
4. One commit removes the parts and adds the merged files.
5. Delete parts that no version of the last day names: a Delta reader may still be
   reading an older version.

Between 2 and 4 a plain reader misses the rows of files that were replaced; it never sees
a row twice. A crash anywhere leaves an exact table, and the next run cleans up.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Final

import pyarrow as pa

from pipeline import schema
from pipeline.storage import Folder
from pipeline.store.delta.actions import LiveFile
from pipeline.store.delta.table import Table
from pipeline.store.names import is_data
from pipeline.store.parts import is_vector

PARTS: Final = "_parts/"
AT_REST: Final = f"{schema.PARTITION}="

#: A merged file counts as full, and takes no more, at this many bytes of Parquet or this many rows.
#: A merge holds its rows three times, at some 300 to 500 bytes each: half a gigabyte or more.
LARGE_BYTES: Final = 256 * 2**20
LARGE_ROWS: Final = 2**19
#: The same for rows with vectors: 768 numbers take 3 KB.
VECTOR_ROWS: Final = 2**16

#: How long a part is kept after the last version that named it: longer than a reader keeps a
#: version open, and than the last write of a dead run can take to arrive.
ORPHAN_AGE: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Group:
    """Parts of one recipe that become one file."""

    recipe: str
    files: tuple[LiveFile, ...]
    new_path: str

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(file.path for file in self.files)


def part_path(run_id: str, recipe: str, number: int | str) -> str:
    """Polars and others take the value of `recipe` from a file's path, whatever the log says."""
    return f"{PARTS}{run_id}/{AT_REST}{recipe}/{number}.parquet"


def parts_of(files: Sequence[LiveFile]) -> list[LiveFile]:
    return [file for file in files if file.path.startswith(PARTS)]


def large_rows(rows: pa.Schema) -> int:
    """How many such rows a file may hold: everyone who reads or merges it holds all of them."""
    return VECTOR_ROWS if any(is_vector(field.type) for field in rows) else LARGE_ROWS


def plan_merge(files: Sequence[LiveFile], run_id: str, most_rows: int = LARGE_ROWS) -> list[Group]:
    """How the live parts become large files, one recipe at a time, in the order of commit."""
    groups = []
    by_recipe = sorted(parts_of(files), key=lambda file: (file.recipe, file.path))
    for recipe, parts in groupby(by_recipe, key=lambda file: file.recipe):
        for number, chunk in enumerate(_chunks(list(parts), most_rows)):
            path = f"{AT_REST}{recipe}/{run_id}-{number:05}.parquet"
            groups.append(Group(recipe, tuple(chunk), path))
    return groups


def at_rest(folder: Folder, recipes: Iterable[str]) -> list[str]:
    """The files under `recipe=`, whether a version of the table names them or not."""
    return [
        folder.relative(entry.uri)
        for recipe in sorted(recipes)
        for entry in folder.list(f"{AT_REST}{recipe}/")
    ]


def strays(folder: Folder, files: Sequence[LiveFile], recipes: Iterable[str]) -> list[str]:
    """Files at rest that no version names: garbage once a commit of our own has followed.

    Only files with our names; files that others put there are not ours to delete.
    """
    live = {file.path for file in files}
    return [name for name in at_rest(folder, recipes) if name not in live and is_data(name)]


def orphans(folder: Folder, table: Table) -> list[str]:
    """Parts that no version of the last day names: merged, replaced, or never committed.

    A file younger than a day by the store's clock may belong to a version of the last day. Of
    the others, those that the version of a day ago named are still in use.
    """
    live = {file.path for file in table.live()}
    entries = [(folder.relative(entry.uri), entry.modified) for entry in folder.list(PARTS)]
    if not entries:
        return []
    a_day_ago = max(modified for _, modified in entries) - ORPHAN_AGE
    old = [
        name
        for name, modified in entries
        if name not in live and modified < a_day_ago and is_data(name)
    ]
    recent = table.paths_at(folder, a_day_ago) if old else set()
    return [name for name in old if name not in recent]


def plan_compact(files: Sequence[LiveFile], most_rows: int = LARGE_ROWS) -> list[LiveFile]:
    """Small files at rest, if a recipe has more than one of them."""
    small = [
        file for file in files if not file.path.startswith(PARTS) and _is_small(file, most_rows)
    ]
    crowded = {recipe for recipe, n in Counter(f.recipe for f in small).items() if n > 1}
    return [file for file in small if file.recipe in crowded]


def _is_small(file: LiveFile, most_rows: int) -> bool:
    return file.size_bytes < LARGE_BYTES // 2 and file.num_rows < most_rows // 2


def _chunks(files: list[LiveFile], most_rows: int) -> Iterator[list[LiveFile]]:
    chunk: list[LiveFile] = []
    size = rows = 0
    for file in files:
        full = size + file.size_bytes > LARGE_BYTES or rows + file.num_rows > most_rows
        if chunk and full:
            yield chunk
            chunk, size, rows = [], 0, 0
        chunk.append(file)
        size += file.size_bytes
        rows += file.num_rows
    if chunk:
        yield chunk
