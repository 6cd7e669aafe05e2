"""What one cut writes, and that an attempt which was given up cannot touch it."""

from collections.abc import Sequence

import pyarrow as pa

from pipeline.graph.committer import CutWriter, Written
from pipeline.storage import Folder
from pipeline.store.parts import read_part, write_part
from tests.store.stores import LABELLED, RECIPE, rows


def labelled(names: Sequence[int], replaces: Sequence[int | None], label: str) -> pa.Table:
    """LABELLED rows."""
    replaced = pa.array(replaces, LABELLED.field("replaces").type)
    return rows(list(names), label=label).append_column("replaces", replaced)


def uris(folder: Folder, path: str) -> list[str]:
    return sorted(read_part(folder, path)["uri"].to_pylist())


def test_replaced_rows_leave_their_file(folder: Folder) -> None:
    before = write_part(folder, "recipe=r/old.parquet", RECIPE, rows([1, 2, 3]))
    alone = write_part(folder, "recipe=r/alone.parquet", RECIPE, rows([4]))
    writer = CutWriter(folder, "run", RECIPE, 0)
    cut = labelled([2, 4, 5], [0, 1, None], "dog")
    written = writer.write(cut, {0: before.path, 1: alone.path})
    assert uris(folder, written.part.path) == [f"s3://photos/{n}" for n in (2, 4, 5)]
    assert written.rewritten[1] is None  # no row is left of it
    kept = written.rewritten[0]
    assert kept is not None
    assert uris(folder, kept.path) == ["s3://photos/1", "s3://photos/3"]
    assert uris(folder, before.path) == [f"s3://photos/{n}" for n in (1, 2, 3)]


def test_every_attempt_has_files_of_its_own(folder: Folder) -> None:
    """Ray may give up a task that is still writing, and commit what another attempt wrote."""
    before = write_part(folder, "recipe=r/old.parquet", RECIPE, rows([1, 2]))
    writer = CutWriter(folder, "run", RECIPE, 0)
    committed = writer.write(labelled([2], [0], "dog"), {0: before.path})
    late = writer.write(labelled([2], [0], "a much longer label"), {0: before.path})
    assert not _paths(committed) & _paths(late)
    for part in (committed.part, committed.rewritten[0]):
        assert part is not None
        entry = folder.stat(part.path)
        assert entry is not None
        assert entry.size == part.size_bytes
    assert read_part(folder, committed.part.path)["label"].to_pylist() == ["dog"]


def _paths(written: Written) -> set[str]:
    part, rewritten = written.part, written.rewritten
    return {part.path, *(file.path for file in rewritten.values() if file is not None)}
