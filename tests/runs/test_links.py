"""Others may write to DST on local disk: links of theirs lead nothing of ours out of it."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.errors import NightlabelError, StoreError
from pipeline.runs.finalize import compact_store, inline, merge
from pipeline.runs.forget import forget
from pipeline.runs.recipes import use_recipe
from pipeline.storage import Folder
from pipeline.storage.local.delta_root import _remove_left_over
from pipeline.store.delta.table import Table
from pipeline.store.lease import Lease
from pipeline.store.reader import LabelStore
from pipeline.store.upkeep import AT_REST, part_path
from tests.parts.stores.guarded import (
    OLD,
    OPERATIONS,
    RUN,
    Guarded,
    add_a_night,
    make_store,
    operate,
    swapped,
)
from tests.runs.test_recipes import A, B

#: What stands in place of a name in the store, made at a path and leading to the other.
STAND_INS: dict[str, Callable[[Path, Path], object]] = {
    "link": lambda path, target: path.symlink_to(target),
    "relative": lambda path, target: path.symlink_to(os.path.relpath(target, path.parent)),
    "twice": lambda path, target: _twice(path, target),
    "dangling": lambda path, target: path.symlink_to(target.parent / "not-there"),
    "hard": lambda path, target: path.hardlink_to(target),
    "pipe": lambda path, _: os.mkfifo(path),
}

FOLDERS = {
    "_parts": "",
    f"_parts/{RUN}": "run",
    f"_parts/{RUN}/recipe={A}": "",
    f"_parts/{RUN}/more": "more",
    f"recipe={A}": "",
    f"recipe={A}/more": "",
    f"recipe={B}": "",
    "_nightlabel": "",
    "_nightlabel/runs": "runs",
    "_nightlabel/recipes": "recipes",
    "_nightlabel/more": "",
    "_delta_log": "",
    "_delta_log/more": "",
    "more": "",
}
FILES = {
    "_nightlabel/lease.json": "lease.json",
    "_nightlabel/lease.json.lock": "lease.json.lock",
    "_nightlabel/current.json": "current.json",
    "_nightlabel/current.json.lock": "victim",
    "_nightlabel/runs/x.json": "runs/x.json",
    "_nightlabel/runs/20260101T020000Z-00000000.json": "x.json",
    f"_nightlabel/recipes/{A}.json": "x.json",
    f"recipe={A}/{RUN}-00000.parquet": f"{RUN}-00000.parquet",
    f"recipe={A}/{RUN}-00001.parquet": f"{RUN}-00000.parquet",
    f"recipe={A}/20260101T020000Z-00000000-00000.parquet": f"{RUN}-00000.parquet",
    f"_parts/{RUN}/recipe={A}/old.parquet": "0.parquet",
    f"_parts/{RUN}/half.parquet#1": "half.parquet#7",
    "_parts/20260101T020000Z-00000000/recipe=" + A + "/1.parquet": "0.parquet",
    "_delta_log/_last_checkpoint": "_last_checkpoint",
    "_delta_log/00000000000000000000.json": "00000000000000000000.json",
    "_delta_log/_commit_1.json.tmp": "_commit_1.json.tmp",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("made") / "labels"
    make_store(top)
    return top


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Folder:
    shutil.copytree(made, tmp_path / "labels", symlinks=True)
    return Folder(str(tmp_path / "labels"))


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    return Guarded.make(tmp_path / "guarded")


def _twice(path: Path, target: Path) -> None:
    between = path.with_name(f"{path.name}-between")
    between.symlink_to(target)
    path.symlink_to(between.name)


def path_of(folder: Folder, path: str) -> Path:
    return Path(folder.uri.removeprefix("file://")) / path


def replace(folder: Folder, path: str, target: Path, kind: str) -> None:
    """`path` becomes a stand-in for `target`; what was there lies beside the store."""
    place = path_of(folder, path)
    if place.exists():
        place.rename(place.parents[path.count("/") + 1] / "aside")
    place.parent.mkdir(parents=True, exist_ok=True)
    STAND_INS[kind](place, target)
    os.utime(place, (OLD, OLD), follow_symlinks=False) if kind != "hard" else None


def cases() -> Iterator[object]:
    for path, target in (FOLDERS | FILES).items():
        for kind in STAND_INS if path in FILES else STAND_INS.keys() - {"hard"}:
            long = () if kind == "link" else (pytest.mark.chaos,)
            yield pytest.param(path, target, kind, marks=long, id=f"{path}-{kind}")


@pytest.mark.parametrize(("path", "target", "kind"), [*cases()])
def test_what_stands_in_for_a_name_of_the_store_leads_nowhere(
    folder: Folder, guarded: Guarded, path: str, target: str, kind: str
) -> None:
    replace(folder, path, guarded.top / target, kind)
    with guarded.untouched():
        operate(folder)


def test_without_any_all_of_it_is_done(folder: Folder, guarded: Guarded) -> None:
    assert {name: error for name, error in operate(folder).items() if error} == {}
    add_a_night(folder)
    names = {folder.relative(entry.uri) for entry in folder.list("_parts/")}
    assert not any(RUN in name for name in names)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("_parts", ""),
        (f"recipe={A}", ""),
        ("_nightlabel", ""),
        ("_delta_log", ""),
        ("_delta_log/more", ""),
        ("_delta_log/00000000000000000099.json", "x.json"),
        ("_nightlabel/lease.json", "lease.json"),
    ],
)
def test_a_link_that_cannot_be_passed_over_is_named(
    folder: Folder, guarded: Guarded, path: str, target: str
) -> None:
    replace(folder, path, guarded.top / target, "link")
    for call in (compact_store, lambda uri: Lease(Folder(uri), "run").__enter__()):
        if path.startswith("_nightlabel") or call is compact_store:
            with pytest.raises(StoreError, match=rf"/{path} is a symbolic link, and none is foll"):
                call(folder.uri)


def test_links_that_can_be_passed_over_stop_nothing(folder: Folder, guarded: Guarded) -> None:
    for path in (f"recipe={A}/more", f"_parts/{RUN}/more", "_nightlabel/runs/more", "more"):
        replace(folder, path, guarded.top, "link")
    replace(folder, f"recipe={A}/{RUN}-00001.parquet", guarded.top / "0.parquet", "link")
    with guarded.untouched():
        assert {name: error for name, error in operate(folder).items() if error} == {}


def test_a_live_file_that_is_a_link_is_refused_by_name(folder: Folder, guarded: Guarded) -> None:
    files = LabelStore(folder.uri).live(A)
    path = next(file.path for file in files if file.path.startswith(AT_REST))
    shutil.copy(path_of(folder, path), guarded.top / "copy.parquet")
    replace(folder, path, guarded.top / "copy.parquet", "link")
    calls = [lambda: LabelStore(folder.uri).to_table(), lambda: folder.stat(path)]
    for call in [*calls, lambda: folder.copy(path, "x")]:
        with pytest.raises(StoreError, match=rf"{path} is a symbolic link, and none is followed"):
            call()


def test_the_folder_itself_may_be_a_link(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "by-link").symlink_to("labels")
    by_link = Folder(str(tmp_path / "by-link"))
    assert {name: error for name, error in operate(by_link).items() if error} == {}
    assert LabelStore(folder.uri).count() == LabelStore(by_link.uri).count() > 0


def test_files_of_other_names_are_never_deleted(folder: Folder) -> None:
    others = [
        f"recipe={A}/notes.txt",
        f"recipe={A}/mine.parquet",
        f"recipe={A}/sub/{RUN}-00000.parquet",
        f"recipe={B}/_SUCCESS",
        f"_parts/{RUN}/notes.txt",
        f"_parts/{RUN}/a/b/c.parquet",
        "_delta_log/notes.txt",
        "_delta_log/more/00000000000000000000.json",
        "_nightlabel/notes",
        "draft#2",
        "mine.parquet",
    ]
    part = folder.read(part_path(RUN, A, "old"))
    for path in others:
        folder.put(path, part)
        os.utime(path_of(folder, path), (OLD, OLD))
    operate(folder)
    assert [path for path in others if folder.stat(path) is None] == []


def test_forget_tells_of_files_of_other_names(folder: Folder) -> None:
    """They hold rows of the image, but who put them there must delete them."""
    folder.put(f"recipe={A}/mine.parquet", folder.read(part_path(RUN, A, "old")))
    receipt = forget(folder.uri, "s3://photos/7")
    assert (receipt.named_in, receipt.not_read) == ([], [f"recipe={A}/mine.parquet"])
    assert folder.stat(part_path(RUN, A, "old")) is None
    assert folder.stat(f"recipe={A}/mine.parquet") is not None


@pytest.mark.parametrize("name", ["lease.json", "current.json"])
def test_a_lock_is_never_written_to(folder: Folder, guarded: Guarded, name: str) -> None:
    """Whoever links it to a file of ours under two names has it locked, and no more."""
    path_of(folder, f"_nightlabel/{name}.lock").unlink(missing_ok=True)
    path_of(folder, f"_nightlabel/{name}.lock").hardlink_to(guarded.top / "victim")
    with guarded.untouched():
        OPERATIONS["lease"](folder)
        use_recipe(folder.uri, B)


RACES = {
    f"recipe={A}": "link",
    f"recipe={A}/more": "folder",
    f"_parts/{RUN}": "link",
    "_parts": "link",
    "_nightlabel": "link",
    "_nightlabel/runs": "link",
    "_nightlabel/lease.json.lock": "file",
    "_delta_log": "link",
}


@pytest.mark.parametrize("path", RACES)
@pytest.mark.parametrize("seconds", [0.5, pytest.param(20.0, marks=pytest.mark.chaos)])
def test_folders_that_change_places_with_links(
    folder: Folder, guarded: Guarded, tmp_path: Path, path: str, seconds: float
) -> None:
    """Between any look at a name and its use it is another thing."""
    place, other = path_of(folder, path), tmp_path / "other"
    if not place.exists():
        place.touch() if RACES[path] == "file" else place.mkdir()
    other.symlink_to(guarded.top / "victim" if RACES[path] == "file" else guarded.top)
    ended: list[bool] = []
    with guarded.untouched():
        with swapped(place, other):
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                for operation in OPERATIONS.values():
                    try:
                        operation(folder)
                        ended.append(True)
                    except NightlabelError:
                        ended.append(False)
        assert len(ended) >= len(OPERATIONS)


def test_a_log_that_changes_places_is_committed_to_where_it_was_opened(
    folder: Folder, guarded: Guarded, tmp_path: Path
) -> None:
    """What delta-rs writes by path goes to the folder that was opened, or nowhere."""
    table = Table.open(folder)
    assert table is not None
    log = path_of(folder, "_delta_log")
    log.rename(tmp_path / "moved")
    log.symlink_to(guarded.top)
    before = len([*(tmp_path / "moved").iterdir()])
    with guarded.untouched():
        for call in (table.commit, table.checkpoint, lambda: merge(folder, table, "r", inline)):
            with pytest.raises(StoreError, match="_delta_log is a symbolic link"):
                call()
        # As if all that came between the look and the write.
        table._write([], [], table._properties("mark"))
        table._delta.create_checkpoint()
    assert len([*(tmp_path / "moved").iterdir()]) == before + 3


def test_a_log_that_is_copied_back_meanwhile_is_another(folder: Folder) -> None:
    table = Table.open(folder)
    assert table is not None
    log = path_of(folder, "_delta_log")
    shutil.move(log, log.with_name("aside"))
    shutil.copytree(log.with_name("aside"), log)
    with pytest.raises(StoreError, match="its log is another folder now"):
        table.commit()


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, which is empty."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_nothing_is_left_in_the_folder_for_temporary_files(
    folder: Folder, scratch: Path, tmp_path: Path
) -> None:
    operate(folder)
    assert LabelStore(folder.uri).count() > 0
    assert Table.open(Folder(str(tmp_path / "none"))) is None
    assert [*scratch.iterdir()] == []


def test_a_temporary_folder_that_was_cleaned_up_ends_the_run(folder: Folder, scratch: Path) -> None:
    """delta-rs would make it again, and commit where nobody looks."""
    table = Table.open(folder)
    assert table is not None
    table.commit()
    [root] = scratch.iterdir()
    (root / "_delta_log").unlink()
    with pytest.raises(StoreError, match="a temporary folder in use, was removed"):
        table.commit()
    assert [*root.iterdir()] == []


def test_what_a_killed_process_left_among_temporary_files_goes_with_the_next(
    folder: Folder, scratch: Path
) -> None:
    table = Table.open(folder)
    [held] = scratch.iterdir()
    for name in ("nightlabel-log-dead", "nightlabel-log-other", "nightlabel-log-young"):
        (scratch / name).mkdir()
    (scratch / "nightlabel-log-dead/_delta_log").symlink_to("/proc/self/fd/9999")
    (scratch / "nightlabel-log-other/mine").write_bytes(b"of another program")
    for path in scratch.iterdir():
        if "young" not in path.name:
            os.utime(path, (OLD, OLD))
    _remove_left_over.cache_clear()
    assert Table.open(folder) is not None
    assert table is not None
    table.commit()
    left = {path.name for path in scratch.iterdir()}
    assert left == {held.name, "nightlabel-log-other", "nightlabel-log-young"}
