"""`forget`: no byte of a store tells of the objects any more, and every reader goes on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest

from pipeline.runs.finalize import inline, merge
from pipeline.runs.forget import forget
from pipeline.storage import Folder
from pipeline.store.delta.log import log_files, oldest_version
from pipeline.store.delta.table import Table
from pipeline.store.parts import write_part
from pipeline.store.upkeep import part_path
from tests.runs.forgetting import (
    NAME,
    URI,
    by_recipe,
    everything,
    goes_on,
    local,
    plain,
    store,
    tell,
    uris_in,
    without,
    without_nights,
    write,
)
from tests.runs.test_recipes import A, B, Died, dies_at_write
from tests.store.stores import LABELS, rows

__all__ = ["dies_at_write", "local", "store"]


def test_no_byte_tells_of_it(store: Folder) -> None:
    before = by_recipe(store)
    assert len(tell(store)) > 10
    done = forget(store.uri, URI)
    assert tell(store) == []
    assert by_recipe(store) == without(before)
    assert plain(store) == sorted((r, u) for r, uris in without(before).items() for u in uris)
    assert done.rows == {A: 1, B: 1}
    assert done.files_rewritten == 2
    assert done.files_deleted >= 6
    assert done.log_files_deleted > 10
    assert (done.named_in, done.not_read) == ([], [])
    assert done.oldest_version == oldest_version(store) > 0
    goes_on(store)


def test_every_version_that_is_left_can_be_opened(store: Folder) -> None:
    oldest = forget(store.uri, URI).oldest_version
    table = Table.open(store)
    assert table is not None
    for version in range(oldest, table.version + 1):
        deltalake.DeltaTable(store.delta_url, version, storage_options=store.delta_options)
    assert min(file.version for file in log_files(store)) == oldest


def test_again_finds_nothing_and_changes_nothing(local: Folder) -> None:
    forget(local.uri, URI)
    before = everything(local)
    again = forget(local.uri, URI)
    assert not again.found
    assert everything(local) == before


def test_no_live_row_and_still_there(local: Folder) -> None:
    """Its rows went with `--delete` days ago; parts and the log tell of it still."""
    table = Table.open(local)
    assert table is not None
    live = {f"s3://photos/{NAME}"}
    files = [f for f in table.live() if live & {*uris_in(local, f.path)}]
    kept = [
        write_part(
            local,
            part_path("gone", f.recipe, n),
            f.recipe,
            rows([u.removeprefix("s3://photos/") for u in uris_in(local, f.path) if u != URI]),
        )
        for n, f in enumerate(files)
    ]
    table.commit(added=kept, removed=files)
    merge(local, table, "gone", inline)
    assert URI not in str(by_recipe(local))
    done = forget(local.uri, URI)
    assert (done.rows, done.found) == ({}, True)
    assert tell(local) == []
    goes_on(local)


def test_versions_that_never_told_of_it_stay(local: Folder) -> None:
    """A file that no commit named costs no history."""
    table = Table.open(local)
    assert table is not None
    write_part(local, part_path("dead", A, 7), A, rows(["stray.jpg"]))
    done = forget(local.uri, "s3://photos/stray.jpg")
    assert (done.files_deleted, done.log_files_deleted, done.oldest_version) == (1, 0, 0)
    assert tell(local, "stray.jpg") == []


def test_a_checkpoint_after_the_last_trace_keeps_what_follows(local: Folder) -> None:
    table = Table.open(local)
    assert table is not None
    part = write_part(local, part_path("x", A, 0), A, rows(["early.jpg"]))
    table.commit(added=[part])
    table.commit(removed=[part])
    clean = table.version
    table.checkpoint()
    for number in range(3):
        table.commit(added=[write_part(local, part_path("y", A, number), A, rows([f"n{number}"]))])
    done = forget(local.uri, "s3://photos/early.jpg")
    assert done.oldest_version == clean
    assert len(deltalake.DeltaTable(local.delta_url, clean).file_uris()) > 0
    assert tell(local, "early.jpg") == []


def test_more_than_a_checkpoint_of_commits(local: Folder) -> None:
    """The log has checkpoints of its own, which tell of it as well."""
    table = Table.open(local)
    assert table is not None
    for number in range(45):
        name = NAME if number == 3 else f"m{number}"
        part = write_part(local, part_path("many", B, number), B, rows([f"{number % 7}/{name}"]))
        table.commit(added=[part])
    assert [f for f in log_files(local) if f.is_checkpoint]
    forget(local.uri, f"s3://photos/3/{NAME}")
    assert tell(local, f"3/{NAME}") == []
    forget(local.uri, URI)
    assert tell(local) == []
    goes_on(local)


def test_what_lands_while_it_runs_goes_too(local: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fenced writer's last part comes after the first look, and no commit can name it."""
    real = Table.commit

    def commit(self: Table, *added: Any, **named: Any) -> None:
        real(self, *added, **named)
        write_part(local, part_path("late", A, self.version), A, rows([NAME]))

    monkeypatch.setattr(Table, "commit", commit)
    forget(local.uri, URI)
    assert tell(local) == []


def test_a_recipe_of_nothing_else(folder: Folder) -> None:
    """No row is left: no file either, and the store is one still."""
    folder.ensure()
    write(folder, A, "only", [NAME, "other"])
    forget(folder.uri, URI)
    done = forget(folder.uri, "s3://photos/other")
    assert done.rows == {A: 1}
    assert (plain(folder), tell(folder), tell(folder, "photos/other")) == ([], [], [])
    goes_on(folder)


@pytest.mark.parametrize("end", ["é x.jpg", 'q"uote.jpg', "back\\slash.jpg", "%20.jpg", "💾.jpg"])
@pytest.mark.parametrize("length", [0, 30, 64, 200])
def test_long_and_odd_names(tmp_path: Path, end: str, length: int) -> None:
    """Bounds in the log are cut after 64 characters."""
    folder = Folder(str(tmp_path / "labels"))
    folder.ensure()
    name = "d" * length + "/" + end
    write(folder, A, "odd", [name, "zzz", "b", "a"])
    forget(folder.uri, f"s3://photos/{name}")
    cut = f"s3://photos/{name}"[:64]
    said = json.dumps(cut)[1:-1]
    for text in (cut, said, json.dumps(said)[1:-1]):
        assert tell(folder, text) == []
    assert by_recipe(folder)[A] == ["s3://photos/a", "s3://photos/b", "s3://photos/zzz"]


def test_a_neighbour_with_the_same_beginning_costs_no_history_twice(local: Folder) -> None:
    long = "d" * 90
    write(local, A, "long", [f"{long}/1.jpg", f"{long}/2.jpg", f"{long}/3.jpg", f"{long}/4.jpg"])
    assert forget(local.uri, f"s3://photos/{long}/1.jpg").found
    again = forget(local.uri, f"s3://photos/{long}/1.jpg")
    assert not again.found


def test_members_of_an_archive_go_with_it(local: Folder) -> None:
    from pipeline import schema

    table = Table.open(local)
    assert table is not None
    members = rows(["t.tar", "keep.tar"]).to_pylist()
    for row in members:
        row["member"] = "0001.jpg"
        row["object_id"] = schema.object_id(row["uri"], "0001.jpg")
    labels = pa.Table.from_pylist(members, schema=LABELS)
    table.commit(added=[write_part(local, part_path("t", A, 0), A, labels)])
    assert forget(local.uri, "s3://photos/t.tar").rows == {A: 1}
    assert (tell(local, "t.tar"), len(tell(local, "keep.tar")) > 0) == ([], True)


def test_what_a_killed_writer_left_half_written(local: Folder, tmp_path: Path) -> None:
    """On local disk a file is written under `name#1` and renamed."""
    half = tmp_path / "labels/_parts/dead/0.parquet#1"
    half.write_bytes(NAME.encode())
    log = tmp_path / "labels/_delta_log/_commit_1.json.tmp"
    log.write_text('{"add":{"path":"x","stats":"{\\"minValues\\":{\\"uri\\":\\"' + URI + '\\"}}"}}')
    forget(local.uri, URI)
    assert (half.exists(), log.exists()) == (False, False)


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.chaos)])
def test_killed_at_any_write_it_is_finished_by_the_next(
    local: Folder, tmp_path: Path, dies_at_write: Callable[[int], None], step: int
) -> None:
    """After each death the store is whole, a night goes on, and the next call leaves no byte."""
    wanted = without(by_recipe(local))
    died, number = 0, 0
    while died == number:
        number += 1
        folder = Folder(str(tmp_path / f"labels-{number}"))
        shutil.copytree(tmp_path / "labels", tmp_path / f"labels-{number}")
        dies_at_write(1 + (number - 1) * step)
        try:
            forget(folder.uri, URI)
        except Died:
            died += 1
        dies_at_write(-1)
        assert without(by_recipe(folder)) == wanted
        seen = plain(folder)
        assert len(seen) == len(set(seen))
        if number % 2:
            goes_on(folder)
        forget(folder.uri, URI)
        assert tell(folder) == []
        assert without_nights(by_recipe(folder)) == wanted
        goes_on(folder)
    assert died * step > 30
