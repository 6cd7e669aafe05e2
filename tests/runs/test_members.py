"""Members of archives in a store: subtracted, verified, erased and moved by (uri, member)."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline import schema
from pipeline.cli import cli
from pipeline.cli.failures import exit_code_of
from pipeline.errors import SpecError
from pipeline.runs.forget import forget
from pipeline.runs.move_src import move_src
from pipeline.runs.verify import verify
from pipeline.spec import make_spec
from pipeline.storage import Folder
from pipeline.store.choice import Choice, choose
from pipeline.store.delta.table import Table
from pipeline.store.parts import merge_parts, read_part, write_part
from pipeline.store.reader import LabelStore
from pipeline.store.runs import Counts, RunSummary, new_run_id, save_run
from pipeline.store.upkeep import part_path
from tests.parts.archives.zips import zip_of
from tests.parts.models.tiny import archive
from tests.parts.stores.labelled import START, counts_of
from tests.runs.forgetting import tell
from tests.sources.listed import refs, source
from tests.store.stores import LABELS, new_table

A = "rab000001"
IMAGES = archive(6)
JANE = "a/jane-doe.jpg"


def photos(path: Path, members: dict[str, bytes]) -> Path:
    """A zip file that is older than the night that labelled it."""
    path.write_bytes(zip_of(members))
    long_ago = START.timestamp() - 3600
    os.utime(path, (long_ago, long_ago))
    return path


def night(src: Path, **failed: str) -> Folder:
    """A whole run over `src`, without Ray and a model: a row for each ref; `failed` by its code."""
    folder = Folder("labels")
    folder.ensure()
    table = Table.open(folder) or new_table(folder)
    run_id, found = new_run_id(START), source(str(src))
    rows = []
    for ref in refs(found).to_pylist():
        place = ref["place"] or {}
        code = failed.get(ref["member"] or "") or place.get("error_code")
        label = {} if code else {"label": "cat", "score": 0.5}
        top = {} if code else {"top_k": [{"label": "cat", "score": 0.5}]}
        made = {"run_id": run_id, "recipe_id": A, "labelled_at": START, "error_code": code}
        known = {name: ref[name] for name in LABELS.names if name in ref}
        rows.append(dict.fromkeys(LABELS.names) | known | label | top | made)
    part = write_part(folder, part_path(run_id, A, 0), A, pa.Table.from_pylist(rows, schema=LABELS))
    table.commit(added=[part])
    summary = {
        "run_id": run_id,
        "started": START,
        "finished": START,
        "recipe": A,
        "scope": found.scope,
        "spec": {},
        "status": "complete",
        "listing_complete": True,
        "counts": Counts(listed=len(rows), new=len(rows), labelled=len(rows)),
    }
    save_run(folder, RunSummary.model_validate(summary))
    if Choice.read(folder).recipe is None:
        choose(folder, A, Choice.read(folder))
    return folder


def proof(src: Path | str) -> Any:
    return verify(make_spec(src=str(src), dst="labels"), sample=0)


def in_store() -> dict[tuple[str, str | None], dict[str, Any]]:
    rows = LabelStore("labels").to_table().to_pylist()
    assert len({(row["uri"], row["member"]) for row in rows}) == len(rows)
    return {(Path(row["uri"]).name, row["member"]): row for row in rows}


@pytest.fixture
def zipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return photos(tmp_path / "photos.zip", IMAGES | {JANE: b"jane"})


def without(folder: Folder, member: str) -> None:
    """Take one row away behind the store's back, file and log alike."""
    table = Table.open(folder)
    assert table is not None
    [file] = table.live()
    rows = read_part(folder, file)
    left = rows.filter(pc.not_equal(rows["member"], member))
    new = write_part(folder, part_path("thief", A, 0), A, left)
    table.commit(added=[new], removed=[file])


def test_members_are_done_and_gone_one_by_one(zipped: Path) -> None:
    folder = night(zipped)
    assert counts_of(str(zipped), A) | {"failed_before": 0} == {
        "listed": 7, "done": 7, "failed_before": 0, "new": 0, "changed": 0, "gone": 0
    }  # fmt: skip
    first, second, *_ = IMAGES
    photos(zipped, IMAGES | {first: b"another", "a/new.jpg": b"new"})
    counts = counts_of(str(zipped), A)
    assert (counts["done"], counts["changed"], counts["new"], counts["gone"]) == (5, 1, 1, 1)
    narrow = verify(make_spec(src=str(zipped), dst="labels", include=(second,)), sample=0)
    assert (narrow.counts.listed, narrow.counts.gone) == (1, 0)
    assert folder is not None


def test_verify_misses_a_member_that_was_taken_away(zipped: Path) -> None:
    folder = night(zipped)
    assert (proof(zipped).problems, proof(zipped).rows) == ([], 7)
    without(folder, JANE)
    found = proof(zipped)
    assert (found.missing, found.exit_code) == (1, 3)
    assert found.problems == ["1 objects of the last whole run have no row"]


def test_a_member_that_was_replaced_since_is_newer_and_no_problem(zipped: Path) -> None:
    night(zipped)
    zipped.write_bytes(zip_of(IMAGES | {JANE: b"jane, another"}))
    found = proof(zipped)
    assert (found.counts.changed, found.newer, found.missing) == (1, 1, 0)
    assert found.problems == []


def test_a_damaged_archive_takes_no_row_of_its_members_away(zipped: Path) -> None:
    night(zipped)
    zipped.write_bytes(zipped.read_bytes()[:-40])
    found = proof(zipped)
    assert (found.counts.listed, found.counts.new, found.counts.gone) == (1, 1, 0)
    assert found.unreadable == {zipped.as_uri(): "the zip file has no end: it was cut"}


def test_rows_of_other_scopes_are_not_gone(zipped: Path) -> None:
    (zipped.parent / "loose.jpg").write_bytes(b"loose")
    night(zipped)
    loose = proof(f"{zipped.parent}/")
    assert (loose.counts.listed, loose.counts.gone) == (1, 0)
    other = photos(zipped.with_name("other.zip"), IMAGES)
    assert (proof(other).counts.new, proof(other).counts.gone) == (6, 0)


def test_a_member_is_erased_and_the_others_stay(zipped: Path) -> None:
    folder = night(zipped)
    assert tell(folder, "jane-doe")
    done = forget("labels", f"{zipped}!/{JANE}")
    assert (done.objects, sum(done.rows.values()), done.files_deleted > 0) == (1, 1, True)
    assert tell(folder, "jane-doe") == []
    assert {member for _, member in in_store()} == set(IMAGES)
    assert not forget("labels", f"{zipped.as_uri()}!/{JANE}").found


def test_members_are_erased_by_a_list(zipped: Path, tmp_path: Path) -> None:
    folder = night(zipped)
    (tmp_path / "erase.csv").write_text(f"uri,member\n{zipped},{JANE}\n{zipped},a/none.jpg\n")
    assert sum(forget("labels", "erase.csv").rows.values()) == 1
    assert tell(folder, "jane-doe") == []
    assert len(in_store()) == 6


def test_an_archive_takes_its_members_along(zipped: Path, tmp_path: Path) -> None:
    folder = night(zipped)
    night(photos(tmp_path / "other.zip", {"a/x.jpg": b"x"}))
    (tmp_path / "erase.txt").write_text(f"{zipped}\n")
    zipped.unlink()  # it need not be there
    assert sum(forget("labels", "erase.txt").rows.values()) == 7
    assert set(in_store()) == {("other.zip", "a/x.jpg")}
    assert tell(folder, "jane-doe") == []
    # What a run was asked for is told of, and stays.
    assert all(name.startswith("_nightlabel/") for name in tell(folder, "photos.zip"))


def test_an_archive_that_moved_keeps_the_rows_of_its_members(zipped: Path, tmp_path: Path) -> None:
    night(zipped, **{JANE: "truncated"})
    before = in_store()
    moved_to = tmp_path / "moved.zip"
    zipped.rename(moved_to)
    moved_to.write_bytes(zip_of(IMAGES | {JANE: b"jane", "a/00000.jpg": b"another"}))
    with pytest.raises(SpecError, match="is not an archive, but NEW is"):
        move_src("labels", str(tmp_path), str(moved_to))
    moved = move_src("labels", str(zipped), str(moved_to))
    assert (moved.moved, moved.different, moved.missing) == (6, 1, 0)
    counts = counts_of(str(moved_to), A)
    assert (counts["done"], counts["failed_before"], counts["changed"]) == (5, 1, 0)
    assert counts["new"] == 1
    after = in_store()
    for member in set(IMAGES) - {"a/00000.jpg"}:
        row = after["moved.zip", member]
        assert row["object_id"] == schema.object_id(moved_to.as_uri(), member)
        assert row["label"] == before["photos.zip", member]["label"]


def test_errors_name_the_member(zipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    night(zipped, **{JANE: "truncated"})
    assert exit_code_of(cli, ["errors", "labels"]) == 0
    assert f"{zipped.as_uri()}!/{JANE}" in capsys.readouterr().out
    assert exit_code_of(cli, ["errors", "labels", "--json"]) == 0
    [group] = json.loads(capsys.readouterr().out)["codes"]
    [row] = group["newest"]
    assert (row["uri"], row["member"]) == (zipped.as_uri(), JANE)


def test_a_merged_file_has_members_in_their_order(zipped: Path) -> None:
    folder = night(zipped)
    [file] = LabelStore("labels").live()
    part = merge_parts(folder, [file], part_path("merged", A, 0), A)
    members = read_part(folder, part.path)["member"].to_pylist()
    assert members == sorted(members)
