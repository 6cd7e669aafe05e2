"""Every documented reader, at every commit of several nights: no error, no image twice.

The nights go through the writers, commits and merges of a run, without its Ray.
"""

import ast
from collections.abc import Iterable, Sequence
from pathlib import Path

import duckdb
import polars
import pytest
from deltalake import DeltaTable

from pipeline.graph.committer import Committer, CutWriter
from pipeline.runs.finalize import compact, delete_gone, inline, merge
from pipeline.storage import Folder
from pipeline.store.choice import Choice, choose
from pipeline.store.delta.actions import LiveFile
from pipeline.store.delta.table import Table
from pipeline.store.parts import Part, write_part
from pipeline.store.reader import LabelStore
from pipeline.store.upkeep import AT_REST, PARTS
from tests.graph.test_committer import labelled
from tests.parts.stores.readers import delta_extension, documented, pairs, readers
from tests.store.stores import new_table, rows

A, B = "r0000000a", "r0000000b"


class Watched(Table):
    """Every reader looks after every commit."""

    looks = 0

    def commit(self, added: Sequence[Part] = (), removed: Sequence[LiveFile | Part] = ()) -> None:
        super().commit(added, removed)
        look()
        Watched.looks += 1


def look() -> None:
    """All readers of the current recipe agree with LabelStore, and of all recipes none fails."""
    store = LabelStore("labels")
    true = pairs(store.to_table(["uri", "recipe_id"]))
    assert len(set(true)) == len(true)
    assert {recipe for _, recipe in true} <= {store.current()}
    for name, (read, sees) in readers().items():
        if sees == "every commit":
            assert read() == true, name
        elif any(Path(f"labels/{AT_REST}{store.current()}").glob("*.parquet")):
            seen = read()
            assert len({uri for uri, _ in seen}) == len(seen), name
            assert {recipe for _, recipe in seen} <= {store.current()}, name
        else:
            with pytest.raises((duckdb.IOException, FileNotFoundError)):
                read()
    table = DeltaTable("labels").to_pyarrow_table(columns=["uri", "recipe_id"])
    frames = polars.read_delta("labels"), polars.scan_delta("labels").collect()
    everything = pairs(table)
    assert len(set(everything)) == len(everything)
    assert [pairs(frame) for frame in frames] == [everything, everything]


def plainly() -> None:
    """Between runs plain readers see what Delta readers do."""
    true = pairs(LabelStore("labels").to_table(["uri", "recipe_id"]))
    for name, (read, _) in readers().items():
        assert read() == true, name


class Nights:
    """A store whose nights are made by the code that makes real ones."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        new_table(folder)
        table = Watched.open(folder)
        assert table is not None
        self.table = table

    def night(
        self,
        run_id: str,
        recipe: str,
        new: Sequence[int],
        replaced: Iterable[int] = (),
        gone: Iterable[int] = (),
    ) -> None:
        """Cuts of two rows each, new or replacing those in the first live file; then the end."""
        files = [file for file in self.table.live() if file.recipe == recipe]
        committer = Committer(self.table, self.folder, run_id, recipe, files, 30.0)
        names = [*[(name, None) for name in new], *[(name, 0) for name in replaced]]
        for number, at in enumerate(range(0, len(names), 2)):
            cut = labelled(
                [n for n, _ in names[at : at + 2]], [f for _, f in names[at : at + 2]], "x"
            )
            cut = cut.set_column(
                cut.schema.get_field_index("recipe_id"), "recipe_id", [[recipe] * len(cut)]
            )
            paths = {n: f.path for n, f in enumerate(committer.present_files()) if f is not None}
            writer = CutWriter(self.folder, run_id, recipe, number)
            committer._commit(writer.write(cut, paths))
        ids = rows(list(gone))["object_id"].to_pylist()
        in_files = {0: ids} if ids else {}
        present = committer.present_files()
        delete_gone(self.folder, self.table, present, in_files, 1000, run_id, inline)
        merge(self.folder, self.table, run_id, inline)


@pytest.fixture
def nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nights:
    monkeypatch.chdir(tmp_path)
    Watched.looks = 0
    found = Nights(Folder("labels"))
    assert choose(found.folder, A, Choice.read(found.folder))
    return found


def use(folder: Folder, recipe: str) -> None:
    assert choose(folder, recipe, Choice.read(folder))
    look()


def test_every_reader_at_every_commit_of_four_nights(nights: Nights) -> None:
    nights.night("n1", A, range(6))
    plainly()
    nights.night("n2", A, range(6, 10), replaced=[1, 3], gone=[5])
    plainly()
    nights.night("n3", B, range(10))  # another model, beside the first
    plainly()
    use(nights.folder, B)
    plainly()
    nights.night("n4", A, [10, 11], replaced=[2])  # the older model again
    plainly()
    use(nights.folder, A)
    compact(nights.folder, nights.table, "c", inline)
    plainly()
    assert Watched.looks > 20
    assert {path.parts[3] for path in Path().glob("labels/_parts/*/*/*")} == {
        f"recipe={A}",
        f"recipe={B}",
    }


def test_parts_of_the_older_layout_are_merged(nights: Nights) -> None:
    """They lie in `_parts/<run_id>/` itself, as a night left them that was killed."""
    older = Table.open(nights.folder)
    assert older is not None
    part = write_part(nights.folder, f"{PARTS}n0/000000-part.parquet", A, rows([1, 2, 3]))
    older.commit(added=[part])
    nights.table.refresh()
    files = nights.table.live()
    committer = Committer(older, nights.folder, "n1", A, files, 30.0)
    cut = labelled([1, 4], [0, None], "x")
    committer._commit(CutWriter(nights.folder, "n1", A, 0).write(cut, {0: part.path}))
    merge(nights.folder, older, "n1", inline)
    assert [file.path.split("/")[0] for file in older.live()] == [f"recipe={A}"]
    assert polars.read_delta("labels").height == LabelStore("labels").count() == 4


def test_duckdb_reads_delta_too() -> None:
    """Where it can; then all tests above held its lines against the others."""
    if why := delta_extension():
        pytest.skip(why)
    assert "DuckDB, `delta` extension" in readers()


def test_the_table_names_each_reader() -> None:
    found = {name: (line, sees) for name, line, sees in documented()}
    assert {name.partition(",")[0] for name in found} == {
        "DuckDB", "Nightlabel", "Polars", "Spark", "deltalake", "pandas", "pyarrow",
    }  # fmt: skip
    assert {sees for _, sees in found.values()} == {"every commit", "whole nights"}
    for name, (line, _) in found.items():
        if not name.startswith("DuckDB"):
            ast.parse(line)
