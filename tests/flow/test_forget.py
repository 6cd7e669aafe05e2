"""`forget`: no byte of a store tells of the objects any more, and every reader goes on."""

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deltalake
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from pipeline.cli.failures import exit_code_of
from pipeline.cli.forget import forget as command
from pipeline.errors import BusyError, ConflictError, MissingError, SpecError
from pipeline.flow.forget import forget, uris_of
from pipeline.flow.tidy import inline, merge
from pipeline.storage import Folder
from pipeline.store.lease import Lease
from pipeline.store.log import log_files, oldest_version
from pipeline.store.parts import write_part
from pipeline.store.reader import LabelStore
from pipeline.store.table import Table
from pipeline.store.upkeep import at_rest, part_path
from tests.flow.test_recipes import A, B, Died, dies_at_write, night
from tests.store.stores import rows

__all__ = ["dies_at_write"]

NAME = "jane-doe.jpg"
URI = f"s3://photos/{NAME}"


def everything(folder: Folder) -> dict[str, bytes]:
    """The bytes of every file, Parquet decoded too; on local disk with what `list` leaves out."""
    names = {folder.relative(entry.uri) for entry in folder.list()} | {*folder.unfinished()}
    found = {name: folder.read(name) for name in names if "#" not in name}
    for name, data in list(found.items()):
        if name.endswith(".parquet"):
            try:
                decoded = pq.read_table(io.BytesIO(data), partitioning=None)
            except pa.ArrowInvalid:  # none of ours
                continue
            found[f"{name} decoded"] = repr(decoded.to_pylist()).encode()
            found[f"{name} footer"] = repr(pq.read_metadata(io.BytesIO(data)).to_dict()).encode()
    return found


def tell(folder: Folder, text: str = NAME) -> list[str]:
    return sorted(name for name, data in everything(folder).items() if text.encode() in data)


def write(folder: Folder, recipe: str, run: str, names: list[str | int]) -> None:
    """Two parts, one of which comes to rest: the other stays a live part."""
    table = Table.open(folder) or Table.create(folder)
    half = len(names) // 2
    for number, some in enumerate((names[:half], names[half:])):
        part = write_part(folder, part_path(run, recipe, number), recipe, rows(some))
        table.commit(added=[part])
        if number == 0:
            merge(folder, table, run, inline)


def fill(folder: Folder) -> None:
    """Two recipes that label it, in files at rest, live parts, orphans, strays, and no commit."""
    folder.ensure()
    night(folder, A, 1, 4)
    night(folder, B, 2, 3)
    for recipe in (A, B):
        write(folder, recipe, f"other-{recipe}", [NAME, f"{recipe}-a", f"{recipe}-b", "zz"])
    table = Table.open(folder)
    assert table is not None
    live = [file for file in table.live() if file.path.startswith("recipe=")]
    # A row that was replaced: the old one lies in a file at rest that no version names.
    new = write_part(folder, part_path("replacing", A, 0), A, rows([f"{A}-c"]))
    one = next(file for file in live if file.path.startswith(f"recipe={A}/other-"))
    table.commit(added=[new, write_part(folder, part_path("r", A, 1), A, rows([NAME, f"{A}-a"]))])
    table.commit(removed=[one])
    write_part(folder, part_path("dead", B, 0), B, rows(["never", NAME]))
    write_part(folder, f"_parts/dead/{0}.parquet", B, rows([NAME]))


@pytest.fixture
def store(folder: Folder) -> Folder:
    fill(folder)
    return folder


@pytest.fixture
def local(tmp_path: Path) -> Folder:
    found = Folder(str(tmp_path / "labels"))
    fill(found)
    return found


def by_recipe(folder: Folder) -> dict[str, list[str]]:
    """All rows that the newest version has, and the same as delta-rs and Polars read them."""
    table = deltalake.DeltaTable(folder.delta_url, storage_options=folder.delta_options)
    access = {k: v for k, v in folder.delta_options.items() if k.startswith("AWS_")}
    frame = pl.read_delta(folder.delta_url, storage_options=access or None)
    read = table.to_pyarrow_table(columns=["recipe", "uri"]).to_pylist()
    pairs = sorted((row["recipe"], row["uri"]) for row in read)
    assert pairs == sorted(frame.select("recipe", "uri").rows())
    assert len(pairs) == len(set(pairs))
    return {recipe: [uri for name, uri in pairs if name == recipe] for recipe, _ in pairs}


def plain(folder: Folder) -> list[tuple[str, str]]:
    """What readers of `recipe=*/*.parquet` see."""
    found = []
    for path in at_rest(folder, [A, B]):
        table = pq.read_table(io.BytesIO(folder.read(path)), partitioning=None)
        recipe = path.partition("/")[0].removeprefix("recipe=")
        found += [(recipe, uri) for uri in table["uri"].to_pylist()]
    return sorted(found)


def goes_on(folder: Folder) -> None:
    """The next night commits, merges and looks at what the version of any moment named."""
    table = Table.open(folder)
    assert table is not None
    for entry in folder.list("_parts/"):
        table.paths_at(folder, entry.modified)
    run = f"next-{table.version}"
    table.commit(added=[write_part(folder, part_path(run, A, 0), A, rows([run]))])
    merge(folder, table, run, inline)
    assert f"s3://photos/{run}" in by_recipe(folder)[A]
    assert LabelStore(folder.uri).version == table.version


def without(rows_before: dict[str, list[str]]) -> dict[str, list[str]]:
    return {recipe: [u for u in uris if u != URI] for recipe, uris in rows_before.items()}


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
    files = [f for f in table.live() if live & {*_uris(local, f.path)}]
    kept = [
        write_part(
            local,
            part_path("gone", f.recipe, n),
            f.recipe,
            rows([u.removeprefix("s3://photos/") for u in _uris(local, f.path) if u != URI]),
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


def _uris(folder: Folder, path: str) -> list[str]:
    table = pq.read_table(io.BytesIO(folder.read(path)), partitioning=None)
    return [str(uri) for uri in table["uri"].to_pylist()]


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


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl", ".parquet"])
def test_a_list(local: Folder, tmp_path: Path, suffix: str) -> None:
    uris = [URI, "s3://photos/zz", "s3://photos/unknown.jpg"]
    path = tmp_path / f"erase{suffix}"
    text = {
        ".txt": "\n".join(uris),
        ".csv": "\n".join(["uri", *uris]),
        ".jsonl": "\n".join(json.dumps({"uri": uri}) for uri in uris),
    }
    if suffix == ".parquet":
        pq.write_table(pa.table({"uri": uris}), path)
    else:
        path.write_text(text[suffix])
    done = forget(local.uri, str(path))
    assert (done.objects, done.rows) == (3, {A: 2, B: 2})
    assert tell(local) == tell(local, "photos/zz") == []


def test_what_names_an_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = f"file://{tmp_path}"
    assert uris_of("a/b.jpg") == {f"{here}/a/b.jpg"}
    assert uris_of(f"{here}/a//b.jpg") == {f"{here}/a/b.jpg"}
    assert uris_of("s3a://b/x.jpg") == {"s3://b/x.jpg"}
    signed = "https://me:pw@host/x.jpg?v=1&X-Amz-Signature=0&X-Amz-Expires=5"
    assert uris_of(signed) == {"https://host/x.jpg?v=1"}
    Path("list.txt").write_text("a.jpg\n\n# none\nhttps://u:p@host/y.jpg\n")
    assert uris_of("list.txt") == {f"{here}/a.jpg", "https://host/y.jpg"}
    Path("empty.txt").write_text("\n")
    for bad in ("none.txt", "empty.txt", " ", "\udce9.jpg"):
        with pytest.raises(SpecError):
            uris_of(bad)


def test_members_of_an_archive_go_with_it(local: Folder) -> None:
    from pipeline import schema

    table = Table.open(local)
    assert table is not None
    members = rows(["t.tar", "keep.tar"]).to_pylist()
    for row in members:
        row["member"] = "0001.jpg"
        row["object_id"] = schema.object_id(row["uri"], "0001.jpg")
    labels = pa.Table.from_pylist(members, schema=schema.LABELS)
    table.commit(added=[write_part(local, part_path("t", A, 0), A, labels)])
    assert forget(local.uri, "s3://photos/t.tar").rows == {A: 1}
    assert (tell(local, "t.tar"), len(tell(local, "keep.tar")) > 0) == ([], True)


def test_a_document_that_names_it_is_told(local: Folder) -> None:
    name = f"_nightlabel/runs/{'x' * 5}.json"
    local.put(name, json.dumps({"spec": {"include": [f"a b/{NAME}", "other"]}}).encode())
    assert forget(local.uri, URI).named_in == [name]
    assert forget(local.uri, "s3://photos/doe.jpg").named_in == []


def test_what_a_killed_writer_left_half_written(local: Folder, tmp_path: Path) -> None:
    """On local disk a file is written under `name#1` and renamed."""
    half = tmp_path / "labels/_parts/dead/0.parquet#1"
    half.write_bytes(NAME.encode())
    log = tmp_path / "labels/_delta_log/_commit_1.json.tmp"
    log.write_text('{"add":{"path":"x","stats":"{\\"minValues\\":{\\"uri\\":\\"' + URI + '\\"}}"}}')
    forget(local.uri, URI)
    assert (half.exists(), log.exists()) == (False, False)


def test_nothing_is_forgotten_while_a_night_runs(local: Folder) -> None:
    asleep = Table.open(local)
    assert asleep is not None
    late = write_part(local, part_path("late", A, 0), A, rows([NAME]))
    with Lease(local, "night"):
        with pytest.raises(BusyError):
            forget(local.uri, URI)
        assert tell(local)
        assert forget(local.uri, URI, take_over=True).found
    with pytest.raises(ConflictError):
        asleep.commit(added=[late])


def test_no_store(folder: Folder) -> None:
    folder.ensure()
    with pytest.raises(MissingError, match="no label store"):
        forget(folder.uri, URI)


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
    assert died * step > 40


def without_nights(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {recipe: [u for u in uris if "next-" not in u] for recipe, uris in found.items()}


def test_the_command(local: Folder) -> None:
    shown = CliRunner().invoke(command, [local.uri, URI]).output
    assert shown.startswith(f"erased 2 rows of 1 image\n  {A}: 1 rows\n  {B}: 1 rows\n")
    assert re.search(r"oldest readable Delta version: \d+; readers of versions before it", shown)
    assert "backups" in shown
    assert "the next run labels it again" in shown
    again = CliRunner().invoke(command, [local.uri, URI])
    assert (again.exit_code, again.output.partition(":")[0]) == (0, "nothing found")
    found = json.loads(CliRunner().invoke(command, [local.uri, "s3://photos/zz", "--json"]).output)
    assert (found["found"], found["rows"]) == (True, {A: 1, B: 1})


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([URI], 0),
        ([URI, "--json"], 0),
        (["s3://photos/unknown"], 0),
        (["none.csv"], 2),
        ([""], 2),
        ([], 2),
    ],
)
def test_how_it_ends(
    local: Folder, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int
) -> None:
    assert exit_code_of(command, [local.uri, *arguments]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_told(
    local: Folder, capsys: pytest.CaptureFixture[Any]
) -> None:
    local.put("_parts/dead/cut.parquet", b"PAR1 cut")
    assert exit_code_of(command, [local.uri, URI]) == 1
    assert "_parts/dead/cut.parquet" in capsys.readouterr().out
    assert tell(local) == []
