"""`forget`: what it is given, what it says, and how it ends."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from pipeline import schema
from pipeline.cli.failures import exit_code_of
from pipeline.cli.store.forget import forget as command
from pipeline.errors import BusyError, ConflictError, MissingError, SpecError
from pipeline.runs.forget import forget, objects_of
from pipeline.storage import Folder, recorded
from pipeline.store.delta.table import Table
from pipeline.store.lease import Lease
from pipeline.store.parts import write_part
from pipeline.store.upkeep import part_path
from tests.runs.forgetting import NAME, URI, local, tell
from tests.runs.test_recipes import A, B
from tests.store.stores import LABELS, new_table, rows

__all__ = ["local"]


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


@pytest.mark.parametrize("spelling", ["signed", "old", "new"])
def test_an_object_is_forgotten_under_every_spelling(tmp_path: Path, spelling: str) -> None:
    """Version 0.2 wrote values that are digests now; both rows are of one object."""
    folder = Folder(str(tmp_path / "labels"))
    old = "https://host/x.jpg?code=c4n4ry"
    new = recorded(old)
    assert "c4n4ry" not in new
    for recipe, uri, other in ((A, old, "https://host/x.jpg?code=2"), (B, new, "https://host/y")):
        table = Table.open(folder) or new_table(folder)
        ids = pa.array([schema.object_id(old), schema.object_id(other)], pa.binary())
        where = LABELS.get_field_index("object_id")
        made = rows([1, 2]).set_column(0, LABELS.field(0), pa.array([uri, other]))
        made = made.set_column(where, LABELS.field(where), ids)
        table.commit(added=[write_part(folder, part_path("run", recipe, 0), recipe, made)])
    given = {"signed": f"{old}&X-Amz-Signature=1", "old": old, "new": new}[spelling]
    done = forget(folder.uri, given)
    assert (done.objects, done.rows) == (1, {A: 1, B: 1})
    assert tell(folder, "c4n4ry") == tell(folder, new) == []
    assert tell(folder, "code=2")


def _named(given: str) -> set[str]:
    return set(objects_of(given).uris.to_pylist())


def test_what_names_an_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = f"file://{tmp_path}"
    assert _named("a/b.jpg") == {f"{here}/a/b.jpg"}
    assert _named(f"{here}/a//b.jpg") == {f"{here}/a/b.jpg"}
    assert _named("s3a://b/x.jpg") == {"s3://b/x.jpg"}
    signed = "https://me:pw@host/x.jpg?v=1&X-Amz-Signature=0&X-Amz-Expires=5"
    assert _named(signed) == {"https://host/x.jpg?v=1"}
    Path("list.txt").write_text("a.jpg\n\n# none\nhttps://u:p@host/y.jpg\n")
    assert _named("list.txt") == {f"{here}/a.jpg", "https://host/y.jpg"}
    Path("empty.txt").write_text("\n")
    for bad in ("none.txt", "empty.txt", " ", "\udce9.jpg"):
        with pytest.raises(SpecError):
            objects_of(bad)


def test_a_document_that_names_it_is_told(local: Folder) -> None:
    name = f"_nightlabel/runs/{'x' * 5}.json"
    local.put(name, json.dumps({"spec": {"include": [f"a b/{NAME}", "other"]}}).encode())
    assert forget(local.uri, URI).named_in == [name]
    assert forget(local.uri, "s3://photos/doe.jpg").named_in == []


def test_no_store(folder: Folder) -> None:
    folder.ensure()
    with pytest.raises(MissingError, match="no label store"):
        forget(folder.uri, URI)


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
