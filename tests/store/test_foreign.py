"""Documents and logs of a store that others wrote: told and passed over, or refused by name."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import schema
from pipeline.errors import StoreError
from pipeline.runs.recipes import list_recipes
from pipeline.storage import Folder
from pipeline.store import runs
from pipeline.store.choice import CURRENT, load_current
from pipeline.store.delta import guard
from pipeline.store.delta.table import Table
from pipeline.store.erase import Objects, documents_that_name
from pipeline.store.parts import write_part
from pipeline.store.reader import LabelStore
from pipeline.store.recipes import RECIPES
from pipeline.store.runs import RUNS, RunSummary, load_runs, read_runs, save_run
from tests.parts.stores.parquet_bombs import written
from tests.store.stores import LABELS, RECIPE, new_table, rows
from tests.store.test_untrusted import add, local

__all__ = ["local"]

STARTED = datetime(2026, 1, 2, tzinfo=UTC)
OURS = RunSummary(
    run_id="20260102T000000Z-aaaaaaaa",
    started=STARTED,
    recipe=RECIPE,
    scope={"kind": "prefix", "src": "s3://photos/", "include": None, "exclude": []},
    spec={},
)
FOREIGN_RUNS: list[dict[str, Any]] = [
    {"started": "2026-01-02T00:00:00"},
    {"started": "0001-01-01T00:00:00Z"},
    {"finished": "9999-12-31T23:59:59-23:00"},
    {"scope": {"src": 5}},
    {"scope": {"src": "a", "include": 5}},
    {"scope": {"src": "a", "include": [["x"]]}},
    {"scope": {"src": "a", "exclude": [None]}},
    {"counts": {"listed": 10**4000}},
    {"seconds": {"all": float("inf")}},
    {"seconds": {"all": float("nan")}},
    {"images_per_second": float("inf")},
    {"run_id": "another"},
    {"run_id": "../current"},
    {"status": "better"},
    {"of_a_newer_version": True},
]


def foreign(**changes: Any) -> bytes:
    document = json.loads(OURS.model_dump_json()) | {"run_id": "20260103T000000Z-bbbbbbbb"}
    return json.dumps(document | changes).encode()


@pytest.mark.parametrize("changes", FOREIGN_RUNS, ids=lambda changes: next(iter(changes)))
def test_a_summary_that_is_none_is_told_and_passed_over(
    local: Folder, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    save_run(local, OURS)
    local.put(f"{RUNS}20260103T000000Z-bbbbbbbb.json", foreign(**changes))
    assert load_runs(local) == [OURS]
    (line,) = (record.getMessage() for record in caplog.records)
    assert "20260103T000000Z-bbbbbbbb.json" in line
    assert line.endswith("it is skipped")
    assert line.isprintable()


def test_more_summaries_than_are_read_hold_nobody(
    local: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Fewer of them, and limits that are as much lower."""
    monkeypatch.setattr(runs, "RUNS_READ", 50)
    for number in range(2000):
        local.put(f"{RUNS}20250101T000000Z-{number:08x}.json", b"{}")
    save_run(local, OURS)
    began = time.monotonic()
    found = read_runs(local)
    assert found.found == [OURS], "the newest is read"
    assert len(found.unread) == 50
    assert load_runs(local) == [OURS]
    assert len(caplog.records) == 4
    monkeypatch.setattr(runs, "LISTED", 100)
    assert any("over 100 files" in line for line in read_runs(local).unread)
    assert time.monotonic() - began < 10


def test_summaries_have_so_many_bytes_together(
    local: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "RUNS_BYTES", 10_000)
    for day in range(1, 29):
        run_id = f"202601{day:02}T000000Z-aaaaaaaa"
        save_run(local, OURS.model_copy(update={"run_id": run_id, "reason": "x" * 2000}))
    found = read_runs(local)
    assert [run.run_id[:8] for run in found.found] == ["20260126", "20260127", "20260128"]
    assert found.unread


def test_a_recipe_that_is_none_ends_no_listing(
    local: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    table = new_table(local)
    table.commit(
        added=[write_part(local, f"_parts/run/recipe={RECIPE}/a.parquet", RECIPE, rows([1]))]
    )
    for name, data in (("rnew", b'{"format": 9}'), ("rdeep", b"[" * 90_000), (RECIPE, b"\xff")):
        local.put(f"{RECIPES}{name}.json", data)
    local.put(f"{RECIPES}no id.json", b"{}")
    listed = list_recipes(local.uri)
    assert {row.recipe for row in listed} == {"rnew", "rdeep", RECIPE}
    assert {row.model for row in listed} == {None}
    assert len(caplog.records) == 3


@pytest.mark.parametrize(
    "document",
    [
        {"recipe": "../x"},
        {"recipe": ".."},
        {"recipe": "x" * 1000},
        {"recipe": "r1", "dropping": "a/b"},
        {"recipe": "r1", "of_a_newer_version": 1},
    ],
)
def test_a_choice_that_is_none_says_how_to_mend_it(local: Folder, document: Any) -> None:
    local.put(CURRENT, json.dumps(document).encode())
    with pytest.raises(StoreError, match=r"current\.json is not a Current .* nightlabel use DST"):
        load_current(local)


@pytest.mark.parametrize(
    "text", ['"' + '\\"' * 200_000, '"\\q"', '"\\ud800"', '"' * 100_001, '"' + "\\" * 99_999]
)
def test_words_of_any_document_are_found_in_time(local: Folder, text: str) -> None:
    local.put("_nightlabel/x.json", f"{text} s3://photos/a.jpg".encode())
    local.put("_nightlabel/y.json", b'{"x": "a.jpg"}')
    began = time.monotonic()
    named = documents_that_name(
        local, Objects.of(["s3://photos/a.jpg"], [schema.object_id("s3://photos/a.jpg")])
    )
    assert "_nightlabel/y.json" in named
    assert time.monotonic() - began < 5


def commit(local: Folder, *actions: dict[str, Any] | str) -> str:
    numbers = [int(entry.uri[-25:-5]) for entry in local.list("_delta_log/0")]
    name = f"_delta_log/{max(numbers) + 1:020}.json"
    lines = (line if isinstance(line, str) else json.dumps(line) for line in actions)
    local.put(name, "\n".join(lines).encode())
    return name


PROTOCOL = {"minReaderVersion": 3, "minWriterVersion": 7}
VECTORS = ["deletionVectors"]
FOREIGN_COMMITS: dict[str, tuple[dict[str, Any] | str, str]] = {
    "features": (
        {"protocol": PROTOCOL | dict.fromkeys(("readerFeatures", "writerFeatures"), VECTORS)},
        "asks for reader 3, writer 7 and deletionVectors",
    ),
    "mapping": ({"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}}, "for reader 2"),
    "writer": ({"protocol": {"minReaderVersion": 1, "minWriterVersion": 4}}, "writer 4"),
    "reader 99": ({"protocol": {"minReaderVersion": 99, "minWriterVersion": 2}}, "version 99"),
    "no json": ("{", "00001.json is not a commit"),
    "deep": ("[" * 100_000, "00001.json is not a commit"),
    "a number": ("5", "00001.json is not a commit"),
    "huge": ({"add": {"path": "x", "size": 10**30}}, r"in _delta_log/, up to 0+1\.json"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN_COMMITS)
def test_a_log_that_others_went_on_with_is_refused_by_name(local: Folder, kind: str) -> None:
    new_table(local)
    action, problem = FOREIGN_COMMITS[kind]
    commit(local, action)
    with pytest.raises(StoreError, match=problem) as caught:
        Table.open(local)
    assert "unknown" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_commit_that_is_missing_is_named(local: Folder) -> None:
    table = new_table(local)
    table.commit()
    table.commit()
    local.delete([f"_delta_log/{1:020}.json"])
    with pytest.raises(StoreError, match=r"0001\.json is missing"):
        Table.open(local)


@pytest.mark.parametrize(
    "path",
    [f"recipe=other/{n}.parquet" for n in "ab"]
    + ["_nightlabel/current.json", "_delta_log/x.parquet", "_parts/a%20b.parquet", "a.txt"],
)
def test_a_path_that_disagrees_with_its_recipe_is_refused(local: Folder, path: str) -> None:
    new_table(local)
    add(local, path=path)
    with pytest.raises(StoreError, match="not a file of a label store: another program"):
        LabelStore(local.uri).files(RECIPE)


def test_a_table_of_other_types_or_divided_otherwise_is_none(local: Folder) -> None:
    import deltalake

    partition = pa.field("recipe", pa.string(), nullable=False)
    for number, fields in enumerate(({"uri": pa.int64()}, {})):
        folder = Folder(f"{local.uri}/{number}")
        folder.ensure()
        kinds = [
            field.with_type(fields.get(field.name, field.type)) for field in [partition, *LABELS]
        ]
        divided = ["label"] if not fields else ["recipe"]
        deltalake.DeltaTable.create(folder.delta_url, schema=pa.schema(kinds), partition_by=divided)
        with pytest.raises(
            StoreError, match=r"not a label store of schema|divides the table by label"
        ):
            Table.open(folder)


def checkpointed(local: Folder) -> Table:
    table = new_table(local)
    for number in range(21):
        path = f"_parts/run/recipe={RECIPE}/{number}.parquet"
        table.commit(added=[write_part(local, path, RECIPE, rows([number]))])
    assert local.stat(guard.HINT) is not None
    return table


def bomb_of_a_checkpoint() -> bytes:
    return written(pa.table({"add": pa.array([{"path": "x" * 2**20}] * 1000)}))


CHECKPOINT = f"_delta_log/{19:020}.checkpoint.parquet"


@pytest.mark.parametrize(
    ("path", "data", "problem"),
    [
        (CHECKPOINT, bomb_of_a_checkpoint, "19.checkpoint.parquet is not a checkpoint .* MiB"),
        (CHECKPOINT, lambda: b"PAR1" * 5, "19.checkpoint.parquet is not a checkpoint"),
        (guard.HINT, lambda: b'{"version": 999}', "_last_checkpoint names version 999.*delete it"),
        (guard.HINT, lambda: b"9" * 100_000, "_last_checkpoint has 100,000 bytes"),
        (f"_delta_log/{2**62:020}.json", lambda: b"{}", "has a version that no run"),
        ("_delta_log/_sidecars/x.parquet", lambda: b"", "of a kind that no run of ours writes"),
        (f"_delta_log/{19:020}.checkpoint.{'a' * 36}.json", lambda: b"", "of a kind that no run"),
        (f"_delta_log/{19:020}.{20:020}.compacted.json", lambda: b"", "of a kind that no run"),
    ],
)
def test_what_delta_would_read_is_looked_at_first(
    local: Folder, path: str, data: Callable[[], bytes], problem: str
) -> None:
    checkpointed(local)
    local.put(path, data())
    with pytest.raises(StoreError, match=problem):
        Table.open(local)


@pytest.mark.parametrize("hint", [b"nope", b'{"version": -1}', b"[" * 5000, b""])
def test_a_pointer_that_says_nothing_is_passed_over(local: Folder, hint: bytes) -> None:
    before = checkpointed(local).live()
    local.put(guard.HINT, hint)
    assert Table.open(local).live() == before  # type: ignore[union-attr]


def test_commits_of_gigabytes_are_not_read(local: Folder) -> None:
    """Sparse files: one alone, many together, and one that comes while a run lasts."""
    table = new_table(local)
    top = Path(local.uri.removeprefix("file://")) / "_delta_log"
    name = f"{1:020}.json"

    def grow(name: str, size: int) -> None:
        with (top / name).open("ab") as file:
            file.truncate(size)

    grow(name, 5 * 2**30)
    for call in (lambda: Table.open(local), table.refresh, table.commit):
        with pytest.raises(StoreError, match=r"0001\.json has 5,368,709,120 bytes"):
            call()
    for number in range(1, 5):
        (top / f"{number:020}.json").write_bytes(b"")
        grow(f"{number:020}.json", guard.LOG_FILE_BYTES)
    with pytest.raises(StoreError, match=r"has over 536,870,912 bytes to read, up to 0+4\.json"):
        Table.open(local)


def test_a_log_is_looked_at_wherever_it_lies(folder: Folder) -> None:
    """On S3 the listing begins at the checkpoint that the log names."""
    folder.ensure()
    table = checkpointed(folder)
    folder.put(f"_delta_log/{3:020}.json", b"[" * 100)
    assert Table.open(folder).live() == table.live()  # type: ignore[union-attr]
    folder.put(f"_delta_log/{22:020}.json", b"[" * 100)
    for call in (lambda: Table.open(folder), table.refresh):
        with pytest.raises(StoreError, match="Delta log"):
            call()
    folder.put(CHECKPOINT, bomb_of_a_checkpoint())
    with pytest.raises(StoreError, match=r"19\.checkpoint\.parquet is not a checkpoint"):
        Table.open(folder)
