"""Commits, fencing and what Delta and plain readers see."""

import json
import time
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from pipeline.errors import ConflictError, MissingError, StoreError
from pipeline.storage import Folder
from pipeline.store.delta import table as table_module
from pipeline.store.delta.table import Table, _translated
from pipeline.store.parts import Part, read_part, rewrite_without, write_part
from tests.parts.servers.faults import faulty
from tests.parts.servers.s3 import S3Process
from tests.store.stores import RECIPE, new_table, rows


def delta_uris(folder: Folder) -> list[str]:
    table = DeltaTable(folder.delta_url, storage_options=folder.delta_options)
    return sorted(table.to_pyarrow_table(columns=["uri"])["uri"].to_pylist())


def part(folder: Folder, name: str, *numbers: int) -> Part:
    return write_part(folder, f"_parts/run/{name}.parquet", RECIPE, rows(numbers))


def test_there_is_no_table_in_an_empty_folder(folder: Folder) -> None:
    folder.ensure()
    assert Table.open(folder) is None


def test_a_table_of_something_else_is_refused(folder: Folder) -> None:
    folder.ensure()
    other = pa.schema([pa.field("name", pa.string())])
    DeltaTable.create(folder.delta_url, schema=other, storage_options=folder.delta_options)
    with pytest.raises(StoreError, match="not a label store"):
        Table.open(folder)


def test_rows_are_true_only_after_the_commit(folder: Folder) -> None:
    folder.ensure()
    table = new_table(folder)
    written = part(folder, "a", 1, 2)
    assert delta_uris(folder) == []
    table.commit(added=[written])
    assert delta_uris(folder) == ["s3://photos/1", "s3://photos/2"]
    again = Table.open(folder)
    assert again is not None
    [live] = again.live()
    assert (live.path, live.recipe, live.num_rows) == (written.path, RECIPE, 2)
    assert live.size_bytes == written.size_bytes


def test_a_writer_that_another_has_overtaken_is_fenced(folder: Folder) -> None:
    folder.ensure()
    first = new_table(folder)
    second = Table.open(folder)
    assert second is not None
    second.commit(added=[part(folder, "b", 2)])
    for _ in range(2):  # once it has seen the other's commit, too
        with pytest.raises(ConflictError, match="another run"):
            first.commit(added=[part(folder, "a", 1)])
    assert delta_uris(folder) == ["s3://photos/2"]


def test_an_empty_commit_fences(folder: Folder) -> None:
    folder.ensure()
    zombie = new_table(folder)
    heir = Table.open(folder)
    assert heir is not None
    heir.commit()
    assert heir.version == 1
    with pytest.raises(ConflictError):
        zombie.commit(added=[part(folder, "a", 1)])


def test_delta_itself_refuses_the_second_of_two_commits_from_one_version(folder: Folder) -> None:
    folder.ensure()
    first = new_table(folder)
    second = Table.open(folder)
    assert second is not None
    late = part(folder, "late", 9)
    second._refuse_unless(second.version)  # looks, and is paused between the look and the commit
    first.commit(added=[part(folder, "a", 1)])
    with pytest.raises(ConflictError), _translated("store"):
        second._write([late], [], second._properties("mark"))
    assert delta_uris(folder) == ["s3://photos/1"]


@pytest.mark.s3
def test_a_writer_that_slept_in_its_commit_is_fenced(
    s3: S3Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once took what another had committed meanwhile for its own last look."""
    with faulty(s3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        folder = Folder(f"{s3.bucket()}/labels")
        sleeper = new_table(folder)

        def take_over(_: str) -> None:
            heir = Table.open(folder)
            assert heir is not None
            heir.commit(added=[part(folder, "b", 2)])

        proxy.rule(method="PUT", path="/_delta_log/", times=1, after=take_over)
        with pytest.raises(ConflictError, match="another run"):
            sleeper.commit(added=[part(folder, "a", 1)])
        assert len(proxy.fired) == 1
        assert delta_uris(folder) == ["s3://photos/1", "s3://photos/2"]


def test_a_table_that_goes_away_says_so(folder: Folder) -> None:
    folder.ensure()
    table = new_table(folder)
    table.commit(added=[part(folder, "a", 1)])
    folder.delete([folder.relative(entry.uri) for entry in folder.list("_delta_log/")])
    with pytest.raises(MissingError, match="its log is gone"):
        table.commit(added=[part(folder, "b", 2)])


def test_a_replacement_is_one_commit(folder: Folder) -> None:
    folder.ensure()
    table = new_table(folder)
    table.commit(added=[part(folder, "a", 1, 2, 3)])
    [old] = table.live()
    left = rewrite_without(
        folder, old.path, "_parts/run/a2.parquet", RECIPE, [rows([2])["object_id"][0].as_py()]
    )
    assert left is not None
    before = table.version
    table.commit(added=[part(folder, "b", 2), left], removed=[old])
    assert table.version == before + 1
    assert delta_uris(folder) == [f"s3://photos/{n}" for n in (1, 2, 3)]


def test_a_file_that_would_be_empty_is_not_written(folder: Folder) -> None:
    folder.ensure()
    written = part(folder, "a", 1)
    ids = rows([1])["object_id"].to_pylist()
    assert rewrite_without(folder, written.path, "_parts/run/b.parquet", RECIPE, ids) is None
    assert [folder.relative(e.uri) for e in folder.list("_parts/")] == [written.path]


def test_every_file_tells_its_rows_and_bounds(folder: Folder) -> None:
    folder.ensure()
    long = "x" * 200
    written = write_part(folder, "_parts/run/a.parquet", RECIPE, rows(["b", "a", long]))
    stats = json.loads(written.stats)
    assert stats["numRecords"] == 3
    assert stats["minValues"]["uri"] == "s3://photos/a"
    assert stats["maxValues"]["uri"] >= f"s3://photos/{long}"
    assert len(stats["maxValues"]["uri"]) < 100
    assert stats["nullCount"]["error_code"] == 3
    assert stats["minValues"]["labelled_at"].startswith("2026-01-02T03:04:05")
    table = new_table(folder)
    table.commit(added=[written])
    dataset = DeltaTable(folder.delta_url, storage_options=folder.delta_options)
    found = dataset.to_pyarrow_table(filters=[("uri", "=", f"s3://photos/{long}")])
    assert found.num_rows == 1


def test_rows_come_back_as_they_were_written(folder: Folder) -> None:
    folder.ensure()
    written = write_part(folder, "_parts/run/a.parquet", RECIPE, rows([1, 2], error="truncated"))
    assert written.num_errors == 2
    assert read_part(folder, written.path) == rows([1, 2], error="truncated")


def test_the_protocol_is_one_that_every_delta_reader_knows(folder: Folder) -> None:
    folder.ensure()
    new_table(folder)
    protocol = DeltaTable(folder.delta_url, storage_options=folder.delta_options).protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)


def test_checkpoints_happen_while_parts_are_committed(folder: Folder) -> None:
    folder.ensure()
    table = new_table(folder)
    for number in range(25):
        table.commit(added=[part(folder, f"p{number:02}", number)])
    names = [folder.relative(entry.uri) for entry in folder.list("_delta_log/")]
    assert any(name.endswith(".checkpoint.parquet") for name in names)
    assert len(delta_uris(folder)) == 25


def test_the_log_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = table_module.CONFIGURATION | {"delta.logRetentionDuration": "interval 1 seconds"}
    monkeypatch.setattr(table_module, "CONFIGURATION", short)
    folder = Folder(str(tmp_path / "labels"))
    folder.ensure()
    table = new_table(folder)
    table.commit(added=[part(folder, "a", 1)])
    lengths = []
    for _ in range(5):
        for _ in range(20):
            table.commit()
        lengths.append(sum(1 for _ in folder.list("_delta_log/")))
        time.sleep(1.1)
    assert max(lengths[1:]) < 60
    assert delta_uris(folder) == ["s3://photos/1"]
