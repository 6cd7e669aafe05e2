"""Merging, deleting and compacting, watched by a plain Parquet reader at every step."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from deltalake import DeltaTable

from pipeline.errors import ConflictError, GateError
from pipeline.runs.finalize import compact, delete_gone, inline, merge
from pipeline.storage import Folder
from pipeline.store.delta.actions import LiveFile
from pipeline.store.delta.table import Table
from pipeline.store.parts import read_part, rewrite_without, write_part
from pipeline.store.upkeep import AT_REST, PARTS
from tests.store.delta.test_table import delta_uris
from tests.store.stores import RECIPE, new_table, rows


def plain_uris(folder: Folder) -> list[str]:
    """What `recipe=*/*.parquet` holds, as any reader without Delta sees it."""
    names = [folder.relative(entry.uri) for entry in folder.list(AT_REST)]
    return sorted(uri for name in names for uri in read_part(folder, name)["uri"].to_pylist())


class Watched(Folder):
    """Notes what plain readers see after every write and every delete."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.views: list[list[str]] = []

    def put(self, path: str, data: bytes) -> None:
        super().put(path, data)
        self.views.append(plain_uris(self))

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            super().delete([path])
            self.views.append(plain_uris(self))


class Store:
    """A store with some parts committed, as a run leaves it before it tidies."""

    def __init__(self, folder: Folder) -> None:
        self.folder = Watched(folder.uri)
        self.folder.ensure()
        self.table = new_table(self.folder)

    def night(self, run_id: str, *parts: Iterable[int]) -> None:
        for number, names in enumerate(parts):
            part = write_part(
                self.folder, f"{PARTS}{run_id}/{number}.parquet", RECIPE, rows(list(names))
            )
            self.table.commit(added=[part])

    def merge(self, run_id: str) -> int:
        return merge(self.folder, self.table, run_id, inline)

    def replace(self, run_id: str, file: LiveFile, name: int) -> None:
        ids = rows([name])["object_id"].to_pylist()
        new = f"{PARTS}{run_id}/rewritten.parquet"
        left = rewrite_without(self.folder, file.path, new, RECIPE, ids)
        part = write_part(
            self.folder, f"{PARTS}{run_id}/9.parquet", RECIPE, rows([name], label="dog", version=2)
        )
        assert left is not None
        self.table.commit(added=[part, left], removed=[file])


@pytest.fixture
def store(folder: Folder) -> Store:
    return Store(folder)


def uris(*names: int) -> list[str]:
    return sorted(f"s3://photos/{name}" for name in names)


def names_under(folder: Folder, prefix: str) -> list[str]:
    return [folder.relative(entry.uri) for entry in folder.list(prefix)]


def test_parts_become_one_file_in_the_order_of_uris(store: Store) -> None:
    store.night("n1", [3, 1], [2])
    assert plain_uris(store.folder) == []
    assert store.merge("n1") == 2
    assert plain_uris(store.folder) == delta_uris(store.folder) == uris(1, 2, 3)
    [name] = names_under(store.folder, AT_REST)
    assert read_part(store.folder, name)["uri"].to_pylist() == uris(1, 2, 3)


def test_a_version_of_the_last_day_can_still_be_read(store: Store) -> None:
    store.night("n1", [1, 2], [3])
    before = DeltaTable(store.folder.delta_url, storage_options=store.folder.delta_options)
    store.merge("n1")
    assert sorted(before.to_pyarrow_table()["uri"].to_pylist()) == uris(1, 2, 3)


def test_parts_that_no_recent_version_names_are_deleted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.night("n1", [1], [2])
    time.sleep(2.1)
    store.night("n2", [3])
    monkeypatch.setattr("pipeline.store.upkeep.ORPHAN_AGE", timedelta(seconds=1))
    store.merge("n2")  # n1's parts were true a second ago
    assert len(names_under(store.folder, PARTS)) == 3
    time.sleep(2.1)
    store.night("n3", [4])
    store.merge("n3")
    assert all("/n3/" in name for name in names_under(store.folder, PARTS))
    assert plain_uris(store.folder) == delta_uris(store.folder) == uris(1, 2, 3, 4)


def test_nothing_to_merge_writes_nothing(store: Store) -> None:
    store.night("n1", [1])
    store.merge("n1")
    version = store.table.version
    assert store.merge("n2") == 0
    assert store.table.version == version


def test_plain_readers_never_see_a_row_twice(store: Store) -> None:
    store.night("n1", [1, 2], [3])
    store.merge("n1")
    [file] = store.table.live()
    store.replace("n2", file, 2)
    assert delta_uris(store.folder) == uris(1, 2, 3)
    assert plain_uris(store.folder) == uris(1, 2, 3)  # last night's, until the merge
    store.merge("n2")
    assert plain_uris(store.folder) == delta_uris(store.folder) == uris(1, 2, 3)
    twice = [view for view in store.folder.views if max(Counter(view).values(), default=1) > 1]
    assert twice == []
    assert len(store.folder.views) == 7  # every write and delete was looked at


def test_a_merge_that_died_before_its_commit_is_tidied(store: Store) -> None:
    store.night("n1", [1, 2])
    [part] = store.table.live()
    write_part(store.folder, f"{AT_REST}{RECIPE}/n1-00000.parquet", RECIPE, rows([1, 2]))
    heir = Table.open(store.folder)
    assert heir is not None
    merge(store.folder, heir, "n2", inline)
    assert plain_uris(store.folder) == delta_uris(store.folder) == uris(1, 2)
    with pytest.raises(ConflictError):
        store.table.commit(removed=[part])


def test_a_merge_that_died_after_its_commit_is_tidied(store: Store) -> None:
    store.night("n1", [1], [2])
    store.merge("n1")
    assert len(names_under(store.folder, PARTS)) == 2  # nobody's any more, kept for a day
    assert delta_uris(store.folder) == plain_uris(store.folder) == uris(1, 2)
    assert store.merge("n2") == 0
    assert delta_uris(store.folder) == plain_uris(store.folder) == uris(1, 2)


def test_a_young_orphan_of_another_run_is_left_alone(store: Store) -> None:
    store.night("n1", [1])
    write_part(store.folder, f"{PARTS}dead/0.parquet", RECIPE, rows([7]))
    store.merge("n2")
    assert f"{PARTS}dead/0.parquet" in names_under(store.folder, PARTS)
    assert plain_uris(store.folder) == uris(1)


def test_recipes_are_merged_apart(store: Store) -> None:
    store.night("n1", [1])
    other = write_part(store.folder, f"{PARTS}n1/other.parquet", "r00000002", rows([1]))
    store.table.commit(added=[other])
    store.merge("n1")
    assert {file.recipe: file.num_rows for file in store.table.live()} == {
        RECIPE: 1,
        "r00000002": 1,
    }
    assert {name.split("/")[0] for name in names_under(store.folder, AT_REST)} == {
        f"recipe={RECIPE}",
        "recipe=r00000002",
    }


def test_compacting_makes_one_file_of_many_nights(store: Store) -> None:
    for night in range(4):
        store.night(f"n{night}", [night, night + 10])
        store.merge(f"n{night}")
    store.folder.views.clear()
    assert compact(store.folder, store.table, "c", inline) == (4, 1)
    everything = uris(*range(4), *range(10, 14))
    assert plain_uris(store.folder) == delta_uris(store.folder) == everything
    assert all(max(Counter(view).values(), default=1) == 1 for view in store.folder.views)
    assert compact(store.folder, store.table, "c2", inline) == (1, 1)


def test_gone_rows_are_deleted_in_one_commit(store: Store) -> None:
    store.night("n1", range(20), range(20, 40))
    store.merge("n1")
    files = store.table.live()
    version = store.table.version
    gone = {0: rows([3, 30])["object_id"].to_pylist()}
    deleted = delete_gone(store.folder, store.table, files, gone, 40, "n2", inline)
    assert (deleted, store.table.version) == (2, version + 1)
    store.merge("n2")
    left = [n for n in range(40) if n not in (3, 30)]
    assert plain_uris(store.folder) == delta_uris(store.folder) == uris(*left)


def test_deleting_much_of_the_scope_is_refused(store: Store) -> None:
    store.night("n1", range(40))
    files = store.table.live()
    gone = {0: rows(list(range(5)))["object_id"].to_pylist()}
    with pytest.raises(GateError, match="5 of 40"):
        delete_gone(store.folder, store.table, files, gone, 40, "n2", inline)
    assert len(delta_uris(store.folder)) == 40


def test_merged_files_are_cut_at_a_size(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.night("n1", [1], [2], [3])
    size = store.table.live()[0].size_bytes
    monkeypatch.setattr("pipeline.store.upkeep.LARGE_BYTES", size * 2 + 10)
    store.merge("n1")
    assert sorted(file.num_rows for file in store.table.live()) == [1, 2]


def test_merged_files_are_cut_at_a_number_of_rows(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge holds all its rows; small ones compress well, so bytes do not bound it."""
    monkeypatch.setattr("pipeline.store.upkeep.LARGE_ROWS", 4)
    store.night("n1", [1, 2], [3, 4], [5], [6, 7, 8, 9, 10])
    store.merge("n1")
    assert sorted(file.num_rows for file in store.table.live()) == [1, 4, 5]
    # Files of half as many rows and more are large enough to be left alone.
    assert compact(store.folder, store.table, "c", inline) == (3, 3)


def test_a_zombie_deletes_nothing_that_a_later_run_made_true(store: Store) -> None:
    """It stops right after its fence; another run merges; then it goes on."""
    store.night("a", [1, 2], [3])
    zombie = Table.open(store.folder)
    assert zombie is not None
    other: list[int] = []

    class Stopped(Watched):
        def delete(self, paths: Iterable[str]) -> None:
            if not other:
                other.append(0)
                winner = Table.open(Folder(self.uri))
                assert winner is not None
                merge(Folder(self.uri), winner, "winner", inline)
            super().delete(paths)

    with pytest.raises(ConflictError):
        merge(Stopped(store.folder.uri), zombie, "zombie", inline)
    assert other
    assert plain_uris(store.folder) == delta_uris(store.folder) == uris(1, 2, 3)


def test_a_zombies_merged_file_is_taken_away_again(store: Store) -> None:
    """It stops before it writes the merged file; another run merges; then it goes on."""
    store.night("a", [1, 2], [3])
    zombie = Table.open(store.folder)
    assert zombie is not None

    def run(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        winner = Table.open(store.folder)
        assert winner is not None
        merge(store.folder, winner, "winner", inline)
        return inline(function, calls)

    with pytest.raises(ConflictError):
        merge(store.folder, zombie, "zombie", run)
    assert plain_uris(store.folder) == delta_uris(store.folder) == uris(1, 2, 3)
